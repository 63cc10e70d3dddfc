"""The shipped configurations: each trains, offline and as it stands, and gets where it says it gets."""

import gzip
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import layerflow as lf
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
SEQUENCES = {"words_gru": ("perplexity", 7.3), "series_lstm": ("rmse", 27.0)}


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


# Downloads and showcases ---------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    """Return an array of bytes in the IDX format."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def downloads(tmp_path):
    """The configurations beside small files of the same formats: pictures whose brightness tells the class."""
    rng = np.random.default_rng(0)
    for name in ("mnist", "fashion"):
        folder = tmp_path / "data" / "downloads" / name
        folder.mkdir(parents=True)
        for part, samples in (("train", 300), ("t10k", 60)):
            labels = np.arange(samples) % 10
            images = rng.integers(0, 20, (samples, 28, 28)) + 20 * labels[:, None, None]
            (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
            (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    folder = tmp_path / "data" / "downloads" / "cifar10"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        labels = np.arange(60) % 10
        pixels = rng.integers(0, 20, (60, 3072)) + 20 * labels[:, None]
        (folder / f"{name}.bin").write_bytes(np.column_stack([labels, pixels]).astype(np.uint8).tobytes())
    shutil.copytree(CONFIGS, tmp_path / "configs")
    return tmp_path / "configs" / "download"


@pytest.mark.parametrize("name", ["mnist_cnn", "fashion_cnn", "cifar10_cnn"])
def test_a_configuration_for_a_download_trains_on_files_of_the_same_format(name, downloads, tmp_path, capsys):
    words = ["train.epochs=1", "train.batch_size=60", "--quiet", "--json", "--out", str(tmp_path / "runs")]
    assert main(["train", str(downloads / f"{name}.yaml"), *words]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert np.isfinite(result["test"]["loss"])
    assert {path.stem for path in downloads.glob("*.yaml")} == {"mnist_cnn", "fashion_cnn", "cifar10_cnn"}


SMALLER = {
    "ntm_copy": ["data.source.samples=8", "data.source.length=2", "data.test=null"],
    "words_transformer": ["data.source.length=6"],
}


@pytest.mark.parametrize("path", sorted((CONFIGS / "showcase").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_showcase_takes_right_steps(path):
    words = ["dtype=float64", "train.batch_size=4", "train.epochs=1", *SMALLER[path.stem]]
    experiment = Experiment(load_config(path, words))
    experiment.prepare()
    trainer = experiment.trainer
    x, y = next(trainer.state.batches.epoch(0))
    tokens = experiment.parts.preprocessing.vocabulary is not None
    report = lf.check_gradients(trainer.state.objective, x.astype(int) if tokens else x, y, samples=2)
    assert report.ok, str(report)
    losses = [trainer.train_step(x, y)[0] for _ in range(12)]
    assert losses[-1] < losses[0]
