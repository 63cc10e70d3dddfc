"""The whole of it: the shipped configurations pass, nothing of the caller's changes, and what raises is a finding."""

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from layerflow.config import load_config
from layerflow.config.experiment import read_parts
from layerflow.preflight import CHECKS, SHORT, Context, preflight
from layerflow.preflight.context import SAMPLE_VALUES, drawn

Make = Callable[..., Context]
CONFIGS = Path(__file__).parents[2] / "configs"
HINTS = {"spiral_sigmoid": ["gradients"]}  # which is what this one is there to show


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_configuration_is_sound(path: Path) -> None:
    config = load_config(path)
    found = {finding.check: finding for finding in preflight(config, read_parts(config))}
    assert [check for check, finding in found.items() if finding.verdict != "ok"] == HINTS.get(path.stem, [])
    assert {"initial loss", "gradient check", "overfitting a few"} <= set(found)


def test_the_example_in_the_documentation_is_what_is_found() -> None:
    text = (CONFIGS.parent / "docs" / "preflight.md").read_text()
    command, shown = (block.strip() for block in text.split("## An example")[1].split("```")[1:4:2])
    _, _, file, *overrides = shlex.split(command.replace("\\\n", " "))
    config = load_config(CONFIGS.parent / file, overrides)
    found = [(finding.verdict, finding.check) for finding in preflight(config, read_parts(config))]
    rows = [line for line in shown.splitlines() if line.startswith(("  ok ", "  warning ", "  error "))]
    assert [(line[2:9].strip(), line[11:29].strip()) for line in rows] == found


def test_the_same_seed_finds_the_same_and_nothing_of_the_callers_changes(context: Make) -> None:
    made = context("model.1=Noise")
    x, y = np.array(made.parts.train.x), np.array(made.parts.train.y)
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    first, second = (preflight(made.config, made.parts) for _ in range(2))
    assert first == second
    np.testing.assert_array_equal(np.random.random(3), expected)
    np.testing.assert_array_equal(made.parts.train.x, x)
    np.testing.assert_array_equal(made.parts.train.y, y)


def test_the_short_form_is_part_of_the_whole(context: Make) -> None:
    made = context()
    assert (
        preflight(made.config, made.parts, short=True) == preflight(made.config, made.parts)[: len(SHORT) - 1]
    )  # no saturation
    assert set(SHORT) < set(CHECKS)


def test_a_gate_that_raises_is_one_error_that_names_it(context: Make) -> None:
    made = context("model.4={type: Linear, out_features: 2}")
    errors = [finding for finding in preflight(made.config, made.parts) if finding.verdict == "error"]
    assert len({finding.evidence for finding in errors}) == len(errors)
    assert "label 2 in row" in errors[0].evidence
    assert "in gate 'loss'" in errors[0].evidence


def test_a_learning_rate_that_diverges_is_an_error(context: Make) -> None:
    made = context("optimizer.lr=1e30")
    assert any("DivergedError" in finding.evidence for finding in preflight(made.config, made.parts))


def test_a_schedule_that_watches_the_validation_part_is_no_obstacle(context: Make) -> None:
    made = context("schedule=ReduceOnPlateau", "data.validation=0.2", "train.early_stopping={metric: val_loss}")
    assert [str(finding) for finding in preflight(made.config, made.parts) if finding.verdict != "ok"] == []


def test_of_a_large_part_a_million_numbers_are_drawn(context: Make) -> None:
    part = context("data.source.samples=3000").parts.train
    wide = part.take(np.arange(2000))
    wide = type(part)(np.zeros((2000, 1024)), wide.y, None, wide.classes, "wide", "")
    assert drawn(part, seed=0) is part
    assert len(drawn(wide, seed=0)) == SAMPLE_VALUES // 1024
    np.testing.assert_array_equal(drawn(wide, seed=0).y, drawn(wide, seed=0).y)
    assert len(drawn(wide, seed=0, at_least=1500)) == 1500
