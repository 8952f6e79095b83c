"""The plan: everything the compiler derives before a weight exists.  Plain immutable data."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from wmdsl.check.model import Model, TokenGroup
from wmdsl.plan.ranges import Row, Rows, is_dense
from wmdsl.record import field, record
from wmdsl.source import Span


@record
class Placed:
    """A token group at its place in the joint sequence of an attention space.

    Where only some of its samples stand, `group` has their number of frames, and `offset` is the
    place of the first of their tokens in the whole group.
    """

    group: TokenGroup
    start: int  # in the joint sequence of this pass
    offset: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """(trunk, group name), under which roles are kept."""
        return self.group.trunk, self.group.name

    @property
    def end(self) -> int:
        return self.start + self.group.count


@record
class Space:
    """One attention space in one pass: joined trunks (or one trunk) with their live groups.

    Token order: trunk by trunk in join order, groups in the trunk's order; the token of a prefix
    condition stands in front of its trunk's groups, named after the condition, with codec "".
    `rows` say which keys each block of queries sees.  `layers` blocks are run; where that is less
    than the trunks have, only taps read the space.  `time` is None where generated groups have
    their own noise levels, else the one level of a tap's own pass.
    """

    name: str
    trunks: tuple[str, ...]
    groups: tuple[Placed, ...]
    tokens: int
    rows: Rows
    layers: int
    time: Fraction | None = None

    @property
    def ranges(self) -> tuple[Row, ...]:
        return self.rows.ranges

    @property
    def dense(self) -> bool:
        """Whether every query sees every key, so that no mask is emitted."""
        return is_dense(self.ranges, self.tokens)

    def of_trunk(self, trunk: str) -> tuple[Placed, ...]:
        return tuple(placed for placed in self.groups if placed.group.trunk == trunk)


@record
class Pass:
    """One forward evaluation: spaces in the order of their dependence, and each group's role.

    `roles` by (trunk, group name): clean | noisy | pinned | placeholder | masked | handed | learned
    | prefix.
    """

    name: str
    spaces: tuple[Space, ...]
    roles: Mapping[tuple[str, str], str]


@record
class Renoised:
    """Token groups of a clean copy that are noised again in a share of the samples, at a time drawn
    evenly from `low` to `high`, before the shift of their stream."""

    groups: tuple[tuple[str, str], ...]
    chance: Fraction
    low: Fraction
    high: Fraction
    span: Span


@record
class Drawn:
    """A whole number that a layout draws anew at every training step."""

    name: str
    low: int
    high: int
    written: Span  # its value at inference, which stands in its place in the model


@record
class Training:
    """One pass of training: that of a layout, or, with the name "", the only one.

    `predicted` are the references of the generated segments that have a loss in it, `share` its
    share of the samples, which come from the sources `data` alone, or from all where it is empty.
    With copies, `copy` is the one that predicts.
    """

    name: str
    evaluation: Pass
    predicted: tuple[str, ...]
    share: Fraction
    span: Span
    copy: str = ""
    renoised: tuple[Renoised, ...] = ()
    drawn: tuple[Drawn, ...] = ()
    data: tuple[str, ...] = ()


@record
class Walk:
    """The way of one segment from noise: in how many steps, and to which noise level."""

    steps: int
    stop: Fraction = Fraction(0)


@record
class Generation:
    """One step of a query's chain: these segments are produced together by this pass.

    `objective` as in Generate; `steps` sampling steps (1 for regression; tokens for
    autoregressive; rounds for masked); `joint` are segments that must be generated beside the
    sought ones and whose value is ignored.  `until` is the noise level at which sampling stops: 0,
    or the level at which a later tap reads the segments.  `walks` are the segments' own ways, by
    reference, where they differ from that: in fewer steps, or to a level at which they are left.
    `constant` are the groups of the pass whose hidden states no sampling step changes.  A
    generation that is not `hoisted` computes everything in every step.
    """

    segments: tuple[str, ...]
    joint: tuple[str, ...]
    generates: tuple[str, ...]
    objective: str
    sampler: str
    steps: int
    evaluation: Pass
    until: Fraction = Fraction(0)
    constant: tuple[tuple[str, str], ...] = ()
    hoisted: bool = True
    walks: Mapping[str, Walk] = field(default_factory=dict)

    def walk(self, reference: str) -> Walk:
        """The way of a segment, its own or that of all."""
        return self.walks.get(reference, Walk(self.steps, self.until))

    @property
    def left(self) -> frozenset[str]:
        """Segments whose sampling stops short of data, though no tap reads them there."""
        stops = {name for name, walk in self.walks.items() if walk.stop}
        return frozenset() if self.until else frozenset(stops)

    @property
    def evaluations(self) -> int:
        """Passes: Heun's steps take two, but the last one, which ends in clean data."""
        if self.sampler != "heun":
            return self.steps
        stops = [self.walk(reference).stop for reference in (*self.segments, *self.joint)]
        return 2 * self.steps - (0 if all(stops) else 1)


