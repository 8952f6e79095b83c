"""The paradigm row, derived from the training graph and the policy query by a decision table.

Nothing looks at a name.  Rules are tried in order and the first whose test gives reasons wins;
docs/paradigm-table.md is the same table in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from wmdsl.check.model import Model, TokenGroup, TokenSource
from wmdsl.plan.asked import VISUAL_LEVELS, actions
from wmdsl.plan.edges import deepest_level, hand_level
from wmdsl.plan.flow import Flow
from wmdsl.plan.nodes import Paradigm, QueryPlan
from wmdsl.plan.reach import hidden, predicted, segment
from wmdsl.plan.refusals import at
from wmdsl.record import record
from wmdsl.source import Span

IMAGES = ("video", "image", "depth", "flow", "track", "tactile")
SYMBOLIC_FORMS = ("predicate", "operator")
LEFT_OUT = ("deleted_exactly", "head_skipped")


@record
class Read:
    """One trunk reads another: by which mechanism, and whether gradients stop on the way."""

    mechanism: str
    stopped: bool
    level: str
    span: Span
    layerwise: bool


@record
class Evidence:
    """What the rules look at.

    `images` and `features` are generated visual futures that are, and are not, frames; `seers` and
    `doers` the trunks that predict them and the actions; `forward` and `backward` what the doers
    read of the seers and the seers of the doers.
    """

    flow: Flow
    policy: QueryPlan
    images: tuple[str, ...]
    features: tuple[str, ...]
    acts: tuple[str, ...]
    seers: tuple[str, ...]
    doers: tuple[str, ...]
    forward: tuple[Read, ...]
    backward: tuple[Read, ...]

    @property
    def model(self) -> Model:
        return self.flow.model


def paradigm_of(flow: Flow, policy: QueryPlan) -> Paradigm:
    """The row of the first rule that applies."""
    evidence = _evidence(flow, policy)
    for rule in RULES:
        reasons = rule.test(evidence)
        if reasons:
            return Paradigm(
                id=rule.id,
                where=rule.where(evidence),
                explicitness=rule.explicitness,
                level=rule.level(evidence),
                mechanism=tuple(dict.fromkeys(rule.mechanism(evidence))),
                visual_at_inference=_visual(evidence),
                because=tuple(reasons),
                rule=rule.number,
            )
    raise AssertionError("the last rule always applies")


def _evidence(flow: Flow, policy: QueryPlan) -> Evidence:
    model = flow.model
    images = tuple(ref for ref in flow.generates if _is_image(model, ref))
    features = tuple(ref for ref in flow.generates if _is_feature(model, ref))
    made = {*flow.generates, *flow.externs}
    acts = tuple(s.reference for s in actions(model) if s.reference in made)
    seers, doers = _trunks(flow, images + features), _trunks(flow, acts)
    solvers = tuple(_solvers(flow, acts))
    calls = tuple(_calls(flow, solvers, images + features))
    return Evidence(
        flow, policy, images, features, acts, seers, (*doers, *solvers),
        forward=(*calls, *_reads(flow, seers, doers, images + features)),
        backward=tuple(_reads(flow, doers, seers, acts)),
    )  # fmt: skip


def _is_image(model: Model, reference: str) -> bool:
    stream = model.streams[reference.partition(".")[0]]
    return stream.modality in IMAGES or stream.level in ("pixel", "3d")


def _is_feature(model: Model, reference: str) -> bool:
    stream = model.streams[reference.partition(".")[0]]
    return not _is_image(model, reference) and stream.level in VISUAL_LEVELS


def _trunks(flow: Flow, references: Iterable[str]) -> tuple[str, ...]:
    found = {
        trunk: None
        for reference in references
        if reference in flow.generates
        for trunk, name in flow.generates[reference].groups
        if flow.model.trunks[trunk].group(name).segment.reference == reference
    }
    return tuple(found)


def _solvers(flow: Flow, acts: Iterable[str]) -> Iterator[str]:
    """Externs that compute an action."""
    names = (flow.externs[act].name for act in acts if act in flow.externs)
    return iter(dict.fromkeys(names))


def _calls(flow: Flow, solvers: Iterable[str], futures: Iterable[str]) -> Iterator[Read]:
    """What a foreign function reads is finished, and carries no gradient."""
    wanted = {segment(reference) for reference in futures}
    for extern in (flow.model.externs[name] for name in solvers):
        taken = [segment(part.reference) for part in extern.takes]
        if wanted & flow.deployed().before(taken):
            streams = [flow.model.streams[part.stream] for part in extern.takes]
            levels = [stream.level for stream in streams if stream.level in VISUAL_LEVELS]
            yield Read("extern", True, (levels or ["control"])[0], extern.span, layerwise=False)


def _reads(
    flow: Flow,
    sources: tuple[str, ...],
    readers: tuple[str, ...],
    handed: tuple[str, ...],
    passed: tuple[str, ...] = (),
) -> Iterator[Read]:
    """Everything by which a trunk of `readers` reads one of `sources`, or trunks that read them."""
    yield from _direct(flow, sources, readers, handed)
    passed = (*passed, *sources, *readers)
    for relay in (name for name in flow.model.trunks if name not in passed):
        onward = list(_direct(flow, (relay,), readers, ()))
        if onward:
            stopped = all(read.stopped for read in onward)
            for read in _reads(flow, sources, (relay,), handed, passed):
                yield replace(read, stopped=read.stopped or stopped)


def _direct(
    flow: Flow, sources: tuple[str, ...], readers: tuple[str, ...], handed: tuple[str, ...]
) -> Iterator[Read]:
    """Everything by which a trunk of `readers` reads another trunk of `sources`."""
    model = flow.model
    for hand in model.hands.values():
        if hand.segment.reference in handed and hand.trunk in readers:
            yield Read("hand", True, hand_level(hand), hand.span, layerwise=False)
    for cross in model.crosses.values():
        if set(cross.targets) & set(readers):
            for source in _inside(cross.sources, sources):
                stopped = source.stop or model.trunks[source.trunk or ""].frozen
                yield Read("cross_attention", stopped, source.level, cross.span, layerwise=True)
    for condition in model.conditions.values():
        if condition.trunk in readers:
            for source in _inside(condition.sources, sources):
                stopped = source.stop or model.trunks[source.trunk or ""].frozen
                for mechanism in condition.mechanisms:
                    yield Read(mechanism, stopped, source.level, condition.span, layerwise=True)
    yield from _joint_reads(flow, sources, readers)


def _inside(found: Iterable[TokenSource], trunks: tuple[str, ...]) -> Iterator[TokenSource]:
    return (source for source in found if source.trunk in trunks)


def _joint_reads(flow: Flow, sources: tuple[str, ...], readers: tuple[str, ...]) -> Iterator[Read]:
    for space in flow.spaces:
        keys = [
            key.group
            for query, key in flow.sights[space.name]
            if query.group.trunk in readers
            and key.group.trunk in sources
            and query.group.trunk != key.group.trunk
        ]
        if keys:
            level = deepest_level(flow.model, keys)
            stopped = all(flow.model.trunks[group.trunk].frozen for group in keys)
            span = flow.model.joins[space.name].span
            yield Read("joint_attention", stopped, level, span, layerwise=True)


# the tests: a list of reasons, empty where the rule does not apply


def _latent(evidence: Evidence) -> list[str]:
    model = evidence.model
    if evidence.images or not actions(model):
        return []
    reasons = [
        f"align {align.name} compares features of the future {align.target.reference} "
        f"({at(align.span)})"
        for align in model.aligns.values()
        if not align.target.observed
    ]
    reasons += [
        f"{reference} is predicted as features ({at(evidence.flow.generates[reference].span)})"
        for reference in evidence.features
    ]
    reasons += _predictive_features(evidence)
    reasons += [f"{symbol} is symbolic" for symbol in _symbols(model)]
    return reasons and ["no future image is generated", *reasons]


def _predictive_features(evidence: Evidence) -> list[str]:
    """Features of codecs that were trained by prediction and reach the action."""
    graph, model = evidence.flow.graph, evidence.model
    closure = graph.before([predicted(reference) for reference in evidence.acts])
    return [
        f"the action reads {node.owner}({node.name}), whose features were trained by prediction "
        f"({at(model.codecs[node.owner].span)})"
        for node in sorted(node for node in closure if node.kind == "feature")
        if node.owner in model.codecs
        and model.codecs[node.owner].attributes.get("pretrained_by") == "prediction"
    ]


def _symbols(model: Model) -> list[str]:
    """Predicates and operators, and streams of a symbolic level."""
    declared = [
        name
        for name, entry in model.declarations.items()
        if getattr(entry, "form", "") in SYMBOLIC_FORMS
    ]
    streams = [f"stream {s.name}" for s in model.streams.values() if s.level == "symbolic"]
    return declared + streams


def _idm(evidence: Evidence) -> list[str]:
    apart = not set(evidence.seers) & set(evidence.doers)
    if not apart or not evidence.forward or not all(read.stopped for read in evidence.forward):
        return []
    return [
        f"{_names(evidence.seers)} predicts what is seen, {_names(evidence.doers)} what is done",
        *(f"the action reads it by {read.mechanism} without gradient ({at(read.span)})"
          for read in evidence.forward),
    ]  # fmt: skip


def _unified(evidence: Evidence) -> list[str]:
    decoders = [trunk for trunk in evidence.model.trunks.values() if trunk.kind == "decoder"]
    language_model = next((trunk for trunk in decoders if _observes(evidence, trunk)), None)
    fates = _fates(evidence)
    dropped = bool(fates) and all(how in LEFT_OUT for how in fates.values())
    if not (language_model and evidence.acts and dropped):
        return []
    return [
        f"{language_model.name} is a decoder that carries observation and language "
        f"({at(language_model.span)})",
        *(f"the policy leaves {reference} out: {how}" for reference, how in fates.items()),
    ]


def _observes(evidence: Evidence, trunk) -> bool:
    """Whether a trunk carries a text and something seen."""
    streams = [
        evidence.model.streams[group.segment.stream]
        for group in trunk.groups
        if group.segment.observed
    ]
    return any(stream.modality == "language" for stream in streams) and any(
        stream.level in VISUAL_LEVELS and stream.modality != "learned" for stream in streams
    )


def _single(evidence: Evidence) -> list[str]:
    shared = [trunk for trunk in evidence.seers if trunk in evidence.doers]
    return [
        f"tokens of the future seen and of actions go through the same blocks of {name} "
        f"({at(evidence.model.trunks[name].span)})"
        for name in shared
    ]


def _mot(evidence: Evidence) -> list[str]:
    if not (evidence.seers and evidence.doers):
        return []
    return [
        f"{_names(to)} reads {_names(of)} layer by layer by {read.mechanism} ({at(read.span)})"
        for to, of, reads in (
            (evidence.doers, evidence.seers, evidence.forward),
            (evidence.seers, evidence.doers, evidence.backward),
        )
        for read in reads
        if read.layerwise
    ]


def _none(evidence: Evidence) -> list[str]:
    if not (evidence.images or evidence.features or evidence.model.aligns):
        return ["nothing about the future is predicted"]
    if not actions(evidence.model):
        return ["there is no action to couple the prediction with"]
    return ["what is seen and what is done are predicted apart: neither reads the other"]


def _names(trunks: Iterable[str]) -> str:
    return " and ".join(trunks)


# what stands in the row


def _visual(evidence: Evidence) -> str:
    """What the policy does with the predicted frames; the strongest word that holds."""
    fates = set(_fates(evidence).values())
    if not fates:
        return "none"
    for word, marks in (
        ("active", {"active", "not_optional", "output_ignored"}),
        ("reducible", {"reducible", "pinned_at_noise", "head_skipped"}),
        ("optional", {"optional"}),
    ):
        if fates & marks:
            return word
    return "dropped"


def _fates(evidence: Evidence) -> dict[str, str]:
    """What the policy query does with every predicted frame."""
    dropped = {entry.what: entry.how for entry in evidence.policy.dropped}
    fates = {}
    for reference in evidence.images:
        how = dropped.get(reference) or _use(evidence, reference)
        fates[reference] = _cheaper(evidence, reference) or how
    return fates


def _use(evidence: Evidence, reference: str) -> str:
    """A sought frame is optional if no token of the action needs it."""
    flow = evidence.flow
    closure = flow.deployed().before([predicted(act) for act in evidence.acts])
    tokens = [hidden(name, 0) for name in flow.generates[reference].groups]
    read = segment(reference) in closure or any(node in closure for node in tokens)
    return "active" if read else "optional"


def _cheaper(evidence: Evidence, reference: str) -> str | None:
    """`reducible` where frames are needed but never sampled to the end, or in one step."""
    for step in evidence.policy.chain:
        if reference in (*step.segments, *step.joint):
            sampled = step.objective in ("flow", "diffusion", "edm", "masked")
            walk = step.walk(reference)
            if walk.stop or (sampled and walk.steps == 1):
                return "reducible"
    return None


def _predicted_level(evidence: Evidence) -> str:
    """The level at which the future stands in the tokens that predict it."""
    groups: list[TokenGroup] = [
        evidence.model.trunks[trunk].group(name)
        for reference in evidence.images
        for trunk, name in evidence.flow.generates[reference].groups
    ]
    return deepest_level(evidence.model, groups) if groups else "control"


def _latent_level(evidence: Evidence) -> str:
    if _symbols(evidence.model):
        return "symbolic"
    levels = [a.target_level for a in evidence.model.aligns.values() if not a.target.observed]
    return (levels or ["latent"])[0]


def _latent_mechanism(evidence: Evidence) -> Iterator[str]:
    model = evidence.model
    if any(not align.target.observed for align in model.aligns.values()):
        yield "align"
    if evidence.features:
        yield from (read.mechanism for read in evidence.forward + evidence.backward)
        if set(evidence.seers) & set(evidence.doers):
            yield "concat"
    if _predictive_features(evidence):
        yield "feature"
    if _symbols(model):
        yield "symbols"


def _read_level(evidence: Evidence) -> str:
    return evidence.forward[0].level


def _coupling(evidence: Evidence) -> Iterator[str]:
    return (read.mechanism for read in evidence.forward + evidence.backward)


@record
class Rule:
    number: int
    id: str
    where: Callable[[Evidence], str]
    explicitness: str
    level: Callable[[Evidence], str]
    mechanism: Callable[[Evidence], Iterable[str]]
    test: Callable[[Evidence], list[str]]


def _always(word: str) -> Callable[[Evidence], str]:
    return lambda evidence: word


RULES = (
    Rule(1, "latent",
         lambda evidence: "symbolic" if _symbols(evidence.model) else "latent_alignment",
         "implicit_output_trained", _latent_level, _latent_mechanism, _latent),
    Rule(2, "idm", _always("external_interface"), "explicit_decoupled", _read_level, _coupling,
         _idm),
    Rule(3, "unified_vla", _always("auxiliary_objective"), "mixed", _predicted_level,
         lambda evidence: ["concat"], _unified),
    Rule(4, "single_backbone", _always("shared_parameters"), "explicit_joint", _predicted_level,
         lambda evidence: ["concat"], _single),
    Rule(5, "mot", _always("cross_expert"), "explicit_specialised", _predicted_level, _coupling,
         _mot),
    Rule(6, "none", _always("none"), "none", _always("control"), lambda evidence: [], _none),
)  # fmt: skip
