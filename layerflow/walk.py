"""Finding what a gate holds: parameters, buffers, generators, inner gates, wherever its author put them."""

from collections.abc import Iterator
from typing import Any, TypeVar

Kind = TypeVar("Kind")


class Holder:
    """Whatever is walked through: a gate, as a rule."""

    __slots__ = ()

    def members(self) -> dict[str, Any]:
        """The named objects among which parameters, buffers, generators and inner gates are looked for."""
        return vars(self)


def find(root: Any, kind: type[Kind]) -> Iterator[tuple[str, Kind]]:
    """Yield every instance of `kind` that `root` holds, itself included, with its dotted name; each object once."""
    seen: set[int] = set()

    def visit(name: str, item: Any) -> Iterator[tuple[str, Kind]]:
        if id(item) in seen:
            return
        if isinstance(item, kind):
            seen.add(id(item))
            yield name, item
        if isinstance(item, Holder):
            seen.add(id(item))
            held = item.members()
        elif isinstance(item, dict):
            held = item
        elif isinstance(item, list | tuple):
            held = dict(zip(map(str, range(len(item))), item, strict=True))
        else:
            return
        for key, value in held.items():
            yield from visit(f"{name}.{key}" if name else str(key), value)

    yield from visit("", root)
