"""`wmdsl check`: all diagnostics of all files, and against a data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from wmdsl import driver
from wmdsl.diagnostics import Diagnostics
from wmdsl.source import Source
from wmdsl.syntax import read_source
from wmdsl.tools.common import expand, parameters_argument, show, spec_path

EXAMPLE = "wmdsl check examples/paradigms examples/hybrids --format github"
FORMATS = ("text", "json", "sarif", "github")


def check(
    paths: Iterable[str], parameters: Mapping[str, object], data: str | None = None
) -> Diagnostics:
    """Every mistake in the models of the files, and where they do not fit the data set `data`."""
    diagnostics = Diagnostics()
    for text in expand(paths):
        path, model = spec_path(text)
        source = read_source(path, diagnostics)
        if source is not None:
            models, found = _check_model(source, model, parameters, data)
            for name in [] if model else models[:-1]:
                diagnostics.extend(_check_model(source, name, parameters, data)[1])
            diagnostics.extend(found)
    return diagnostics


def _check_model(
    source: Source, model: str | None, parameters: Mapping[str, object], data: str | None
) -> tuple[list[str], Diagnostics]:
    """The names of all models of the file, and the mistakes in one, the last if none is named."""
    diagnostics = Diagnostics()
    seen: dict[str, Any] = {}
    options = driver.Options(parameters, model=model, observe=seen.__setitem__)
    typed = driver.examine(source, options, diagnostics)
    if data is not None and typed is not None:
        from wmdsl.check.dataset import check_data
        from wmdsl.data.lerobot import DatasetInfo

        check_data(typed, DatasetInfo.read(data), diagnostics)
    names = dict.fromkeys(entry.name.text for entry in seen["parse"].models)
    return list(names), diagnostics


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="specs, or folders of specs")
    parser.add_argument("--data", metavar="DATASET", help="also check against this data set")
    parser.add_argument("--format", choices=FORMATS, default="text", help="text is the default")
    parameters_argument(parser)


def run(options: argparse.Namespace) -> int:
    found = check(options.files, options.parameters, options.data)
    if options.format == "text":
        show(found, sys.stdout)
        if not len(found):
            print(f"no mistakes found in {', '.join(options.files)}")
    else:
        sys.stdout.write(_exported(found, options.format))
    return 1 if found.has_errors else 0


def _exported(found: Diagnostics, format_name: str) -> str:
    from wmdsl import __version__
    from wmdsl.diagnostics import export

    match format_name:
        case "json":
            return export.to_json(found)
        case "sarif":
            return export.to_sarif(found, __version__)
    return export.to_github(found)
