"""`wmdsl plan`: everything the compiler derives, without a weight."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from wmdsl import driver
from wmdsl.diagnostics import Diagnostics, did_you_mean
from wmdsl.plan.named import SHORT, questions
from wmdsl.plan.nodes import Plan
from wmdsl.syntax import read_source
from wmdsl.tools.backends import DTYPES, Dispatch, as_records, as_text, dispatches
from wmdsl.tools.common import parameters_argument, show, spec_path

EXAMPLE = "wmdsl plan examples/paradigms/mot.wm --query policy"


def plan(path: str, parameters: Mapping[str, object]) -> Plan:
    """The plan of `file.wm` or `file.wm:model`; warnings are shown, errors raise SpecError."""
    file, model = spec_path(path)
    diagnostics = Diagnostics()
    source = read_source(file, diagnostics)
    options = driver.Options(parameters, model=model)
    found = driver.run(source, options, diagnostics) if source is not None else None
    if found is None or diagnostics.has_errors:
        raise driver.SpecError(diagnostics.sorted())
    show(diagnostics)
    return found


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a spec, or one model of it as FILE:MODEL")
    parser.add_argument("--query", metavar="Q", help="one query only, with its masks")
    parser.add_argument("--json", action="store_true", help="as data, format_version 1")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32",
        help="of queries and keys, for the attention back ends (float32; autocast sets another)",
    )  # fmt: skip
    parameters_argument(parser)


def run(options: argparse.Namespace) -> int:
    found = plan(options.file, options.parameters)
    known = questions(found)
    if options.query is not None and options.query not in known:
        near = did_you_mean(options.query, known)
        advice = f"did you mean `{near}`?" if near else f"there are {', '.join(known)}"
        print(f"error: there is no query `{options.query}`; {advice}", file=sys.stderr)
        return 2
    short = None if options.query in found.queries else SHORT.get(options.query)
    query = short or options.query
    backends = dispatches(found, options.dtype, query)
    form = _json if options.json else _text
    sys.stdout.write(form(found, query, backends))
    return 0


def _text(found: Plan, query: str | None, backends: list[Dispatch]) -> str:
    from wmdsl.plan.as_text import to_text

    return f"{to_text(found, query)}\n{as_text(backends)}" if backends else to_text(found, query)


def _json(found: Plan, query: str | None, backends: list[Dispatch]) -> str:
    import json

    from wmdsl.plan.as_json import to_json

    data = to_json(found)
    if query is not None:
        named = {**data["canonical_queries"], **data["queries"]}
        masks = {name: mask for name, mask in data["mask"].items() if name == query}
        data = {key: data[key] for key in ("format_version", "model", "spec_sha256")}
        data |= {"queries": {query: named[query]}, "mask": masks}
    data["attention_backends"] = as_records(backends)
    return json.dumps(data, indent=1) + "\n"
