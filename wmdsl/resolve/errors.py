"""The diagnostics of names: imports, models, extends, overrides, parameters."""

from __future__ import annotations

from collections.abc import Iterable

from wmdsl.diagnostics import Diagnostic, Edit, Fix, Label, did_you_mean
from wmdsl.source import Span
from wmdsl.syntax import ast
from wmdsl.syntax.text import expression_text, expressions_text, item_text


def _suggest(name: str, candidates: Iterable[str], otherwise: str) -> str:
    names = sorted(set(candidates))
    near = did_you_mean(name, names)
    if near:
        return f"did you mean `{near}`?"
    return f"there are: {', '.join(names)}" if names else otherwise


def _renamed(span: Span, name: str, candidates: Iterable[str]) -> tuple[Fix, ...]:
    near = did_you_mean(name, candidates)
    return (Fix(False, (Edit(span, near),)),) if near else ()


def bad_import(entry: ast.Import, cause: Diagnostic) -> Diagnostic:
    return Diagnostic(
        "WM101", f"the import cannot be used: {cause.message}",
        (Label(entry.path.span, "imported here"),),
        help="paths are relative to the file that imports them",
    )  # fmt: skip


def import_cycle(entry: ast.Import, chain: list[Span]) -> Diagnostic:
    if not chain:
        return Diagnostic(
            "WM102", "this file imports itself", (Label(entry.span, "this is the file itself"),),
            help="remove the import; models of the same file need no import",
        )  # fmt: skip
    labels = (Label(entry.span, "this closes the circle"),)
    labels += tuple(Label(span, "imported from here", primary=False) for span in chain)
    return Diagnostic("WM102", "files import each other in a circle", labels,
                      help="move what both need into a third file")  # fmt: skip


def unknown_model(reference: ast.Reference, candidates: Iterable[str]) -> Diagnostic:
    names = list(candidates)
    return Diagnostic(
        "WM103", f"there is no model `{reference.dotted}`",
        (Label(reference.span, "neither declared above nor imported"),),
        help=_suggest(reference.dotted, names, 'import a file: `import "base.wm" as base`'),
        fixes=_renamed(reference.span, reference.dotted, names),
    )  # fmt: skip


def unknown_model_asked(name: str, span: Span, candidates: Iterable[str]) -> Diagnostic:
    return Diagnostic(
        "WM103", f"the file declares no model `{name}`", (Label(span, "searched here"),),
        help=_suggest(name, candidates, "leave the name out to take the last model of the file"),
    )  # fmt: skip


def extends_cycle(model: ast.Model, chain: list[ast.Model]) -> Diagnostic:
    span = model.base.span if model.base else model.name.span
    labels = (Label(span, "this closes the circle"),)
    labels += tuple(
        Label(other.name.span, "extended on the way", primary=False)
        for other in chain
        if other is not model
    )
    return Diagnostic("WM104", f"model `{model.name.text}` extends itself", labels,
                      help="extend a model that does not depend on this one")  # fmt: skip


def twice(what: str, name: ast.Name, earlier: ast.Name) -> Diagnostic:
    return Diagnostic(
        "WM105", f"{what} `{name.text}` is declared twice",
        (Label(name.span, "declared again here"),
         Label(earlier.span, "declared first here", primary=False)),
        help="give one of them another name, or remove it",
    )  # fmt: skip


def collision(entry: ast.Declaration | ast.Param, earlier: ast.Name) -> Diagnostic:
    form = _form(entry)
    start = Span(entry.span.source, entry.span.start, entry.span.start)
    return Diagnostic(
        "WM105", f"{form} `{entry.name.text}` is declared twice",
        (Label(entry.name.span, "declared again here"),
         Label(earlier.span, "declared first here", primary=False)),
        help=f"to change the first one write `override {form} {entry.name.text}`; "
             "to have both give this one another name",
        fixes=(Fix(False, (Edit(start, "override "),)),),
    )  # fmt: skip


def _form(entry: ast.Declaration | ast.Param | ast.Drop) -> str:
    return "param" if isinstance(entry, ast.Param) else entry.form


def nothing_to_override(
    entry: ast.Declaration | ast.Param, candidates: Iterable[str], other: ast.Declaration | None
) -> Diagnostic:
    form, names = _form(entry), list(candidates)
    if other is not None:
        advice = f"`{other.name.text}` is a {other.form}: write `override {other.form}`"
    else:
        otherwise = f"write `{form} {entry.name.text}` without `override`"
        advice = _suggest(entry.name.text, names, otherwise)
    return Diagnostic(
        "WM106", f"there is no {form} `{entry.name.text}` to override",
        (Label(entry.name.span, "not declared before"),), help=advice,
        fixes=_renamed(entry.name.span, entry.name.text, names),
    )  # fmt: skip


