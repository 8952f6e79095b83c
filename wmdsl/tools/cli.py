"""The command line: `wmdsl VERB ...`.

Each verb is a module of this folder with `arguments(parser)`, `run(options) -> exit code` and
`EXAMPLE`; the module is imported only when its verb is asked for.  Adding one is a module and a row
here.  Exit codes: 0 done, 1 the spec has errors or the answer is no, 2 wrong usage or a fault of
the data or the machine, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

VERBS = {
    "check": "report every mistake in specs, before a GPU is rented",
    "fmt": "lay out specs; comments keep their places",
    "explain": "the page of an error code",
    "plan": "print everything the compiler derives",
    "draw": "the coupling graph, or the attention mask",
    "canon": "the resolved spec with every default written out",
    "diff": "what changed between two specs",
    "atlas": "one table over a folder of specs, beside what others say of the systems",
    "emit": "the PyTorch source of a spec, one readable file",
    "smoke": "one training step and every query on random data",
    "init": "a spec skeleton from a data set",
    "demos": "real demonstrations from a scripted expert",
    "train": "train a spec on demonstrations",
    "eval": "closed-loop success of a trained run",
    "query": "ask a trained run any declared query",
    "faithful": "how far a run's imagined future follows the actions",
    "compare": "train and evaluate several specs under one budget",
}

BRIEF = ("check", "plan", "draw", "canon", "diff")  # end before collecting garbage would pay


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}")


def _run(words: list[str]) -> int:
    if words and words[0] == "--version":
        from wmdsl import __version__

        print(f"wmdsl {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if words else 2
    verb = words[0]
    if verb not in VERBS:
        return _unknown_verb(verb)
    module = import_module(f"wmdsl.tools.{verb}")
    parser = argparse.ArgumentParser(
        prog=f"wmdsl {verb}",
        description=f"{VERBS[verb][0].upper()}{VERBS[verb][1:]}.",
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.arguments(parser)
    try:
        options = parser.parse_args(words[1:])
    except SystemExit as stop:
        return int(stop.code or 0)
    with _uncollected(verb in BRIEF):
        return guarded(module.run, options)


@contextmanager
def _uncollected(wanted: bool) -> Iterator[None]:
    """Without garbage collection, a fifth of the time of a `plan`, which leaves few cycles."""
    if not wanted or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def guarded(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Faults of specs, data and runs are shown as what they are, never as a traceback."""
    from wmdsl.diagnostics.problem import Problem
    from wmdsl.driver import SpecError

    try:
        return int(run(options))
    except SpecError as error:
        from wmdsl.tools.common import show

        show(error.diagnostics)
        return 1
    except Problem as problem:
        return _fail(f"{problem.what}\n  at: {problem.where}\n  help: {problem.help}", problem.code)


def _fail(message: str, code: str = "") -> int:
    label = f"error[{code}]" if code else "error"
    print(f"{label}: {message}", file=sys.stderr)
    return 2


def _unknown_verb(verb: str) -> int:
    from wmdsl.diagnostics.suggest import did_you_mean

    near = did_you_mean(verb, VERBS)
    advice = f"did you mean `wmdsl {near}`?" if near else "`wmdsl --help` lists all verbs"
    return _fail(f"there is no verb `{verb}`; {advice}")


def _overview() -> str:
    rows = [f"  {verb:<10}{text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "usage: wmdsl VERB ...",
            "",
            "A language and compiler for world-model policies that couple video and action.",
            "",
            *rows,
            "",
            "`wmdsl VERB --help` shows the arguments of a verb and an example.  First steps:",
            "  wmdsl check examples/paradigms/mot.wm",
            "  wmdsl plan examples/paradigms/mot.wm",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
