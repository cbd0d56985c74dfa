"""What networks cost to run, side by side: peak memory, latency, throughput.

Inference runs as `Model.predict` does: uint8 pictures in, channels_last, inference mode, float32. Peak memory is taken
in a process of its own for each network; times are taken in rounds in which every network has its turn, so that a
machine that is busy for a while slows all alike. Weights are fresh: what they are costs nothing.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn

from striate.device import pick_device
from striate.errors import StriateError, UsageError
from striate.profiling.networks import Network, inference, random_pictures

ROUNDS = 5  # turns that a network has, of a fifth of its time each
TOGETHER = 2**30  # bytes of weights that are timed in the same rounds; more wait for the next ones


@dataclass(frozen=True)
class Cost:
    """What one network was measured to cost.

    Attributes:
        memory_bytes: the most that weights and inference at the batch held at once; None where nobody counts (mps).
        latency_ms: median of one picture at a time.
        latency_quartiles_ms: half of the runs took between these.
        latency_runs: how many there were.
        images_per_second: from the median time of a batch.
    """

    network: Network
    memory_bytes: int | None
    latency_ms: float
    latency_quartiles_ms: tuple[float, float]
    latency_runs: int
    images_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """Flat, for JSON."""
        found = asdict(self)
        return {**found.pop("network"), **found}


def measure(
    networks: Sequence[Network],
    *,
    batch: int = 8,
    device: str = "auto",
    threads: int | None = None,
    seconds: float = 3.0,
    progress: Callable[[str], object] = lambda _: None,
) -> list[Cost]:
    """Run each network: about `seconds` of timing, and a process of its own for its memory; in their order.

    Args:
        batch: pictures at once, for memory and throughput.
        threads: of arithmetic on a processor; torch's own choice when not given.
        progress: called with what comes next.

    Raises:
        UsageError: a batch, number of threads or time that cannot be meant; no such device.
        StriateError: a network that this machine has not the memory for.
    """
    for name, value in (("batch", batch), ("threads", 1 if threads is None else threads), ("seconds", seconds)):
        if not value > 0:
            raise UsageError(f"{name} must be above 0, not {value}")
    chosen, threads_before = pick_device(device), torch.get_num_threads()
    threads = threads or threads_before
    # memory first: this process has not grown yet, so that the others' beginnings are small
    memory = list(_memory(networks, batch, chosen, threads, progress))
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            times = [found for group in _groups(networks) for found in _timed(group, batch, chosen, seconds, progress)]
    finally:
        torch.set_num_threads(threads_before)
    return [
        Cost(
            network,
            held,
            latency_ms=1000 * median(single),
            latency_quartiles_ms=_quartiles([1000 * second for second in single]),
            latency_runs=len(single),
            images_per_second=batch / median(whole),
        )
        for network, held, (single, whole) in zip(networks, memory, times, strict=True)
    ]


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


# times


def _groups(networks: Sequence[Network]) -> list[list[Network]]:
    """Cut, in order, so that the weights of one group fit in memory together."""
    groups: list[list[Network]] = []
    for network in networks:
        if not groups or sum(other.file_bytes for other in groups[-1]) + network.file_bytes > TOGETHER:
            groups.append([])
        groups[-1].append(network)
    return groups


def _timed(
    networks: Sequence[Network],
    batch: int,
    device: torch.device,
    seconds: float,
    progress: Callable[[str], object],
) -> list[tuple[list[float], list[float]]]:
    """Seconds of each run, with one picture and with a batch, of each network."""
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in networks]
    modules: list[nn.Module] = []
    for network in networks:
        progress(f"{network.name}: warming up")
        modules.append(inference(network).to(device))
        for count in (1, batch):
            forward(modules[-1], random_pictures(network, count), device)
    spent = [0.0] * len(networks)
    while min(spent) < seconds:
        for index, (network, module) in enumerate(zip(networks, modules, strict=True)):
            if spent[index] >= seconds:
                continue
            progress(f"{network.name}: timing")
            begin = time.perf_counter()
            for count, least, found in zip((1, batch), (3, 1), times[index], strict=True):
                pictures = random_pictures(network, count)
                forward(module, pictures[:1], device)  # after the others' turns its weights are in no cache
                found += _runs(lambda: forward(module, pictures, device), least, seconds / ROUNDS / 2)  # noqa: B023
            spent[index] += time.perf_counter() - begin
    return times


@torch.inference_mode()
def forward(module: nn.Module, pictures: Tensor, device: torch.device) -> Tensor:
    """uint8 [B, C, h, w] → outputs, fetched: what a prediction waits for."""
    return module(pictures.to(device, memory_format=torch.channels_last)).float().cpu()


def _runs(run: Callable[[], object], least: int, seconds: float) -> list[float]:
    """How long each run took; at least so many runs, and at least so long."""
    found: list[float] = []
    while len(found) < least or sum(found) < seconds:
        begin = time.perf_counter()
        run()
        found.append(time.perf_counter() - begin)
    return found


# memory: `python -m striate.profiling.measure JOBS` loads torch once, then forks a fresh process for each network


def _memory(
    networks: Sequence[Network], batch: int, device: torch.device, threads: int, progress: Callable[[str], object]
) -> Iterator[int | None]:
    """Bytes, for each network; where a process cannot be forked safely (not Linux), each is started anew.

    Raises:
        StriateError: it was killed, or torch had not enough memory.
    """
    jobs = [[asdict(network), batch, str(device), threads] for network in networks]
    step = len(jobs) if sys.platform.startswith("linux") else 1
    for first in range(0, len(jobs), step or 1):
        command = [sys.executable, "-m", "striate.profiling.measure", json.dumps(jobs[first : first + step])]
        # a session of its own: Ctrl-C reaches this process alone, which then ends the others
        with (
            tempfile.TemporaryFile("w+") as remarks,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=remarks, text=True, start_new_session=True
            ) as worker,
        ):
            assert worker.stdout is not None
            try:
                for network in networks[first : first + step]:
                    progress(f"{network.name}: memory")
                    said = worker.stdout.readline().strip()
                    if not said or said == "failed":
                        remarks.seek(0)
                        reason = (remarks.read().strip().splitlines() or ["killed: out of memory?"])[-1]
                        raise StriateError(
                            f"{network.name}: inference on {batch} pictures failed on {device} ({reason[:200]}). "
                            "Try a smaller --batch, or --size"
                        )
                    yield json.loads(said)
            finally:
                _end(worker)


def _end(worker: subprocess.Popen[str]) -> None:
    """The worker, and the process it has forked."""
    if worker.poll() is not None:
        return
    if hasattr(os, "killpg"):
        os.killpg(worker.pid, 9)
    else:
        worker.kill()


def _work(jobs: list[Any]) -> None:
    """Print one line a job: the bytes, or `failed`."""
    for job in jobs:
        if len(jobs) == 1:
            print(json.dumps(_peak_memory(*job)), flush=True)
            return
        child = os.fork()
        if child == 0:
            try:
                print(json.dumps(_peak_memory(*job)), flush=True)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}".partition("\n")[0], file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            print("failed", flush=True)
            return


def _peak_memory(fields: dict[str, Any], batch: int, device: str, threads: int) -> int | None:
    """The most that weights and inference held, of a process that has done nothing else."""
    network, where = Network(**fields), torch.device(device)
    torch.set_num_threads(threads)
    pictures = random_pictures(network, batch)

    def run() -> None:
        module = inference(network).to(where)
        for _ in range(2):
            forward(module, pictures, where)

    if where.type == "cuda":
        run()
        return torch.cuda.max_memory_allocated(where)
    if where.type != "cpu":
        return None
    before = _high_water()
    if sys.platform.startswith("linux"):  # a rehearsal: the libraries' code, read when first used, is none of its cost
        forward(inference(network), pictures[:1], where)
        gc.collect()
        _forget_high_water()
        before = _high_water()
    run()
    return _high_water() - before


def _high_water() -> int:
    """The most memory this process has held, in bytes.

    Linux's `VmHWM`, which is what getrusage's `ru_maxrss` should be: that begins at what the parent process held.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line[:5] == "VmHWM")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _forget_high_water() -> None:
    """Give freed memory back to the system, and begin to look for the most anew."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):  # a kernel or C library without it: the measure then misses what was held before
        pass


if __name__ == "__main__":
    _work(json.loads(sys.argv[1]))
