"""What is minimized: the graph of model, losses and regularizers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerflow.containers import ComputationalGraph
from layerflow.containers.container import Container
from layerflow.errors import ConfigError, did_you_mean
from layerflow.gate import Gate
from layerflow.gates.arithmetic import Add, Multiply
from layerflow.parameter import Array

ONLY = ""
"""The name of the output of a model that has one."""


@dataclass(frozen=True)
class Scored:
    """An output of the model, and how it is judged.

    Attributes:
        loss: the gate that takes (scores, targets), or (scores, targets, weights of the samples).
        weight: by which the loss is multiplied.
        slot, loss_slot: where the sweeps leave the scores and the loss.
    """

    loss: Gate
    weight: float
    slot: int
    loss_slot: int


class Objective(ComputationalGraph, checked=False):
    """The graph x -> model -> scores; (scores, y) -> loss; loss + each regularizer(weights) -> objective.

    The regularizers are fed by the model's parameters with `decay=True` (weights, not biases). The model must be built,
    since its parameters are nodes here. Neither x nor y gets a gradient. With several losses, each output of the model
    has targets of its own, and the objective is their weighted sum.

    Args:
        model: a gate; a container as a rule.
        loss: a gate that takes (scores, targets) and returns a scalar; or one for each output, by name.
        regularizers: gates that take weights and return a scalar.
        inputs: the names of the model's inputs.
        loss_weights: the factor of each loss, 1 by default.
        has_sample_weight: whether the losses are given a weight for each sample, the last input.

    Attributes:
        outputs: the outputs of the model, by name; `ONLY` where there is one.
    """

    is_watched = False

    def __init__(
        self,
        model: Gate,
        loss: Gate | Mapping[str, Gate],
        regularizers: Sequence[Gate] = (),
        inputs: Sequence[str] = ("x",),
        loss_weights: Mapping[str, float] | None = None,
        has_sample_weight: bool = False,
    ) -> None:
        super().__init__()
        losses = {ONLY: loss} if isinstance(loss, Gate) else dict(loss)
        xs = self.inputs(*inputs, needs_grad=False)
        ys = self.inputs(*[f"y_{name}" if name else "y" for name in losses], needs_grad=False)
        extra = self.inputs("sample_weight", needs_grad=False) if has_sample_weight else ()
        scores = self.add("model", model, xs)
        nodes = dict(zip(output_names(model, losses), scores if isinstance(scores, tuple) else (scores,), strict=True))
        self.outputs: dict[str, Scored] = {}
        total: Any = None
        for (name, gate), y in zip(losses.items(), ys, strict=True):
            node = self.add(f"loss_{name}" if name else "loss", gate, [nodes[name], y, *extra])
            weight = (loss_weights or {}).get(name, 1.0)
            self.outputs[name] = Scored(gate, weight, nodes[name].slot, node.slot)
            share = node if weight == 1.0 else self.apply(Multiply(), node, self.constant(weight, f"weight_{name}"))
            total = share if total is None else self.apply(Add(), total, share)
        self.data_loss_slot = total.slot
        if regularizers:
            learned = model.named_parameters().items()
            weights = [self.parameter(name, parameter) for name, parameter in learned if parameter.decay]
            for gate in regularizers:
                total = self.apply(Add(), total, self.apply(gate, *weights))
        self.output(total)

    @property
    def scores_slot(self) -> int:
        """The slot of the first output."""
        return next(iter(self.outputs.values())).slot

    @property
    def scores(self) -> Array:
        """The model's first output of the last forward sweep."""
        scores: Array = self.values[self.scores_slot]
        return scores

    @property
    def value(self) -> float:
        """The loss with the regularizers, of the last forward sweep."""
        return float(self.values[self.output_slots[0]])

    @property
    def data_loss(self) -> float:
        """The loss without the regularizers, of the last forward sweep."""
        return float(self.values[self.data_loss_slot])


def output_names(model: Gate, losses: Mapping[str, Gate]) -> list[str]:
    """Return the names of a model's outputs, in their order: those of a graph's nodes, else those of the losses.

    Raises:
        ConfigError: there are more or fewer losses than outputs, or they have other names.
    """
    if not isinstance(model, Container):
        return list(losses)
    model.finish()
    count = len(model.output_slots)
    names = [str(index) for index in range(count)]
    if isinstance(model, ComputationalGraph):
        by_slot = {node.slot: name for name, node in model.nodes.items()}
        names = [by_slot[slot] for slot in model.output_slots]
    if list(losses) == [ONLY]:
        if count > 1:
            raise ConfigError(
                f"the model has {count} outputs ({', '.join(names)}); give a loss for each: loss={{{names[0]!r}: ...}}"
            )
        return [ONLY]
    if len(losses) != count:
        raise ConfigError(
            f"there are {len(losses)} losses ({', '.join(losses)}), but the model has {count} "
            f"output{'s' * (count != 1)} ({', '.join(names)})"
        )
    if not isinstance(model, ComputationalGraph):
        return list(losses)
    for name in losses:
        if name not in names:
            hint = did_you_mean(name, names) or f"; its outputs are {', '.join(names)}"
            raise ConfigError(f"there is a loss for {name!r}, but the model has no output of this name{hint}")
    return names
