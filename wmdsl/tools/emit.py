"""`wmdsl emit`: the PyTorch source of a spec."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wmdsl.runtime.run import write_text
from wmdsl.tools.common import parameters_argument

EXAMPLE = "wmdsl emit examples/paradigms/mot.wm -o model.py"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the spec")
    parser.add_argument("-o", "--out", type=Path, help="a file; standard output if absent")
    parser.add_argument("--standalone", action="store_true",
                        help="import torch alone: attention is written out")  # fmt: skip
    parser.add_argument("--log-density", action="store_true",
                        help="log-densities of queries instead of losses and queries")  # fmt: skip
    parser.add_argument("--check", action="store_true",
                        help="write nothing; fail if OUT is not what would be written")  # fmt: skip
    parameters_argument(parser)


def run(options: argparse.Namespace) -> int:
    import wmdsl

    text = wmdsl.emit(options.file, standalone=options.standalone,
                      log_density=options.log_density, **options.parameters)  # fmt: skip
    if options.check:
        return _compare(text, options.out)
    if options.out is None:
        sys.stdout.write(text)
    else:
        write_text(options.out, text)
        print(f"wrote {options.out}, {len(text.splitlines())} lines")
    return 0


def _compare(text: str, out: Path | None) -> int:
    if out is None:
        print("error: --check compares with a file; name it with -o", file=sys.stderr)
        return 2
    same = out.is_file() and out.read_text(encoding="utf-8") == text
    print(f"{out} is {'what this spec emits' if same else 'not what this spec emits'}")
    return 0 if same else 1
