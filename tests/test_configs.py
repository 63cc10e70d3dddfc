"""The shipped configurations: each trains, offline and as it stands, and gets where it says it gets."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from layerflow.cli import main
from layerflow.config import load_config
from layerflow.config.experiment import Experiment, read_parts

CONFIGS = Path(__file__).parents[1] / "configs"

TO_REACH = {
    "cancer_logistic": 0.96,
    "digits_cnn": 0.985,
    "digits_mlp": 0.975,
    "digits_residual": 0.95,
    "digits_softmax": 0.95,
    "digits_svm": 0.95,
    "moons_svm": 0.99,
    "spiral_sigmoid": 0.99,
    "wine_mlp": 0.97,
}


@pytest.mark.parametrize("name", TO_REACH)
def test_a_shipped_classifier_reaches_its_accuracy_on_the_held_back_part(name, tmp_path, capsys):
    assert main(["train", str(CONFIGS / f"{name}.yaml"), "--quiet", "--json", "--out", str(tmp_path)]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["test"]["accuracy"] >= TO_REACH[name]


def test_gradient_descent_reaches_the_least_squares_solution():
    experiment = Experiment(load_config(CONFIGS / "diabetes_linear.yaml"))
    experiment.fit()
    x, y, _ = experiment.data()
    solution, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)
    (layer,) = experiment.model
    np.testing.assert_allclose(np.append(layer.weight.value, layer.bias.value), solution, rtol=1e-5)


# Better than trigrams with added counts, 8.57, and than the last value, 33.0 (python scripts/baselines.py).
SEQUENCES = {"words_gru": ("perplexity", 7.8), "series_lstm": ("rmse", 27.0)}


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_shipped_model_of_sequences_beats_its_baseline(name, tmp_path, capsys):
    metric, most = SEQUENCES[name]
    assert main(["train", str(CONFIGS / f"{name}.yaml"), "--quiet", "--json", "--out", str(tmp_path)]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["test"][metric] <= most


def test_the_baselines_are_those_that_are_stated_here():
    spec = importlib.util.spec_from_file_location("baselines", CONFIGS.parent / "scripts" / "baselines.py")
    baselines = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(baselines)
    words, series = (read_parts(load_config(CONFIGS / f"{name}.yaml")) for name in SEQUENCES)
    assert baselines.ngrams(words)["3-grams"] == pytest.approx(8.57, abs=0.01)
    assert baselines.forecasts(series)["last value"] == pytest.approx(33.0, abs=0.1)


def test_every_shipped_configuration_is_tested_here():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {*TO_REACH, *SEQUENCES, "diabetes_linear"}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_configuration_begins_by_saying_what_it_shows_and_how_to_run_it(path):
    opening = path.read_text().split("data:")[0]
    assert "# Shows:" in opening
    assert f"# Run:   layerflow train configs/{path.name}" in opening
