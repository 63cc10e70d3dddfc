"""The gradient on every single wire. A sweep keeps the sums; here each gate is asked again what it alone sent back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from layerflow.containers.container import Container
from layerflow.gate import Gradients
from layerflow.sweep import Step


@dataclass
class Flow:
    """The gradients of the last backward sweep, by step and input.

    Attributes:
        inputs: step index -> one gradient per input.
        parameters: step index -> gradient by parameter name.
        ran_back: whether there has been a backward sweep at all.
    """

    inputs: dict[int, Sequence[Any]] = field(default_factory=dict)
    parameters: dict[int, dict[str, Any]] = field(default_factory=dict)
    ran_back: bool = False

    def inputs_of(self, index: int, count: int) -> Sequence[Any]:
        """The gradients of a step's inputs; `None` for those that none reached."""
        return self.inputs.get(index, (None,) * count)


def trace(container: Container) -> Flow:
    """Read the gradients of the container's last backward sweep, wire by wire."""
    flow = Flow(ran_back=any(grad is not None for grad in container.grads))
    for index, step in enumerate(container.steps):
        upstream = step.upstream(container.values, container.grads)
        if upstream is not None and (step.parameters or True in step.needs_grad):
            flow.inputs[index], flow.parameters[index] = pull_back(container, step, upstream)
    return flow


def pull_back(container: Container, step: Step, upstream: Sequence[Any]) -> Gradients:
    """Run one step's backward for one gradient per output, on what its forward stored; nothing else is touched."""
    inputs, parameters = step.backward(upstream, container.memories[step.writes[0]])
    return tuple([grad if needed else None for grad, needed in zip(inputs, step.needs_grad, strict=True)]), parameters
