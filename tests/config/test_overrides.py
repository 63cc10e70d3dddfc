"""Overrides on the command line."""

# ruff: noqa: E501 - a table shows each expected line whole

from collections.abc import Callable

import pytest

import layerflow as lf
from layerflow.config import Config
from layerflow.config.elements import build
from layerflow.errors import ConfigError

Load = Callable[..., Config]

VALUES: list[tuple[str, tuple[str, ...], object]] = [
    ("optimizer.lr=0.05", ("optimizer", "lr"), 0.05),
    ("optimizer.lr=1e-3", ("optimizer", "lr"), 0.001),
    ("train.epochs=3", ("train", "epochs"), 3),
    ("train.clip_norm=2", ("train", "clip_norm"), 2.0),
    ("train.early_stopping=null", ("train", "early_stopping"), None),
    ("train.metrics=[accuracy]", ("train", "metrics"), ["accuracy"]),
    ("seed=7", ("seed",), 7),
    ("schedule=", ("schedule",), None),
    ("schedule=Constant", ("schedule",), "Constant"),
    ("optimizer={type: Adagrad, lr: 1}", ("optimizer", "type"), "Adagrad"),
    ("schedule.after.min_lr=0.5", ("schedule", "after", "min_lr"), 0.5),
]


@pytest.mark.parametrize(("override", "path", "value"), VALUES, ids=[case[0] for case in VALUES])
def test_an_override_replaces_or_adds_a_value(load: Load, override: str, path: tuple[str, ...], value: object) -> None:
    resolved = load(overrides=(override,)).resolve()
    for part in path:
        resolved = resolved[part]
    assert resolved == value


def test_items_of_a_list_are_named_by_number_or_name(load: Load) -> None:
    by_number = load(overrides=("model.0.out_features=128", "model.1={type: LeakyReLU, negative_slope: 0.2}"))
    by_name = load("- {type", "- {name: hidden, type", overrides=("model.hidden.out_features=128",))
    for config in (by_number, by_name):
        model = config.build_model(2)
        assert isinstance(model, lf.Sequential)
        assert model[0].arguments["out_features"] == 128


def test_a_bare_type_takes_settings_by_override(load: Load) -> None:
    model = load("ReLU", "LeakyReLU", overrides=("model.1.negative_slope=0.3",)).build_model(2)
    assert isinstance(model, lf.Sequential)
    assert model[1].arguments == {"negative_slope": 0.3}


def test_a_section_that_the_file_leaves_out_is_begun(load: Load) -> None:
    text = "regularizer: {type: L2Regularizer, strength: 1e-4}\n"
    config = load(text, overrides=("regularizer.type=L1Regularizer", "regularizer.strength=2"))
    assert build(config.regularizer).arguments == {"strength": 2.0}


def test_later_overrides_win(load: Load) -> None:
    assert load(overrides=("seed=1", "seed=2")).seed == 2


BAD: list[tuple[str, str]] = [
    ("optimizer.lrr=1", "override optimizer.lrr=1: optimizer.lrr: unknown key, did you mean 'lr'?"),
    ("optimizer.lr=abc", "override optimizer.lr=abc: optimizer.lr: must be a number, not the text 'abc'"),
    ("optimizer.lr=-1", "override optimizer.lr=-1: optimizer.lr: SGD: lr is -1.0, expected a number in [0, inf)"),
    ("lr=1", "override lr=1: lr: unknown key, layerflow calls it 'optimizer.lr'"),
    ("trian.epochs=1", "override trian.epochs=1: trian: unknown key, did you mean 'train'?"),
    ("model.7.x=1", "override model.7.x=1: model: has no item '7'; items are numbered 0 to 2"),
    ("model.-1.x=1", "override model.-1.x=1: model: has no item '-1'; items are numbered 0 to 2"),
    ("optimizer.lr.x=1", "override optimizer.lr.x=1: optimizer.lr: is a single value, so it has no 'x' in it"),
    ("train.epochs", "override train.epochs: must be written path.to.key=value, such as optimizer.lr=0.05"),
    ("=1", "override =1: must be written path.to.key=value, such as optimizer.lr=0.05"),
    (f"{'a.' * 60}a=1", f"override {'a.' * 60}a=1: must be written path.to.key=value, such as optimizer.lr=0.05"),
    ("a..b=1", "override a..b=1: must be written path.to.key=value, such as optimizer.lr=0.05"),
    ("train.metrics=[accuracy", "override train.metrics=[accuracy: train.metrics: not valid YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence)"),
    ("train.metrics=[accuracy, acuracy]", "override train.metrics=[accuracy, acuracy]: train.metrics.1: there is no metric 'acuracy', did you mean 'accuracy'?"),
    ("seed=!!int 3", "override seed=!!int 3: seed: the tag 'tag:yaml.org,2002:int' has no meaning here: write the plain value"),
]  # fmt: skip


@pytest.mark.parametrize(("override", "first_line"), BAD, ids=[case[0] for case in BAD])
def test_a_problem_of_an_override_names_it(load: Load, override: str, first_line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(overrides=(override,))
    assert str(caught.value).splitlines()[0] == first_line


def test_the_caret_points_into_the_override(load: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        load(overrides=("train.metrics=[accuracy, acuracy]",))
    assert str(caught.value).splitlines()[1:] == [
        "    train.metrics=[accuracy, acuracy]",
        "                             ^",
    ]


def test_an_override_of_an_alias_leaves_the_original_alone(load: Load) -> None:
    config = load(
        "  - {type: Linear, out_features: 64}\n  - ReLU\n",
        "  - &l {type: Linear, out_features: 64}\n  - *l\n",
        overrides=("model.1.out_features=3",),
    )
    model = config.build_model(2)
    assert isinstance(model, lf.Sequential)
    assert [gate.arguments["out_features"] for gate in model] == [64, 3, 2]
