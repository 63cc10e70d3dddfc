"""Blocks, repetition and tied weights in a configuration."""

import numpy as np
import pytest

from layerflow.config.describing import describe_model, rebuild_model
from layerflow.config.experiment import load_config_text
from layerflow.errors import ConfigError

DATA = "data: {source: {type: CSV, path: x.csv, target: y}}\nloss: SoftmaxCE\noptimizer: {type: SGD, lr: 0.1}\n"


def model_of(text: str):
    return load_config_text(DATA + text).build_model(3)


def names(model) -> list[str]:
    model.build(np.random.default_rng(0), (2, 4))
    return list(model.named_parameters())


def test_gates_are_repeated_with_parameters_of_their_own():
    model = model_of("model:\n- {repeat: 2, gates: [{type: Linear, out_features: 5}, ReLU]}\n- Linear\n")
    assert names(model) == ["0.0.0.weight", "0.0.0.bias", "0.1.0.weight", "0.1.0.bias", "1.weight", "1.bias"]
    first, second = (model.named_parameters()[f"0.{i}.0.weight"].value for i in range(2))
    assert first.shape == (5, 4) and second.shape == (5, 5)


def test_residuals_and_branches_are_written_as_lists_of_gates():
    model = model_of(
        "model:\n"
        "- {type: Residual, gates: [LayerNorm, {type: Linear, out_features: 4}]}\n"
        "- type: Parallel\n"
        "  join: sum\n"
        "  gates:\n"
        "  - {name: wide, type: Linear, out_features: 3}\n"
        "  - {type: Sequential, gates: [{type: Linear, out_features: 3}]}\n"
    )
    assert names(model) == [
        "0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias",
        "1.wide.weight", "1.wide.bias", "1.1.0.weight", "1.1.0.bias",
    ]  # fmt: skip


def test_a_block_is_defined_once_and_used_as_a_copy_or_once_more():
    text = (
        "blocks:\n"
        "  half: [{type: Linear, out_features: 4}, Tanh]\n"
        "  whole: [half, {type: Residual, gates: [half]}]\n"
        "model: [{name: a, type: whole}, whole, {name: c, same_as: a}, Linear]\n"
    )
    model = model_of(text)
    assert [name for name in names(model) if name.endswith("weight")] == [
        "a.0.0.weight", "a.1.0.0.weight", "1.0.0.weight", "1.1.0.0.weight", "3.weight",
    ]  # fmt: skip
    resolved = load_config_text(DATA + text).to_yaml()
    again = load_config_text(resolved)
    assert again.resolve() == load_config_text(DATA + text).resolve()
    for description in (describe_model(model), load_config_text(DATA + text).model.with_width(3).plain()):
        rebuilt = rebuild_model(description)  # which knows no blocks
        assert names(rebuilt) == names(model)


def test_a_recurrent_cell_is_a_gate_or_a_graph():
    cell = "{type: GRUCell, hidden_size: 6}"
    model = model_of(f"model: [{{type: Recurrent, cell: {cell}, return_sequences: false}}, Linear]\n")
    model.build(np.random.default_rng(0), (2, 5, 4))
    assert next(iter(model.named_parameters())) == "0.cell.weight_ih"
    graph = (
        "model:\n"
        "- type: Recurrent\n"
        "  cell:\n"
        "    type: ComputationalGraph\n"
        "    graph:\n"
        "      inputs: [x, h]\n"
        "      gates:\n"
        "      - {name: both, type: Concatenate, inputs: [x, h]}\n"
        "      - {name: sum, type: Linear, out_features: 7, inputs: both}\n"
        "      - {name: state, type: Tanh, inputs: sum}\n"
        "      - {name: y, type: Linear, out_features: 2, inputs: state}\n"
        "      output: [y, state]\n"
        "- Linear\n"
    )
    model = model_of(graph)
    assert model.build(np.random.default_rng(0), (2, 5, 4)) == (2, 5, 3)


def test_tied_weights_name_a_gate_before_them():
    embedding = "{name: e, type: Embedding, num_embeddings: 9, embedding_dim: 4}"
    text = f"model:\n- {embedding}\n- {{type: TiedLinear, source: %s}}\n"
    model = model_of(text % "e")
    model.build(np.random.default_rng(0), (2, 5))
    assert list(model.named_parameters()) == ["e.weight", "1.bias"]
    with pytest.raises(ConfigError, match=r":6:3: model.1: no gate before this is called 'f'"):
        model_of(text % "f")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [{repeat: 0, gates: [ReLU]}, Linear]\n", "repeat: must be 1 or more, not 0"),
        ("model: [{repeat: 2}, Linear]\n", "Repeat needs 'gates'"),
        (
            "blocks: {ReLU: [Tanh]}\nmodel: [Linear]\n",
            "is the name of a gate already",
        ),
        ("blocks: {b: 3}\nmodel: [b, Linear]\n", "must be a list of gates"),
        ("blocks: {a: [b], b: [ReLU]}\nmodel: [a, Linear]\n", "unknown gate 'b'"),
        ("model: [{type: Parallel, gates: [ReLU], join: mean}, Linear]\n", "join is 'mean'"),
    ],
)
def test_wrong_blocks_are_named(text, message):
    with pytest.raises(ConfigError, match=message):
        model_of(text)


def test_a_block_may_be_a_graph_and_a_saved_run_does_not_need_it():
    gates = "[{name: sum, type: Add, inputs: [a, b]}, {name: y, type: Tanh, inputs: sum}]"
    head = f"{{inputs: [a, b], gates: {gates}, output: y}}"
    text = f"""blocks: {{head: {head}}}
model:
  inputs: [x]
  gates:
  - {{name: h, type: Linear, out_features: 4, inputs: x}}
  - {{name: both, type: head, inputs: [h, x]}}
  - {{name: scores, type: Linear, inputs: both}}
"""
    model = model_of(text)
    rebuilt = rebuild_model(load_config_text(DATA + text).model.with_width(3).plain())
    assert names(rebuilt) == names(model) == ["h.weight", "h.bias", "scores.weight", "scores.bias"]
