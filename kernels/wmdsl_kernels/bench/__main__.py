"""`python -m wmdsl_kernels.bench`: the workload table against what else is installed, then what
surrounds attention (`bench.around`) and decoding (`bench.decode`) against torch.

A green test run is the gate: figures of a wrong kernel mean nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch

from wmdsl_kernels.bench import around, decode, report, rivals
from wmdsl_kernels.bench.run import DTYPES, bench
from wmdsl_kernels.bench.workloads import TABLES

TESTS = Path(__file__).parents[2] / "tests"
GATES = {"cuda": "not slow", "cpu": "not slow and not gpu"}
"""The marks of the tests that must pass: on a GPU those that run on it too, which a plain run of
pytest leaves out."""
ONLY = "some workloads alone; `around` and `decode` stand for what comes behind the table"


def main(arguments: list[str] | None = None) -> int:
    """Run the gate, then everything; print lines, and write JSON and a plot of the table."""
    options = _parser().parse_args(arguments)
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    if not options.no_gate and not _gate_is_green(device):
        return 1
    names = options.rivals or rivals.available(device)
    surroundings = report.environment(device)
    results, parts = [], {"results": [], "around": [], "decode": []}
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)

    def keep(part: str, record: dict[str, object]) -> None:
        """Write what is there so far: a long run may be cut off."""
        parts[part].append(record)
        if options.out is not None:
            report.write_json(surroundings, parts, options.out / "bench.json")

    print(report.HEADER)
    for workload in TABLES[device.type]:
        if options.only and workload.name not in options.only:
            continue
        for dtype in (dtype for dtype in options.dtypes if dtype in workload.dtypes):
            for result in bench(workload, dtype, names, device, options.seconds):
                print(report.row(result), flush=True)
                results.append(result)
                keep("results", result.as_record())
    for part, lines in (("around", around.lines), ("decode", decode.lines)):
        if options.only and part not in options.only:
            continue
        for line, record in lines(device, options.dtypes, options.seconds):
            print(line, flush=True)
            keep(part, record)
    if options.out is not None and results:
        report.write_plot(results, options.out / "bench.svg")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m wmdsl_kernels.bench", description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=TABLES, default=default)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=DTYPES,
        default=["fp32", "bf16"],
        help="default fp32 and bf16",
    )
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", help=ONLY)
    parser.add_argument("--rivals", nargs="+", choices=rivals.RIVALS, help="default: all that fit")
    parser.add_argument("--seconds", type=float, default=1.0, help="per workload and direction")
    parser.add_argument("--out", type=Path, help="folder for bench.json and bench.svg")
    parser.add_argument("--no-gate", action="store_true", help="skip the test run")
    return parser


def _gate_is_green(device: torch.device) -> bool:
    if not TESTS.is_dir():
        print("the tests are not installed here: run from a checkout, or with --no-gate")
        return False
    command = [sys.executable, "-m", "pytest", "-q", "-m", GATES[device.type], str(TESTS)]
    return subprocess.run(command, cwd=TESTS.parents[1]).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
