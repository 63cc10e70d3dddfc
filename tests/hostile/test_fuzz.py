"""A bounded part of the experiment that docs/robustness.md describes, and the judge that it rests on."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz.py"
BLOCK = 50
ENDLESS = 120.0  # seconds of processor time that no case takes, even under coverage on a busy machine

CASES = [("configs", start) for start in range(0, 150, BLOCK)] + [("data", start) for start in range(0, 200, BLOCK)] + [
    ("models", start) for start in range(0, 200, BLOCK)
]  # fmt: skip


@pytest.mark.parametrize(("kind", "start"), CASES)
def test_mutations_break_no_law(
    kind: str, start: int, fuzzing: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    broken = {}
    for seed in range(start, start + BLOCK):
        case = fuzzing.make[kind](seed)
        outcome = fuzzing.run(case, tmp_path / "case", ENDLESS)
        if outcome.broken:
            broken[seed] = (case.what, case.words, outcome.broken, outcome.err[:500])
    assert not broken


@pytest.mark.slow
def test_the_whole_experiment_breaks_no_law() -> None:
    words = [sys.executable, str(SCRIPT), "--configs", "10000", "--data", "2000", "--models", "1000"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


ACCEPTED = b"data: {source: Moons}\nmodel: [Linear]\nloss: SoftmaxCE\noptimizer: {type: SGD, lr: 0.1}\n"
OUTCOMES = {
    "an undocumented exit code": ({}, {"code": 1, "err": "x"}, "exit code 1"),
    "a traceback": ({}, {"code": 2, "err": "Traceback (most recent call last)"}, "internals"),
    "a warning": ({}, {"code": 0, "err": "RuntimeWarning: overflow"}, "internals"),
    "a colour": ({}, {"code": 2, "err": "\x1b[31m"}, "control character"),
    "silence": ({}, {"code": 2}, "without a message"),
    "an endless line": ({}, {"code": 2, "err": "x" * 1000}, "a line of 1000"),
    "acceptance": ({"refused": frozenset({2})}, {"code": 0}, "expected [2]"),
    "another reason": ({"refused": frozenset({2}), "says": ("momentm",)}, {"code": 2, "err": "no"}, "names none"),
    "damage": ({"accepted_as": "right"}, {"code": 0, "out": "wrong"}, "damage was accepted"),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_a_broken_law_is_seen(case: str, fuzzing: SimpleNamespace, tmp_path: Path) -> None:
    of_case, of_outcome, broken = OUTCOMES[case]
    found = fuzzing.judge(fuzzing.Case("", {}, [], **of_case), fuzzing.Outcome(**of_outcome), tmp_path)
    assert any(broken in law for law in found)


def test_a_setting_that_is_ignored_is_seen(
    fuzzing: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layerflow.config import Config

    file = tmp_path / "c.yaml"
    file.write_bytes(ACCEPTED)
    assert fuzzing.ignored(file, []) == []
    whole = Config.resolve
    monkeypatch.setattr(
        Config, "resolve", lambda config: {key: value for key, value in whole(config).items() if key != "loss"}
    )
    assert fuzzing.ignored(file, []) == ["silently ignored: .loss = 'SoftmaxCE'"]


def test_a_file_that_is_written_is_seen(fuzzing: SimpleNamespace, tmp_path: Path) -> None:
    case = fuzzing.Case(
        "", {"c.yaml": ACCEPTED, "d.csv": b"a,b\n" + b"1,x\n2,y\n" * 9}, ["init", "d.csv", "-o", "new.yaml"]
    )
    assert any("written" in law for law in fuzzing.run(case, tmp_path / "case").broken)
