"""What each token group is in training, and which roles of a query that training has shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from wmdsl.check.model import CallValue, Generate, Model, Segment
from wmdsl.plan.spaces import prefix_group, prefixes

NOISY = ("flow", "diffusion", "edm")
ROLE_OF_OBJECTIVE = {
    **dict.fromkeys(NOISY, "noisy"),
    "regression": "placeholder",
    "autoregressive": "clean",
    "masked": "masked",
    "contrastive": "clean",
}


def training_roles(model: Model) -> Mapping[tuple[str, str], str]:
    """The role of every (trunk, group) in the training pass."""
    roles = {}
    for trunk in model.trunks.values():
        for condition in prefixes(model, trunk.name):
            roles[trunk.name, prefix_group(model, condition).name] = "prefix"
        for group in trunk.groups:
            roles[trunk.name, group.name] = _role(model, trunk.name, group.segment)
    for generate in model.generates.values():
        for name in generate.groups:
            roles[name] = ROLE_OF_OBJECTIVE[generate.objective]
    return roles


def _role(model: Model, trunk: str, segment: Segment) -> str:
    if model.streams[segment.stream].modality == "learned":
        return "learned"
    handed = any(hand.trunk == trunk and hand.segment == segment for hand in model.hands.values())
    return "handed" if handed else "clean"


def generates_by_segment(model: Model) -> Mapping[str, Generate]:
    """The generate that predicts each segment, by reference."""
    return {
        segment.reference: generate
        for generate in model.generates.values()
        for segment in generate.segments
    }


def reaches(law: CallValue | None, time: int) -> bool:
    """Whether training comes as close as one likes to clean data (0) or pure noise (1)."""
    if law is None:
        return False
    if law.name == "uniform":
        low, high = law.arguments or (0, 1)
        return low <= time <= high
    if law.name == "fixed":
        return law.arguments[0] == time
    if law.name == "mix":
        return any(reaches(part, time) for part in law.arguments if isinstance(part, CallValue))
    return True


def independent(left: Generate, right: Generate) -> bool:
    """Whether two predicted segments draw their training times on their own."""
    return left.name != right.name or left.times != "shared"


def shown_clean(generate: Generate, beside: Generate) -> bool:
    """Whether training shows a segment clean while another one is still to be generated."""
    if generate.objective == "autoregressive":
        return True
    if generate.objective in (*NOISY, "masked"):
        return independent(generate, beside) and reaches(generate.law, 0)
    return False


def shown_in_layout(model: Model, reference: str, targets: Iterable[str]) -> bool:
    """Whether some layout of training gives a segment while all these are predicted."""
    wanted = set(targets)
    return any(
        reference in layout.tokens
        and reference not in layout.predicted
        and wanted <= set(layout.predicted)
        for layout in model.layouts.values()
    )


def shown_as_noise(generate: Generate, beside: Generate) -> bool:
    """Whether training shows a segment as pure noise while another one is still noisy."""
    return (
        generate.objective in NOISY and independent(generate, beside) and reaches(generate.law, 1)
    )


def carries_data(role: str) -> bool:
    """Whether tokens of that role hold anything of the segment's value."""
    return role in ("clean", "noisy", "masked", "handed")


def noise_hides(time: Fraction | None) -> bool:
    """Whether a tap's own time leaves nothing of generated segments."""
    return time == 1
