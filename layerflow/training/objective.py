"""The objective that training minimises, as a graph: the loss plus the regularizers."""

from collections.abc import Sequence

from layerflow.containers import ComputationalGraph
from layerflow.gate import Gate
from layerflow.gates.arithmetic import Add
from layerflow.parameter import Array


class Objective(ComputationalGraph, checked=False):
    """The graph x -> model -> scores; (scores, y) -> loss; loss + each regularizer(weights) -> objective.

    The regularizers are fed by the model's parameters with `decay=True` (weights, not biases). The model must be built,
    since its parameters are nodes here. Neither x nor y gets a gradient.

    Args:
        model: a gate with one input and one output; a container as a rule.
        loss: a gate that takes (scores, targets) and returns a scalar.
        regularizers: gates that take weights and return a scalar.
    """

    is_watched = False

    def __init__(self, model: Gate, loss: Gate, regularizers: Sequence[Gate] = ()) -> None:
        super().__init__()
        x, y = self.inputs("x", "y", needs_grad=False)
        scores = self.add("model", model, x)
        total = data_loss = self.add("loss", loss, [scores, y])
        if regularizers:
            learned = model.named_parameters().items()
            weights = [self.parameter(name, parameter) for name, parameter in learned if parameter.decay]
            for gate in regularizers:
                total = self.apply(Add(), total, self.apply(gate, *weights))
        self.output(total)
        self.scores_slot, self.data_loss_slot = scores.slot, data_loss.slot

    @property
    def scores(self) -> Array:
        """The model's output of the last forward sweep."""
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