def nothing_to_drop(entry: ast.Drop, candidates: Iterable[str]) -> Diagnostic:
    names = list(candidates)
    return Diagnostic(
        "WM107", f"there is no {entry.form} `{entry.name.text}` to drop",
        (Label(entry.name.span, "not declared before"),),
        help=_suggest(entry.name.text, names, "remove the line"),
        fixes=_renamed(entry.name.span, entry.name.text, names),
    )  # fmt: skip


def unknown_parameter(name: str, span: Span, candidates: Iterable[str]) -> Diagnostic:
    names = list(candidates)
    return Diagnostic(
        "WM108", f"there is no parameter `{name}`", (Label(span, "not a parameter of this model"),),
        help=_suggest(name, names, "the model declares no parameters"),
        fixes=_renamed(span, name, names) if span.text == name else (),
    )  # fmt: skip


def outside(name: str, value: ast.Item, domain: tuple[ast.Expression, ...]) -> Diagnostic:
    allowed = expressions_text(domain)
    words = (expression_text(entry) for entry in domain)
    last = domain[-1].span
    return Diagnostic(
        "WM109", f"`{item_text(value)}` is outside the domain of `{name}`",
        (Label(value.span, f"must be in {allowed}"),
         Label(domain[0].span.to(last), "declared here", primary=False)),
        help=_suggest(item_text(value), (word for word in words if ".." not in word),
                      f"choose a value in {allowed}"),
    )  # fmt: skip


def empty_range(entry: ast.Range) -> Diagnostic:
    first, _, last = entry.span.text.partition("..")
    return Diagnostic(
        "WM109", f"no value is in {entry.span.text}",
        (Label(entry.span, "ends before it begins"),),
        help=f"write `{last.strip()}..{first.strip()}`",
    )  # fmt: skip


def wrong_kind(name: str, value: ast.Item, default: ast.Item) -> Diagnostic:
    return Diagnostic(
        "WM110", f"`{item_text(value)}` does not fit parameter `{name}`",
        (Label(value.span, f"a value like `{item_text(default)}` is expected"),
         Label(default.span, "because of this default", primary=False)),
        help=f"write it as the default is written, with the same unit: `{item_text(default)}`",
    )  # fmt: skip


def attribute_twice(attribute: ast.Attribute, earlier: ast.Attribute) -> Diagnostic:
    name = attribute.name.text
    return Diagnostic(
        "WM111", f"attribute `{name}` is given twice",
        (Label(attribute.span, "given again here"),
         Label(earlier.span, "given first here", primary=False)),
        help="keep one of them; list several values behind one name, with commas",
    )  # fmt: skip


def not_importable(declaration: ast.Declaration, kind: ast.Reference, names: Iterable[str],
                   other: ast.Declaration | None) -> Diagnostic:  # fmt: skip
    if other is not None:
        advice = f"`{other.name.text}` is a {other.form} there, not a {declaration.form}"
    else:
        advice = _suggest(kind.path[-1], names, f"the imported model has no {declaration.form}")
    return Diagnostic(
        "WM112", f"`{kind.dotted}` is no {declaration.form}",
        (Label(kind.span, f"a {declaration.form} of the imported model is expected"),), help=advice,
    )  # fmt: skip


def unknown_alias(reference: ast.Reference, aliases: Iterable[str]) -> Diagnostic:
    names = list(aliases)
    alias = reference.path[0]
    return Diagnostic(
        "WM113", f"nothing is imported as `{alias}`", (Label(reference.span, "unknown import"),),
        help=_suggest(alias, names, f'import a file: `import "file.wm" as {alias}`'),
    )  # fmt: skip


def shadows(parameter: ast.Name, declaration: ast.Name, form: str) -> Diagnostic:
    return Diagnostic(
        "WM114", f"`{parameter.text}` is a parameter and a {form}",
        (Label(declaration.span, f"declared as a {form} here"),
         Label(parameter.span, "declared as a parameter here", primary=False)),
        help="give one of them another name; every use would mean the parameter",
    )  # fmt: skip


def misplaced(entry: ast.Entry, place: Span) -> Diagnostic:
    return Diagnostic(
        "WM115", "a parameter cannot be declared inside `when`",
        (Label(entry.span, "declared here"), Label(place, "inside of this", primary=False)),
        help="declare it outside; what depends on it may stand in `when`",
    )  # fmt: skip


def unused_parameter(parameter: ast.Param) -> Diagnostic:
    return Diagnostic(
        "WM901", f"parameter `{parameter.name.text}` is never used",
        (Label(parameter.name.span, "no value and no `when` names it"),),
        help="use it where its value stands, or remove it",
    )  # fmt: skip


def unused_import(entry: ast.Import) -> Diagnostic:
    return Diagnostic(
        "WM902", f"import `{entry.alias.text}` is never used", (Label(entry.span, "not used"),),
        help="remove the import",
    )  # fmt: skip
