"""`layerflow generate`: text from a trained language model."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

CONFIG = """\
data: {source: {type: Text, path: words.txt, samples: %s, length: 8}, validation: null, test: 0.1}
model:
  - {type: Embedding, num_embeddings: %d, embedding_dim: 8}
  - {type: GRU, hidden_size: 16}
  - Linear
loss: {type: SoftmaxCE, ignore_index: %s}
optimizer: {type: Adam, lr: 0.03}
train: {epochs: 40, batch_size: 16, metrics: [perplexity]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("language")
    (folder / "words.txt").write_text("abab\nabc\nababab\n" * 30)
    (folder / "lines.yaml").write_text(CONFIG % ("lines", 5, 0))
    (folder / "windows.yaml").write_text(CONFIG % ("windows", 4, "null"))
    return folder


@pytest.fixture
def model(folder: Path, layerflow_command: Command, request: Any) -> Path:
    run = folder / "runs" / request.param / "001"
    if not run.exists():
        done = layerflow_command("train", folder / f"{request.param}.yaml", "--quiet", "--out", folder / "runs")
        assert done.code == 0, done.err
    return run


@pytest.mark.parametrize("model", ["lines"], indirect=True)
def test_lines_look_like_those_of_the_training_text(model: Path, layerflow_command: Command) -> None:
    done = layerflow_command("generate", model, "--samples", 20)
    assert done.code == 0
    lines = done.out.splitlines()
    assert len(lines) == 20
    assert sum(line in ("abab", "abc", "ababab") for line in lines) >= 16
    again = layerflow_command("generate", model, "--samples", 20)
    other = layerflow_command("generate", model, "--samples", 20, "--seed", 1)
    assert again.out == done.out != other.out


@pytest.mark.parametrize("model", ["lines"], indirect=True)
def test_a_prompt_is_continued_and_temperature_0_repeats_itself(model: Path, layerflow_command: Command) -> None:
    for options in (("--temperature", 0), ("--top-k", 1)):
        lines = layerflow_command("generate", model, "--prompt", "aba", "--samples", 5, *options).out.splitlines()
        assert len(set(lines)) == 1 and lines[0].startswith("aba")


@pytest.mark.parametrize("model", ["windows"], indirect=True)
def test_a_model_of_windows_goes_on_beyond_its_window(model: Path, layerflow_command: Command, tmp_path: Path) -> None:
    done = layerflow_command("generate", model, "--samples", 1, "--length", 60, "-o", tmp_path / "text.txt")
    text = (tmp_path / "text.txt").read_text()
    assert len(text) == 61 and set(text.split("\n")[1:-2]) & {"abab", "abc", "ababab"}
    assert "the model looks at the last 8 tokens only" in done.err


@pytest.mark.parametrize("model", ["lines"], indirect=True)
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--prompt", "aX"), 4, "the character 'X' is not in the vocabulary"),
        (("--temperature", -1), 2, "--temperature is -1.0, expected 0 or more"),
        (("--seed", -1), 2, "--seed is -1, expected 0 or more"),
    ],
)
def test_wrong_options_are_named(
    model: Path, layerflow_command: Command, options: tuple[Any, ...], code: int, message: str
) -> None:
    done = layerflow_command("generate", model, *options)
    assert (done.code, message in done.err) == (code, True), done.err


def test_another_kind_of_model_is_refused(trained: Path, layerflow_command: Command) -> None:
    done = layerflow_command("generate", trained)
    assert done.code == 2 and "no language model" in done.err


@pytest.mark.parametrize("model", ["lines"], indirect=True)
def test_eval_predict_and_verify_know_sequences(model: Path, layerflow_command: Command, folder: Path) -> None:
    assert "perplexity" in layerflow_command("eval", model).out
    predicted = layerflow_command("predict", model, folder / "words.txt")
    assert predicted.code == 0 and predicted.out.startswith("line,prediction")
    assert layerflow_command("verify", model).code == 0
    report = (model / "report.html").read_text()
    found = re.search(r"([0-9,]+) of ([0-9,]+) labels of the test part correct", report)
    assert found and int(found[1]) <= int(found[2])
    assert "pad" not in report.split("Worst predictions")[1].split("</table>")[0]
