"""Whether the log-density of a query's answer can be computed, and how."""

from __future__ import annotations

from collections.abc import Sequence

from wmdsl.check.model import Generate, Model, TokenGroup
from wmdsl.plan.asked import Asked
from wmdsl.plan.flow import Flow
from wmdsl.plan.nodes import Density, Generation
from wmdsl.plan.parameters import vocabulary
from wmdsl.plan.refusals import at
from wmdsl.plan.roles import NOISY

EXACT_NUMBERS = 256
"""Up to so many numbers the divergence of a flow is exact: each takes a backward pass a step."""
FIRST_LEVEL = 0.01
"""Where a head predicts data, the path has no slope at level 0: the density is that of the data
with so much noise."""
UNCHANGED = ("linear", "patch")  # codecs whose tokens are the numbers of the data themselves


def density_of(flow: Flow, asked: Asked, chain: Sequence[Generation], guided: bool) -> Density:
    """The weakest answer of all parts, with what is said of each; "no" with the first reason."""
    if guided:
        return Density("no", "what guidance draws from has no normalised density")
    parts = [_part(flow, asked, step) for step in chain]
    refused = [part for part in parts if part.answer == "no"]
    if refused:
        return refused[0]
    kinds = {part.answer for part in parts} - {"exact"}
    answer = "exact" if not kinds else kinds.pop() if len(kinds) == 1 else "estimate"
    return Density(answer, "; ".join(dict.fromkeys(part.because for part in parts)))


def _part(flow: Flow, asked: Asked, step: Generation) -> Density:
    names = " and ".join(step.segments)
    refused = _averaged(asked, step, names)
    if refused:
        return Density("no", refused)
    if step.objective in NOISY:
        return _flow(flow, step)
    if step.objective == "regression":
        return _regression(flow.generates[step.segments[0]], names)
    if step.objective in ("autoregressive", "masked"):
        return _tokens(flow, step)
    return Density("no", f"{names} is no draw from a distribution ({step.objective})")


def _averaged(asked: Asked, step: Generation, names: str) -> str:
    """Why a part has no density without an integral; "" where it has."""
    sought = {segment.reference for segment in asked.sought}
    others = [name for name in (*step.segments, *step.joint) if name not in sought]
    if others:
        what = " and ".join(others)
        return f"{what} would have to be averaged over; seek it as well"
    if step.left:
        return f"{' and '.join(sorted(step.left))} stops short of data"
    taps = (
        space.time and step.evaluation.roles[placed.key] == "noisy"
        for space in step.evaluation.spaces
        for placed in space.groups
    )
    if "pinned" in step.evaluation.roles.values() or any(taps):
        return f"the noise that {names} reads would have to be averaged over"
    return ""


def _flow(flow: Flow, step: Generation) -> Density:
    groups = [_group(flow.model, flow.generates[name], name) for name in step.segments]
    numbers = sum(group.count * group.features for group in groups)
    exact = "exact" if numbers <= EXACT_NUMBERS else "estimated in a random direction"
    told = [f"probability flow in {step.steps} steps, the divergence of {numbers} numbers {exact}"]
    if any(first_level(flow.generates[name]) for name in step.segments):
        told.append(f"of the data at noise level {FIRST_LEVEL}")
    coded = [group.codec for group in groups if not unchanged(flow.model, group)]
    if coded:
        told.append(f"of what {' and '.join(coded)} makes of the data")
    return Density("estimate", ", ".join(told))


def _tokens(flow: Flow, step: Generation) -> Density:
    (reference, *_) = step.segments
    group = _group(flow.model, flow.generates[reference], reference)
    tokens = f"the log-probability of {group.count} tokens of {group.codec}({reference})"
    if step.objective == "autoregressive":
        return Density("exact", tokens)
    return Density("bound", f"below {tokens}, from {step.steps} random subsets")


def _regression(generate: Generate, names: str) -> Density:
    where, scale = at(generate.span), generate.attributes["scale"]
    if generate.distance == "smooth_l1":
        return Density("no", f"smooth_l1 of {generate.name} stands for no law ({where})")
    if scale is None:
        return Density("no", f"{generate.name} declares no `scale` of its error ({where})")
    law = "Laplace law of width" if generate.distance == "l1" else "normal law of deviation"
    return Density("exact", f"{names} by a {law} {float(scale):g}")


def first_level(generate: Generate) -> bool:
    """Whether the path has no slope at clean data."""
    return generate.objective != "edm" and generate.predict in ("data", "change", "x0")


def numbers_of(model: Model, generate: Generate, reference: str) -> int:
    """Numbers of a segment's tokens."""
    group = _group(model, generate, reference)
    return group.count * group.features


def _group(model: Model, generate: Generate, reference: str) -> TokenGroup:
    groups = [model.trunks[trunk].group(name) for trunk, name in generate.groups]
    return next(group for group in groups if group.segment.reference == reference)


def unchanged(model: Model, group: TokenGroup) -> bool:
    """Whether the tokens of a group are the numbers of its segment, in another order."""
    return vocabulary(model, group) is None and model.codecs[group.codec].kind in UNCHANGED
