"""How often something is done during a training."""

import re
from dataclasses import dataclass
from typing import Self

from layerflow.errors import ConfigError


@dataclass(frozen=True)
class Interval:
    """How often: every `count` epochs, steps or seconds."""

    count: int
    unit: str

    @classmethod
    def parse(cls, text: str | int) -> Self:
        """Read "2 epochs", "100 steps", "10 seconds", or a number of epochs; raises `ConfigError` for anything else."""
        if isinstance(text, int) and text > 0:
            return cls(text, "epoch")
        match = re.fullmatch(r"([1-9]\d{0,8}) (epoch|step|second)s?", str(text))
        if match is None:
            raise ConfigError(f"{text!r} is no interval; write for instance '2 epochs', '100 steps' or '10 seconds'")
        return cls(int(match[1]), match[2])
