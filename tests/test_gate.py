"""A gate by itself: what its author need not write, and what happens when it is used by hand."""

import copy
import dataclasses

import numpy as np
import pytest

import layerflow as lf


class Scale(lf.Gate):
    """The smallest learned gate: y = gamma * x."""

    def __init__(self, start=1.0):
        self.gamma = lf.Parameter(start)

    def forward(self, x):
        self.save(x)
        return self.gamma.value * x

    def backward(self, grad):
        (x,) = self.saved
        return (self.gamma.value * grad,), {"gamma": np.sum(grad * x)}


class Shift(lf.Gate):
    """y = x + b, with everything it creates made in build, some of it in a dict."""

    def build(self, rng, shape):
        self.learned = {"b": lf.Parameter(rng.normal(size=shape[-1:]))}
        self.mean = lf.Buffer(np.zeros(shape[-1:]))
        self.noise = np.random.default_rng(rng.integers(1 << 30))
        return shape

    def forward(self, x):
        return x + self.learned["b"].value

    def backward(self, grad):
        return (grad,), {"learned.b": grad.sum(axis=0)}


class Keeping(lf.Gate):
    """y = x**2; keeps its input in an attribute of its own instead of `save`."""

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, grad):
        return (2 * self.x * grad,), {}


def test_a_gate_without_super_init_has_parameters_and_trains_by_hand():
    gate = Scale(2.0)
    assert gate.forward(np.array([1.0, 3.0])).tolist() == [2.0, 6.0]
    (dx,), grads = gate.backward(np.array([1.0, 10.0]))
    assert dx.tolist() == [2.0, 20.0]
    assert grads["gamma"] == 31.0


class Everywhere(lf.Gate):
    def __init__(self):
        self.direct = lf.Parameter(1.0)
        self.rows = [lf.Parameter(2.0), (lf.Parameter(3.0), {"deep": lf.Parameter(4.0)})]
        self.inner = Scale(5.0)
        self.again = self.direct


def test_parameters_are_found_in_attributes_lists_tuples_dicts_and_inner_gates():
    values = {name: float(parameter.value) for name, parameter in Everywhere().named_parameters().items()}
    assert values == {"direct": 1.0, "rows.0": 2.0, "rows.1.0": 3.0, "rows.1.1.deep": 4.0, "inner.gamma": 5.0}


def test_a_gate_that_refers_to_itself_is_searched_once():
    gate = Scale()
    gate.myself = gate
    assert list(gate.named_parameters()) == ["gamma"]


def test_two_parameters_under_one_name_are_an_error():
    gate = lf.Sequential(Scale())
    gate.gates = {"a.gamma": lf.Parameter(1.0), "a": Scale()}
    with pytest.raises(lf.GateError, match=r"two parameters have the name 'a\.gamma'"):
        gate.named_parameters()


def test_buffers_and_generators_are_found_by_name():
    gate = Shift()
    gate.forward(np.zeros((2, 3)))
    assert list(gate.named_buffers()) == ["mean"]
    assert list(gate.named_generators()) == ["noise"]


# Recorded arguments ----------------------------------------------------------------------------------------------


class Signature(lf.Gate):
    def __init__(self, first, second=2, *rest, third=3, **more):
        pass


@dataclasses.dataclass
class AsDataclass(lf.Gate):
    factor: float = 2.0

    def forward(self, x):
        self.save(x)
        return self.factor * x

    def backward(self, grad):
        return (self.factor * grad,), {}


ARGUMENTS = [
    (Scale(), {}, "Scale()"),
    (Scale(2.0), {"start": 2.0}, "Scale(2.0)"),
    (Scale(start=2.0), {"start": 2.0}, "Scale(start=2.0)"),
    (
        Signature(1, 5, 6, 7, third=8, x=9),
        {"first": 1, "second": 5, "rest": (6, 7), "third": 8, "more": {"x": 9}},
        "Signature(1, 5, 6, 7, third=8, x=9)",
    ),
    (lf.Add(), {}, "Add()"),
    (AsDataclass(3.0), {"factor": 3.0}, "AsDataclass(factor=3.0)"),
]


@pytest.mark.parametrize(("gate", "arguments", "written"), ARGUMENTS, ids=[case[2] for case in ARGUMENTS])
def test_constructor_arguments_are_recorded_and_shown(gate, arguments, written):
    assert gate.arguments == arguments
    assert repr(gate) == written


def test_a_gate_is_rebuilt_from_its_recorded_arguments():
    again = Scale(**Scale(7.0).arguments)
    assert again.gamma.value == 7.0


def test_a_copy_keeps_the_recorded_arguments():
    assert copy.deepcopy(Scale(7.0)).arguments == {"start": 7.0}


def test_an_argument_for_a_gate_that_takes_none_is_an_error():
    with pytest.raises(TypeError, match=r"Keeping\(\) takes no arguments"):
        Keeping(inplace=True)


