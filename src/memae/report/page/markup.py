"""HTML and SVG as text. What is not `Markup` is text of somebody else, and is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from memae.errors import printable

__all__ = ["Markup", "Section", "facts_list", "name", "shortened", "tag", "text"]

LONGEST_TEXT = 200
VOID = frozenset({"img", "meta", "input", "br"})


class Markup(str):
    """HTML or SVG that is safe as it stands; `tag` makes it, and `document` of the project's own files."""

    __slots__ = ()


class Section(NamedTuple):
    """A part of the page with a heading of its own."""

    place: str
    """What a link to it is called."""
    title: str
    content: Sequence[object]
    """Children, as of `tag`."""


def text(value: object) -> str:
    """A value as text that any file can hold; control characters, and bytes that are not UTF-8, show as \\x1b."""
    plain = str(value).encode(errors="surrogateescape").decode(errors="backslashreplace")
    return printable(plain.encode(errors="backslashreplace").decode())


def shortened(value: object, most: int = LONGEST_TEXT) -> str:
    """A text of at most `most` characters, without its middle if it is longer."""
    whole = text(value)
    half = most // 2
    return whole if len(whole) <= most else f"{whole[:half]} … {whole[-half:]}"


def tag(element: str, *children: object, **attributes: object) -> Markup:
    """An element.

    Args:
        element: its name.
        *children: `Markup` as it is; iterables of children; None for nothing; anything else as escaped text.
        **attributes: `class_` is class, `aria_label` is aria-label; True has no value; None and False are left out.
    """
    start = "".join(_attribute(key, value) for key, value in attributes.items())
    if element in VOID:
        return Markup(f"<{element}{start}>")
    return Markup(f"<{element}{start}>{''.join(_flat(children))}</{element}>")


def name(value: object) -> Markup:
    """A name of a file, column or category: isolated, so that text from right to left does not turn what is around."""
    return tag("bdi", shortened(value))


def facts_list(facts: Iterable[tuple[str, object]]) -> Markup:
    """A list of names and values."""
    return tag("dl", [tag("div", tag("dt", key), tag("dd", value)) for key, value in facts])


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{escape(text(value))}"'


def _flat(children: Iterable[object]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, str) or not isinstance(child, Iterable):
            yield "" if child is None else escape(text(child))
        else:
            yield from _flat(child)
