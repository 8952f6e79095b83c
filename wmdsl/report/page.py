"""The report: one self-contained HTML file over one or many runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from wmdsl.report import plots
from wmdsl.report.runs import Entry, Finished, group
from wmdsl.runtime.run import write_json, write_text

CANONICAL = ("policy", "passive_world_model", "controllable_world_model", "inverse_dynamics")


def write_report(runs: Sequence[Path], out: Path, title: str, summary: str) -> Path:
    """Write the report of trained and evaluated runs to `out` and return its path.

    Where runs went through the faithfulness suite, `faithful.json` beside it holds their numbers.
    """
    from wmdsl.report.faithfulness import faithfulness

    entries = group(Finished.read(path) for path in runs)
    tasks = list(dict.fromkeys(t for e in entries for run in e.sighted for t in run.tasks))
    found = faithfulness(entries)
    if found:
        write_json(out.with_name("faithful.json"), found)
    page = _template().render(
        title=title,
        summary=summary,
        tasks=tasks,
        results=[row for entry in entries for row in _results(entry, tasks)],
        success_plot=_safe(plots.success(entries, tasks)) if tasks else "",
        couplings=[_coupling(entry) for entry in entries],
        entries=[_section(entry) for entry in entries],
        faithful=_faithful(found) if found else None,
        reported=_reported(),
    )
    write_text(out, page)
    return out


def _template() -> Any:
    from jinja2 import Environment

    text = resources.files("wmdsl.report").joinpath("page.html.jinja").read_text("utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)


def _safe(markup: str) -> Any:
    from markupsafe import Markup

    return Markup(markup)


def _results(entry: Entry, tasks: Sequence[str]) -> list[dict[str, Any]]:
    rows = [_result_row(run, _label(entry, run), tasks) for run in (*entry.sighted, *entry.blind)]
    for run in entry.sighted:
        swapped = {r["task"]: r for r in run.evaluation.get("swapped", ())}
        if swapped:
            cells = [_cell(swapped.get(task)) for task in tasks]
            rows.append({"label": f"{entry.model}, instruction swapped", "cells": cells})
    return rows


def _label(entry: Entry, run: Finished) -> str:
    several = len(entry.blind if run.blind else entry.sighted) > 1
    parts = [entry.model, "blind" if run.blind else "", f"seed {run.seed}" if several else ""]
    return ", ".join(part for part in parts if part)


def _result_row(run: Finished, label: str, tasks: Sequence[str]) -> dict[str, Any]:
    latency = run.evaluation.get("latency_ms", {})
    return {
        "label": label,
        "cells": [_cell(run.tasks.get(task)) for task in tasks],
        "parameters": f"{run.plan['params']['total'] / 1e6:.2f} M",
        "seconds": f"{run.training['seconds']:.0f} s" if "seconds" in run.training else "",
        "policy_ms": _milliseconds(latency.get("policy")),
        "joint_ms": _milliseconds(latency.get("joint")),
    }


def _cell(result: dict[str, Any] | None) -> str:
    if result is None:
        return "–"
    low, high = result["interval"]
    return f"{100 * result['success']:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"


def _coupling(entry: Entry) -> dict[str, Any]:
    plan = entry.plan
    row = plan["paradigm"]
    return {
        "model": entry.model,
        "id": row["id"],
        "where": row["where"].replace("_", " "),
        "explicitness": row["explicitness"].replace("_", " "),
        "level": row["level"],
        "mechanism": ", ".join(row["mechanism"]),
        "visual": row["visual_at_inference"],
        "because": "; ".join(row["because"]),
        "factorisation": plan["factorisation"],
        "canonical": [plan["canonical_queries"][name]["answerable"] for name in CANONICAL],
    }


def _section(entry: Entry) -> dict[str, Any]:
    import wmdsl
    from wmdsl.plan.draw import drawing_of, mask_svg, to_svg

    run = (entry.sighted or entry.blind)[0]
    spec = (run.path / "model.wm").read_text(encoding="utf-8")
    plan = wmdsl.plan(spec)
    strips = sorted(run.path.glob("strip-*.png"))
    return {
        "model": entry.model,
        "title": run.training["title"],
        "graph": _safe(to_svg(drawing_of(plan))),
        "mask": _safe(mask_svg(plan.train)),
        "spec": spec,
        "losses": _safe(plots.losses(entry)),
        "strips": [(path.stem.removeprefix("strip-"), _base64(path)) for path in strips],
        "settings": json.dumps({"run": run.path.name, **run.training}, indent=1),
    }


def _faithful(found: dict[str, Any]) -> dict[str, Any]:
    """The cells of the tables about faithfulness."""
    return {
        "rows": [_faithful_row(row) for row in found["runs"]],
        "not_asked": found["not_asked"],
        "correlation": found["correlation"],
        "specs": [_cost_row(spec) for spec in found["specs"]],
    }


def _faithful_row(row: dict[str, Any]) -> dict[str, Any]:
    systems, success = row["systems"], row["success"]
    model = systems["model"]
    return {
        "label": f"{row['model']}, seed {row['seed']}",
        "horizon": f"{row['horizon']:.2f} s",
        "retrieval": _estimate(model["retrieval"], 100),
        "others": [
            (name, *(_estimate(systems[name][key], 100) for key in ("retrieval", "hand")))
            for name in ("copy", "shuffled")
            if name in systems
        ],
        "hand": _estimate(model["hand"], 100),
        "floor": _estimate(systems["simulator"]["hand"], 100),
        "sensitivity": _estimate(model.get("sensitivity"), 1),
        "held": ", ".join(row["held"]) or "–",
        "success": f"{100 * success['share']:.0f} %" if success else "–",
    }


def _estimate(estimate: Sequence[float] | None, unit: int) -> str:
    if estimate is None:
        return "–"
    value, low, high = (f"{unit * number:.{1 if unit == 100 else 2}f}" for number in estimate)
    return f"{value} [{low}, {high}]"


def _cost_row(spec: dict[str, Any]) -> dict[str, Any]:
    milliseconds = [_milliseconds(spec["milliseconds"].get(name)) for name in ("policy", "joint")]
    flops = [spec["train_flops"], *(spec["flops"].get(name) for name in ("policy", "joint"))]
    return {
        "model": spec["model"],
        "asked": list(spec["asked"].values()),
        "flops": ["–" if number is None else f"{number / 1e6:.0f} M" for number in flops],
        "milliseconds": [text or "–" for text in milliseconds],
        "gain": _estimate(spec["gain"], 100),
    }


def _base64(path: Path) -> str:
    from base64 import b64encode

    return b64encode(path.read_bytes()).decode("ascii")


def _reported() -> list[dict[str, str]]:
    text = resources.files("wmdsl.report").joinpath("libero_reported.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))
