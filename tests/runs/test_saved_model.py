"""Saved models: scores after loading are those from before, however model, loss and data are described."""

import json
from pathlib import Path

import numpy as np
import pytest

import layerflow as lf
from layerflow.config import Registry, load_config_text
from layerflow.config.experiment import Experiment
from layerflow.runs.files import read_archive, write_archive
from layerflow.runs.model import SavedModel, description_of, pack_model

DATA = Path(__file__).parents[2] / "data"

ROW = "model: [{type: Linear, out_features: 8}, ReLU, {type: Dropout, rate: 0.5}, Linear]"
GRAPH = """\
model:
  inputs: [x]
  constants: {scale: 77.0, mean: 152.0}
  gates:
    - {name: hidden, type: Linear, out_features: 10, inputs: x}
    - {name: bent, type: Tanh, inputs: hidden}
    - {name: joined, type: Add, inputs: [bent, x]}
    - {name: score, type: Linear, inputs: joined}
    - {name: stretched, type: Multiply, inputs: [score, scale]}
    - {name: value, type: Add, inputs: [stretched, mean]}
  output: value
"""
CASES = {
    "classes": ("iris", "species", f"{ROW}\nloss: SoftmaxCE\n"),
    "two classes": ("breast_cancer", "diagnosis", f"{ROW}\nloss: SigmoidCE\n"),
    "margins": ("iris", "species", f"{ROW}\nloss: {{type: MulticlassSVM, margin: 2}}\n"),
    "values": ("diabetes", "progression", f"{GRAPH}loss: Huber\n"),
    "float64": ("wine", "cultivar", f"{ROW}\nloss: SoftmaxCE\ndtype: float64\n"),
}


def trained(case: str, registry: Registry) -> Experiment:
    name, target, rest = CASES[case]
    text = f"data: {{source: {{type: CSV, path: {DATA}/{name}.csv, target: {target}}}, scale: Standard}}\n{rest}"
    text += "optimizer: {type: Adam, lr: 0.01}\ntrain: {epochs: 2}\n"
    experiment = Experiment(load_config_text(text, registry=registry))
    experiment.fit()
    return experiment


def save(experiment: Experiment, folder: Path) -> None:
    (folder / "model.npz").write_bytes(pack_model(experiment.model, description_of(experiment)))


@pytest.mark.parametrize("case", CASES)
def test_a_loaded_model_scores_as_the_trained_one(case: str, registry: Registry, tmp_path: Path) -> None:
    experiment = trained(case, registry)
    save(experiment, tmp_path)
    saved = SavedModel.load(tmp_path / "model.npz", registry)
    test = experiment.parts.test
    assert test is not None
    x, _ = experiment.parts.arrays(test, experiment.config.dtype)
    experiment.model.training = False
    scores = saved.scores(test.x)
    np.testing.assert_array_equal(scores, experiment.model.forward(x))
    assert scores.dtype == experiment.config.dtype
    assert saved.evaluate(scores, test.y) == experiment.evaluate(test)
    assert saved.classes == experiment.parts.preprocessing.classes
    assert type(saved.loss) is type(experiment.loss)
    predicted = saved.predict(test.x)
    assert predicted.shape == (len(test),)
    if saved.classes is not None:
        assert np.mean(predicted == np.array(saved.classes)[test.y]) == saved.evaluate(scores, test.y)["accuracy"]


def test_the_baseline_needs_no_training_data(registry: Registry, tmp_path: Path) -> None:
    experiment = trained("values", registry)
    save(experiment, tmp_path)
    train, test = experiment.parts.train, experiment.parts.test
    assert test is not None
    guess = np.mean(train.y)
    measured = SavedModel.load(tmp_path / "model.npz", registry).baseline(test.y)
    assert measured["mae"] == pytest.approx(np.mean(np.abs(test.y - guess)))


def test_probabilities_where_the_loss_has_none_are_refused(registry: Registry, tmp_path: Path) -> None:
    experiment = trained("margins", registry)
    save(experiment, tmp_path)
    saved = SavedModel.load(tmp_path / "model.npz", registry)
    with pytest.raises(lf.ConfigError, match="MulticlassSVM does not define probabilities"):
        saved.probabilities([[5.1, 3.5, 1.4, 0.2]])


def test_no_path_of_the_training_machine_is_in_the_file(registry: Registry) -> None:
    assert str(DATA) not in json.dumps(description_of(trained("classes", registry)))


@pytest.mark.parametrize(
    "key", ["model", "loss", "preprocessing", "task", "dtype", "targets", "reader", "name", "metrics"]
)
def test_a_description_with_a_part_missing_is_refused(key: str, registry: Registry, tmp_path: Path) -> None:
    experiment = trained("classes", registry)
    save(experiment, tmp_path)
    description, arrays = read_archive(tmp_path / "model.npz")
    del description[key]
    write_archive(tmp_path / "model.npz", description, arrays)
    with pytest.raises(lf.DataError, match="its description is damaged"):
        SavedModel.load(tmp_path / "model.npz", registry)


def test_python_loads_by_one_function(registry: Registry, tmp_path: Path) -> None:
    experiment = trained("classes", registry)
    save(experiment, tmp_path)
    model = lf.load_model(tmp_path)
    assert model.predict([[5.1, 3.5, 1.4, 0.2]]).tolist() == ["setosa"]
