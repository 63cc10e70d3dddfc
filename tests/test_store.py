"""The flat vectors: every parameter a view, whatever the model."""

import copy
import pickle

import numpy as np
import pytest

import layerflow as lf


@pytest.fixture
def parts():
    return [
        lf.Parameter([[1.0, 2.0], [3.0, 4.0]]),
        lf.Parameter([5.0, 6.0], decay=False),
        lf.Parameter(7.0),
    ]


def test_those_that_decay_come_first(parts):
    store = lf.ParameterStore(parts)
    assert store.parameters == [parts[0], parts[2], parts[1]]
    assert store.values.tolist() == [1.0, 2.0, 3.0, 4.0, 7.0, 5.0, 6.0]
    assert (store.size, store.decay_size) == (7, 5)


def test_values_and_gradients_are_views(parts):
    store = lf.ParameterStore(parts)
    store.values[:] = 1.0
    store.grads[:] = 2.0
    assert all(np.all(part.value == 1.0) and np.all(part.grad == 2.0) for part in parts)


def test_shapes_are_kept_scalars_and_empty_ones_too():
    parts = [lf.Parameter(1.0), lf.Parameter(np.zeros((0, 3))), lf.Parameter(np.zeros((2, 1)))]
    lf.ParameterStore(parts)
    assert [part.value.shape for part in parts] == [part.grad.shape for part in parts] == [(), (0, 3), (2, 1)]


def test_assigning_a_value_after_packing_goes_into_the_vector(parts):
    store = lf.ParameterStore(parts)
    parts[1].value = [8.0, 9.0]
    parts[2].value += 1.0
    assert store.values.tolist() == [1.0, 2.0, 3.0, 4.0, 8.0, 8.0, 9.0]


def test_assigning_another_shape_after_packing_is_an_error(parts):
    lf.ParameterStore(parts)
    parts[1].name = "bias"
    with pytest.raises(lf.GateError, match=r"parameter bias has shape \(2,\).*an array of shape \(3,\)"):
        parts[1].value = np.zeros(3)


def test_a_shared_parameter_is_packed_once(parts):
    assert lf.ParameterStore([parts[0], parts[1], parts[0]]).size == 6


@pytest.mark.parametrize(
    ("types", "asked", "expected"),
    [
        ((np.float32, np.float32), None, np.float32),
        ((np.float32, np.float64), None, np.float64),
        ((np.float64, np.float64), np.float32, np.float32),
    ],
    ids=["as they are", "the widest", "as asked"],
)
def test_the_type_of_the_vectors(types, asked, expected):
    parts = [lf.Parameter(np.ones(2, dtype)) for dtype in types]
    store = lf.ParameterStore(parts, asked)
    assert store.values.dtype == store.grads.dtype == expected
    assert {part.value.dtype for part in parts} == {np.dtype(expected)}


def test_no_parameters_make_empty_vectors():
    store = lf.ParameterStore([])
    assert (store.size, store.decay_size, store.values.shape) == (0, 0, (0,))


def test_a_parameter_without_a_value_is_an_error():
    with pytest.raises(lf.GateError, match="has no value yet"):
        lf.ParameterStore(lf.Linear(3).parameters())


def test_a_sweep_writes_its_gradients_into_the_vector():
    model = lf.Sequential(lf.Linear(3))
    model.build(np.random.default_rng(0), (2, 4))
    store = lf.ParameterStore(model.parameters())
    model.forward(np.ones((2, 4)))
    model.backward(np.ones((2, 3)))
    assert store.grads.tolist() == [2.0] * 15


def test_a_step_on_the_vector_moves_the_model():
    model = lf.Sequential(lf.Linear(1, bias=False))
    model.build(np.random.default_rng(0), (1, 2))
    store = lf.ParameterStore(model.parameters())
    store.values[:] = [2.0, 3.0]
    assert model.forward(np.array([[1.0, 10.0]])).item() == 32.0


def test_load_brings_saved_values_back(parts):
    store = lf.ParameterStore(parts)
    saved = store.values.copy()
    store.values[:] = 0.0
    store.load(saved)
    assert parts[0].value.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_loading_the_vector_of_another_model_is_an_error(parts):
    with pytest.raises(lf.GateError, match=r"the model has 7 parameter values, the saved vector has shape \(6,\)"):
        lf.ParameterStore(parts).load(np.zeros(6))


# One store at a time ----------------------------------------------------------------------------------------------


def test_the_store_that_loses_a_parameter_says_so_and_the_new_one_works(parts):
    first = lf.ParameterStore(parts)
    held = first.values
    second = lf.ParameterStore([parts[0]])
    second.values[:] = 9.0
    assert np.all(parts[0].value == 9.0)
    for use in (lambda: first.values, lambda: first.grads, lambda: first.load(np.zeros(7))):
        with pytest.raises(lf.GateError, match=r"this ParameterStore has lost .*another ParameterStore.*has packed it"):
            use()
    with pytest.raises(lf.GateError, match="has lost"):
        lf.SGD(lr=0.1).step(first)
    with pytest.raises(ValueError, match="read-only"):
        held[:] = 0.0


def test_a_store_that_is_gone_has_nothing_to_lose(parts):
    lf.ParameterStore(parts)
    store = lf.ParameterStore(parts)
    store.values[:] = 1.0
    assert np.all(parts[0].value == 1.0)


def test_a_change_of_type_takes_a_parameter_out_of_its_store(parts):
    store = lf.ParameterStore(parts)
    parts[0].astype(np.float32)
    with pytest.raises(lf.GateError, match="its dtype was changed"):
        store.values  # noqa: B018


def shared_encoder():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 4))
    encoder = lf.Linear(4)
    trainers = [
        lf.Trainer(lf.Sequential(encoder, lf.Linear(2)), loss=lf.SoftmaxCE(), optimizer=lf.SGD(lr=0.1), epochs=1)
        for _ in range(2)
    ]
    return encoder, trainers, x, np.arange(32) % 2


def test_two_trainers_that_share_an_encoder_both_train_it_by_turns():
    encoder, trainers, x, y = shared_encoder()
    for trainer in [*trainers, *trainers, trainers[1]]:
        before = encoder.weight.value.copy() if encoder.weight.has_value else None
        trainer.fit(x, y)
        assert before is None or not np.array_equal(encoder.weight.value, before)


def test_a_trainer_whose_encoder_was_taken_over_trains_nothing_in_silence():
    _, (first, second), x, y = shared_encoder()
    first.prepare(x, y)
    second.prepare(x, y)
    with pytest.raises(lf.GateError, match="has lost"):
        first.train_step(x, y)


def test_copies_and_pickles_belong_to_no_store(parts):
    store = lf.ParameterStore(parts)
    for twin in (copy.deepcopy(parts[0]), pickle.loads(pickle.dumps(parts[0]))):
        assert not twin.is_packed
        twin.value = np.zeros(3)
    assert store.values[0] == 1.0
