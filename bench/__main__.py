"""`python -m bench [NAME] [--device D] [--pairs N] [--record] …`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from bench import BENCHMARKS, harness


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        width = max(map(len, BENCHMARKS))
        print("python -m bench NAME [--help] [--device cpu|cuda] [--pairs N] [--record]\n")
        print("\n".join(f"  {name:{width}}  {line}" for name, line in BENCHMARKS.items()))
        return 0
    name, *rest = argv
    if name not in BENCHMARKS:
        print(f'bench: no benchmark "{name}"; one of {", ".join(BENCHMARKS)}', file=sys.stderr)
        return 2
    benchmark = importlib.import_module(f"bench.{name}")
    parser = argparse.ArgumentParser(
        prog=f"python -m bench {name}",
        description=benchmark.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--pairs", type=int, default=benchmark.PAIRS, help=f"rounds, default {benchmark.PAIRS}")
    parser.add_argument("--record", action="store_true", help=f"append a row to bench/results/{name}.jsonl")
    benchmark.add_arguments(parser)
    options = parser.parse_args(rest)
    code = 0
    for found in benchmark.measure(options):  # one Comparison a case
        measured = harness.row(name, found, options.device, ["python", "-m", "bench", *argv])
        print(harness.table(measured))
        if options.record:
            print(f"wrote {harness.append(measured)}", file=sys.stderr)
        if not found.ok:
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
