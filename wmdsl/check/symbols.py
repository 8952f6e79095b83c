"""Layouts; externs and symbols, whose names are checked: they do not run yet."""

from __future__ import annotations

from fractions import Fraction

from wmdsl.check import errors
from wmdsl.check.couplings import clause_of
from wmdsl.check.model import Extern, Layout, Segment, Trunk
from wmdsl.check.names import all_segments, groups_of_trunk, segments, single, trunk_of
from wmdsl.check.scope import Draft, Mistake, Values
from wmdsl.check.stages import names_of
from wmdsl.check.values import attributes
from wmdsl.syntax import ast
from wmdsl.vocabulary import FORMS

FORM = "WM808"
LEARNED = "classifier"  # a predicate learned on what the call reads


def build_layouts(draft: Draft) -> None:
    """Fill `draft.layouts`."""
    for declaration in draft.of("layout"):
        draft.layouts[declaration.name.text] = draft.attempt(_layout, declaration)


def build_symbols(draft: Draft) -> None:
    """Check every other declaration that has no runtime of its own."""
    checks = {"objects": _objects, "predicate": _predicate, "operator": _operator}
    for form, one in checks.items():
        for declaration in draft.of(form):
            draft.cannot_run(FORM, f"{form} declarations", declaration.span)
            draft.symbols[f"{form} {declaration.name.text}"] = None
            with draft.guard():
                one(draft, declaration)
                draft.symbols[f"{form} {declaration.name.text}"] = True


def _layout(draft: Draft, declaration: ast.Declaration) -> Layout:
    """Tokens are groups of one trunk; what is predicted stands among them."""
    values = attributes(draft, FORMS["layout"], declaration)
    trunk = _laid_out(draft, declaration, values)
    tokens = _standing(draft, trunk, values["tokens"])
    predicted = _standing(draft, trunk, values["predict"])
    for segment in predicted:
        if tokens and segment not in tokens:
            raise Mistake(errors.layouts.predicts_absent(declaration, segment))
    for item in values["draw"] or ():
        _check_draw(item)
    for item in values["renoise"] or ():
        _check_renoise(item, trunk, [copy.dotted for copy in values["copies"] or ()])
    return Layout(
        name=declaration.name.text,
        trunk=trunk.name,
        tokens=tuple(part.reference for part in tokens) or tuple(g.name for g in trunk.groups),
        predicted=tuple(segment.reference for segment in predicted),
        copies=tuple(reference.dotted for reference in values["copies"] or ()),
        share=values["share"],
        attributes=values.complete(),
        span=declaration.span,
    )


def _standing(
    draft: Draft, trunk: Trunk, items: tuple[ast.Item, ...] | None
) -> tuple[Segment, ...]:
    """The segments of a list, all of which must stand in the trunk."""
    inside = {group.name for group in trunk.groups}
    for item in items or ():
        for segment in segments(draft, single(item)):
            if segment.whole not in inside:
                path = (trunk.name, *single(item).path)
                groups_of_trunk(draft, trunk, ast.Reference(path, None, item.span))
    return all_segments(draft, items or ())


def _laid_out(draft: Draft, declaration: ast.Declaration, values: Values) -> Trunk:
    """The trunk that is named, or the only one there is."""
    if values["trunk"]:
        return trunk_of(draft, values["trunk"], "a trunk")
    if len(draft.trunks) != 1:
        raise Mistake(errors.layouts.which_trunk(declaration, draft.trunks))
    (trunk,) = draft.trunks.values()
    if trunk is None:
        raise Mistake
    return trunk


def _check_draw(item: ast.Item) -> None:
    """`chunk 2 within 1..4`."""
    shape = (ast.Reference, ast.Number, ast.Reference, ast.Range)
    fits = len(item.terms) == len(shape) and all(map(isinstance, item.terms, shape))
    if not fits or item.terms[2].dotted != "within":
        raise Mistake(errors.layouts.draw_malformed(item))


def _check_renoise(item: ast.Item, trunk: Trunk, copies: list[str]) -> None:
    """`clean.camera 0.5 within 0..0.5`: groups of a copy, a chance, a range of times."""
    shape = (ast.Reference, ast.Number, ast.Reference, ast.Range)
    terms = item.terms
    if len(terms) not in (2, 4) or not all(map(isinstance, terms, shape)):
        raise Mistake(errors.layouts.renoise_malformed(item))
    times = terms[3] if len(terms) == 4 else ast.Range(Fraction(0), Fraction(1), item.span)
    shares = (terms[1].value, times.low, times.high)
    if not all(0 <= share <= 1 for share in shares) or times.low > times.high:
        raise Mistake(errors.layouts.renoise_malformed(item))
    names = [tuple(f"{copy}.{group.name}".split(".")) for copy in copies for group in trunk.groups]
    if not any(name[: len(terms[0].path)] == terms[0].path for name in names):
        raise Mistake(errors.layouts.renoises_nothing(item, terms[0].dotted, copies))


