"""Models: rows, graphs, nested and repeated gates."""

# ruff: noqa: E501 - a table shows each expected line whole

from collections.abc import Callable

import numpy as np
import pytest

import layerflow as lf
from layerflow.config import Config, Registry, load_config_text
from layerflow.errors import ConfigError

ROW = "  - {type: Linear, out_features: 64}\n  - ReLU\n  - {type: Linear}\n"
GRAPH = """\
  inputs: x
  gates:
    - {name: a, type: Linear, out_features: 8, inputs: x}
    - {name: b, type: Linear, out_features: 8, inputs: a}
    - {name: again, same_as: b, inputs: b}
    - {name: sum, type: Add, inputs: [a, again]}
    - {name: block, type: Sequential, gates: [{type: Linear, out_features: 4}, ReLU], inputs: sum}
    - {name: scores, type: Linear, inputs: block}
  output: scores
"""
HEADER = "data: {source: {type: Moons}}\nloss: SoftmaxCE\noptimizer: Adam\nmodel:\n"


@pytest.fixture
def load_model(registry: Registry) -> Callable[[str], Config]:
    """Load a configuration with the given model section."""
    return lambda model: load_config_text(HEADER + model, registry=registry, name="c.yaml")


def test_a_graph_is_built_as_written(load_model: Callable[[str], Config]) -> None:
    model = load_model(GRAPH).build_model(3)
    model.build(np.random.default_rng(0), (5, 2))
    names = [
        "a.weight",
        "a.bias",
        "b.weight",
        "b.bias",
        "block.0.weight",
        "block.0.bias",
        "scores.weight",
        "scores.bias",
    ]
    assert list(model.named_parameters()) == names
    x = np.random.default_rng(1).normal(size=(5, 2))
    values = {name: parameter.value for name, parameter in model.named_parameters().items()}

    def linear(name: str, rows: np.ndarray) -> np.ndarray:
        return rows @ values[f"{name}.weight"].T + values[f"{name}.bias"]

    a = linear("a", x)
    block = np.maximum(linear("block.0", a + linear("b", linear("b", a))), 0)
    np.testing.assert_allclose(model.forward(x), linear("scores", block))


def test_gates_may_stand_in_any_order(load_model: Callable[[str], Config]) -> None:
    text = "  inputs: [x]\n  gates:\n    - {name: s, type: ReLU, inputs: h}\n    - {name: h, type: Linear, inputs: x}\n"
    model = load_model(text).build_model(4)
    assert model.build(np.random.default_rng(0), (5, 2)) == (5, 4)


def test_a_row_may_name_and_repeat_gates(load_model: Callable[[str], Config]) -> None:
    text = "  - {name: h, type: Linear, out_features: 2}\n  - Tanh\n  - {same_as: h}\n  - {same_as: 1}\n"
    model = load_model(text).build_model()
    assert isinstance(model, lf.Sequential)
    assert list(model.gates) == ["h", "1", "2", "3"]
    assert model["2"] is model["h"]
    assert model["3"] is model["1"]


def test_the_gate_whose_width_is_left_to_the_data_may_be_used_again(load_model: Callable[[str], Config]) -> None:
    model = load_model("  - {name: l, type: Linear}\n  - {same_as: l}\n").build_model(2)
    assert isinstance(model, lf.Sequential)
    assert model["1"] is model["l"]
    assert model["l"].arguments == {"out_features": 2}


def test_a_deeply_nested_model_is_written_down_once(load_model: Callable[[str], Config]) -> None:
    depth = 20  # if each level were written twice, this would take a million times as long
    config = load_model("  - " + "{type: Sequential, gates: [" * depth + "ReLU" + "]}" * depth + "\n")
    assert config.to_yaml().count("Sequential") == depth


@pytest.mark.parametrize("text", [GRAPH, ROW, "  - {name: h, type: Linear, out_features: 2}\n  - {same_as: h}\n"])
def test_the_section_comes_back_the_same(load_model: Callable[[str], Config], registry: Registry, text: str) -> None:
    config = load_model(text)
    again = load_config_text(config.to_yaml(), registry=registry)
    assert again.to_yaml() == config.to_yaml()


CASES: list[tuple[str, str, str]] = [
    ("inputs: [a, again]", "inputs: [a, agian]", "c.yaml:10:42: model.gates.3.inputs: no input or gate of the graph is called 'agian', did you mean 'again'?"),
    ("out_features: 8, inputs: x", "out_features: 8, inputs: sum", "c.yaml:7:5: model.gates: the gates form a cycle: "),
    ("name: sum", "name: b", "c.yaml:10:14: model.gates.3.name: 'b' is already a name in line 8: names must differ"),
    ("name: sum", "name: x", "c.yaml:10:14: model.gates.3.name: 'x' is already a name in line 5: names must differ"),
    ("name: sum", "name: s.m", "c.yaml:10:14: model.gates.3.name: 's.m' cannot be a name here: no dots, and not only digits"),
    ("name: sum, ", "", "c.yaml:10:7: model.gates.3: a gate in a graph needs a name and inputs: add name: h"),
    (", inputs: sum", "", "c.yaml:11:7: model.gates.4: a gate in a graph needs a name and inputs: add inputs: x"),
    ("same_as: b", "same_as: scores", "c.yaml:9:30: model.gates.2.same_as: no gate before this one is called 'scores'"),
    ("same_as: b", "same_as: b, bias: false", "c.yaml:9:33: model.gates.2.bias: unknown key: a gate that is used again has its settings in its first entry"),
    ("output: scores", "output: score", "c.yaml:13:11: model.output: no gate of the graph is called 'score', did you mean 'scores'?"),
    ("output: scores", "outputs: scores", "c.yaml:13:3: model.outputs: unknown key, did you mean 'output'?"),
    ("  inputs: x\n", "", "c.yaml:5:3: model: the graph's inputs are missing: write inputs: [x]"),
    ("inputs: x", "inputs: []", "c.yaml:5:11: model.inputs: must have at least one name"),
    ("[{type: Linear, out_features: 4}, ReLU]", "[Relu]", "c.yaml:11:47: model.gates.4.gates.0: unknown gate 'Relu', did you mean 'ReLU'? Known: "),
    ("[{type: Linear, out_features: 4}, ReLU]", "3", "c.yaml:11:46: model.gates.4.gates: must be a list of gates, or a graph {inputs: [x], gates: [...], output: name}, not 3"),
    ("{type: Linear, out_features: 4}", "{type: Linear}", "c.yaml:11:47: model.gates.4.gates.0: Linear needs 'out_features': only the last width of a model is inferred from the data"),
    ("{type: Linear, out_features: 4}", "{type: Linear, out_features: 4, bais: true}", "c.yaml:11:79: model.gates.4.gates.0.bais: unknown key, did you mean 'bias'?"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "first_line"), CASES, ids=[case[1] or case[0] for case in CASES])
def test_a_problem_of_a_graph_is_reported_with_its_place(
    load_model: Callable[[str], Config], old: str, new: str, first_line: str
) -> None:
    assert old in GRAPH
    with pytest.raises(ConfigError) as caught:
        load_model(GRAPH.replace(old, new, 1))
    lines = str(caught.value).splitlines()
    assert any(line.startswith(first_line) if first_line.endswith(": ") else line == first_line for line in lines)
