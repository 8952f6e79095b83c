"""Which parts of a model a spec wants pretrained."""

from __future__ import annotations

from dataclasses import dataclass

from wmdsl.check.model import Codec, Model, Trunk
from wmdsl.plan.parameters import used_codecs


@dataclass(frozen=True, slots=True)
class Named:
    """A codec or trunk and the hub id behind its `from` or `init`; `id:name` picks a subfolder."""

    part: Codec | Trunk
    hub: str

    @property
    def title(self) -> str:
        form = "codec" if isinstance(self.part, Codec) else "trunk"
        return f"{form} {self.part.name}"

    @property
    def place(self) -> str:
        return f"line {self.part.span.line}"


def named_weights(model: Model) -> list[Named]:
    """Every part with a hub id, codecs first."""
    codecs = [(codec, codec.attributes.get("from")) for codec in used_codecs(model)]
    trunks = [(trunk, trunk.attributes.get("init")) for trunk in model.trunks.values()]
    return [Named(part, hub) for part, hub in (*codecs, *trunks) if isinstance(hub, str)]
