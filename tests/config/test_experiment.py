"""From a configuration to data, model and trainer."""

from pathlib import Path

import numpy as np
import pytest

import layerflow as lf
from layerflow.config import Registry, load_config_text
from layerflow.config.experiment import Experiment, read_parts

IRIS = Path(__file__).parents[2] / "data/iris.csv"
TEXT = f"""\
data: {{source: {{type: CSV, path: {IRIS}, target: species}}, scale: Standard}}
model: [Linear]
loss: SoftmaxCE
optimizer: {{type: SGD, lr: 0.1}}
train: {{epochs: 1}}
"""


def experiment(registry: Registry, *overrides: str) -> Experiment:
    return Experiment(load_config_text(TEXT, overrides, registry))


def test_parts_are_disjoint_stratified_and_complete(registry: Registry) -> None:
    parts = read_parts(load_config_text(TEXT, registry=registry))
    assert parts.validation is not None and parts.test is not None
    lines = [set(part.lines.tolist()) for part in (parts.train, parts.validation, parts.test)]
    assert sorted(line for part in lines for line in part) == list(range(2, 152))
    assert [np.bincount(part.y).tolist() for part in (parts.train, parts.validation, parts.test)] == [
        [36] * 3,
        [4] * 3,
        [10] * 3,
    ]


def test_scaling_is_fitted_to_the_training_part_alone(registry: Registry) -> None:
    parts = read_parts(load_config_text(TEXT, registry=registry))
    x, _ = parts.arrays(parts.train, "float64")
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(axis=0), 1)
    assert parts.test is not None
    assert np.abs(parts.arrays(parts.test, "float64")[0].mean(axis=0)).max() > 1e-3


def test_parts_of_their_own_win_and_take_the_training_classes(registry: Registry, tmp_path: Path) -> None:
    header, *rows = IRIS.read_text().splitlines()
    (tmp_path / "t.csv").write_text("\n".join([header, *rows[100:103]]))
    parts = read_parts(
        load_config_text(TEXT, [f"data.test={{type: CSV, path: {tmp_path}/t.csv, target: species}}"], registry)
    )
    assert parts.test is not None and parts.validation is not None
    assert parts.test.y.tolist() == [2, 2, 2]
    assert len(parts.train) + len(parts.validation) == 150


@pytest.mark.parametrize(
    ("overrides", "width"),
    [
        ((), 3),
        (("data.source={type: Moons, samples: 100}",), 2),
        (("data.source={type: Moons, samples: 100}", "loss=SigmoidCE"), 1),
        (("data.source.target=petal_width_cm", "data.source.categorical=[species]", "loss=SquaredError"), 1),
    ],
)
def test_the_last_width_follows_from_data_and_loss(registry: Registry, overrides: tuple[str, ...], width: int) -> None:
    prepared = experiment(registry, *overrides)
    prepared.prepare()
    assert prepared.model[-1].bias.value.shape == (width,)


def test_preparing_takes_no_step(registry: Registry) -> None:
    prepared = experiment(registry)
    prepared.prepare()
    before = prepared.trainer.state.store.values.copy()
    prepared.prepare()
    np.testing.assert_array_equal(prepared.trainer.state.store.values, before)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("loss=AbsoluteError",), "AbsoluteError is for numbers, but the targets are 3 classes"),
        (("loss=SigmoidCE",), "SigmoidCE is for two classes, but the targets have 3"),
        (
            ("data.source.target=petal_width_cm", "data.source.categorical=[species]"),
            "SoftmaxCE is for classes, but the targets are numbers",
        ),
    ],
)
def test_a_loss_for_other_targets_is_reported_with_its_place(
    registry: Registry, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(lf.ConfigError, match=message) as error:
        experiment(registry, *overrides)
    assert error.value.problems[0]["setting"] == "loss"