def test_a_dataclass_which_compares_by_value_is_a_gate_like_any_other():
    twice = AsDataclass(3.0)
    model = lf.Sequential(twice, twice, AsDataclass(3.0))
    assert model.forward(np.ones(2)).tolist() == [27.0, 27.0]
    assert model.backward(np.ones(2))[0][0].tolist() == [27.0, 27.0]


# Methods as the author wrote them -------------------------------------------------------------------------------


class Doubled(Scale):
    def forward(self, x):
        return 2 * super().forward(x)

    def backward(self, grad):
        return super().backward(2 * grad)


@pytest.mark.parametrize("wrap", [lambda gate: gate, lf.Sequential], ids=["by hand", "in a container"])
def test_a_subclass_may_call_super(wrap):
    gate = wrap(Doubled(3.0))
    assert gate.forward(np.array([1.0, 2.0])).tolist() == [6.0, 12.0]
    (dx,), grads = gate.backward(np.array([1.0, 1.0]))
    assert dx.tolist() == [6.0, 6.0]
    assert list(grads.values()) == [6.0]


class Squaring:
    def forward(self, x):
        self.save(x)
        return x * x

    def backward(self, grad):
        return (2 * self.saved[0] * grad,), {}


class Mixed(Squaring, lf.Gate):
    pass


@pytest.mark.parametrize("wrap", [lambda gate: gate, lf.Sequential], ids=["by hand", "in a container"])
def test_methods_may_come_from_a_mixin(wrap):
    gate = wrap(Mixed())
    assert gate.forward(np.array([3.0])).tolist() == [9.0]
    assert gate.backward(np.array([1.0]))[0][0].tolist() == [6.0]


@pytest.mark.parametrize(("method", "line"), [("forward", "def forward"), ("backward", "def backward")])
def test_a_method_that_was_not_written_says_what_to_write(method, line):
    class Empty(lf.Gate):
        pass

    with pytest.raises(NotImplementedError, match=f"Empty has no {method}: write `{line}"):
        getattr(Empty(), method)(np.ones(2))


# Build ----------------------------------------------------------------------------------------------------------


def test_shapes_are_inferred_before_there_is_data():
    gate = lf.Linear(10)
    assert gate.build(np.random.default_rng(0), (32, 64)) == (32, 10)
    assert gate.weight.value.shape == (10, 64)


def test_a_gate_without_build_infers_its_output_shape_and_is_not_changed_by_it():
    gate = Keeping()
    assert gate.build(np.random.default_rng(0), (2, 3)) == (2, 3)
    assert vars(gate) == {}


def test_a_shape_that_cannot_be_inferred_says_what_to_write():
    class Picky(Keeping):
        def forward(self, x):
            raise ValueError("not with zeros")

    with pytest.raises(lf.GateError, match=r"Picky\(\).*shape \(2,\) raised ValueError: not with zeros.*def build"):
        Picky().build(np.random.default_rng(0), (2,))


@pytest.mark.parametrize("returned", [None, 5, (2, 3.0)], ids=str)
def test_a_build_that_returns_no_shape_is_an_error(returned):
    class Forgetful(Keeping):
        def build(self, rng, shape):
            return returned

    with pytest.raises(lf.GateError, match=r"Forgetful\(\): build returned .* expected the output shape\. Write: "):
        Forgetful().build(np.random.default_rng(0), (2, 3))


def test_a_gate_used_by_hand_builds_itself_once():
    gate = lf.Linear(3)
    gate.forward(np.ones((2, 4)))
    weight = gate.weight.value.copy()
    gate.forward(np.ones((5, 4)))
    assert np.array_equal(gate.weight.value, weight)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("gate", [Scale, Shift, lambda: lf.Linear(3)], ids=["Scale", "Shift", "Linear"])
def test_built_by_hand_a_gate_takes_the_type_of_its_input(gate, dtype):
    gate = gate()
    y = gate.forward(np.ones((2, 4), dtype))
    assert y.dtype == dtype
    (dx,), grads = gate.backward(np.ones_like(y))
    assert dx.dtype == dtype
    assert {np.asarray(grad).dtype for grad in grads.values()} == {np.dtype(dtype)}


def test_building_again_keeps_parameters_buffers_and_generators_wherever_they_are_held():
    gate, rng = Shift(), np.random.default_rng(0)
    gate.build(rng, (2, 3))
    before = gate.learned["b"], gate.mean, gate.noise
    gate.learned["b"].value[:] = 7.0
    gate.build(rng, (9, 3))
    assert (gate.learned["b"], gate.mean, gate.noise) == before
    assert gate.learned["b"].value.tolist() == [7.0, 7.0, 7.0]


def test_the_first_build_may_replace_a_generator():
    class Noisy(Keeping):
        def __init__(self):
            self.rng = np.random.default_rng()

        def build(self, rng, shape):
            self.rng = np.random.default_rng(rng.integers(1 << 30))
            return shape

    first, second = Noisy(), Noisy()
    first.build(np.random.default_rng(5), (2,))
    second.build(np.random.default_rng(5), (2,))
    assert first.rng.random() == second.rng.random()


