"""Which runs a search consists of."""

import math

import pytest

from layerflow.errors import ConfigError
from layerflow.runs.combinations import MAXIMUM, Combination, combinations, read_choice


def overrides(texts: list[str], random: int | None = None) -> list[list[str]]:
    """Return the overrides of every combination."""
    return [combination.overrides for combination in combinations(texts, random)]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("optimizer.lr=0.1,0.01", ("0.1", "0.01")),
        ("seed=0..4", ("0", "1", "2", "3", "4")),
        ("x=-1..1", ("-1", "0", "1")),
        ("seed=3..3", ("3",)),
        ("schedule=Cosine, {type: Step, every: 3},null", ("Cosine", "{type: Step, every: 3}", "null")),
        ("train.metrics=[accuracy, f1],[recall]", ("[accuracy, f1]", "[recall]")),
        ('data.source.delimiter=",",";"', ('","', '";"')),
        ("lr=0.1,0.1,0.2", ("0.1", "0.2")),
        ("data.source.path=../a.csv,../b.csv", ("../a.csv", "../b.csv")),
        ("lr=1e-3", ("1e-3",)),
    ],
)
def test_values_are_read(text: str, values: tuple[str, ...]) -> None:
    assert read_choice(text).values == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "must be written key=value,value"),
        ("=1,2", "must be written"),
        ("lr=", "must be written"),
        ("lr=0.1,,0.2", "a value is missing between two commas"),
        ("lr=0.1,", "a value is missing"),
        ("seed=4..0", "from the smaller to the larger number"),
        (f"seed=0..{MAXIMUM}", "at most 10,000 values"),
        ("seed=0..999999999999999", "at most 10,000 values"),
        ("lr=1e-4..1e-1", "add --random 20"),
        ("model=[1,2", "override model=|flow|found"),
    ],
)
def test_what_is_no_choice_is_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_choice(text)


@pytest.mark.parametrize("text", ["lr=0.5..0.1", "lr=1..1.0", "lr=1.2.3..4", "lr=0.1..1e999"])
def test_ends_of_a_random_search_must_be_a_range(text: str) -> None:
    with pytest.raises(ConfigError, match="range"):
        read_choice(text, is_random=True)


def test_all_combinations_are_made_and_single_values_hold_for_all() -> None:
    assert overrides(["a=1,2", "train.epochs=5", "seed=0..1"]) == [
        ["train.epochs=5", "a=1", "seed=0"],
        ["train.epochs=5", "a=1", "seed=1"],
        ["train.epochs=5", "a=2", "seed=0"],
        ["train.epochs=5", "a=2", "seed=1"],
    ]
    assert overrides(["a=1"]) == [["a=1"]]


def test_too_many_runs_and_keys_that_stand_twice_are_refused() -> None:
    with pytest.raises(ConfigError, match="1,000,000 runs"):
        combinations(["a=0..999", "b=0..999"])
    with pytest.raises(ConfigError, match="a is given twice"):
        combinations(["a=1,2", "a=3"])


def test_runs_that_differ_in_the_seed_alone_share_their_settings() -> None:
    first, second, third = combinations(["lr=0.1", "seed=0,1", "b=x"])[:2] + combinations(["lr=1,2", "seed=0,1"])[:1]
    assert first.settings == second.settings == {}
    assert third.settings == {"lr": 1}


def test_more_draws_begin_with_the_fewer_and_each_has_every_seed() -> None:
    few, many = (combinations(["lr=1e-4..1e-1", "width=8,16,32", "seed=0..1"], random) for random in (3, 7))
    assert len(few) == 6
    assert len(many) == 14
    assert many[:6] == few
    assert [combination.varying["seed"] for combination in few] == ["0", "1"] * 3
    assert len({combination.name for combination in many}) == 14


def test_draws_lie_between_the_ends_evenly_on_a_logarithmic_scale() -> None:
    drawn = [float(c.varying["lr"]) for c in combinations(["lr=1e-4..1e-1"], 300)]
    assert all(0.9999e-4 <= value <= 1.0001e-1 for value in drawn)
    assert sum(value < math.sqrt(1e-5) for value in drawn) == pytest.approx(150, abs=40)
    linear = [float(c.varying["rate"]) for c in combinations(["rate=0.1..0.5"], 300)]
    assert sum(value < 0.3 for value in linear) == pytest.approx(150, abs=40)


def test_draws_from_a_small_grid_end_when_it_is_used_up() -> None:
    drawn = combinations(["a=1,2", "b=x,y"], 50)
    assert len(drawn) == len({combination.name for combination in drawn}) == 4


@pytest.mark.parametrize("value", ["../../etc", "a/b", "x" * 400, "ä", "{type: Step, every: 3}", "..", "con\n"])
def test_names_of_folders_are_plain_and_stay_apart(value: str) -> None:
    first, second = (Combination({"k": text}, {}).name for text in (value, value + " "))
    assert first != second
    for name in (first, second):
        assert "/" not in name
        assert name.isascii()
        assert name.isprintable()
        assert len(name) < 150


def test_plain_values_are_readable_names() -> None:
    assert combinations(["optimizer.lr=0.1,1e-2", "seed=0..1"])[0].name == "optimizer.lr=0.1,seed=0"
