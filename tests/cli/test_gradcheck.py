"""`layerflow gradcheck`: built-in gates, a person's own, and configurations; what it says when something is wrong."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from layerflow.gates import GATES

ROOT = Path(__file__).parents[2]

LAYERS = """\
import numpy as np
import layerflow as lf

class Swish(lf.Gate):
    def forward(self, x):
        s = 1 / (1 + np.exp(-x))
        self.save(x, s)
        return x * s

    def backward(self, grad):
        x, s = self.saved
        return (grad * (s + x * s * (1 - s)),), {}

    @classmethod
    def example(cls):
        return cls(), np.random.default_rng(0).normal(size=(5, 4))
"""

FAULTY = """
class Halved(Swish):
    def backward(self, grad):
        (dx,), _ = super().backward(grad)
        return (dx / 2,), {}
"""

RAISING = """
class Raising(Swish):
    def backward(self, grad):
        return (grad.nothing_like_this,), {}
"""

PLAIN = """
class Plain(lf.Gate):
    def forward(self, x):
        self.save(x)
        return np.tanh(x)

    def backward(self, grad):
        (x,) = self.saved
        return (grad * (1 - np.tanh(x) ** 2),), {}
"""

NEEDS_ARGUMENT = """
class Wide(lf.Gate):
    def __init__(self, width):
        self.w = lf.Parameter(np.ones(width))

    def forward(self, x):
        return x * self.w.value

    def backward(self, grad):
        return (grad * self.w.value,), {}
"""

LOSS = """\
import numpy as np
import layerflow as lf

class MyLoss(lf.Gate):
    def forward(self, scores, labels):
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        self.save(p, labels)
        return -np.log(p[np.arange(len(p)), labels]).mean()

    def backward(self, grad):
        p, labels = self.saved
        return (grad * (p - np.eye(p.shape[1])[labels]) / len(p), None), {}
"""

REGRESSION = """\
import numpy as np
import layerflow as lf

class Squares(lf.Gate):
    def forward(self, p, t):
        self.save(p - t)
        return np.mean((p - t) ** 2)

    def backward(self, grad):
        (d,) = self.saved
        return (2 * grad * d / d.size, -2 * grad * d / d.size), {}
"""

MISFIT = """\
import numpy as np
import layerflow as lf

class Misfit(lf.Gate):
    def __init__(self):
        self.W = lf.Parameter(np.ones((3, 2)))

    def forward(self, x):
        self.save(x)
        return x @ self.W.value

    def backward(self, grad):
        return (grad @ self.W.value.T,), {"W": self.saved[0].T @ grad}
"""

ENDLESS = """
class Endless(lf.Gate):
    def forward(self, x):
        while True:
            pass

    def backward(self, grad):
        return (grad,), {}
"""

TWICE = """\
import numpy as np
import layerflow as lf

class MyReLU(lf.Gate):
    def forward(self, x):
        self.save(x)
        return 2 * np.maximum(x, 0)

    def backward(self, grad):
        return (2 * grad * (self.saved[0] > 0),), {}
"""

CONFIG = f"""\
data:
  source: {{type: CSV, path: {ROOT}/data/iris.csv, target: species}}
  scale: Standard
