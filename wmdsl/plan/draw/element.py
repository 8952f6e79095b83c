"""A tiny XML tree and its printer, with stable bytes."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from wmdsl.record import record


@record
class Element:
    tag: str
    attributes: tuple[tuple[str, str], ...]
    children: tuple[Element | str, ...]


def element(tag: str, children: Sequence[Element | str] = (), **attributes: object) -> Element:
    """`font_size=11` becomes `font-size="11"`; floats are written with one decimal at most."""
    named = tuple((_name(key), _text(value)) for key, value in attributes.items())
    return Element(tag, named, tuple(children))


def _name(key: str) -> str:
    return key if key == "viewBox" else key.rstrip("_").replace("_", "-")


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return str(value)


def write(root: Element) -> str:
    """The document; one element to a line, texts kept with their element."""
    return "\n".join(_lines(root, "")) + "\n"


def _lines(node: Element, indent: str) -> list[str]:
    head = " ".join([node.tag, *(f"{key}={quoteattr(value)}" for key, value in node.attributes)])
    if not node.children:
        return [f"{indent}<{head}/>"]
    if any(isinstance(child, str) for child in node.children):
        inside = "".join(_inline(child) for child in node.children)
        return [f"{indent}<{head}>{inside}</{node.tag}>"]
    inner = [line for child in node.children for line in _lines(child, indent + "  ")]
    return [f"{indent}<{head}>", *inner, f"{indent}</{node.tag}>"]


def _inline(child: Element | str) -> str:
    return escape(child) if isinstance(child, str) else "".join(_lines(child, ""))
