"""What a finished run tells its report: numbers, facts of the data, how to do it again."""

from __future__ import annotations

import platform
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from striate.report import write_report
from striate.tasks import Metrics
from striate.tasks.section import Section
from striate.train.recipe_files import recipe_yaml

if TYPE_CHECKING:
    from striate.train.job import Job


def write_run_report(job: Job, judged: str, metrics: Metrics, sections: list[Section], skipped: list[str]) -> None:
    """report.html and report.json of a run, judged on the split of that name."""
    state, recipe, run = job.state, job.recipe, job.run
    splits = job.dataset.splits
    seconds = sum(row["seconds"] for row in state.history)
    parameters = sum(parameter.numel() for parameter in job.trainer.model.parameters())
    facts = {
        "Data": f"{recipe.data} ({job.dataset.format})",
        "Pictures": ", ".join(f"{len(samples):,} {name}" for name, samples in splits.items()),
        "Classes": f"{len(job.dataset.classes)}",
        "Network": f"{recipe.model}, {parameters:,} parameters",
        "Input": "×".join(map(str, (job.preprocess.channels, *job.preprocess.size))) + f", fit by {job.preprocess.fit}",
        "Judged on": f"the {judged} split",
        "Training": f"{len(state.history)} epochs, {seconds:,.0f} s; best epoch {state.best_epoch}",
        "Machine": f"{device_name(job.trainer.accelerator.device)}, torch {torch.__version__}, {recipe.precision}"
        f"{', compiled' if recipe.compile is True else ''}",
        "Striate": version("striate"),
        "Data fingerprint": job.fingerprint[:16],
    }
    notes = list(run.notes or job.dataset.notes)
    if judged == "val":
        notes.append(
            "These numbers are from the validation split, which also chose the best epoch: expect slightly less on "
            "new pictures. A test split (a folder `test/`) would say how much."
        )
    if skipped:
        notes.append(f"{len(skipped)} pictures could not be read and were left out, the first: {skipped[0]}")
    model = run.folder / "model.safetensors"
    same = shlex.quote(str(run.folder / "recipe.yaml"))
    commands = [
        f"striate train {shlex.quote(recipe.data)} --config {same} --name again",
        f"striate evaluate {shlex.quote(str(model))} {shlex.quote(recipe.data)}",
        f"striate predict {shlex.quote(str(model))} PICTURES",
    ]
    mode = {} if metrics.mode == "max" else {"mode": metrics.mode}
    write_report(
        run.folder,
        title=f"{run.folder.name}: {job.task.name}",
        facts=facts,
        sections=sections,
        history=state.history,
        full={"split": judged, **mode, **metrics.full(recipe.seed), "skipped": skipped},
        recipe_yaml=recipe_yaml(recipe),
        commands=commands,
        notes=notes,
    )


def device_name(device: torch.device) -> str:
    """`NVIDIA H200`, or the processor's model and the number of threads torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {torch.get_num_threads()} threads"


def processor_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
