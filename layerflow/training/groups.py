"""Groups of parameters with settings of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from layerflow.errors import ConfigError, did_you_mean
from layerflow.training.schedules import number


@dataclass(frozen=True)
class Group:
    """Parameters whose names match a pattern, and the settings that hold for them."""

    patterns: tuple[str, ...]
    settings: dict[str, float]

    def matches(self, name: str) -> bool:
        names = name, name.removeprefix("model.")  # as the objective calls it, and as the model does
        return any(fnmatchcase(each, pattern) for pattern in self.patterns for each in names)


def grouped(optimizer: Any, groups: "Sequence[Mapping[str, Any]]") -> "tuple[Group, ...]":
    """Return groups of parameters, checked: `{"match": "embedding.*", "lr": 0.01}`, with other settings for these.

    `match` is a pattern, or a list of them, of the names of parameters; the first group that matches counts. A
    schedule moves the `lr` of a group in proportion.

    Raises:
        ConfigError: something that is no such group.
    """
    found = []
    for group in groups:
        if not isinstance(group, Mapping) or "match" not in group:
            raise ConfigError(
                f"{type(optimizer).__name__}: groups has {group!r}, expected a mapping such as "
                "{'match': 'embedding.*', 'lr': 0.01}"
            )
        patterns = [group["match"]] if isinstance(group["match"], str) else list(group["match"])
        settings = {name: value for name, value in group.items() if name != "match"}
        known = [name for name, value in vars(optimizer).items() if type(value) is float]
        for name, value in settings.items():
            if name not in known:
                hint = did_you_mean(name, known) or f"; it may set {', '.join(known)}"
                raise ConfigError(f"{type(optimizer).__name__}: groups has the unknown setting {name!r}{hint}")
            settings[name] = number(optimizer, f"groups: {name}", value)
        if "lr" in settings:
            if optimizer.lr == 0:
                raise ConfigError(f"{type(optimizer).__name__}: lr is 0, so a group cannot have an lr of its own")
            settings["lr"] /= optimizer.lr  # schedules write lr; what lasts is the proportion
        found.append(Group(tuple(patterns), settings))
    return tuple(found)
