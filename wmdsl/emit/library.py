"""Source text of the blocks, cut out of `wmdsl/blocks` without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

PACKAGE = "wmdsl.blocks"
KERNELS = "wmdsl_kernels"
STANDALONE = "standalone"
Import = tuple[str, str]  # (module, name); name "" for `import module`


@dataclass(frozen=True, slots=True)
class Piece:
    """A top-level definition: its text, and the blocks and imports that it names."""

    name: str
    text: str
    blocks: tuple[str, ...]
    imports: tuple[Import, ...]


@cache
def pieces() -> dict[str, Piece]:
    """Every definition of the package but those for standalone files."""
    found: dict[str, Piece] = {}
    for entry in sorted(resources.files(PACKAGE).iterdir(), key=lambda entry: entry.name):
        stem, _, suffix = entry.name.partition(".")
        if suffix == "py" and stem not in ("__init__", STANDALONE):
            found |= _pieces_of(entry.read_text(encoding="utf-8"))
    return found


@cache
def standalone_pieces() -> dict[str, Piece]:
    """`Schedule` and `attention` on torch alone."""
    entry = resources.files(PACKAGE) / f"{STANDALONE}.py"
    return _pieces_of(entry.read_text(encoding="utf-8"))


def _pieces_of(text: str) -> dict[str, Piece]:
    tree = ast.parse(text)
    imported = dict(_imports(tree))
    own = {name for node in tree.body for name in _defined(node)}
    found = {}
    for node in tree.body:
        for name in _defined(node):
            names = _names(node) - {name}
            outside = {imported[other] for other in names if other in imported}
            siblings = {other for module, other in outside if module.startswith(PACKAGE)}
            imports = {found for found in outside if not found[0].startswith(PACKAGE)}
            source = ast.get_source_segment(text, node)
            found[name] = Piece(
                name, source, tuple(sorted(siblings | names & own)), tuple(sorted(imports))
            )
    return found


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _imports(tree: ast.Module) -> Iterable[tuple[str, Import]]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from ((alias.name, (alias.name, "")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            yield from ((alias.name, (node.module, alias.name)) for alias in node.names)


def _names(node: ast.AST) -> set[str]:
    """Every name that is read, in order to be found among definitions and imports."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def wanted(names: Iterable[str], standalone: bool) -> tuple[list[Piece], set[Import]]:
    """The pieces behind these blocks, each after what it needs, and the imports of all."""
    table = {**pieces(), **(standalone_pieces() if standalone else {})}
    ordered: dict[str, Piece] = {}
    imports: set[Import] = set()

    def visit(name: str) -> None:
        if name in ordered:
            return
        piece = table[name]
        for needed in piece.blocks:
            visit(needed)
        for module, needed in piece.imports:
            if standalone and module == KERNELS:
                visit(needed)
            else:
                imports.add((module, needed))
        ordered[name] = piece

    for name in names:
        visit(name)
    return list(ordered.values()), imports
