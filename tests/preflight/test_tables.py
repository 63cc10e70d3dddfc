"""The checks that look at the data alone, on tables made for them."""

from collections.abc import Callable

import numpy as np
import pytest

from layerflow.preflight import Context, data, start, steps

Make = Callable[..., Context]
REGRESSION = ("loss=SquaredError", "model=[Linear]", "regularizer=null")


@pytest.fixture
def sound(rng: np.random.Generator) -> dict[str, list[object]]:
    """Two features that say something of two classes, and not all."""
    y = rng.integers(0, 2, 200)
    return {
        "a": list(y + rng.standard_normal(200)),
        "b": list(rng.standard_normal(200)),
        "y": [("no", "yes")[i] for i in y],
    }


def labels(table: dict[str, list[object]]) -> np.ndarray:
    return np.array(table["y"]) == "yes"


def with_column(table: dict[str, list[object]], column: object) -> dict[str, list[object]]:
    return {"added": list(column)} | table  # type: ignore[call-overload]


@pytest.mark.parametrize("check", [data.constant_features, data.leaking_features, data.duplicates, data.targets])
def test_sound_tables_are_ok(table_context: Make, sound, check) -> None:
    assert check(table_context(sound)).verdict == "ok"


def test_a_constant_feature_is_named(table_context: Make, sound) -> None:
    finding = data.constant_features(table_context(with_column(sound, [7] * 200), "data.scale=none"))
    assert (finding.verdict, finding.number) == ("warning", 1)
    assert "'added'" in finding.evidence


def test_blank_pixels_are_counted_and_no_more(table_context: Make, rng, sound) -> None:
    pixels = {f"p{i}": list(rng.integers(0, 16, 200)) for i in range(20)} | {f"blank{i}": [0] * 200 for i in range(3)}
    finding = data.constant_features(table_context(pixels | {"y": sound["y"]}))
    assert (finding.verdict, finding.number) == ("ok", 3)


@pytest.mark.parametrize(
    ("column", "verdict"),
    [
        (lambda yes, rng: yes.astype(int), "error"),
        (lambda yes, rng: np.where(yes, 17.5, -2.0), "error"),
        (lambda yes, rng: np.where(yes, "won", "lost"), "error"),
        (lambda yes, rng: yes + 0.1 * rng.standard_normal(len(yes)), "warning"),
        (lambda yes, rng: yes + 0.4 * rng.standard_normal(len(yes)), "ok"),
        (lambda yes, rng: rng.permutation(len(yes)), "ok"),
    ],
    ids=["the label", "two numbers", "two words", "the label with noise", "a good feature", "a number for each row"],
)  # fmt: skip
def test_a_feature_that_gives_the_class_away_is_named(table_context: Make, rng, sound, column, verdict) -> None:
    added = column(labels(sound), rng)
    made = table_context(with_column(sound, added), categorical="added" if added.dtype.kind == "U" else "")
    finding = data.leaking_features(made)
    assert finding.verdict == verdict, str(finding)
    assert verdict == "ok" or "'added" in finding.evidence


@pytest.mark.parametrize(
    ("column", "verdict"),
    [
        (lambda y, rng: 3 * y - 1, "error"),
        (lambda y, rng: np.exp(y), "error"),
        (lambda y, rng: y + 0.05 * rng.standard_normal(len(y)), "warning"),
        (lambda y, rng: y + 0.5 * rng.standard_normal(len(y)), "ok"),
    ],
    ids=["a line", "a rising curve", "the target with noise", "a good feature"],
)
def test_a_feature_that_gives_the_number_away_is_named(table_context: Make, rng, column, verdict) -> None:
    y = rng.standard_normal(200)
    table = {"a": list(rng.standard_normal(200)), "added": list(column(y, rng)), "y": list(y)}
    assert data.leaking_features(table_context(table, *REGRESSION)).verdict == verdict


def test_repeated_rows_in_training_and_test_part_are_counted_with_their_lines(table_context: Make, sound) -> None:
    twice = {name: column[:100] * 2 for name, column in sound.items()}
    finding = data.duplicates(table_context(twice))
    assert finding.verdict == "error"
    assert finding.number == pytest.approx(0.8, abs=0.2)
    assert ": lines " in finding.evidence
    few = {name: column[:2] + column for name, column in sound.items()}
    assert data.duplicates(table_context(few, "data.test=0.5", "seed=3")).verdict == "warning"


def test_samples_that_can_take_few_values_repeat_by_nature(table_context: Make, rng) -> None:
    table = {name: list(rng.integers(0, 2, 200)) for name in ("a", "b")} | {"y": list(rng.choice(["no", "yes"], 200))}
    finding = data.duplicates(table_context(table))
    assert (finding.verdict, finding.number) == ("warning", 1.0)
    assert "4 different inputs" in finding.evidence


def test_rare_classes_are_told_with_the_baseline(table_context: Make, sound) -> None:
    sound["y"] = ["yes"] * 10 + ["no"] * 190
    finding = data.targets(table_context(sound))
    assert finding.verdict == "warning"
    assert finding.number == pytest.approx(0.95, abs=0.01)
    assert "always guessing 'no': accuracy 0.95" in finding.evidence


def test_constant_targets_are_nothing_to_learn(table_context: Make, rng) -> None:
    table = {"a": list(rng.standard_normal(60)), "b": list(rng.standard_normal(60)), "y": [2.5] * 60}
    assert data.targets(table_context(table, *REGRESSION)).verdict == "error"


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "ok"), (100.0, "warning")])
def test_the_loss_of_a_regression_is_compared_to_the_variance(table_context: Make, rng, shift, verdict) -> None:
    y = shift + rng.standard_normal(200)
    table = {"a": list(rng.standard_normal(200)), "b": list(rng.standard_normal(200)), "y": list(y)}
    made = table_context(table, *REGRESSION, "model=[{type: Linear, init: zeros}]")
    finding = start.initial_loss(made)
    assert finding.verdict == verdict
    assert finding.number == pytest.approx(np.mean(made.y**2), rel=1e-4)


def test_two_samples_of_a_regression_can_be_learned_whatever_their_size(table_context: Make, rng) -> None:
    table = {
        "a": list(rng.standard_normal(200)),
        "b": list(rng.standard_normal(200)),
        "y": list(150 + 70 * rng.standard_normal(200)),
    }
    assert steps.a_few_samples_can_be_learned(table_context(table, *REGRESSION)).verdict == "ok"
