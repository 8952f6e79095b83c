"""The typed model: what `check` puts out and everything later reads.

Names are those of the spec; every number is resolved; references between parts are by name, looked
up in the tables of `Model`.  Sizes: frames and steps are samples of a stream's own rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from wmdsl.record import field, record
from wmdsl.source import Span

# Values of attributes after typing: int | Fraction | str | bool | tuple | CallValue | None.
Value = object


@record
class CallValue:
    """A vocabulary call with its arguments filled: `beta(1.5, 1.0)`, `ema(0.99)`, `uniform`."""

    name: str
    arguments: tuple[Value, ...]


@record
class Segment:
    """A named part of a stream's window.

    `name` is `past`, `now`, `future`, or `whole` (language, learned, image: no time axis).
    `offsets` are positions in samples of the stream relative to now (now = 0), ascending; the
    future of a video at 20 Hz is 1, 2, ...; an action's future starts at 0 (the step begun now).
    """

    stream: str
    name: str
    offsets: tuple[int, ...]
    span: Span = field(compare=False)

    @property
    def reference(self) -> str:
        """`corner.future`; the bare stream name where the stream has only this segment."""
        return self.stream if self.name == "whole" else f"{self.stream}.{self.name}"

    @property
    def whole(self) -> str:
        """The reference of the segment of which this is a slice; else its own."""
        return self.reference.partition("[")[0]

    @property
    def length(self) -> int:
        return max(len(self.offsets), 1)

    @property
    def observed(self) -> bool:
        return self.name.partition("[")[0] != "future"  # `future[0..2]` is a slice


@record
class View:
    """A camera of a stream with several: its column, and (top, left, height, width) in a frame."""

    name: str
    key: str
    place: tuple[int, int, int, int]


@record
class Stream:
    """One modality at one rate.

    `shape` is that of one sample: (3, 64, 64), (4,), (32,) for 32 text bytes, (count,) for learned.
    The batch tensor is [batch, *window, *sample], window = all samples of all segments in order;
    `sample` is `shape`, behind the number of views where these are kept apart.
    """

    name: str
    modality: str
    shape: tuple[int, ...]
    rate_hz: Fraction | None
    level: str
    segments: tuple[Segment, ...]
    key: str  # column of the data set; "" for learned tokens, and where there are `views`
    views: tuple[View, ...]
    normalise: str  # zscore | minmax | quantile | none | unit (pixels: 0..1 to -1..1)
    attributes: Mapping[str, Value]
    span: Span = field(compare=False)
    places: Mapping[str, Span] = field(compare=False)  # where name, type, rate and key are written

    @property
    def keys(self) -> tuple[str, ...]:
        """All columns of the data set that it reads."""
        return tuple(view.key for view in self.views) or (self.key,) * bool(self.key)

    @property
    def apart(self) -> str:
        """`tokens` or `channels` where each view goes through a codec on its own; else ""."""
        arrange = str(self.attributes["arrange"])
        return arrange if arrange in ("tokens", "channels") else ""

    @property
    def sample(self) -> tuple[int, ...]:
        """The shape of one sample in a batch."""
        return (len(self.views), *self.shape) if self.apart else self.shape

    @property
    def window(self) -> int:
        """Samples of all segments together."""
        return sum(len(segment.offsets) for segment in self.segments)

    def segment(self, name: str) -> Segment | None:
        return next((segment for segment in self.segments if segment.name == name), None)

    def before(self, segment: Segment) -> Segment | None:
        """The segment that ends where this one begins."""
        names = [part.name for part in self.segments]
        place = names.index(segment.name)
        return self.segments[place - 1] if place else None

    def start(self, name: str) -> int:
        """Index in the window at which a segment, or a slice of it, begins."""
        base, _, rest = name.partition("[")
        before = 0
        for segment in self.segments:
            if segment.name == base:
                return before + int(rest.partition("..")[0] or 0)
            before += len(segment.offsets)
        raise KeyError(name)


@record
class Codec:
    """One set of codec weights; `attributes` hold every attribute of its kind, defaults filled."""

    name: str
    kind: str
    level: str | None  # None: the level of what it reads
    scope: str
    frozen: bool
    attributes: Mapping[str, Value]
    span: Span = field(compare=False)


@record
class TokenGroup:
    """One entry of a trunk's `tokens`: a segment through a codec.

    `count` tokens in all: `frames` x `per_frame`; a grid of (rows, columns) per frame or None.
    `features` is the size of one token before the trunk's own input projection: patch pixels for
    `patch`, channels for `conv`, the vector's size for `linear`...
    """

    name: str  # reference of the segment: unique within a trunk
    trunk: str
    segment: Segment
    codec: str
    frames: int
    per_frame: int
    grid: tuple[int, int] | None
    features: int
    span: Span = field(compare=False)
    copy: str = ""  # in a layout with copies: which one, the first word of the name

    @property
    def count(self) -> int:
        return self.frames * self.per_frame

    @property
    def base(self) -> str:
        """The name that it has without copies."""
        return self.name.removeprefix(f"{self.copy}.") if self.copy else self.name


@record
class Trunk:
    name: str
    kind: str  # dit | vit | decoder | mlp | unet
    layers: int
    width: int
    heads: int
    head_dim: int
    kv_heads: int
    ffn: int
    qk_norm: str  # none | per_head | across_heads
    positions: str  # learned | rope_1d | rope_3d | rope_fractional | none
    told: str  # own | all | none
    groups: tuple[TokenGroup, ...]
    frozen: bool
    attributes: Mapping[str, Value]
    span: Span = field(compare=False)

    def group(self, name: str) -> TokenGroup | None:
        return next((group for group in self.groups if group.name == name), None)


@record
class TokenSource:
    """What a coupling reads: a segment through a codec, or tokens inside a trunk.

    Exactly one of `segment` (with `codec`) and `trunk` is given.  With `trunk`: `groups` limits the
    tokens read (all if empty), `layer` is the number of blocks run before reading (None: all, then
    the final norm), `time` fixes the noise level of generated groups (None: that of the same pass),
    `stop` detaches.
    """

    segment: Segment | None
    codec: str | None
    trunk: str | None
    groups: tuple[str, ...]
    layer: int | None
    time: Fraction | None
    stop: bool
    count: int
    width: int
    level: str
    span: Span = field(compare=False)


@record
class Join:
    name: str
    trunks: tuple[str, ...]
    span: Span = field(compare=False)


@record
class Cross:
    name: str
    sources: tuple[TokenSource, ...]
    targets: tuple[str, ...]  # trunks
    layers: tuple[int, ...]
    gate: str  # none | zero
    per_frame: bool  # tokens, shared out over the source's frames, read one frame each
    frozen: bool
    embedded: bool  # at the target's width, before keys and values are made
    paired: bool  # block i reads what block i of the source trunk puts out
    span: Span = field(compare=False)


@record
class Condition:
    """`target_groups` empty: the whole trunk (or the codec named by `codec`)."""

    name: str
    sources: tuple[TokenSource, ...]
    trunk: str | None
    codec: str | None
    target_groups: tuple[str, ...]
    mechanisms: tuple[str, ...]  # adaln | adaln_per_token | film | prefix
    span: Span = field(compare=False)


@record
class Align:
    """`source` tokens (after `layer` blocks) are projected and compared with codec(segment)."""

    name: str
    source: TokenSource
    target: Segment
    target_codec: str
    target_count: int
    target_width: int
    target_level: str
    distance: str
    over: str
    temperature: Fraction
    projector: str
    teacher: CallValue
    gradient: bool
    guard: CallValue | None
    weight: Fraction
    attributes: Mapping[str, Value]
    span: Span = field(compare=False)


@record
class Hand:
    """A generated segment handed to `trunk`, where a token group of the same segment reads it."""

    name: str
    segment: Segment
    trunk: str
    training: str  # truth | prediction
    mask: str  # none | soft | hard
    sparsity: Fraction
    payload: str
    span: Span = field(compare=False)


@record
class Rule:
    """A row of an attend, resolved to token groups: (trunk, group name) pairs."""

    subjects: tuple[tuple[str, str], ...]
    objects: tuple[tuple[str, str], ...]
    relations: tuple[object, ...]  # ast.Relation; empty for plain rows
    span: Span = field(compare=False)


@record
class Attend:
    """Rows of one attention space (a join or a single trunk)."""

    space: str
    rules: tuple[Rule, ...]
    orders: tuple[object, ...]  # ast.Order
    span: Span = field(compare=False)


@record
class Generate:
    """One loss term.  `groups` are the (trunk, group) pairs whose tokens predict the segments.

    `law` and `shift` give the training time of flow and diffusion (0 clean, 1 pure noise) and the
    masked ratio of `masked`; `times` is independent | shared | per_frame.
    """

    name: str
    segments: tuple[Segment, ...]
    groups: tuple[tuple[str, str], ...]
    objective: str  # flow | diffusion | regression | autoregressive | masked | edm | contrastive
    predict: str  # velocity | eps | x0 | v | data | tokens
    distance: str
    law: CallValue | None
    shift: Fraction
    times: str
    weight: Fraction
    attributes: Mapping[str, Value]
    span: Span = field(compare=False)


@record
class Query:
    """`sought` is in order of generation where `then` separates; `given` are clean.

    `steps` per stream; `execute` in samples of the first sought action, None: the whole chunk.
    `guidance` are scales by stream, empty: none.  `terminal` are the noise levels at which sampling
    stops, by stream, where it stops ahead of clean data.
    """

    name: str
    sought: tuple[tuple[Segment, ...], ...]
    given: tuple[Segment, ...]
    steps: Mapping[str, int]
    sampler: str | None
    execute: int | None
    pinned: tuple[Segment, ...]
    guidance: Mapping[str, Fraction]
    terminal: Mapping[str, Fraction]
    attributes: Mapping[str, Value]
    span: Span = field(compare=False)

    @property
    def all_sought(self) -> tuple[Segment, ...]:
        return tuple(segment for group in self.sought for segment in group)


@record
class Layout:
    """A named arrangement of one trunk's token groups in training.

    `tokens` and `predicted` are references of segments (slices of them may stand in a layout);
    `share` is that of the training samples.
    """

    name: str
    trunk: str
    tokens: tuple[str, ...]
    predicted: tuple[str, ...]
    copies: tuple[str, ...]
    share: Fraction
    attributes: Mapping[str, Value]
    span: Span = field(compare=False)


@record
class Stage:
    """A phase of training.

    `trained` empty: all parts but the `frozen` ones; `losses` empty: all terms; `steps` None: it
    declares none.  `data` are shares by source, empty: all sources; `rates` learning rates by part,
    `rest` for those not named.
    """

    name: str
    trained: tuple[str, ...]
    frozen: tuple[str, ...]
    losses: tuple[str, ...]
    steps: int | None
    data: Mapping[str, Fraction]
    rates: Mapping[str, Fraction]
    span: Span = field(compare=False)


@record
class Planner:
    """A search with the model's own queries.

    `goal` holds (codec or None, segment): what is compared with a goal, through a codec or as it
    is.  `hold` and `execute` count steps of the action.
    """

    name: str
    kind: str  # best_of | random | cem | mppi | gradient | astar | fast_downward
    queries: tuple[str, ...]
    score: tuple[Segment, ...]
    goal: tuple[tuple[str | None, Segment], ...]
    prior: str | None
    hold: int
    execute: int | None
    attributes: Mapping[str, Value]
    span: Span = field(compare=False)


@record
class Extern:
    """A foreign function.  `gives` are the futures that it computes from what it takes."""

    name: str
    takes: tuple[Segment, ...]
    gives: tuple[Segment, ...]
    span: Span = field(compare=False)


@record
class FlowAssertion:
    """`kind` flow | no_flow | only; `verb` reach | see.

    Ends are (kind, name): segment, trunk, group (`trunk.segment`), condition or align.
    """

    kind: str
    sources: tuple[tuple[str, str], ...]
    verb: str
    target: tuple[str, str]
    where: str | None
    span: Span = field(compare=False)


@record
class Unrunnable:
    """A construct that is understood but has no runtime yet, with the WM8xx code that names it."""

    code: str
    what: str
    span: Span = field(compare=False)


@record
class Model:
    """A checked spec.  `canonical` is its canonical text, `sha256` the hash of that text."""

    name: str
    title: str
    edition: int
    canonical: str
    sha256: str
    parameters: Mapping[str, str]
    streams: Mapping[str, Stream]
    codecs: Mapping[str, Codec]
    trunks: Mapping[str, Trunk]
    joins: Mapping[str, Join]
    crosses: Mapping[str, Cross]
    conditions: Mapping[str, Condition]
    aligns: Mapping[str, Align]
    hands: Mapping[str, Hand]
    attends: Mapping[str, Attend]  # by attention space
    generates: Mapping[str, Generate]
    queries: Mapping[str, Query]
    layouts: Mapping[str, Layout]
    externs: Mapping[str, Extern]
    stages: Mapping[str, Stage]
    planners: Mapping[str, Planner]
    assertions: tuple[FlowAssertion, ...]
    declarations: Mapping[str, object]  # stages, planners, externs, symbols: ast nodes
    unrunnable: tuple[Unrunnable, ...]
    span: Span = field(compare=False)
