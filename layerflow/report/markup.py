"""HTML from plain values. `element` takes its content as it is; everything else escapes what it is given."""

from collections.abc import Iterable, Sequence
from html import escape


def element(tag: str, content: str, **attributes: str) -> str:
    """Return `<tag ...>content</tag>`; attributes are escaped, `kind` stands for `class`."""
    given = "".join(f' {"class" if name == "kind" else name}="{escape(value)}"' for name, value in attributes.items())
    return f"<{tag}{given}>{content}</{tag}>"


def text(tag: str, words: object, **attributes: str) -> str:
    """Return an element with words in it."""
    return element(tag, escape(str(words)), **attributes)


def panel(content: str, kind: str = "panel") -> str:
    """Return a framed part of the page."""
    return element("div", content, kind=kind)


def note(words: str) -> str:
    """Return a quiet line."""
    return text("p", words, kind="quiet")


def row(tag: str, cells: Iterable[object]) -> str:
    """Return a row of a table."""
    return element("tr", "".join(text(tag, cell) for cell in cells))


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of values."""
    return element("table", row("th", head) + "".join(row("td", cells) for cells in rows), kind="values")


def words(name: str) -> str:
    """Return a recorded name as one says it."""
    return name.replace("_", " ")
