"""Right configurations give objects; wrong ones a list of problems, each with its place."""

# ruff: noqa: E501 - a table shows each expected line whole

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

import layerflow as lf
from layerflow.config import Config, Registry, load_config, load_config_text
from layerflow.config.elements import EarlyStoppingSection, TrainSection, build
from layerflow.errors import ConfigError
from layerflow.training.history import EarlyStopping
from layerflow.training.trainer import Trainer

Load = Callable[..., Config]

CASES: list[tuple[str, str, str]] = [
    # unknown keys: typing errors and foreign words
    ("momentum", "momentm", "c.yaml:12:33: optimizer.momentm: unknown key, did you mean 'momentum'?"),
    ("lr:", "learning_rate:", "c.yaml:12:24: optimizer.learning_rate: unknown key, layerflow calls it 'lr'"),
    ("momentum: 0.9", "nesterovs_momentum: true", "c.yaml:12:33: optimizer.nesterovs_momentum: unknown key, layerflow calls it 'nesterov'"),
    ("epochs: 5", "max_epochs: 5", "c.yaml:15:3: train.max_epochs: unknown key, layerflow calls it 'epochs'"),
    ("epochs: 5", "n_epochs: 5", "c.yaml:15:3: train.n_epochs: unknown key, layerflow calls it 'epochs'"),
    ("epochs: 5", "minibatch_size: 5", "c.yaml:15:3: train.minibatch_size: unknown key, layerflow calls it 'batch_size'"),
    ("seed: 0", "max_epochs: 3", "c.yaml:1:1: max_epochs: unknown key, layerflow calls it 'train.epochs'"),
    ("seed: 0", "hidden_layer_sizes: [3]", "c.yaml:1:1: hidden_layer_sizes: unknown key, layerflow calls it 'model'"),
    ("seed: 0", "imports: [my_layers.py]", "c.yaml:1:1: imports: unknown key; a configuration imports no code: use --import FILE on the command line"),
    ("seed: 0", "sed: 0", "c.yaml:1:1: sed: unknown key, did you mean 'seed'?"),
    ("out_features", "units", "c.yaml:7:20: model.0.units: unknown key, layerflow calls it 'out_features'"),
    ("strength", "alpha", "c.yaml:11:36: regularizer.alpha: unknown key, layerflow calls it 'strength'"),
    ("  test", "  test_size", "c.yaml:4:3: data.test_size: unknown key, layerflow calls it 'test'"),
    ("momentum: 0.9", "<<: 1", "c.yaml:12:33: optimizer.<<: unknown key; known keys: type, lr, momentum, dampening, nesterov, weight_decay, groups"),
    ("ReLU", "{type: ReLU, slope: 1}", "c.yaml:8:18: model.1.slope: unknown key; known keys: type, name"),
    # unknown types
    ("type: Linear", "type: Dense", "c.yaml:7:12: model.0.type: unknown gate 'Dense', layerflow calls it 'Linear'. Known: "),
    ("ReLU", "Relu", "c.yaml:8:5: model.1: unknown gate 'Relu', did you mean 'ReLU'? Known: "),
    ("ReLU", "SoftmaxCE", "c.yaml:8:5: model.1: unknown gate 'SoftmaxCE': it is a loss"),
    ("SoftmaxCE", "ReLU", "c.yaml:10:7: loss: unknown loss 'ReLU': it is a gate"),
    ("SoftmaxCE", "CrossEntropyLoss", "c.yaml:10:7: loss: unknown loss 'CrossEntropyLoss', layerflow calls it 'SoftmaxCE'. Known: "),
    ("Cosine", "{type: Cosin}", "c.yaml:13:51: schedule.after.type: unknown schedule 'Cosin', did you mean 'Cosine'? Known: "),
    ("type: SGD, lr", "typ: SGD, lr", "c.yaml:12:12: optimizer: the type of the optimizer is missing, did you mean 'type' instead of 'typ'?"),
    ("type: SGD", "type: 3", "c.yaml:12:19: optimizer.type: must be the name of an optimizer, not 3"),
    ("- ReLU", "- [ReLU]", "c.yaml:8:5: model.1: must be a gate, such as {type: Add}, not a list of 1"),
    ("out_features: 64", "out_features: 64, init: hee", "c.yaml:7:44: model.0.init: unknown initializer 'hee', did you mean 'he'? Known: "),
    # what is missing
    ("lr: 0.1, ", "", "c.yaml:12:12: optimizer: SGD needs 'lr' (a number)"),
    (", out_features: 64", "", "c.yaml:7:5: model.0: Linear needs 'out_features' (an integer)"),
    ("loss: SoftmaxCE\n", "", "c.yaml:1:1: the configuration needs 'loss' (a loss)"),
    ("path: data/digits.csv, ", "", "c.yaml:3:11: data.source: CSV needs 'path' (a path)"),
    # wrong values
    ("lr: 0.1", "lr: '0.1'", "c.yaml:12:28: optimizer.lr: must be a number, not the text '0.1'"),
    ("lr: 0.1", "lr: true", "c.yaml:12:28: optimizer.lr: must be a number, not true"),
    ("lr: 0.1", "lr: -1", "c.yaml:12:28: optimizer.lr: SGD: lr is -1.0, expected a number in [0, inf)"),
    ("lr: 0.1", "lr: [0.1]", "c.yaml:12:28: optimizer.lr: must be a number, not a list of 1"),
    ("lr: 0.1", "lr:", "c.yaml:12:27: optimizer.lr: must be a number, not null"),
    ("momentum: 0.9", "nesterov: no", "c.yaml:12:43: optimizer.nesterov: must be true or false, not the text 'no'"),
    ("momentum: 0.9", "nesterov: true", "c.yaml:12:43: optimizer.nesterov: SGD: nesterov needs momentum > 0 and dampening 0, got 0.0 and 0.0"),
    ("type: SGD, lr: 0.1, momentum: 0.9", "type: Adam, betas: [0.9]", "c.yaml:12:32: optimizer.betas: must be a list of 2 (a number, a number), not a list of 1"),
    ("type: SGD, lr: 0.1, momentum: 0.9", "type: Adam, betas: [0.9, x]", "c.yaml:12:38: optimizer.betas.1: must be a number, not the text 'x'"),
    ("64}", "64.0}", "c.yaml:7:34: model.0.out_features: must be an integer, not 64.0"),
    ("64}", "0}", "c.yaml:7:34: model.0.out_features: Linear: out_features must be an integer, 1 or more, not 0"),
    ("16}", "0}", "c.yaml:5:29: data.scale.by: Divide: 'by' must be a finite number other than 0, got 0.0"),
    ("test: 0.2", "test: 1.5", "c.yaml:4:9: data.test: must be less than 1, not 1.5"),
    ("test: 0.2", "test: [1]", "c.yaml:4:9: data.test: must be a number, a reader ({type: ...}) or null, not a list of 1"),
    ("test: 0.2", "test: x", "c.yaml:4:9: data.test: unknown reader 'x'. Known: "),
    ("target: digit", "target: digit, task: clasification", "c.yaml:3:67: data.source.task: must be 'classification', 'regression' or null, not the text 'clasification', did you mean 'classification'?"),
    ("target: digit", "target: digit, features: [a, 3]", "c.yaml:3:75: data.source.features.1: must be text, not 3"),
    ("data/digits.csv", "3", "c.yaml:3:29: data.source.path: must be a path, not 3"),
    ("epochs: 5", "epochs: 0", "c.yaml:15:11: train.epochs: must be greater than 0, not 0"),
    ("epochs: 5", "epochs: 1e3", "c.yaml:15:11: train.epochs: must be an integer, not 1000.0"),
    ("epochs: 5", "clip_norm: .nan", "c.yaml:15:14: train.clip_norm: must be greater than 0, not nan"),
    ("seed: 0", "seed: -1", "c.yaml:1:7: seed: must be greater than or equal to 0, not -1"),
    ("seed: 0", "dtype: float16", "c.yaml:1:8: dtype: must be 'float32' or 'float64', not the text 'float16', did you mean 'float64'?"),
    ("accuracy", "acuracy", "c.yaml:17:13: train.metrics.0: there is no metric 'acuracy', did you mean 'accuracy'?"),
    ("val_loss", "validation_loss", "c.yaml:16:28: train.early_stopping.metric: there is no metric 'validation_loss', layerflow calls it 'val_loss'"),
    ("accuracy", "recall_x", "c.yaml:17:13: train.metrics.0: there is no metric 'recall_x', did you mean 'recall'?"),
    ("val_loss", "val_f1_x", "c.yaml:16:28: train.early_stopping.metric: there is no metric 'val_f1_x', did you mean 'val_f1'?"),
    ("val_loss", "val_los", "c.yaml:16:28: train.early_stopping.metric: there is no metric 'val_los', did you mean 'val_loss'?"),
    ("{type: Divide, by: 16}", "standard", "c.yaml:5:10: data.scale: must be a scaler ({type: ...}), 'none' or null, not the text 'standard', did you mean 'Standard'?"),
    ("  test: 0.2", "  stratify: yes", "c.yaml:4:13: data.stratify: must be true, false or null, not the text 'yes'"),
    ("{metric: val_loss, patience: 4}", "true", "c.yaml:16:19: train.early_stopping: must be a mapping with the keys metric, patience, min_delta, not true"),
    # the shape of the whole
    ("data:\n  source:", "data: [1]\nx:\n  source:", "c.yaml:2:7: data: must be a mapping with the keys source, test, validation, stratify, scale, augment, not a list of 1"),
    ("  - {type: Linear, out_features: 64}\n  - ReLU\n  - {type: Linear}\n", "  {type: Linear}\n", "c.yaml:7:3: model: must be a list of gates, or a graph {inputs: [x], gates: [...], output: name}, not a mapping: begin the line with '- '"),
    ("  - {type: Linear, out_features: 64}\n  - ReLU\n  - {type: Linear}\n", "  []\n", "c.yaml:7:3: model: must be a list of at least one gate, such as [{type: Linear}], not an empty list"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "first_line"), CASES, ids=[(case[1] or case[0])[:40] for case in CASES])
