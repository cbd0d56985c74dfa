"""Training killed by SIGKILL at random moments, then resumed: the weights must equal those of an uninterrupted run.

A small network learns `digits`. One run is left alone; each of `--kills` others is killed once, half of them at a
uniformly random moment of the run, half within a moment of the sight of a `.part` file, that is, during a save. It is
then resumed to its end (or started again, when it was killed before its first checkpoint), and every tensor of its
model file and of its last checkpoint is compared with the uninterrupted run's, bit for bit.

Python and torch are imported once; every training is a fork of this process, so that 100 kills take minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import Comparison

PAIRS = 1  # not a comparison of sides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--model", default="conv8-relu-pool-conv16-relu-pool")
    parser.add_argument(
        "--save-minutes", type=float, default=0.003, help="how often within an epoch a checkpoint is saved"
    )
    parser.add_argument("--networks", type=int, choices=(1, 2), default=1, help="2: a step with two optimisers")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--keep", help="leave the runs in this folder instead of a temporary one")


@dataclass(frozen=True)
class Job:
    """One training: `start` begins it, `resume` goes on with it."""

    name: str
    out: Path
    options: argparse.Namespace

    @property
    def run(self) -> Path:
        return self.out / "classify" / self.name

    def start(self) -> None:
        import striate

        striate.train(
            "digits",
            model=self.options.model,
            name=self.name,
            out=str(self.out),
            epochs=self.options.epochs,
            checkpoint_minutes=self.options.save_minutes,
            device=self.options.device,
            workers=0,
            seed=0,
            overwrite=True,  # a run killed before its first checkpoint leaves a folder
        )

    def resume(self) -> None:
        import striate

        striate.train(resume=str(self.run))


def measure(options: argparse.Namespace) -> list[Comparison]:
    with contextlib.ExitStack() as stack:
        out = Path(options.keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="striate-kills-")))
        out.mkdir(parents=True, exist_ok=True)
        return [kill_and_compare(options, out)]


def kill_and_compare(options: argparse.Namespace, out: Path) -> Comparison:
    warm_up()
    if options.networks == 2:
        from bench.two_networks import install

        install()
    reference = Job("uninterrupted", out, options)
    start = time.perf_counter()
    pid = fork(reference.start, out / "uninterrupted.log")
    saves = count_saves(pid, reference.run)
    duration = time.perf_counter() - start
    expected = digests(reference.run)
    print(f"uninterrupted: {duration:.1f} s, {saves} saves seen, {len(expected)} tensors", file=sys.stderr)

    moments = random.Random(options.seed)
    different, during_save, restarted, leftovers = [], 0, 0, 0
    for number in range(options.kills):
        job = Job(f"killed-{number:03d}", out, options)
        log = out / f"{job.name}.log"
        while True:  # a run that ended before its moment came is no kill: again, with another moment
            pid = fork(job.start, log)
            if number % 2:
                killed = kill_during_save(pid, job.run, moments.randrange(max(saves, 1)), moments.uniform(0, 0.004))
            else:
                killed = kill_after(pid, moments.uniform(0, duration))
            if killed:
                break
        during_save += bool(parts(job.run))
        can_resume = (job.run / "last" / "checkpoint.pt").exists()
        restarted += not can_resume
        wait(fork(job.resume if can_resume else job.start, log), log)
        leftovers += len(parts(job.run))
        found = digests(job.run)
        changed = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        if changed:
            different.append(f"{job.name}: {len(changed)} tensors, first {changed[0]}")
        print(f"kill {number + 1}/{options.kills}: {'DIFFERENT' if changed else 'identical'}", file=sys.stderr)
    facts = {
        "kills": options.kills,
        "networks": options.networks,
        "killed during a save": during_save,
        "killed before the first checkpoint": restarted,
        "part files left behind": leftovers,
        "different": different,
    }
    identical = float(options.kills - len(different))
    return Comparison("bit-identical", {"striate": [identical]}, facts=facts, ok=not different)


def warm_up() -> None:
    """Import what a training imports, so that forks need not; one thread, because threads do not survive a fork."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import torch

    for module in (
        "sklearn.datasets",
        "striate.model",
        "striate.train.fit",
        "striate.train.job",
        "striate.train.run_report",
    ):
        importlib.import_module(module)
    torch.set_num_threads(1)


def fork(work: Callable[[], None], log: Path) -> int:
    """Start `work` in a child with a process group of its own; what it prints goes to `log`. Returns its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # the child may have been first
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        sys.stdout = sys.stderr = file = log.open("a", buffering=1)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # never back into the caller's stack


def ended(pid: int) -> int | None:
    """The exit code of a child, or None while it runs; raises ChildProcessError once it has been told."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def wait(pid: int, log: Path) -> None:
    """Wait for a training that must end well.

    Raises:
        RuntimeError: it did not; the message holds the end of its log.
    """
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        raise RuntimeError(f"{log}: ended with {code}:\n{log.read_text()[-3000:]}")


def kill(pid: int) -> bool:
    """SIGKILL a training and what it started; True if it was still running."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def kill_after(pid: int, seconds: float) -> bool:
    time.sleep(seconds)
    return kill(pid)


def kill_during_save(pid: int, run: Path, skip: int, delay: float) -> bool:
    """Let `skip` saves pass, then kill `delay` seconds after the next begins; False if the run ended before."""
    seen: set[str] = set()
    while (code := ended(pid)) is None:
        if new := parts(run) - seen:
            seen |= new
            skip -= len(new)
            if skip < 0:
                time.sleep(delay)
                return kill(pid)
        elif not parts(run):
            seen.clear()  # the next save may write a file of the same name
    if code != 0:
        raise RuntimeError(f"{run}: a training ended with {code}; its log is beside the runs (--keep FOLDER)")
    return False


def count_saves(pid: int, run: Path) -> int:
    """Watch a training to its end and count the saves that were seen."""
    count, before = 0, set[str]()
    while (code := ended(pid)) is None:
        now = parts(run)
        count += len(now - before)
        before = now
    if code != 0:
        log = run.parents[1] / f"{run.name}.log"
        raise RuntimeError(f"{log}: ended with {code}:\n{log.read_text()[-3000:]}")
    return count


def parts(run: Path) -> set[str]:
    """Files being written at this moment, in the run's folder and in `last/`."""
    found: set[str] = set()
    for folder in (run, run / "last"):
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            found.update(entry.path for entry in entries if entry.name.endswith(".part"))
    return found


def digests(run: Path) -> dict[str, str]:
    """Every tensor of the model file and of the last checkpoint, by name: dtype, shape and a hash of its bytes."""
    import torch
    from safetensors.torch import load_file

    found = {f"model/{name}": digest(tensor) for name, tensor in load_file(run / "model.safetensors").items()}
    checkpoint = run / "last" / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        found |= {f"last{name}": digest(tensor) for name, tensor in tensors(state)}
    return found


def tensors(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """The tensors within nested dicts and lists, by path. Times and counters are no tensors and may differ."""
    import torch

    if isinstance(value, torch.Tensor):
        return [(name, value)]
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in tensors(inner, f"{name}/{key}")]
    if isinstance(value, list | tuple):
        return [pair for key, inner in enumerate(value) for pair in tensors(inner, f"{name}/{key}")]
    return []


def digest(tensor: Any) -> str:
    import torch

    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{tensor.dtype} {list(tensor.shape)} {hashlib.sha256(content).hexdigest()}"
