"""Rare classes count as much as frequent ones with `class_weight="balanced"`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.cli import main

RNG = np.random.default_rng(0)


def rare(samples: int = 600, share: float = 0.06) -> tuple[Any, Any]:
    y = (RNG.random(samples) < share).astype(int)
    return RNG.normal(size=(samples, 3)) + y[:, None], y


@pytest.mark.parametrize("make", [lf.SoftmaxCE, lf.SigmoidCE, lf.MulticlassSVM, lf.FocalCE])
def test_the_weights_are_those_of_scikit_learn(make: Any) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    x, y = rare()
    loss = make(class_weight="balanced")
    trainer = lf.Trainer(lf.Linear(1 if make is lf.SigmoidCE else 2), loss, lf.SGD(0.1), epochs=1)
    trainer.fit(x, y)
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=y)
    np.testing.assert_allclose(loss.class_weight, expected, rtol=1e-12)


def test_the_rare_class_is_found() -> None:
    x, y = rare()
    recalls = []
    for weight in (None, "balanced"):
        trainer = lf.Trainer(lf.Linear(2), lf.SoftmaxCE(class_weight=weight), lf.Adam(0.05), epochs=30)
        trainer.fit(x, y)
        recalls.append((trainer.predict(x).argmax(axis=1)[y == 1] == 1).mean())
    assert recalls[0] < 0.4
    assert recalls[1] > 0.65


def test_labels_that_are_ignored_do_not_count() -> None:
    loss = lf.SoftmaxCE(class_weight="balanced", ignore_index=-1)
    y = np.array([0, 0, 0, 1, -1, -1] * 10)
    lf.Trainer(lf.Linear(2), loss, lf.SGD(0.1), epochs=1).fit(RNG.normal(size=(60, 3)), y)
    np.testing.assert_allclose(loss.class_weight, [4 / 6, 2.0])


@pytest.mark.parametrize("loss", [lf.SoftmaxCE(class_weight="balanced"), lf.SigmoidCE(class_weight="balanced")])
def test_by_hand_there_are_no_labels_to_balance(loss: Any) -> None:
    with pytest.raises(lf.GateError, match="follows from the labels of the training data"):
        loss.forward(np.ones((3, 1 if isinstance(loss, lf.SigmoidCE) else 2)), np.array([0, 1, 0]))


def test_another_word_is_refused() -> None:
    with pytest.raises(lf.GateError, match="class_weight must be 'balanced' or a list"):
        lf.SoftmaxCE(class_weight="even")


def test_a_table_with_a_rare_class_is_balanced_by_init_and_stays_so(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    x, y = rare(900, 0.1)
    rows = [f"{a:.4f},{b:.4f},{c:.4f},{'no' if not label else 'yes'}" for (a, b, c), label in zip(x, y, strict=True)]
    (tmp_path / "churn.csv").write_text("\n".join(["a,b,c,churn", *rows]))
    monkeypatch.chdir(tmp_path)
    assert main(["init", "churn.csv", "-o", "churn.yaml"]) == 0
    assert "loss: {type: SigmoidCE, class_weight: balanced}" in (tmp_path / "churn.yaml").read_text()
    assert main(["train", "churn.yaml", "-q"]) == 0
    saved = lf.load_model("runs/churn/001")
    np.testing.assert_allclose(
        saved.loss.class_weight[1] / saved.loss.class_weight[0], (y == 0).sum() / (y == 1).sum(), rtol=0.1
    )
    capsys.readouterr()
    assert main(["eval", "runs/churn"]) == 0
    yes = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("yes"))
    assert float(yes.split()[3]) >= 0.5  # recall; 0 without it
    assert main(["verify", "runs/churn/001"]) == 0
