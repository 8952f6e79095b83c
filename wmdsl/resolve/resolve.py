"""File -> one closed spec."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from wmdsl.diagnostics import Diagnostics
from wmdsl.record import record
from wmdsl.resolve import errors
from wmdsl.resolve.imports import Importer, Library, Unit, from_disk
from wmdsl.resolve.layers import Expand, Layers, merge
from wmdsl.resolve.parameters import Parameters, from_outside, holds, in_domain
from wmdsl.resolve.spec import Parameter, Spec, by_form
from wmdsl.resolve.substitute import Substituter
from wmdsl.syntax import ast

EDITION = 2026
OWNERS = ("stream", "codec", "trunk", "extern")


def resolve(
    file: ast.File,
    parameters: Mapping[str, object],
    diagnostics: Diagnostics,
    *,
    model: str | None = None,
    importer: Importer = from_disk,
) -> Spec | None:
    """The spec of `model`, or of the last model of the file; None where there is no such model.

    `parameters` are values as text or numbers, as behind `-P`.  What cannot be resolved is
    reported and left out, so that later stages may still check the rest.
    """
    unit = Library(diagnostics, importer).unit(file)
    _check_models(file, diagnostics)
    _lint_imports(file, diagnostics)
    chosen = unit.main if model is None else unit.model(model)
    if chosen is None:
        if model is not None and file.models:
            names = [entry.name.text for entry in file.models]
            diagnostics.add(errors.unknown_model_asked(model, file.models[-1].name.span, names))
        return None
    given = from_outside(parameters, diagnostics)
    return _Resolver(diagnostics).spec(unit, chosen, given, own=True)


def _check_models(file: ast.File, diagnostics: Diagnostics) -> None:
    seen: dict[str, ast.Model] = {}
    for entry in file.models:
        earlier = seen.setdefault(entry.name.text, entry)
        if earlier is not entry:
            diagnostics.add(errors.twice("model", entry.name, earlier.name))


def _lint_imports(file: ast.File, diagnostics: Diagnostics) -> None:
    used = {model.base.path[0] for model in file.models if model.base}
    for model in file.models:
        used |= {kind.path[0] for entry in _declared(model.entries) if (kind := _kind(entry))}
    for entry in file.imports:
        broken = any(skipped.mentions(entry.alias.text) for skipped in _skipped(file.models))
        if entry.alias.text not in used and not broken:
            diagnostics.add(errors.unused_import(entry))


def _declared(entries: Iterable[ast.Entry]) -> Iterator[ast.Declaration]:
    for entry in entries:
        if isinstance(entry, ast.When):
            yield from _declared(entry.entries)
        elif isinstance(entry, ast.Declaration):
            yield entry


def _skipped(models: Iterable[ast.Model]) -> tuple[ast.ErrorEntry, ...]:
    return tuple(
        entry for model in models for entry in model.entries if isinstance(entry, ast.ErrorEntry)
    )


def _kind(entry: ast.Declaration) -> ast.Reference | None:
    """The kind, where it is written as `alias.name`."""
    clause = entry.clause("kind")
    kind = clause.items[0].terms[0] if clause else None
    return kind if isinstance(kind, ast.Reference) and len(kind.path) > 1 else None


@record
class _Chain:
    """A model behind its bases, root first; `whole` is False where a base could not be found."""

    layers: tuple[tuple[Unit, ast.Model], ...]
    whole: bool

    @property
    def skipped(self) -> tuple[ast.ErrorEntry, ...]:
        files = {id(unit): unit.file.skipped for unit, _ in self.layers}
        outside = tuple(entry for entries in files.values() for entry in entries)
        return _skipped(model for _, model in self.layers) + outside

    def entries(self) -> Iterator[tuple[Unit, ast.Entry]]:
        return ((unit, entry) for unit, model in self.layers for entry in model.entries)


class _Resolver:
    """Resolves models; imported ones are resolved once for each set of parameters."""

    def __init__(self, diagnostics: Diagnostics) -> None:
        self.diagnostics = diagnostics

    def spec(
        self, unit: Unit, model: ast.Model, given: Mapping[str, ast.Item], *, own: bool
    ) -> Spec:
        """`own`: every given parameter must be declared, and unused ones are reported."""
        chain = self._chain(unit, model)
        parameters = self._parameters(chain, given, own)
        layers = Layers(self.diagnostics, _forgiver(chain))
        whens = self._apply_layers(layers, chain, parameters)
        shadowing = self._check_shadows(parameters, layers.declarations.values())
        free = {name: part for name, part in parameters.items() if name not in shadowing}
        substituter = Substituter(free)
        declarations = [substituter.declaration(entry) for entry in layers.declarations.values()]
        assertions = tuple(substituter.assertion(entry) for entry in layers.assertions)
        if own:
            used = {entry.parameter for entry in substituter.used} | whens | shadowing
            self._lint_parameters(model, used)
        return Spec(
            name=model.name.text,
            title=model.title,
            edition=EDITION,
            parameters=tuple(parameters.values()),
            declarations=by_form(declarations),
            assertions=assertions,
            span=model.name.span,
            substitutions=tuple(substituter.used),
            skipped=chain.skipped,
        )

    def _chain(self, unit: Unit, model: ast.Model) -> _Chain:
        layers = [(unit, model)]
        while (base := layers[0][1].base) is not None:
            found = self._base(layers[0][0], base)
            if found is None:
                return _Chain(tuple(layers), False)
            if any(found[1] is other for _, other in layers):
                models = [other for _, other in layers]
                self.diagnostics.add(errors.extends_cycle(layers[0][1], models))
                return _Chain(tuple(layers), False)
            layers.insert(0, found)
        return _Chain(tuple(layers), True)

    def _base(self, unit: Unit, base: ast.Reference) -> tuple[Unit, ast.Model] | None:
        """`name` of this file, `alias.name`, or `alias` for the imported file's own model."""
        first, *rest = base.path
        if first in unit.imports:
            imported = unit.imports[first]
            if imported is None:
                return None
            found = imported.model(rest[0]) if rest else imported.main
            names = [f"{first}.{model.name.text}" for model in imported.file.models]
            forgiven = bool(imported.file.skipped)
        else:
            imported, found = unit, None if rest else unit.model(first)
            names = [model.name.text for model in unit.file.models] + list(unit.imports)
            forgiven = bool(unit.file.skipped)
        if found is None:
            if not forgiven:
                self.diagnostics.add(errors.unknown_model(base, names))
            return None
        return imported, found

    def _parameters(
        self, chain: _Chain, given: Mapping[str, ast.Item], own: bool
    ) -> dict[str, Parameter]:
        collected = Parameters(self.diagnostics)
        for _, entry in chain.entries():
            if isinstance(entry, ast.Param):
                collected.add(entry)
        return collected.fix(given, strict=own and chain.whole)

    def _apply_layers(
        self, layers: Layers, chain: _Chain, parameters: Mapping[str, Parameter]
    ) -> set[str]:
        """Plain entries root first, then every `when` that holds; the parameters that whens name.

        A `when` of a base acts after the models that extend it, so that `size is tiny` stays tiny.
        """
        for unit, model in chain.layers:
            layers.apply(model.entries, self._expander(unit, parameters), forgiving=False)
        named: set[str] = set()
        for unit, entry in chain.entries():
            if isinstance(entry, ast.When):
                self._apply_when(layers, unit, entry, parameters, named)
        return named

    def _apply_when(
        self, layers: Layers, unit: Unit, entry: ast.When,
        parameters: Mapping[str, Parameter], named: set[str],
    ) -> None:  # fmt: skip
        name = entry.parameter
        parameter = parameters.get(name.text)
        named.add(name.text)
        for inner in entry.entries:
            if isinstance(inner, ast.Param):
                self.diagnostics.add(errors.misplaced(inner, name.span))
        if parameter is None:
            self.diagnostics.add(errors.unknown_parameter(name.text, name.span, parameters))
            return
        value = ast.Item((entry.value,), entry.value.span)
        if parameter.domain and not in_domain(value, parameter.domain):
            self.diagnostics.add(errors.outside(name.text, value, parameter.domain))
        if not holds(parameter.value, entry.value):
            return
        layers.apply(entry.entries, self._expander(unit, parameters), forgiving=True)
        for inner in entry.entries:
            if isinstance(inner, ast.When):
                self._apply_when(layers, unit, inner, parameters, named)

    def _expander(self, unit: Unit, parameters: Mapping[str, Parameter]) -> Expand:
        """Gives a declaration of kind `alias.name` what the imported declaration says."""

        def expand(entry: ast.Declaration) -> ast.Declaration:
            kind = _kind(entry)
            if kind is None:
                return entry
            base = self._imported(unit, entry, kind, parameters)
            if base is None:
                return replace(entry, clauses=(), damaged=True)
            base = replace(base, name=entry.name, span=entry.span, mode=entry.mode)
            return merge(base, replace(entry, clauses=()))

        return expand

    def _imported(
        self, unit: Unit, entry: ast.Declaration, kind: ast.Reference,
        parameters: Mapping[str, Parameter],
    ) -> ast.Declaration | None:  # fmt: skip
        alias, name = kind.path[0], kind.path[-1]
        if alias not in unit.imports:
            self.diagnostics.add(errors.unknown_alias(kind, unit.imports))
            return None
        imported = unit.imports[alias]
        if imported is None or imported.main is None:
            return None
        given = {known: value.value for known, value in parameters.items()}
        spec = self.spec(imported, imported.main, given, own=False)
        found = spec.find(name, entry.form)
        if found is None and not spec.may_declare(name):
            names = [other.name.text for other in spec.of(entry.form)]
            self.diagnostics.add(errors.not_importable(entry, kind, names, spec.find(name)))
        return found

    def _check_shadows(
        self, parameters: Mapping[str, Parameter], declarations: Iterable[ast.Declaration]
    ) -> set[str]:
        """Names of parameters that also name a thing; they are left alone where they stand."""
        found = set()
        for entry in declarations:
            parameter = parameters.get(entry.name.text)
            if parameter is not None and entry.form in OWNERS:
                found.add(entry.name.text)
                self.diagnostics.add(errors.shadows(parameter.name, entry.name, entry.form))
        return found

    def _lint_parameters(self, model: ast.Model, used: set[str]) -> None:
        params = (entry for entry in model.entries if isinstance(entry, ast.Param))
        entries = [entry for entry in params if entry.mode == "new"]
        skipped = _skipped([model])
        for entry in entries:
            name = entry.name.text
            others = (other.default for other in entries if other is not entry)
            if name in used or any(_names(item, name) for item in others):
                continue
            if not any(text.mentions(name) for text in skipped):
                self.diagnostics.add(errors.unused_parameter(entry))


def _names(item: ast.Item, name: str) -> bool:
    return any(isinstance(term, ast.Reference) and term.path == (name,) for term in item.terms)


def _forgiver(chain: _Chain) -> Callable[[str], bool]:
    """Names that may stand in text which could not be read, or in a base that was not found."""
    skipped = chain.skipped
    return lambda name: not chain.whole or any(entry.mentions(name) for entry in skipped)