def test_a_problem_is_reported_with_its_place_and_remedy(load: Load, old: str, new: str, first_line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(old, new)
    reported = str(caught.value).splitlines()[0]
    assert reported.startswith(first_line) if first_line.endswith(": ") else reported == first_line


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(valid: str, registry: Registry) -> None:
    broken = valid.replace("momentum", "momentm").replace("epochs: 5", "epochs: five").replace("64", "6.4")
    with pytest.raises(ConfigError) as caught:
        load_config_text(broken, registry=registry, name="c.yaml")
    assert str(caught.value) == "\n".join(
        [
            "c.yaml:7:34: model.0.out_features: must be an integer, not 6.4",
            "      - {type: Linear, out_features: 6.4}",
            "                                     ^",
            "c.yaml:12:33: optimizer.momentm: unknown key, did you mean 'momentum'?",
            "    optimizer: {type: SGD, lr: 0.1, momentm: 0.9}",
            "                                    ^",
            "c.yaml:15:11: train.epochs: must be an integer, not the text 'five'",
            "      epochs: five",
            "              ^",
        ]
    )
    assert caught.value.problems[1] == {
        "source": "c.yaml",
        "line": 12,
        "column": 33,
        "setting": "optimizer.momentm",
        "message": "unknown key, did you mean 'momentum'?",
    }


def test_a_key_that_is_written_twice_is_reported_with_the_other_problems(load: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        load("epochs: 5", "epochs: five\n  epochs: 6")
    assert str(caught.value).splitlines()[::3] == [
        "c.yaml:15:11: train.epochs: must be an integer, not the text 'five'",
        "c.yaml:16:3: 'epochs' is written twice (first in line 15): keep one of them",
    ]


def test_the_known_types_are_listed_once_for_all_unknown_ones(valid: str, registry: Registry) -> None:
    unknown = "".join(f"  - {name}\n" for name in ("Relu", "Dense", "Softmux", "Xyzzy", "Tanhh", "Conv9d"))
    with pytest.raises(ConfigError) as caught:
        load_config_text(valid.replace("  - ReLU\n", unknown), registry=registry, name="c.yaml")
    reported = str(caught.value)
    assert reported.count("unknown gate") == 6
    assert reported.count("Known: ") == 1
    assert "c.yaml:9:5: model.2: unknown gate 'Dense', layerflow calls it 'Linear'.\n    " in reported
    assert all("Known: " in str(problem["message"]) for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a/...yaml", "yaml"),
        ("..", "config"),
        ("..yaml", "yaml"),
        (".yaml", "yaml"),
        ("..x.yaml", "x"),
        ("x.y.yaml", "x.y"),
    ],
)
def test_the_name_of_the_runs_never_leaves_a_folder(file: str, name: str, valid: str, registry: Registry) -> None:
    assert load_config_text(valid, registry=registry, name=file).name == name


@pytest.mark.parametrize("text", ["- 1", "text", "3", "null"])
def test_a_file_without_sections_says_what_a_configuration_has(text: str, registry: Registry) -> None:
    with pytest.raises(
        ConfigError, match=r"^c.yaml:1:1: must be a mapping with the sections seed, dtype, data, blocks, model"
    ):
        load_config_text(text, registry=registry, name="c.yaml")


def test_every_part_is_built(load: Load) -> None:
    config = load()
    model = config.build_model(10)
    assert isinstance(model, lf.Sequential)
    assert [type(gate).__name__ for gate in model] == ["Linear", "ReLU", "Linear"]
    assert model[2].arguments == {"out_features": 10}
    assert type(build(config.loss)).__name__ == "SoftmaxCE"
    assert build(config.regularizer).arguments == {"strength": 1e-4}
    optimizer, schedule = build(config.optimizer), build(config.schedule)
    assert (type(optimizer).__name__, optimizer.lr) == ("SGD", 0.1)
    assert schedule is not None
    assert [type(schedule).__name__, type(vars(schedule)["after"]).__name__] == ["Warmup", "Cosine"]
    assert type(build(config.data.source)).__name__ == "CSV"
    assert (build(config.data.test), build(config.data.validation)) == (0.2, 0.1)
    assert type(build(config.data.scaler)).__name__ == "Divide"
    assert (config.seed, config.dtype, config.train.epochs, config.train.batch_size) == (0, "float32", 5, 32)
    assert config.train.early_stopping is not None
    assert config.train.early_stopping.patience == 4


def test_what_is_left_out_has_a_default(load: Load) -> None:
    config = load("regularizer: {type: L2Regularizer, strength: 1e-4}\n")
    assert config.regularizer is None
    assert load("schedule: {type: Warmup, epochs: 3, after: Cosine}\n").schedule is None
    assert load("{type: Divide, by: 16}", "none").data.scaler is None
    assert load("test: 0.2", "test: null").data.test is None


def test_a_part_may_have_a_reader_of_its_own(load: Load) -> None:
    reader = build(load("test: 0.2", "test: {type: CSV, path: t.csv, target: digit}").data.test)
    assert type(reader).__name__ == "CSV"


def test_only_the_last_width_may_be_left_open(load: Load) -> None:
    config = load()
    with pytest.raises(
        ConfigError,
        match=r"^c.yaml:9:5: model.2: Linear needs 'out_features': only the last width of a model is inferred",
    ):
        config.build_model()
    fixed = load("{type: Linear}", "{type: Linear, out_features: 3}").build_model(10)
    assert isinstance(fixed, lf.Sequential)
    assert fixed[2].arguments["out_features"] == 3


def test_several_regularizers_are_a_list(load: Load) -> None:
    config = load(
        "{type: L2Regularizer, strength: 1e-4}",
        "[{type: L2Regularizer, strength: 1}, {type: L1Regularizer, strength: 2}]",
    )
    assert [type(gate).__name__ for gate in build(config.regularizer)] == ["L2Regularizer", "L1Regularizer"]


def test_initializers_are_elements_or_their_names(load: Load) -> None:
    by_name = load("out_features: 64", "out_features: 64, init: xavier").build_model(2)
    by_type = load("out_features: 64", "out_features: 64, init: {type: Normal, std: 0.5}").build_model(2)
    assert isinstance(by_name, lf.Sequential)
    assert isinstance(by_type, lf.Sequential)
    assert repr(by_name[0].arguments["init"]) == "Xavier()"
    assert repr(by_type[0].arguments["init"]) == "Normal(std=0.5)"


def test_paths_start_at_the_folder_of_the_file(tmp_path: Path, valid: str, registry: Registry) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "c.yaml").write_text(valid.replace("data/digits.csv", "../data/digits.csv"))
    reader = build(load_config(tmp_path / "configs" / "c.yaml", registry=registry).data.source)
    assert vars(reader)["path"] == str(tmp_path / "data" / "digits.csv")


