"""Models from their plans."""

from layerflow.config.model import WIDTH, ModelPlan
from layerflow.config.problems import InvalidConfig, Problem
from layerflow.containers.graph import ComputationalGraph
from layerflow.containers.sequential import Sequential
from layerflow.gate import Gate


def build_gates(plan: ModelPlan) -> Gate:
    """Return a new model: a `Sequential` of a list, a `ComputationalGraph` of a graph; nothing is initialised yet.

    Raises:
        ConfigError: a gate refuses its arguments, or the open width is still open.
    """
    if (index := plan.open_width) is not None:
        element = plan.entries[index].element
        raise InvalidConfig(
            [Problem(element.place, element.path, f"{element.type} needs {WIDTH!r}: nothing tells it here")]
        )
    if not plan.inputs:
        if not any(entry.name for entry in plan.entries):
            return Sequential(*(entry.element.build() for entry in plan.entries))
        return Sequential(**{entry.name or str(i): entry.element.build() for i, entry in enumerate(plan.entries)})
    graph = ComputationalGraph()
    graph.inputs(*plan.inputs)
    for entry in plan.entries:
        graph.add(str(entry.name), entry.element.build(), list(entry.inputs))
    if plan.outputs:
        graph.output(*plan.outputs)
    return graph
