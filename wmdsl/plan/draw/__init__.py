"""In: a Plan. Out: pictures as text: SVG, mermaid, Unicode. Invariant: same plan, same bytes.

`drawing` makes nodes and edges of a plan, `layered` gives them places, `svg`, `mermaid` and `text`
write them; `mask` is the picture of who sees whom.
"""

from wmdsl.plan.draw.drawing import drawing_of
from wmdsl.plan.draw.mask import mask_svg, mask_text
from wmdsl.plan.draw.mermaid import to_mermaid
from wmdsl.plan.draw.svg import to_svg
from wmdsl.plan.draw.text import to_text

__all__ = ["drawing_of", "mask_svg", "mask_text", "to_mermaid", "to_svg", "to_text"]