def _names(draft: Draft, form: str) -> list[str]:
    return [declaration.name.text for declaration in draft.of(form)]


def build_externs(draft: Draft) -> None:
    """Fill `draft.externs`."""
    for declaration in draft.of("extern"):
        draft.cannot_run(FORM, "extern declarations", declaration.span)
        draft.externs[declaration.name.text] = draft.attempt(_extern, declaration)


def _extern(draft: Draft, declaration: ast.Declaration) -> Extern:
    clause_of(declaration, "reference")
    values = attributes(draft, FORMS["extern"], declaration)
    takes = all_segments(draft, values["takes"] or ())
    gives = [item for item in values["gives"] if isinstance(single(item), ast.Reference)]
    given = all_segments(draft, gives)
    for segment in (*takes, *given):
        draft.mark_read(segment)
    if given:
        draft.used_externs.add(declaration.name.text)
    computed = (segment for segment in given if takes and not segment.observed)
    return Extern(declaration.name.text, takes, tuple(computed), declaration.span)


def _objects(draft: Draft, declaration: ast.Declaration) -> None:
    """A type of objects is its name alone."""


def _predicate(draft: Draft, declaration: ast.Declaration) -> None:
    """Arguments are types of objects; truth comes from an extern, a classifier or other atoms."""
    values = attributes(draft, FORMS["predicate"], declaration)
    clause = declaration.clause("arguments")
    for item in clause.items if clause else ():
        names_of(draft, item.terms, "type of objects", _names(draft, "objects"))
    for item in values["derived"] or ():
        _check_atom(draft, item, {})
    origin = declaration.clause("from")
    if origin:
        _check_origin(draft, origin.items[0].terms[0])


def _check_origin(draft: Draft, written: ast.Expression) -> None:
    """`ask(scene.now)`: an extern, or `classifier`, and what it reads."""
    function = written.function if isinstance(written, ast.Call) else written
    if not isinstance(function, ast.Reference):
        raise Mistake(errors.names.segment_wanted(written))
    known = [LEARNED, *_names(draft, "extern"), *draft.codecs]
    if function.dotted not in known:
        raise Mistake(errors.names.unknown_part(function, "extern", known))
    draft.used.add(function.dotted)
    for item in written.arguments if isinstance(written, ast.Call) else ():
        inner = single(item)
        if isinstance(inner, ast.Call):
            _check_origin(draft, inner)
            continue
        for segment in segments(draft, inner):
            draft.mark_read(segment)


def _operator(draft: Draft, declaration: ast.Declaration) -> None:
    """Parameters are typed objects; preconditions and effects are atoms over them."""
    values = attributes(draft, FORMS["operator"], declaration)
    clause = declaration.clause("arguments")
    typed = {item.terms[0].dotted: item.terms[1] for item in clause.items} if clause else {}
    names_of(draft, typed.values(), "type of objects", _names(draft, "objects"))
    types = {name: reference.dotted for name, reference in typed.items()}
    for name in ("needs", "adds", "drops"):
        for item in values[name] or ():
            _check_atom(draft, item, types)
    if values["skill"]:
        names_of(draft, [values["skill"]], "extern", _names(draft, "extern"))
        draft.used.add(values["skill"].dotted)


def _check_atom(draft: Draft, item: ast.Item, types: dict[str, str]) -> None:
    """`Holding(b)` or `HandEmpty`: a predicate with as many arguments of the right types."""
    atom = single(item)
    function = atom.function if isinstance(atom, ast.Call) else atom
    if not isinstance(function, ast.Reference):
        raise Mistake(errors.names.segment_wanted(atom))
    names_of(draft, [function], "predicate", _names(draft, "predicate"))
    predicate = draft.spec.find(function.dotted, "predicate")
    if predicate is None or draft.symbols.get(f"predicate {function.dotted}") is None:
        raise Mistake
    clause = predicate.clause("arguments")
    wanted = [part.terms[0].dotted for part in clause.items] if clause else []
    given = [single(part) for part in atom.arguments] if isinstance(atom, ast.Call) else []
    if len(wanted) != len(given):
        raise Mistake(errors.layouts.wrong_arity(item, predicate, len(wanted), len(given)))
    for type_, argument in zip(wanted, given, strict=True):
        found = types.get(argument.span.text) if types else type_
        if found is None:
            raise Mistake(errors.names.unknown_part(argument, "parameter of the operator", types))
        if found != type_:
            raise Mistake(errors.layouts.wrong_object(argument, found, type_, predicate))
