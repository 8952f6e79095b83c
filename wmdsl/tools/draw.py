"""`wmdsl draw`: the coupling graph of a spec, or who sees whom."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wmdsl.plan.draw import drawing_of, mask_svg, mask_text, to_mermaid, to_svg, to_text
from wmdsl.plan.nodes import Pass, Plan
from wmdsl.tools.common import parameters_argument
from wmdsl.tools.plan import plan

EXAMPLE = "wmdsl draw examples/paradigms/mot.wm --as svg -o mot.svg"
FORMATS = ("svg", "mermaid", "text")
GRAPHS = {"svg": to_svg, "mermaid": to_mermaid, "text": to_text}


def draw(found: Plan, form: str, mask: bool = False, query: str | None = None) -> str:
    """The picture as text: `form` is svg, mermaid or text; `mask` draws who sees whom instead.

    Of the training pass, or of the last pass of a query.  Raises ValueError where there is no such
    picture.
    """
    if not found.train.spaces:
        raise ValueError(f"model `{found.model.name}` has no trunk, so there is nothing to draw")
    if not mask:
        return GRAPHS[form](drawing_of(found))
    if form == "mermaid":
        raise ValueError("mermaid cannot draw a mask; use --as svg or --as text")
    evaluation = found.train if query is None else _query_pass(found, query)
    return mask_svg(evaluation) if form == "svg" else mask_text(evaluation.spaces) + "\n"


def _query_pass(found: Plan, name: str) -> Pass:
    queries = {**found.canonical_queries, **found.queries}
    running = [query.name for query in queries.values() if query.chain]
    if name not in running:
        raise ValueError(f"no query `{name}` runs; there are {', '.join(running)}")
    return queries[name].chain[-1].evaluation


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a spec, or one model of it as FILE:MODEL")
    parser.add_argument(
        "--as", dest="form", metavar="FORM[,FORM]", type=_forms, default=("text",),
        help=f"one or several of {', '.join(FORMATS)}; text is the default",
    )  # fmt: skip
    parser.add_argument("--mask", action="store_true", help="draw who sees whom instead")
    parser.add_argument("--query", metavar="Q", help="the mask of a query instead of training")
    parser.add_argument("-o", dest="output", metavar="OUT", help="a file; the terminal if absent")
    parameters_argument(parser)


def _forms(text: str) -> tuple[str, ...]:
    forms = tuple(text.split(","))
    for form in forms:
        if form not in FORMATS:
            raise argparse.ArgumentTypeError(f"{form!r} is not one of {', '.join(FORMATS)}")
    return forms


SUFFIXES = {"svg": ".svg", "mermaid": ".mmd", "text": ".txt"}


def run(options: argparse.Namespace) -> int:
    found = plan(options.file, options.parameters)
    mask = options.mask or options.query is not None
    for form in options.form:
        try:
            picture = draw(found, form, mask, options.query)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        _write(options, form, picture)
    return 0


def _write(options: argparse.Namespace, form: str, picture: str) -> None:
    """To the terminal, or to the file; several forms get a suffix each."""
    if options.output is None:
        sys.stdout.write(picture)
        return
    path = Path(options.output)
    path = path if len(options.form) == 1 else path.with_suffix(SUFFIXES[form])
    path.write_text(picture, encoding="utf-8")
    print(f"wrote {path}")
