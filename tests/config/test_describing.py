"""Models as plain values, and back."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.config import Registry, describe_model, rebuild_model
from layerflow.errors import ConfigError
from layerflow.gates.initializers import Normal


def residual() -> lf.ComputationalGraph:
    """A graph with a fork, nodes that hold arrays, and a nested row."""
    graph = lf.ComputationalGraph()
    (x,) = graph.inputs("x")
    hidden = lf.Sequential(lf.Linear(3), lf.Tanh())(x)
    weight = graph.parameter("w", np.array([1.0, -2.0, 3.0]))
    graph.output((hidden + x) * weight * 0.5)
    return graph


def shared() -> lf.Sequential:
    """One gate at two places."""
    linear = lf.Linear(3)
    return lf.Sequential(linear, lf.ReLU(), linear)


MODELS: dict[str, Callable[[], lf.Gate]] = {
    "a row": lambda: lf.Sequential(lf.Linear(4, init=Normal(0.5)), lf.ReLU(), lf.Linear(2, bias=False)),
    "named gates": lambda: lf.Sequential(hidden=lf.Linear(4), act=lf.Tanh()),
    "a lone gate": lambda: lf.Linear(2),
    "rows in rows": lambda: lf.Sequential(lf.Sequential(lf.Linear(3), lf.ReLU()), lf.Linear(2)),
    "one gate twice": shared,
    "a graph": residual,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_from_its_description(registry: Registry, name: str) -> None:
    model = MODELS[name]()
    description = json.loads(json.dumps(describe_model(model)))
    again = rebuild_model(description, registry)
    for one in (model, again):
        one.build(np.random.default_rng(3), (5, 3))
    assert sorted(again.named_parameters()) == sorted(model.named_parameters())
    x = np.random.default_rng(4).normal(size=(5, 3))
    np.testing.assert_array_equal(again.forward(x), model.forward(x))
    assert describe_model(again) == describe_model(model)


def test_a_built_and_trained_model_has_the_same_description() -> None:
    model = residual()
    before = describe_model(model)
    model.build(np.random.default_rng(3), (5, 3))
    model.forward(np.ones((5, 3)))
    assert describe_model(model) == before


def test_custom_gates_are_described_by_their_type_name(custom_registry: Registry, registry: Registry) -> None:
    swish: Any = custom_registry.find("gate", "Swish2")
    description = describe_model(lf.Sequential(swish(beta=2.0, inner=lf.ReLU()), lf.Linear(3)))
    assert description == [
        {"type": "Swish2", "beta": 2.0, "inner": {"type": "ReLU"}},
        {"type": "Linear", "out_features": 3},
    ]
    again = rebuild_model(description, custom_registry)
    assert isinstance(again, lf.Sequential)
    assert isinstance(again[0], swish)
    with pytest.raises(ConfigError, match=r"^model.npz: model.0.type: unknown gate 'Swish2'"):
        rebuild_model(description, registry, "model.npz")


class Scaled(lf.Gate):
    """A gate with an argument that can be anything."""

    def __init__(self, factor: Any) -> None:
        self.factor = factor

    def forward(self, x: Any) -> Any:
        return x


def test_an_argument_that_cannot_be_written_down_is_named() -> None:
    with pytest.raises(ConfigError, match=r"the argument 'factor' of Scaled\(.*\) is a builtin_function_or_method"):
        describe_model(Scaled(len))
    with pytest.raises(ConfigError, match=r"the argument 'factor' .* is a Parameter"):
        describe_model(Scaled(lf.Parameter(1.0)))


def test_arrays_are_described_by_their_numbers() -> None:
    assert describe_model(Scaled(np.array([[1, 2]])))["factor"] == [[1, 2]]
    assert describe_model(Scaled(np.float64(0.5)))["factor"] == 0.5


def test_a_parameter_in_two_gates_is_refused() -> None:
    first, second = lf.Linear(3), lf.Linear(3)
    second.weight = first.weight
    with pytest.raises(ConfigError, match="hold the same Parameter"):
        describe_model(lf.Sequential(first, second))


def test_a_description_nested_too_deep_is_a_config_error(registry: Registry) -> None:
    deep: Any = "ReLU"
    for _ in range(500):
        deep = {"type": "Sequential", "gates": [deep]}
    with pytest.raises(ConfigError, match=r"^model.npz: nested more than 50 levels deep"):
        rebuild_model([deep], registry, "model.npz")


@pytest.mark.parametrize("damaged", [None, 3, [], {}, [3], [{"type": "Linear"}], {"gates": []}, [{"type": "Nothing"}]])
def test_a_damaged_description_is_a_config_error(registry: Registry, damaged: Any) -> None:
    with pytest.raises(ConfigError, match=r"^model.npz: model"):
        rebuild_model(damaged, registry, "model.npz")
