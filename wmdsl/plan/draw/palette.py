"""Colours: one for each level, muted enough for print and apart for colour-blind eyes."""

LEVEL_COLOURS = {
    "pixel": "#4477aa",
    "latent": "#66a5c9",
    "3d": "#3f8f6b",
    "semantic": "#c9a227",
    "symbolic": "#8a6fae",
    "control": "#cc6677",
}
TRUNK_COLOURS = ("#8fb3d1", "#e3a5ad", "#b3cfa4", "#d9c98b", "#c2b2d6")
INK = "#22262b"
LINE = "#6b7280"
FAINT = "#f3f4f6"
PAPER = "#ffffff"


def level_colour(level: str) -> str:
    return LEVEL_COLOURS[level]


def tint(colour: str, share: float = 0.82) -> str:
    """The colour mixed with paper."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    mixed = [round(part + (255 - part) * share) for part in parts]
    return "#" + "".join(f"{part:02x}" for part in mixed)
