"""Parameters and buffers: places for arrays, known by identity."""

import copy

import numpy as np
import pytest

import layerflow as lf


@pytest.mark.parametrize("value", [3, [1, 2], np.arange(3), True], ids=repr)
def test_values_are_floating_point(value):
    assert lf.Parameter(value).value.dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_floating_point_type_is_kept(dtype):
    assert lf.Parameter(np.ones(2, dtype)).value.dtype == dtype


@pytest.mark.parametrize("give", [lf.Parameter, lf.Buffer], ids=["Parameter", "Buffer"])
@pytest.mark.parametrize("assigned", [False, True], ids=["constructed", "assigned"])
def test_the_array_that_was_given_is_never_changed(give, assigned):
    array = np.ones(3)
    cell = give(np.zeros(3) if assigned else array)
    if assigned:
        cell.value = array
    cell.value -= 0.5
    assert cell.value.tolist() == [0.5, 0.5, 0.5]
    assert array.tolist() == [1.0, 1.0, 1.0]


def test_a_value_may_be_replaced_by_one_of_another_shape_outside_a_store():
    parameter = lf.Parameter(np.ones(3))
    parameter.value = np.ones((2, 2))
    assert parameter.value.shape == (2, 2)


def test_asking_for_a_value_that_is_not_there_yet_says_how_it_comes_to_be():
    with pytest.raises(lf.GateError, match=r"Parameter \(unnamed\) has no value yet: .*gate\.build\(rng, shape\)"):
        lf.Linear(3).weight.value  # noqa: B018


def test_create_draws_once():
    parameter = lf.Parameter()
    assert not parameter.has_value
    parameter.create((2,), np.ones)
    parameter.create((2,), np.zeros)
    assert parameter.value.tolist() == [1.0, 1.0]


def test_create_refuses_another_shape():
    parameter = lf.Parameter(np.ones(2))
    with pytest.raises(lf.GateError, match=r"has shape \(2,\), but the input needs \(3,\)"):
        parameter.create((3,), np.zeros)


def test_astype_keeps_the_values():
    parameter = lf.Parameter([1.5, 2.5])
    parameter.astype(np.float32)
    assert parameter.value.dtype == np.float32
    assert parameter.value.tolist() == [1.5, 2.5]


def test_a_copy_is_a_place_of_its_own():
    parameter = lf.Parameter(np.ones(2), decay=False)
    parameter.name, parameter.grad = "b", np.ones(2)
    twin = copy.deepcopy(parameter)
    twin.value[:], twin.grad[:] = 5.0, 5.0
    assert (twin.name, twin.decay) == ("b", False)
    assert parameter.value.tolist() == parameter.grad.tolist() == [1.0, 1.0]


def test_a_copy_of_what_is_shared_is_shared():
    parameter = lf.Parameter(1.0)
    first, second = copy.deepcopy([parameter, parameter])
    assert first is second
    assert first is not parameter


def test_a_copy_of_a_packed_parameter_is_outside_the_store():
    parameter = lf.Parameter(np.ones(2))
    store = lf.ParameterStore([parameter])
    twin = copy.deepcopy(parameter)
    twin.value = np.zeros(3)
    assert twin.value.shape == (3,)
    assert store.values.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (lf.Parameter(), "<Parameter (unnamed), no value yet>"),
        (lf.Parameter(np.ones((2, 3))), "<Parameter (unnamed), shape (2, 3)>"),
        (lf.Buffer(1.0), "<Buffer (unnamed), shape ()>"),
    ],
)
def test_it_shows_its_shape(cell, shown):
    assert repr(cell) == shown