@pytest.mark.parametrize("gate", [Shift, lambda: lf.Linear(2)], ids=["Shift", "Linear"])
def test_building_for_another_width_is_an_error_that_names_both_shapes(gate):
    gate, rng = gate(), np.random.default_rng(0)
    gate.build(rng, (2, 3))
    with pytest.raises(lf.GateError, match=r"3.*4"):
        gate.build(rng, (2, 4))


def test_a_gate_built_in_a_container_keeps_its_type_when_used_by_hand():
    gate = Scale()
    model = lf.Sequential(gate)
    model.build(np.random.default_rng(0), (2,))
    store = lf.ParameterStore(model.parameters(), np.float32)
    gate.forward(np.ones(2))
    assert gate.gamma.value.base is store.values


def test_a_packed_gate_used_by_hand_stays_in_its_store():
    gate = Scale()
    store = lf.ParameterStore(gate.parameters(), np.float32)
    gate.forward(np.ones(2))
    store.values[:] = 5.0
    assert gate.gamma.value == 5.0


# Inputs and gradients by hand -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, 3.0, np.float64(3), np.array(3.0)], ids=repr)
def test_numbers_are_taken_as_real_numbers(value):
    gate = Scale(2.0)
    assert gate.forward(value) == 6.0
    (dx,), grads = gate.backward(1)
    assert (dx, grads["gamma"]) == (2.0, 3.0)


def test_lists_are_taken_as_arrays():
    assert Scale(2.0).forward([[1, 2], [3, 4]]).tolist() == [[2.0, 4.0], [6.0, 8.0]]


def test_integer_arrays_get_real_gradients():
    gate = Keeping()
    assert gate.forward(np.array([1, 2])).tolist() == [1, 4]
    assert gate.backward([1, 1])[0][0].tolist() == [2.0, 4.0]


def test_a_bare_number_as_gradient_takes_the_type_of_the_output():
    class Total(lf.Gate):
        def forward(self, x):
            self.save(x)
            return x.sum()

        def backward(self, grad):
            return (np.ones_like(self.saved[0]) * grad,), {}

    gate = Total()
    gate.forward(np.ones(3, np.float32))
    assert gate.backward(1.0)[0][0].dtype == np.float32


def test_inputs_may_be_given_by_name():
    gate = lf.Multiply()
    assert gate.forward(b=2.0, a=3.0) == 6.0
    assert gate.backward(1.0)[0] == (2.0, 3.0)
    assert lf.Linear(2).forward(x=np.ones((1, 3))).shape == (1, 2)


def test_calling_a_gate_on_arrays_runs_it():
    assert Scale(2.0)(np.array([1.0])).tolist() == [2.0]


def test_needs_grad_is_all_true_by_hand():
    gate = lf.Multiply()
    gate.forward(1.0, 2.0)
    assert gate.needs_grad == (True, True)


def test_backward_before_forward_is_an_error():
    with pytest.raises(lf.GateError, match=r"Scale\(2.0\): backward before forward"):
        Scale(2.0).backward(np.ones(2))


def test_a_forward_that_saved_nothing_is_named_when_backward_asks_for_it():
    class Unsaved(Scale):
        def forward(self, x):
            return self.gamma.value * x

    gate = Unsaved()
    gate.forward(np.ones(2))
    with pytest.raises(lf.GateError, match=r"Unsaved\(\): nothing is saved.*self\.save"):
        gate.backward(np.ones(2))


def test_backward_can_be_repeated():
    gate = Scale(2.0)
    gate.forward(np.array([1.0, 2.0]))
    first, second = gate.backward(np.ones(2)), gate.backward(np.ones(2))
    assert first[0][0].tolist() == second[0][0].tolist()
    assert first[1] == second[1]


def test_a_composite_gate_evaluates_its_inner_gates_as_it_is_evaluated():
    class Around(Keeping):
        def __init__(self):
            self.inner = Keeping()

        def forward(self, x):
            return self.inner.forward(x) if self.inner.training else x

    gate = Around()
    gate.training = False
    assert gate.forward(3.0) == 3.0
    assert lf.Sequential(Around()).forward(3.0) == 9.0
    model = lf.Sequential(Around())
    model.training = False
    assert model.forward(3.0) == 3.0


# Copies ---------------------------------------------------------------------------------------------------------


def test_a_copy_shares_nothing():
    gate = Scale(2.0)
    other = copy.deepcopy(gate)
    other.gamma.value = 5.0
    assert gate.gamma.value == 2.0


def test_astype_turns_parameters_and_buffers():
    gate = Shift()
    gate.forward(np.zeros((2, 3)))
    gate.astype(np.float32)
    assert gate.learned["b"].value.dtype == gate.mean.value.dtype == np.float32
