"""Blocks: gates that run other gates, in branches or over time."""

from layerflow.blocks.branches import Parallel, Residual
from layerflow.blocks.recurrence import Recurrent

__all__ = ["Parallel", "Recurrent", "Residual"]