def test_the_resolved_configuration_loads_from_the_run_folder(tmp_path: Path, valid: str, registry: Registry) -> None:
    (tmp_path / "c.yaml").write_text(valid)
    config = load_config(tmp_path / "c.yaml", ["optimizer.lr=0.05"], registry, seed=7)
    folder = tmp_path / "runs" / "c" / "001"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.to_yaml(folder))
    again = load_config(folder / "config.yaml", registry=registry)
    assert again.resolve() == config.resolve()
    assert again.to_yaml(folder) == config.to_yaml(folder)
    assert (again.seed, build(again.optimizer).lr) == (7, 0.05)
    resolved = again.resolve()
    assert resolved["optimizer"] == {
        "type": "SGD", "lr": 0.05, "momentum": 0.9, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0,
        "groups": [],
    }  # fmt: skip
    assert resolved["data"]["source"]["path"] == str(tmp_path / "data" / "digits.csv")


def test_the_train_section_has_the_names_and_defaults_of_the_trainer() -> None:
    trainer = inspect.signature(Trainer).parameters
    section = {item.name: item.default for item in dataclasses.fields(TrainSection) if item.name != "checkpoint"}
    assert section == {name: trainer[name].default for name in section}
    assert dataclasses.asdict(EarlyStoppingSection()) == dataclasses.asdict(EarlyStopping())
