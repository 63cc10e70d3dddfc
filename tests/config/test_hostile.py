"""Whatever a file says, the answer is a configuration or a list of problems; never anything else."""

# ruff: noqa: E501 - a table shows each expected line whole

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerflow.config import Config, Registry, load_config_text
from layerflow.errors import ConfigError

ROW = """\
seed: 0
data:
  source: {type: CSV, path: data/digits.csv, target: digit}
  test: 0.2
  scale: {type: Divide, by: 16}
model:
  - {type: Linear, out_features: 64}
  - ReLU
  - {type: Linear}
loss: SoftmaxCE
regularizer: {type: L2Regularizer, strength: 1e-4}
optimizer: {type: SGD, lr: 0.1, momentum: 0.9}
schedule: {type: Warmup, epochs: 3, after: Cosine}
train:
  epochs: 5
  early_stopping: {metric: val_loss, patience: 4}
  metrics: [accuracy, top_3]
"""
GRAPH = """\
data:
  source: {type: Moons, samples: 100}
  validation: {type: Moons, seed: 1}
model:
  inputs: [x]
  constants: {two: 2.0}
  gates:
    - {name: h, type: Linear, out_features: 8, init: {type: Normal, std: 0.1}, inputs: x}
    - {name: block, type: Sequential, gates: [{type: Linear, out_features: 8}, ReLU], inputs: h}
    - {name: again, same_as: block, inputs: block}
    - {name: sum, type: Add, inputs: [h, again]}
    - {name: scores, type: Linear, inputs: sum}
  output: scores
loss: {type: SoftmaxCE, class_weight: [1, 2]}
optimizer: {type: Adam, betas: [0.9, 0.999]}
"""
PIECES = ["*x", "&x ", "!!int ", "[", "]", "{", "}", ": ", "- ", "\t", "#", "'", '"', "|\n", "null", "nan", ".nan", ".inf",
          "1e400", "-1", "true", "[]", "{}", "{type: Linear}", "{type: 3}", "Linear", "\x00", "\u2028", "---", "<<: ", "9" * 400,
          "type", "name", "gates", "1.5", "0", "''", "x" * 50]  # fmt: skip


def check(text: str, registry: Registry, overrides: tuple[str, ...] = ()) -> None:
    """Load the text: a configuration that can be dumped and loaded again, or problems on printable lines."""
    try:
        config = load_config_text(text, overrides, registry, name="c.yaml")
    except ConfigError as error:
        assert str(error)
        assert str(error).encode()
        assert error.problems
        return
    assert isinstance(config, Config)
    assert load_config_text(config.to_yaml(), registry=registry).to_yaml() == config.to_yaml()


@pytest.mark.parametrize("which", ["row", "graph"])
@settings(max_examples=120)
@given(data=st.data())
def test_mutated_text_gives_a_configuration_or_problems(registry: Registry, which: str, data: st.DataObject) -> None:
    text = ROW if which == "row" else GRAPH
    for _ in range(data.draw(st.integers(1, 3))):
        kind = data.draw(st.sampled_from(["character", "piece", "delete", "line", "swap"]))
        at = data.draw(st.integers(0, max(len(text) - 1, 0)))
        if kind == "character":
            text = text[:at] + data.draw(st.characters(codec="utf-8")) + text[at + 1 :]
        elif kind == "piece":
            text = text[:at] + data.draw(st.sampled_from(PIECES)) + text[at + data.draw(st.integers(0, 6)) :]
        elif kind == "delete":
            text = text[:at] + text[at + data.draw(st.integers(1, 30)) :]
        else:
            lines = text.split("\n")
            one, two = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
            if kind == "line":
                lines.insert(one, lines[two])
            else:
                lines[one], lines[two] = lines[two], lines[one]
            text = "\n".join(lines)
    check(text, registry)


PATHS = {
    "row": ["seed", "dtype", "data", "data.source", "data.source.path", "data.source.features", "data.test", "data.scale",
            "data.scale.by", "model", "model.0", "model.0.type", "model.0.out_features", "model.0.name", "model.1", "model.2",
            "loss", "regularizer", "regularizer.strength", "optimizer", "optimizer.type", "optimizer.lr", "schedule",
            "schedule.after", "schedule.epochs", "train", "train.epochs", "train.early_stopping", "train.metrics",
            "train.metrics.0", "train.best"],
    "graph": ["data.validation", "data.validation.type", "model", "model.inputs", "model.inputs.0", "model.constants",
              "model.constants.two", "model.parameters", "model.gates", "model.gates.0", "model.gates.h.init",
              "model.gates.h.init.std", "model.gates.h.name", "model.gates.h.inputs", "model.gates.block.gates",
              "model.gates.block.gates.0", "model.gates.again.same_as", "model.gates.again.name", "model.gates.sum.inputs",
              "model.gates.sum.inputs.0", "model.gates.sum.type", "model.output", "loss.class_weight", "optimizer.betas"],
}  # fmt: skip
VALUES = ["", "x", "3", "-1", "1.5", "true", "null", "[]", "[1, x]", "{}", "{a: 1}", "{type: ReLU}", "{type: []}", ".nan", "1e300",
          "ReLU", "[ReLU, ReLU]", "'*'", "{type: Sequential, gates: [ReLU]}", "{type: Sequential, gates: 3}", "[[1], [2, [3]]]"]  # fmt: skip


@pytest.mark.parametrize("which", ["row", "graph"])
@settings(max_examples=120)
@given(data=st.data())
def test_any_value_anywhere_gives_a_configuration_or_problems(
    registry: Registry, which: str, data: st.DataObject
) -> None:
    text = ROW if which == "row" else GRAPH
    paths = PATHS[which]
    overrides = data.draw(
        st.lists(st.builds("{}={}".format, st.sampled_from(paths), st.sampled_from(VALUES)), min_size=1, max_size=3)
    )
    check(text, registry, tuple(overrides))


@given(
    override=st.text(max_size=20) | st.from_regex(r"(model|train|optimizer)\.[a-z0-9.]{0,9}=[^\0]{0,9}", fullmatch=True)
)
def test_any_override_gives_a_configuration_or_problems(registry: Registry, override: str) -> None:
    check(ROW, registry, (override,))
