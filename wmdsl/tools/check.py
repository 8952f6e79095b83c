"""`wmdsl check`: all diagnostics of all files, and against a data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping

from wmdsl import driver
from wmdsl.diagnostics import Diagnostics
from wmdsl.source import Source
from wmdsl.syntax import parse, read_source
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
            for name in [model] if model else _models(source):
                diagnostics.extend(_check_model(source, name, parameters, data))
    return diagnostics


def _models(source: Source) -> list[str | None]:
    """All models of the file; one pass without a name where it has none."""
    names = dict.fromkeys(model.name.text for model in parse(source, Diagnostics()).models)
    return list(names) or [None]


def _check_model(
    source: Source, model: str | None, parameters: Mapping[str, object], data: str | None
) -> Diagnostics:
    diagnostics = Diagnostics()
    seen: dict[str, object] = {}
    options = driver.Options(parameters, model=model, observe=seen.__setitem__)
    driver.run(source, options, diagnostics)
    if data is not None and "check" in seen:
        from wmdsl.check.dataset import check_data
        from wmdsl.data.lerobot import DatasetInfo

        check_data(seen["check"], DatasetInfo.read(data), diagnostics)
    return diagnostics


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
