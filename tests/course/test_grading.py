"""Right solutions get full marks, wrong ones do not, and hostile ones get nothing."""

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from layerflow.cli import main
from layerflow.course.exercises import exercises
from layerflow.course.grade_formats import FORMATS
from layerflow.course.grading import Grade, grade

EXERCISES = exercises()
_SPEC = importlib.util.spec_from_file_location("solutions", Path(__file__).with_name("solutions.py"))
assert _SPEC is not None and _SPEC.loader is not None
solutions = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(solutions)


def graded(name: str, text: str, folder: Path, **settings: Any) -> Grade:
    file = folder / f"{name}.py"
    file.write_text(text, encoding="utf-8")
    return grade(file, EXERCISES[name], **({"seconds": 120.0} | settings))


def right(name: str) -> str:
    return str(solutions.solved(name, EXERCISES[name].handout()))


def test_there_are_more_than_thirty_exercises_with_hints_and_solutions() -> None:
    assert len(EXERCISES) >= 30
    assert set(EXERCISES) == set(solutions.SOLUTIONS)
    assert all(len(exercise.hints) >= 3 for exercise in EXERCISES.values())


@pytest.mark.parametrize("name", EXERCISES)
def test_a_right_solution_gets_full_marks_for_other_seeds_too(name: str, tmp_path: Path) -> None:
    for seed in (0, 11):
        found = graded(name, right(name), tmp_path, seed=seed)
        assert found.points == found.most > 0, FORMATS["text"](found)
        assert found.notes == []


@pytest.mark.parametrize("name", EXERCISES)
def test_the_hand_out_itself_gets_few_points(name: str, tmp_path: Path) -> None:
    found = graded(name, EXERCISES[name].handout(), tmp_path)
    assert found.points <= 0.4 * found.most


WRAP = """

_right = {target}.{method}


def _wrong(self, *given):
    {body}


{target}.{method} = _wrong
"""
FAULTS = {
    "twice as large": ("backward", "(d, *rest), learned = _right(self, *given)\n    return (None if d is None else 2 * d, *rest), {k: 2 * v for k, v in learned.items()}"),
    "of other sign": ("backward", "found, learned = _right(self, *given)\n    return tuple(None if d is None else -d for d in found), {k: -v for k, v in learned.items()}"),
    "nothing": ("backward", "found, learned = _right(self, *given)\n    return tuple(None if d is None else 0 * d for d in found), {k: 0 * v for k, v in learned.items()}"),
    "without the upstream gradient": ("backward", "return _right(self, given[0] * 0 + 1)"),
    "a little more": ("backward", "found, learned = _right(self, *given)\n    return tuple(None if d is None else d + 1e-3 for d in found), {k: v + 1e-3 for k, v in learned.items()}"),
    "one element wrong": ("backward", "found, learned = _right(self, *given)\n    first = [np.array(d) for d in (*found, *learned.values()) if d is not None][0]\n    values = [None if d is None else np.array(d) for d in found]\n    named = {k: np.array(v) for k, v in learned.items()}\n    target = next((v for v in (*values, *named.values()) if v is not None))\n    target.ravel()[-1] += 0.5\n    return tuple(values), named"),
    "the gradient changed": ("backward", "found = _right(self, *given)\n    given[0][...] = 0\n    return found"),
    "for the first call only": ("backward", "self.calls = getattr2(self)\n    found, learned = _right(self, *given)\n    return tuple(None if d is None else d * self.calls for d in found), learned"),
    "a raised error": ("backward", "raise ValueError('not ready')"),
    "nothing returned": ("backward", "_right(self, *given)"),
}  # fmt: skip
HELP = "\n\ndef getattr2(self):\n    return self.__dict__.get('calls', 0) + 1\n"


def faulty(name: str, fault: str) -> str:
    method, body = FAULTS[fault]
    text = right(name) + ("" if "import numpy" in right(name) else "\nimport numpy as np\n")
    if fault == "for the first call only":
        body = body.replace("getattr2(self)", "self.calls + 1 if hasattr(self, 'calls') else 1")
    return text + WRAP.format(target=EXERCISES[name].target, method=method, body=body)


GATES = [name for name, exercise in EXERCISES.items() if exercise.kind == "gate"]
SOME = ["multiply", "softmax_ce", "linear", "conv2d"]


