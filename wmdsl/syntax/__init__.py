"""In: `Source`. Out: `ast.File` with spans. Invariant: no mistake in the text stays silent."""

from wmdsl.syntax.parse import parse, parse_item, read_source

__all__ = ["parse", "parse_item", "read_source"]
