"""Modalities and levels of streams."""

from wmdsl.vocabulary.rows import Attribute, Kind, table

LEVELS = ("pixel", "latent", "3d", "semantic", "symbolic", "control")


LARGEST = 1 << 24


def _sizes(names: str) -> tuple[Attribute, ...]:
    """Sizes that must be written, in order."""
    return tuple(
        Attribute(name, "integer", f"The {name}.", required=True, minimum=1,
                  maximum=LARGEST)
        for name in names.split()
    )


def _optional(name: str, doc: str, default: str | None = None) -> Attribute:
    return Attribute(name, "integer", doc, default=default, minimum=1)


_FRAME = _sizes("channels height width")
_MAP = (_optional("height", "Rows of a map."), _optional("width", "Columns of a map."))

MODALITIES = table(
    Kind("video", "Frames over time, `video[channels, height, width]`.",
         arguments=_FRAME, level="pixel"),
    Kind("image", "One still frame, `image[channels, height, width]`.",
         arguments=_FRAME, level="pixel"),
    Kind("action", "What is done, per control step, `action[size]`; its future starts now.",
         arguments=_sizes("size"), level="control"),
    Kind("proprio", "The robot's own state per step, `proprio[size]`.",
         arguments=_sizes("size"), level="control"),
    Kind("vector", "Other numbers per step, `vector[size]`.",
         arguments=_sizes("size"), level="control"),
    Kind("value", "A scalar return or reward per step, `value`.", level="control"),
    Kind("language", "Text: an instruction, a prompt; `language[bytes]` bounds its length.",
         arguments=(_optional("bytes", "Longest text.", "64"),), level="semantic"),
    Kind("learned", "Learned tokens without data, `learned[count]`: registers, queries, prompts.",
         arguments=_sizes("count"), level="latent"),
    Kind("latent", "Features stored in the data set, `latent[size]` or `latent[c, h, w]`.",
         arguments=(*_sizes("size"), *_MAP), level="latent"),
    Kind("token", "Integers per step, `token[vocabulary]` or `token[vocabulary, count]`.",
         arguments=(*_sizes("vocabulary"), _optional("count", "Integers per step.", "1")),
         level="latent"),
    Kind("depth", "Depth frames in metres, `depth[height, width]`.",
         arguments=_sizes("height width"), level="3d"),
    Kind("flow", "Optical or scene flow, `flow[channels, height, width]`.",
         arguments=_FRAME, level="3d", runs=False),
    Kind("track", "Point tracks, `track[points, dimensions]`.",
         arguments=_sizes("points dimensions"), level="3d", runs=False),
    Kind("tactile", "Tactile arrays, `tactile[channels, height, width]`.",
         arguments=_FRAME, level="pixel", runs=False),
    Kind("predicates", "A set of ground atoms over declared predicates.", level="symbolic",
         runs=False),
)  # fmt: skip
