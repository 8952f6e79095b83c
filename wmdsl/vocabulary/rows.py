"""Row types of the vocabulary: what an attribute, a kind and a declaration form may hold.

Checking, did-you-mean, completion, help and the manual are generated from these rows; nothing else
in the compiler lists names.  `runs=False` marks what the language can say, plan and draw, but the
runtime cannot execute yet: `compile` then stops with WM8xx and names the construct.
"""

from __future__ import annotations

from typing import Literal

from wmdsl.record import record

Type = Literal[
    "integer",  # 4
    "integers",  # 32, 64, 128
    "real",  # 0.1
    "share",  # a real in 0..1
    "flag",  # present or absent
    "text",  # "hub/id"
    "texts",  # one or several of them
    "views",  # head 256x320, left 128x160, right 128x160
    "choice",  # one of `choices`
    "choices",  # several of `choices`
    "name",  # a new or declared name
    "names",
    "dims",  # 8x8, 1x2x2
    "heads",  # 24x128, or 24x128 kv 8
    "length",  # 16 steps, 4 frames, 0.4 s
    "duration",  # 30 s
    "rate",  # 20 Hz
    "layers",  # all, even, odd, last, 19, 0..27, 0..27 every 4
    "law",  # a row of LAWS, as beta(1.5, 1.0)
    "teacher",  # a row of TEACHERS, as ema(0.99)
    "guard",  # a row of GUARDS
    "tokens",  # a list of token expressions: text, eyes(corner.now), think
    "segments",  # a list of segment references: camera.future
    "per_stream",  # one number for all, or `camera 25, action 50`
    "parts",  # xyz 3 m, gripper 1
    "weights",  # 0.1, or 1 on human_video
    "any",  # free items, checked by the construct itself
]


@record
class Attribute:
    """One attribute: `default` is the text the canonical form writes; None means absent."""

    name: str
    type: Type
    doc: str
    default: str | None = None
    required: bool = False
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: int | None = None  # beyond it a number is a slip that nobody could compute
    unit: str | None = None
    runs: bool = True


@record
class Kind:
    """One word of a table: a modality, codec, trunk, mechanism, objective, law, distance..."""

    name: str
    doc: str
    attributes: tuple[Attribute, ...] = ()
    arguments: tuple[Attribute, ...] = ()  # positional: of laws, and the sizes of a modality
    level: str | None = None  # the level it puts out; None keeps the level of its input
    reads: tuple[str, ...] = ()  # modalities that a codec takes
    tokens: str = ""  # what a codec's tokens are: `data`, `index`, or features without a way back
    source: str = ""  # where the mechanism was published
    runs: bool = True

    def attribute(self, name: str) -> Attribute | None:
        return next((row for row in self.attributes if row.name == name), None)


@record
class Form:
    """One declaration form: attributes of every kind, and the table its kind comes from."""

    name: str
    doc: str
    example: str
    attributes: tuple[Attribute, ...] = ()
    kinds: dict[str, Kind] | None = None
    runs: bool = True

    def attributes_of(self, kind: str | None) -> tuple[Attribute, ...]:
        """The form's own attributes, then those of the kind."""
        row = (self.kinds or {}).get(kind or "")
        return self.attributes + (row.attributes if row else ())


def table(*rows: Kind) -> dict[str, Kind]:
    """Rows by name, in order."""
    return {row.name: row for row in rows}
