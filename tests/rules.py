"""The rules of the tree as functions from a syntax tree or a text to a list of violations.

`test_rules.py` applies each of them to the whole tree, and to a sample that breaks it.
"""

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# A stage may import itself and the stages before it. `wmdsl/__init__.py` is the public face.
STAGES = (
    "record",
    "source",
    "diagnostics",
    "vocabulary",
    "syntax",
    "resolve",
    "check",
    "plan",
    "blocks",
    "lower",
    "emit",
    "driver",
    "progress",
    "data",
    "environments",
    "weights",
    "runtime",
    "report",
    "tools",
)
FRONT_STAGES = STAGES[: STAGES.index("blocks")]
HEAVY = frozenset({"torch", "numpy", "einops", "triton", "xformers", "pyarrow", "av", "matplotlib",
                   "transformers", "diffusers", "huggingface_hub", "tokenizers"})  # fmt: skip

MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:work|home|root|Users|opt)/\w")
DISTRIBUTION = re.compile(r"[\w-]+")
# Beside everything whose name begins with `assert`.
ASSERTING_CALLS = frozenset({"raises", "warns", "fail", "opcheck", "gradcheck"})
PLACEHOLDER = re.compile(r"\b(?:TODO|FIXME|XXX)\b")


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every (line, absolute module name) that the tree imports, lazily or not.

    `from a import b` yields `a.b` as well, since b may be a module.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def relative_imports(tree: ast.AST) -> list[str]:
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    return [f"line {node.lineno}: relative import" for node in nodes]


def stage_of(module: str) -> str | None:
    """The stage of `wmdsl.<stage>...`, None for other packages and for the bare `wmdsl`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "wmdsl" and len(parts) > 1 else None


def back_arrows(module: str, tree: ast.AST) -> list[str]:
    """Imports that point from a stage to a later one."""
    here = stage_of(module)
    if here not in STAGES:
        return [f"{module}: {here!r} is no stage; give it a place in STAGES"]
    reached = {(line, stage_of(name)) for line, name in imported_modules(tree)}
    late = [(line, stage) for line, stage in reached if stage in STAGES[STAGES.index(here) + 1 :]]
    return [f"{module}, line {line}: {here} imports {stage}" for line, stage in sorted(late)]


def packages_imported(tree: ast.AST, packages: Iterable[str]) -> list[str]:
    """Imports of any of these top-level packages."""
    wanted = frozenset(packages)
    hits = {(line, name.split(".")[0]) for line, name in imported_modules(tree)}
    return [f"line {line}: imports {name}" for line, name in sorted(hits) if name in wanted]


def machine_paths(text: str) -> list[str]:
    """Absolute paths that exist only on somebody's machine."""
    lines = enumerate(text.splitlines(), start=1)
    return [f"line {number}: {line.strip()}" for number, line in lines if MACHINE_PATH.search(line)]


def placeholders(text: str) -> list[str]:
    """Marks of unfinished work."""
    lines = enumerate(text.splitlines(), start=1)
    return [f"line {number}: {line.strip()}" for number, line in lines if PLACEHOLDER.search(line)]


def called_names(tree: ast.AST) -> set[str]:
    """Last components of everything the tree calls: `a.b.c()` gives c."""
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {function.id for function in functions if isinstance(function, ast.Name)}
    return names | {function.attr for function in functions if isinstance(function, ast.Attribute)}


def asserts_itself(function: ast.AST) -> bool:
    if any(isinstance(node, ast.Assert) for node in ast.walk(function)):
        return True
    return any(
        name in ASSERTING_CALLS or name.startswith("assert") for name in called_names(function)
    )


def functions_of(trees: Iterable[ast.AST]) -> list[ast.FunctionDef]:
    return [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def asserting_functions(trees: Iterable[ast.AST]) -> set[str]:
    """Names of the functions that assert, or call one that does, up to the fixed point."""
    functions = functions_of(trees)
    asserting = {function.name for function in functions if asserts_itself(function)}
    while True:
        more = {f.name for f in functions if called_names(f) & asserting} - asserting
        if not more:
            return asserting
        asserting |= more


def idle_tests(tree: ast.AST, asserting: set[str]) -> list[str]:
    """Tests that can only fail by an accident: neither they nor what they call asserts."""
    tests = [function for function in functions_of([tree]) if function.name.startswith("test_")]
    idle = [t for t in tests if not asserts_itself(t) and not called_names(t) & asserting]
    return [f"line {test.lineno}: {test.name}" for test in idle]


def undeclared_packages(tree: ast.AST, declared: Iterable[str]) -> list[str]:
    """Top-level packages imported beside the standard library, the project's own and `declared`."""
    known = {*sys.stdlib_module_names, "wmdsl", "wmdsl_kernels", *declared}
    hits = {(line, name.split(".")[0]) for line, name in imported_modules(tree)}
    return [f"line {line}: imports {name}" for line, name in sorted(hits) if name not in known]


def declared_packages(requirements: Iterable[str]) -> set[str]:
    """Import names of the installed distributions among these requirements."""
    wanted = {DISTRIBUTION.match(requirement)[0].lower() for requirement in requirements}
    provided = importlib.metadata.packages_distributions()
    return {name for name, by in provided.items() if wanted & {one.lower() for one in by}}