@record
class Dropped:
    what: str
    how: str  # deleted_exactly | head_skipped | pinned_at_noise | output_ignored | not_optional


@record
class Saving:
    """FLOPs that the emitted program does not spend, and on what."""

    how: str  # deleted | hoisted | cached
    what: tuple[str, ...]
    flops: int


@record
class Density:
    """Whether the log-density of an answer can be computed: exact | estimate | bound | no."""

    answer: str
    because: str


@record
class QueryPlan:
    name: str
    given: tuple[str, ...]
    sought: tuple[str, ...]
    answerable: str  # exact | approximate | no
    because: str
    live: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    steps: Mapping[str, int]
    chain: tuple[Generation, ...]  # empty where the answer is no
    declared: bool
    passes: int = 1  # evaluations beside each other: two where guidance contrasts
    tokens: int = 0
    flops: int = 0
    kv_bytes: int = 0
    naive_flops: int = 0  # everything in every step
    savings: tuple[Saving, ...] = ()
    blamed: Span | None = field(default=None, compare=False)  # the line that forbids it
    help: str = ""  # what to write so that it has an answer
    density: Density = Density("no", "the query has no answer")


@record
class Edge:
    source: str
    target: str
    mechanism: str  # concat | joint_attention | cross_attention | a conditioning | align | hand
    level: str
    layers: tuple[int, ...]
    stop_gradient: bool
    train_only: bool
    span: Span = field(compare=False)


@record
class Mask:
    tokens: int
    density: float
    max_ranges_per_row: int
    ranges: tuple[Row, ...]
    runtime: tuple[str, ...]


@record
class Paradigm:
    id: str
    where: str
    explicitness: str
    level: str
    mechanism: tuple[str, ...]
    visual_at_inference: str
    because: tuple[str, ...]
    rule: int


@record
class Parameters:
    """Counts by owner (`trunk.seer`, `codec.eyes`, `head.action`...); sums are derived."""

    by_owner: Mapping[str, int]
    frozen_owners: frozenset[str]

    @property
    def total(self) -> int:
        return sum(self.by_owner.values())

    @property
    def frozen(self) -> int:
        return sum(count for owner, count in self.by_owner.items() if owner in self.frozen_owners)

    @property
    def trainable(self) -> int:
        return self.total - self.frozen


@record
class StagePlan:
    """A stage of training: `trained` parts and their `weights`, `losses` in force; `steps` None
    where it declares none, `data` and `rates` as in Stage."""

    name: str
    trained: tuple[str, ...]
    losses: tuple[str, ...]
    steps: int | None
    data: Mapping[str, Fraction]
    rates: Mapping[str, Fraction]
    weights: int
    span: Span = field(compare=False)


@record
class Plan:
    model: Model
    train: Pass
    trainings: tuple[Training, ...]
    edges: tuple[Edge, ...]
    masks: Mapping[str, Mask]  # "train" and every query that runs
    parameters: Parameters
    train_flops: int  # one sample, forward, in every layout
    paradigm: Paradigm
    factorisation: str
    stages: tuple[StagePlan, ...]
    queries: Mapping[str, QueryPlan]  # declared
    canonical_queries: Mapping[str, QueryPlan]
    differences: tuple[str, ...]  # what train and inference do differently
    notes: tuple[str, ...]
