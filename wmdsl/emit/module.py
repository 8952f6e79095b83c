"""The file: head, imports, blocks, masks, model."""

from __future__ import annotations

from collections.abc import Iterable

from wmdsl.emit.library import KERNELS, Import, wanted
from wmdsl.emit.statements import block, docstring, model_class
from wmdsl.lower.program import Block, Name, Program, texts

LEGEND = (
    "B batch  T tokens  S source tokens  W width  H heads  G key heads  K head dim",
    "F frames  N samples  C channels or features  R rows of codes  V vocabulary",
)
IMPORTED = {
    "torch": ("torch", ""),
    "nn": ("torch", "nn"),
    "copy": ("copy", ""),
    "attention": (KERNELS, "attention"),
    "Schedule": (KERNELS, "Schedule"),
}
ANNOTATIONS = ("Tensor", "Generator")
FIRST_PARTY = (KERNELS,)


def emit(program: Program, *, standalone: bool = False) -> str:
    """The text of the file; `standalone` needs torch alone."""
    names = dict.fromkeys(texts(program, Name))
    blocks = list(dict.fromkeys(texts(program, Block)))
    kernels = [name for name in names if IMPORTED.get(name, ("", ""))[0] == KERNELS]
    pieces, imports = wanted([*(kernels if standalone else ()), *blocks], standalone)
    imports |= {found for name, found in IMPORTED.items() if name in names}
    imports |= {("torch", "nn")} | {("torch", name) for name in _annotated(program)}
    if standalone:
        imports = {found for found in imports if found[0] != KERNELS}
    head = docstring([f"{program.title}.", "", *program.header, "", *LEGEND], 0)
    parts = [head, ["from __future__ import annotations", "", *_import_lines(imports)]]
    parts += [piece.text.splitlines() for piece in pieces]
    if program.constants:
        parts.append(block(program.constants, 0))
    parts.append(model_class(program))
    return _spaced(parts)


def _spaced(parts: list[list[str]]) -> str:
    """One empty line behind the head, two between definitions."""
    head, *rest = ("\n".join(part) for part in parts)
    return head + "\n\n" + "\n\n\n".join(rest) + "\n"


def _annotated(program: Program) -> set[str]:
    """Names of torch in the signatures."""
    texts = [part.annotation for node in program.methods for part in node.parameters]
    texts += [node.returns for node in program.methods]
    return {name for name in ANNOTATIONS if any(name in text for text in texts)}


def _import_lines(imports: Iterable[Import]) -> list[str]:
    """Imports in three sections: standard library, torch, kernels."""
    sections: dict[int, dict[str, list[str]]] = {0: {}, 1: {}, 2: {}}
    for module, name in sorted(imports):
        rank = 2 if module in FIRST_PARTY else 1 if module.startswith("torch") else 0
        sections[rank].setdefault(module, []).append(name)
    out = []
    for modules in sections.values():
        plain = [f"import {module}" for module, names in modules.items() if "" in names]
        named = [
            f"from {module} import {', '.join(sorted(filter(None, names)))}"
            for module, names in modules.items()
            if any(names)
        ]
        if plain or named:
            out += ["", *plain, *named]
    return out[1:]