model: [{{type: Linear, out_features: 6}}, {{type: Dropout, rate: 0.2}}, Tanh, Linear]
loss: SoftmaxCE
regularizer: {{type: L2Regularizer, strength: 1e-3}}
optimizer: {{type: SGD, lr: 0.1}}
train: {{epochs: 5, batch_size: 16}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Write a file and return its path."""

    def write(name: str, *parts: str) -> Path:
        path = tmp_path / name
        path.write_text("".join(parts))
        return path

    return write


@pytest.mark.parametrize(
    "named", [["Linear", "ReLU", "SoftmaxCE", "Dropout"], pytest.param([], marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_built_in_gates_are_right(named: list[str], layerflow_command: Any) -> None:
    """All of them also one by one, in tests/gates/test_laws.py."""
    outcome = layerflow_command("gradcheck", *named)
    names = set(named) or set(GATES)
    assert outcome.code == 0, outcome.out
    lines = outcome.out.splitlines()
    columns = (
        "gate",
        "inputs and parameters",
        "cases",
        "worst relative error",
        "kinks",
        "not measurable",
        "seconds",
        "verdict",
    )
    assert " ".join(lines[0].split()) == " ".join(columns)
    assert {line.split()[0] for line in lines[1 : len(names) + 1]} == names
    assert f"all {len(names)} right" in lines[-1]
    assert "\033" not in outcome.out


def test_named_gates_are_checked_alone(layerflow_command: Any) -> None:
    outcome = layerflow_command("gradcheck", "Linear", "ReLU")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()[1:3]] == ["Linear", "ReLU"]
    assert "weight" in outcome.out


def test_json_is_for_machines(layerflow_command: Any) -> None:
    outcome = layerflow_command("gradcheck", "Tanh", "--json", "--seed", 3)
    (row,) = json.loads(outcome.out)
    assert row["name"] == "Tanh"
    assert row["ok"] is True
    assert {report["seed"] for report in row["reports"]} == {3}


def test_a_terminal_gets_colour_and_a_pipe_does_not(layerflow_command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\033[32mTanh" in layerflow_command("gradcheck", "Tanh").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in layerflow_command("gradcheck", "Tanh").out


def test_own_gates_are_found_and_checked_on_their_example(layerflow_command: Any, file: Any) -> None:
    outcome = layerflow_command("gradcheck", file("layers.py", LAYERS))
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[1].startswith("Swish")


def test_a_wrong_gradient_is_exit_code_3_with_a_diagnosis(layerflow_command: Any, file: Any) -> None:
    outcome = layerflow_command("gradcheck", file("layers.py", LAYERS, FAULTY))
    assert outcome.code == 3
    assert "Halved.x: analytic = 1/2 x numeric everywhere" in outcome.out
    assert "1 of 2 right" in outcome.out


def test_a_gate_that_raises_is_shown_with_its_own_line(layerflow_command: Any, file: Any) -> None:
    path = file("layers.py", LAYERS, RAISING)
    outcome = layerflow_command("gradcheck", path)
    assert outcome.code == 3
    line = path.read_text().splitlines().index("        return (grad.nothing_like_this,), {}") + 1
    assert f"{path}, line {line}, in backward: return (grad.nothing_like_this,), {{}}" in outcome.out
    assert "Traceback" not in outcome.out + outcome.err


def test_a_gate_without_example_is_checked_on_random_input_or_a_given_shape(layerflow_command: Any, file: Any) -> None:
    path = file("layers.py", LAYERS, PLAIN)
    for options, shape in (((), "x (5, 4)"), (("--shape", "3,2"), "x (3, 2)")):
        outcome = layerflow_command("gradcheck", path, *options)
        assert outcome.code == 0, outcome.out
        assert shape in next(line for line in outcome.out.splitlines() if line.startswith("Plain"))


def test_what_cannot_be_made_is_explained_and_the_rest_is_checked(layerflow_command: Any, file: Any) -> None:
    outcome = layerflow_command("gradcheck", file("layers.py", LAYERS, PLAIN, NEEDS_ARGUMENT))
    assert outcome.code == 2
    lines = outcome.out.splitlines()
    assert [line.split()[-1] for line in lines[1:4]] == ["ok", "ok", "checked"]
    assert "how should Wide be checked? It has no example()" in outcome.out
    assert "def example(cls):" in outcome.out
    assert "--shape 5,4" in outcome.out


def test_a_gate_that_fails_outweighs_one_that_could_not_be_checked(layerflow_command: Any, file: Any) -> None:
    assert layerflow_command("gradcheck", file("layers.py", LAYERS, FAULTY, NEEDS_ARGUMENT)).code == 3


@pytest.mark.parametrize("shapes", [(), ("--shape", "6,3", "--shape", "6:3")])
def test_a_loss_gets_labels(layerflow_command: Any, file: Any, shapes: Any) -> None:
    outcome = layerflow_command("gradcheck", file("loss.py", LOSS), *shapes)
    assert outcome.code == 0, outcome.out
    assert f"scores {'(6, 3)' if shapes else '(5, 4)'}" in outcome.out


def test_a_regression_loss_gets_real_targets(layerflow_command: Any, file: Any) -> None:
    outcome = layerflow_command("gradcheck", file("loss.py", REGRESSION))
    assert outcome.code == 0, outcome.out
    assert "p (5, 4), t (5, 4)" in outcome.out


def test_a_product_of_shapes_that_do_not_fit_shows_the_line_and_both_shapes(layerflow_command: Any, file: Any) -> None:
    path = file("layers.py", MISFIT)
    outcome = layerflow_command("gradcheck", path, "--shape", "5,4")
    assert outcome.code == 3
    assert "the shapes (5, 4) and (3, 2) of x @ self.W.value do not fit" in outcome.out
    assert f"{path}, line 10, in forward: return x @ self.W.value" in outcome.out
    assert "gufunc" not in outcome.out


def test_a_gate_that_takes_too_long_is_given_up_and_the_rest_is_checked(layerflow_command: Any, file: Any) -> None:
    outcome = layerflow_command("gradcheck", file("layers.py", LAYERS, ENDLESS), "--timeout", 1)
    assert outcome.code == 2
    assert "Endless: stopped after 1 s (--timeout)" in outcome.out
    assert outcome.out.splitlines()[1].endswith("ok")


def test_a_consistent_but_wrong_gate_is_found_against_a_built_in_one(layerflow_command: Any, file: Any) -> None:
    path = file("layers.py", TWICE)
    assert layerflow_command("gradcheck", path).code == 0
    outcome = layerflow_command("gradcheck", path, "--against", "ReLU")
    assert outcome.code == 3
    assert "MyReLU differs from ReLU(): forward gives" in outcome.out
    unknown = layerflow_command("gradcheck", path, "--against", "RelU")
    assert "no built-in gate has this name, did you mean 'ReLU'?" in unknown.out


@pytest.mark.parametrize("after", [0, 12])
def test_a_configuration_is_checked_as_a_whole(layerflow_command: Any, file: Any, after: int) -> None:
    path = file("iris.yaml", CONFIG)
    outcome = layerflow_command("gradcheck", path, "--after", after, "--json")
    assert outcome.code == 0, outcome.out
    ((report,),) = [row["reports"] for row in json.loads(outcome.out)]
    names = [tensor["name"] for tensor in report["tensors"]]
    assert names == ["x", "model.0.weight", "model.0.bias", "model.3.weight", "model.3.bias"]
    assert "SoftmaxCE on one batch of 16" in report["gate"]
    assert ("after 12 steps" in report["gate"]) == (after == 12)


def test_training_first_changes_what_is_checked(layerflow_command: Any, file: Any) -> None:
    path = file("iris.yaml", CONFIG)
    first, after = (layerflow_command("gradcheck", path, "--after", steps, "--json").out for steps in (0, 3))
    worst = [json.loads(out)[0]["reports"][0]["tensors"][1]["worst"]["analytic"] for out in (first, after)]
    assert worst[0] != worst[1]


def test_a_guilty_gate_of_a_configuration_is_named(layerflow_command: Any, file: Any) -> None:
    layers = file("layers.py", LAYERS, FAULTY)
    config = file("iris.yaml", CONFIG.replace("Tanh", "Halved"))
    outcome = layerflow_command("gradcheck", config, "--import", layers)
    assert outcome.code == 3
    assert "with the inputs it received in the model, is 'model.2'" in outcome.out
    assert "Halved.x: analytic = 1/2 x numeric" in outcome.out


BAD = {
    "an unknown gate": (["Relu"], 2, "no built-in gate is called 'Relu', did you mean 'ReLU'?"),
    "a missing file": (["nowhere.py"], 2, "nowhere.py"),
    "a missing configuration": (["nowhere.yaml"], 2, "nowhere.yaml"),
    "settings alone": (["optimizer.lr=3"], 2, "optimizer.lr=3"),
    "settings for a gate": (["ReLU", "optimizer.lr=3"], 2, "go with a configuration"),
    "a shape in words": (["ReLU", "--shape", "five"], 2, "a shape is written as integers"),
    "no samples": (["ReLU", "--samples", "0"], 2, "positive integer"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_a_clear_message(layerflow_command: Any, case: str) -> None:
    words, code, message = BAD[case]
    outcome = layerflow_command("gradcheck", *words)
    assert outcome.code == code
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_configuration_whose_data_is_missing_is_a_data_error(layerflow_command: Any, file: Any) -> None:
    outcome = layerflow_command("gradcheck", file("iris.yaml", CONFIG.replace("iris.csv", "nowhere.csv")))
    assert outcome.code == 4
    assert "nowhere.csv" in outcome.err


def test_a_file_without_gates_is_named(layerflow_command: Any, file: Any) -> None:
    outcome = layerflow_command("gradcheck", file("empty.py", "x = 1\n"))
    assert outcome.code == 2
    assert "has no gate" in outcome.err


def test_the_script_is_the_same_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gradcheck.py", "Add"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(ROOT / "scripts" / "gradcheck.py"), run_name="__main__")
    assert exit_.value.code == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("Add")