def check_faults(name: str, folder: Path) -> None:
    for fault in FAULTS:
        found = graded(name, faulty(name, fault), folder, level="evidence")
        assert found.points < found.most, fault
        assert any(item.message for item in found.items), fault


@pytest.mark.parametrize("name", SOME)
def test_no_typical_wrong_solution_gets_full_marks(name: str, tmp_path: Path) -> None:
    check_faults(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", GATES)
def test_no_typical_wrong_solution_of_any_exercise_gets_full_marks(name: str, tmp_path: Path) -> None:
    check_faults(name, tmp_path)


def test_one_wrong_gradient_costs_its_own_points_only(tmp_path: Path) -> None:
    wrong = right("linear").replace("grad.T @ x", "2 * grad.T @ x")
    found = graded("linear", wrong, tmp_path)
    points = {item.name: (item.points, item.most) for item in found.items}
    assert points["gradient of weight"] == (0, 2)
    assert points["gradient of bias"] == points["gradient of input 1"] == (2, 2)
    assert any("weight" in note for note in found.notes)  # the diagnosis


def test_feedback_is_as_much_as_the_teacher_wants(tmp_path: Path) -> None:
    wrong = right("sigmoid").replace("(1 - y)", "(1 + y)")
    verdict = graded("sigmoid", wrong, tmp_path, level="verdict")
    assert {item.message for item in verdict.items} == {"", "not right yet"}
    evidence = graded("sigmoid", wrong, tmp_path, level="evidence")
    assert any("expected" in item.message for item in evidence.items)
    assert evidence.notes == []
    hint = graded("sigmoid", wrong, tmp_path, level="hint")
    assert hint.notes[-1] == f"hint: {EXERCISES['sigmoid'].hints[0]}"


def test_loops_cost_their_point_where_the_exercise_says_so(tmp_path: Path) -> None:
    looped = right("relu").replace(
        "return (grad * (x > 0),), {}", "for _ in range(1):\n            d = grad * (x > 0)\n        return (d,), {}"
    )
    found = graded("relu", looped, tmp_path)
    assert {item.name: item.message for item in found.items}["no Python loops"].endswith("a loop; work on whole arrays")
    assert found.points == found.most - 1


HOSTILE = {
    "an empty file": ("", "the file defines no ReLU"),
    "another class": ("class Relu:\n    pass\n", "the file defines no ReLU"),
    "a syntax error": ("class ReLU:\n    def forward(self, x)\n", "line 2: the file is not Python"),
    "a crash": ("import numpy as np\nclass ReLU:\n    pass\nraise SystemExit(3)\n", "SystemExit"),
    "an endless loop": ("class ReLU:\n    pass\nwhile True:\n    pass\n", "is there an endless loop?"),
    "too much memory": ("import numpy as np\nclass ReLU:\n    pass\nx = np.ones(1 << 33)\n", "MemoryError"),
    "another signature": ("import layerflow as lf\nclass ReLU(lf.Gate):\n    def forward(self, a, b):\n        return a\n    def backward(self, g):\n        return (g, g), {}\n", "forward"),
    "the built-in gate": ("import layerflow as lf\nReLU2 = lf.ReLU\nclass ReLU(ReLU2):\n    pass\n", "cannot be used in a solution"),
    "the built-in gate inside": ("import layerflow as lf\nclass ReLU(lf.Gate):\n    def forward(self, x):\n        self.g = lf.ReLU()\n        return self.g.forward(x)\n    def backward(self, d):\n        return self.g.backward(d)\n", "cannot be used in a solution"),
    "its module": ("from layerflow.gates.activation import ReLU as R\nclass ReLU(R):\n    pass\n", "a solution imports NumPy, layerflow"),
    "files": ("class ReLU:\n    pass\nopen('result.npz', 'wb').write(b'1')\n", "open() is not used in a solution"),
    "processes": ("import os\nclass ReLU:\n    pass\nos.fork()\n", "import os: a solution imports"),
    "the machinery": ("class ReLU:\n    x = ().__class__.__base__.__subclasses__()\n", ".__subclasses__ is not used in a solution"),
    "evaluated text": ("class ReLU:\n    pass\neval('1')\n", "eval() is not used in a solution"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_solution_gets_nothing_and_is_told_why(what: str, tmp_path: Path) -> None:
    text, message = HOSTILE[what]
    found = graded("relu", text, tmp_path, seconds=5.0 if what == "an endless loop" else 120.0)
    assert found.points <= 1, FORMATS["text"](found)
    assert message in FORMATS["text"](found)
    assert not (tmp_path / "result.npz").exists()


def test_endless_output_is_no_harm(tmp_path: Path) -> None:
    noisy = right("relu") + "\nprint('x' * 50_000_000)\n"
    found = graded("relu", noisy, tmp_path)
    assert found.points == found.most


def test_results_that_change_from_call_to_call_are_seen(tmp_path: Path) -> None:
    text = right("relu").replace("grad * (x > 0)", "grad * (x > 0) + np.random.normal() * 1e-12")
    found = graded("relu", text, tmp_path)
    assert {item.name: item.points for item in found.items}["same result twice"] == 0


# The command line ----------------------------------------------------------------------------------------------------


@pytest.fixture
def handed_in(tmp_path: Path, monkeypatch: Any) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["exercise", "sigmoid", "-o", "sigmoid.py"]) == 0
    file = tmp_path / "sigmoid.py"
    file.write_text(solutions.solved("sigmoid", file.read_text()))
    return file


def printed(capsys: Any, *words: str) -> str:
    capsys.readouterr()
    assert main(["grade", "sigmoid.py", "--exercise", "sigmoid", *words]) == 0
    return str(capsys.readouterr().out)


def test_every_format_is_what_its_reader_expects(handed_in: Path, capsys: Any, monkeypatch: Any) -> None:
    assert printed(capsys).startswith("sigmoid.py: sigmoid: 6 of 6 points")
    assert json.loads(printed(capsys, "--format", "json"))["points"] == 6
    gradescope = json.loads(printed(capsys, "--format", "gradescope"))
    assert gradescope["score"] == 6
    assert {"name", "score", "max_score", "status", "output"} <= gradescope["tests"][0].keys()
    monkeypatch.setenv("CLASSROOM", "cs")
    classroom = json.loads(printed(capsys, "--format", "classroom50"))
    assert (classroom["schema"], classroom["classroom"]) == ("classroom50/result/v1", "cs")
    assert classroom["max-score"] == sum(test["max-score"] for test in classroom["tests"])
    assert all(type(test["score"]) is int for test in classroom["tests"])
    otter = json.loads(printed(capsys, "--format", "otter"))
    assert all(case["passed"] for case in otter["test_file_results"][0]["test_case_results"])
    suite = ElementTree.fromstring(printed(capsys, "--format", "junit"))
    assert (suite.tag, suite.get("failures")) == ("testsuite", "0")


def test_exit_codes_and_hints(handed_in: Path, capsys: Any) -> None:
    handed_in.write_text(handed_in.read_text().replace("(1 - y)", "y"))
    assert main(["grade", "sigmoid.py", "--exercise", "sigmoid"]) == 0
    assert main(["grade", "sigmoid.py", "--exercise", "sigmoid", "--fail-under", "100"]) == 3
    assert main(["grade", "none.py", "--exercise", "sigmoid"]) == 4
    assert main(["grade", "sigmoid.py", "--exercise", "sigmoyd"]) == 2
    assert "no exercise 'sigmoyd', did you mean 'sigmoid'?" in capsys.readouterr().err
    assert main(["exercise", "sigmoid", "--hint", "2"]) == 0
    assert capsys.readouterr().out.strip() == "dy/dx = y (1 - y)."
    assert main(["exercise", "sigmoid", "--hint", "9"]) == 2


def test_the_list_has_one_line_for_each(capsys: Any) -> None:
    assert main(["exercise"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(EXERCISES) + 1


def test_packages_hold_what_graders_need(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["exercise", "relu", "--package", "gradescope", "--seed", "5", "-o", "relu.zip"]) == 0
    with zipfile.ZipFile("relu.zip") as archive:
        assert set(archive.namelist()) == {"setup.sh", "run_autograder"}
        assert "--exercise relu --seed 5 --format gradescope" in archive.read("run_autograder").decode()
        assert archive.getinfo("run_autograder").external_attr >> 16 == 0o755
    import yaml

    assert main(["exercise", "relu", "--package", "github", "-o", "grade.yaml"]) == 0
    steps = yaml.safe_load((tmp_path / "grade.yaml").read_text())["jobs"]["relu"]["steps"]
    assert any("layerflow grade relu.py --exercise relu" in step.get("run", "") for step in steps)
