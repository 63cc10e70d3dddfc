"""Overrides on the command line: `optimizer.lr=0.05 model.0.out_features=128`."""

from layerflow.config.document import Node, parse_value
from layerflow.config.problems import Path, Place, Problems, Source
from layerflow.errors import ConfigError, did_you_mean


def apply_override(root: Node, text: str, problems: Problems) -> None:
    """Put the value of `path.to.key=value`, read as YAML, into the document; its problems point into `text`.

    A key that is not in the file is added, where its section is a mapping; a section that the file leaves out is begun.
    """
    source = Source(text, (text,), is_override=True)
    name, equals, value = text.partition("=")
    parts = tuple(name.split("."))
    if not equals or not all(parts) or name != name.strip():
        problems.add(Place(source, 1, 1), (), "must be written path.to.key=value, such as optimizer.lr=0.05")
        return
    try:
        node = parse_value(value, source, column=len(name) + 1) if value.strip() else Node(Place(source, 1, 1), None)
    except ConfigError as error:
        problems.add(Place(source, 1, len(name) + 2), parts, str(error.problems[0]["message"]))
        return
    parent = root
    for depth, part in enumerate(parts):
        place = Place(source, 1, 1 + sum(len(before) + 1 for before in parts[:depth]))
        is_last = depth == len(parts) - 1
        following = _step(parent, part, parts[:depth], node if is_last else None, place, problems)
        if following is None:
            return
        parent = following


def _step(parent: Node, part: str, path: Path, value: Node | None, place: Place, problems: Problems) -> Node | None:
    """Return the child of `parent` called `part`, which becomes `value` unless that is None."""
    if parent.value is None or (isinstance(parent.value, str) and path and path != ("model",)):
        # `schedule: Cosine` and a section that was left empty become mappings that keys can be added to.
        parent.value = {"type": Node(parent.place, parent.value)} if isinstance(parent.value, str) else {}
        parent.keys = dict.fromkeys(parent.value, parent.place)
    if isinstance(parent.value, dict):
        if value is not None or part not in parent.value:
            parent.value[part] = value or Node(place, {})
            parent.keys[part] = place
        return parent.value[part]
    if isinstance(parent.value, list):
        if part.isascii() and part.isdigit() and int(part[:9]) < len(parent.value):
            if value is not None:
                parent.value[int(part)] = value
            return parent.value[int(part)]
        named = [
            n for n in parent.value if isinstance(n.value, dict) and "name" in n.value and n.value["name"].value == part
        ]
        if named and value is None:
            return named[0]
        names = [str(n.value["name"].value) for n in parent.value if isinstance(n.value, dict) and "name" in n.value]
        last = len(parent.value) - 1
        problems.add(place, path, f"has no item {part!r}{did_you_mean(part, names)}; items are numbered 0 to {last}")
        return None
    problems.add(place, path, f"is a single value, so it has no {part!r} in it")
    return None
