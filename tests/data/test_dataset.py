"""Labels: the text of a label is its class, and no two texts become one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerflow.data.dataset import encode_labels, encode_target
from layerflow.errors import DataError

LABELS = st.one_of(
    st.text(max_size=4), st.integers().map(str), st.floats().map(str), st.sampled_from(["01", "1", "1.0", "1e5"])
)


def at(row: int) -> str:
    return f"row {row}"


@given(st.lists(LABELS, min_size=2).filter(lambda labels: len(set(labels)) > 1))
def test_decoding_gives_back_every_label(labels: list[str]) -> None:
    y, classes = encode_labels(labels, at)
    assert [classes[index] for index in y] == labels
    assert encode_labels(labels, at, classes)[0].tolist() == y.tolist()


@pytest.mark.parametrize(
    "classes",
    [
        ("9007199254740992", "9007199254740993"),
        ("-3", "01", "1", "2", "10"),
        ("0.5", "1", "1.0", "100000", "1e5"),
        ("10", "9", "a"),
        ("1", "1_0"),
        ("NA", "nan"),
    ],
)
def test_numbers_are_sorted_by_value_and_text_alphabetically(classes: tuple[str, ...]) -> None:
    assert encode_labels(classes[::-1], at)[1] == classes


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (np.array([9007199254740992, 9007199254740993]), ("9007199254740992", "9007199254740993")),
        (np.array([2**64 - 1, 2**64 - 2], np.uint64), ("18446744073709551614", "18446744073709551615")),
        (np.array(["01", "1"]), ("01", "1")),
        (np.array([b"01", b"1"]), ("01", "1")),
        (np.array([1.0, 1, 0, -0.0]), ("0", "1")),
        (np.array([1e300, 2e300]), (str(int(1e300)), str(int(2e300)))),
        (np.array([True, False]), ("0", "1")),
    ],
)
def test_an_array_keeps_its_labels_apart(target: np.ndarray, classes: tuple[str, ...]) -> None:
    assert encode_target(target, "y", "classification")[1] == classes


def test_labels_that_are_not_text_are_refused() -> None:
    with pytest.raises(DataError, match=r"y: the labels are not UTF-8 \(invalid start byte\)"):
        encode_target(np.array([b"\xff", b"\xfe"]), "y")


def test_another_spelling_of_a_known_class_is_refused_with_the_closest() -> None:
    with pytest.raises(DataError, match=r"row 1: class '1\.0' is not one of '0', '1', did you mean '1'\?"):
        encode_labels(["0", "1.0"], at, ("0", "1"))
