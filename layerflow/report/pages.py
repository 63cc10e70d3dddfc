"""Pages and pictures from the files in `templates/`. Jinja escapes every value that a template is given."""

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


# Neither XML nor UTF-8 can hold them: control characters, surrogates.
UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(template: str, **values: Any) -> str:
    """Return a template filled with values; all text among them is escaped."""
    return environment().get_template(template).render(values)


@cache
def environment() -> "Environment":
    """The templates, with what they share."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # when a page is written, not before

    made = Environment(
        loader=PackageLoader("layerflow.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_writable,
    )
    made.filters |= {"px": _px, "number": number, "tick": _tick}
    return made


def number(value: float) -> str:
    """Return a measured number in four significant digits; a dash for NaN and infinity."""
    return f"{value:.4g}" if abs(value) < float("inf") else "–"


def _writable(value: Any) -> Any:
    return UNWRITABLE.sub("\ufffd", value) if type(value) is str else value


def _px(value: float) -> str:
    return f"{value:.1f}"


def _tick(value: float) -> str:
    if 1000 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{0 if abs(value) < 1e-12 else value:.4g}"
