"""Gates in a row."""

import copy

import numpy as np
import pytest

import layerflow as lf


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class Scale(lf.Gate):
    """y = gamma * x per feature; creates gamma as an attribute in build."""

    def build(self, rng, shape):
        self.gamma = lf.Parameter(rng.normal(size=shape[-1:]))
        return shape

    def forward(self, x):
        self.save(x)
        return self.gamma.value * x

    def backward(self, grad):
        (x,) = self.saved
        return (self.gamma.value * grad,), {"gamma": (grad * x).sum(axis=0)}


class Square(lf.Gate):
    """y = x**2; keeps its input in an attribute."""

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, grad):
        return (2 * self.x * grad,), {}


def layers():
    rng = np.random.default_rng(3)
    gates = [lf.Linear(5), Square(), Scale(), lf.Linear(2), Scale()]
    shape = (4, 3)
    for gate in gates:
        shape = gate.build(rng, shape)
    return gates


X = np.random.default_rng(1).normal(size=(4, 3))
G = np.random.default_rng(2).normal(size=(4, 2))


def run(model):
    """Output, input gradient and parameter gradients (in order)."""
    y = model.forward(X)
    (dx, *_), grads = model.backward(G)
    return [y, dx, *grads.values()]


def by_hand(gates):
    value, grad, learned = X, G, []
    for gate in gates:
        value = gate.forward(value)
    for gate in reversed(gates):
        (grad,), grads = gate.backward(grad)
        learned = [*grads.values(), *learned]
    return [value, grad, *learned]


def graph_of(gates):
    graph = lf.ComputationalGraph()
    node = graph.input("x")
    for gate in gates:
        node = gate(node)
    return graph


def nest(gates):
    first, second, *rest = gates
    return lf.Sequential(lf.Sequential(first, lf.Sequential(lf.Sequential(second, rest[0]))), *rest[1:])


WAYS = {
    "Sequential": lambda gates: lf.Sequential(*gates),
    "three deep": nest,
    "graph": graph_of,
    "graph of Sequentials": lambda gates: graph_of([lf.Sequential(*gates[:2]), lf.Sequential(*gates[2:])]),
    "Sequential of graphs": lambda gates: lf.Sequential(graph_of(gates[:2]), graph_of(gates[2:])),
    "graph by text": lambda gates: graph_by_text(gates),
}


def graph_by_text(gates):
    graph = lf.ComputationalGraph()
    for index in reversed(range(len(gates))):
        graph.add(f"g{index}", gates[index], f"g{index - 1}" if index else "x")
    graph.input("x")
    return graph


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_to_write_the_same_row_computes_the_same(way):
    expected = by_hand(layers())
    actual = run(way(layers()))
    assert np.array_equal(actual[0], expected[0])
    assert np.array_equal(actual[1], expected[1])
    key = lambda grad: (grad.shape, *grad.ravel())  # noqa: E731 (a graph may name its gates in another order)
    assert sorted(map(key, actual[2:])) == sorted(map(key, expected[2:]))


class Net(lf.Sequential):
    """A model of its own, with arguments of its own."""

    def __init__(self, width):
        super().__init__(lf.Linear(width), Square(), lf.Linear(2))


class Doubling(Net):
    """A container whose sweeps are not only those of its gates."""

    def forward(self, x):
        return 2 * super().forward(x)

    def backward(self, grad):
        return super().backward(2 * grad)


class Residual(lf.Gate):
    """A gate of the author's around a container: y = f(x) + x."""

    def __init__(self):
        self.f = lf.Sequential(lf.Linear(3), Square())

    def build(self, rng, shape):
        return self.f.build(rng, shape)

    def forward(self, x):
        return self.f.forward(x) + x

    def backward(self, grad):
        (dx,), grads = self.f.backward(grad)
        return (dx + grad,), {f"f.{name}": value for name, value in grads.items()}


def test_a_subclass_is_a_model_with_arguments_of_its_own():
    model = Net(5)
    assert repr(model) == "Net(5)"
    assert model.arguments == {"width": 5}
    assert lf.Sequential(model).forward(X).shape == (4, 2)
    assert model[0].out_features == 5


@pytest.mark.parametrize("make", [lambda: Doubling(5), Residual], ids=["subclass", "gate around a container"])
def test_a_forward_around_a_container_is_run_by_hand_and_inside_others(make):
    gate = make()
    y = gate.forward(X)
    upstream = np.ones_like(y)
    (dx,), grads = gate.backward(upstream)
    model = lf.Sequential(lf.Sequential(gate))
    assert np.array_equal(model.forward(X), y)
    (same,), learned = model.backward(upstream)
    assert np.array_equal(dx, same)
    assert [f"0.0.{name}" for name in grads] == list(learned)
    assert all(map(np.array_equal, grads.values(), learned.values()))
    step, direction = 1e-6, np.random.default_rng(5).normal(size=X.shape)
    difference = (model.forward(X + step * direction) - model.forward(X - step * direction)).sum() / (2 * step)
    assert np.isclose((dx * direction).sum(), difference, rtol=1e-6)


# Names and access -----------------------------------------------------------------------------------------------


def test_gates_are_found_by_position_and_by_name():
    first, second = lf.Linear(2), Square()
    model = lf.Sequential(first, act=second)
    assert model[0] is model["0"] is first
    assert model[1] is model[-1] is model["act"] is second
    assert list(model) == [first, second]
    assert len(model) == 2


def test_a_slice_is_a_sequential_of_the_same_gates():
    model = lf.Sequential(lf.Linear(4), Square(), lf.Linear(2))
    model.forward(X)
    head = model[:2]
    assert isinstance(head, lf.Sequential)
    assert head[0] is model[0]
    assert head.forward(X).shape == (4, 4)


def test_parameters_are_named_by_their_place(rng):
    model = lf.Sequential(lf.Sequential(lf.Linear(2)), out=lf.Linear(1, bias=False))
    model.build(rng, (1, 3))
    assert list(model.named_parameters()) == ["0.0.weight", "0.0.bias", "out.weight"]
    assert list(model.parameter_names().values()) == [parameter.name for parameter in model.parameters()]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("hiden", "Sequential has no gate 'hiden', did you mean 'hidden'? It has: hidden"),
        ("zzz", "Sequential has no gate 'zzz'. It has: hidden"),
    ],
)
def test_an_unknown_name_is_answered(key, message):
    with pytest.raises(lf.GateError) as caught:
        lf.Sequential(hidden=lf.Linear(2))[key]
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lf.Sequential(), r"needs at least one gate: Sequential\(Linear\(10\)\)"),
        (lambda: lf.Sequential([lf.Linear(2)]), r"'0' is \[Linear\(2\)\], not a gate: write Sequential\(\*gates\)"),
        (lambda: lf.Sequential(lf.Multiply), r"write Multiply\(\.\.\.\), with parentheses"),
        (lambda: lf.Sequential(lf.Linear(2), np.tanh), r"'1' is <ufunc 'tanh'>, not a gate"),
        (lambda: lf.Sequential(lf.Linear(2), **{"0": Square()}), r"the name '0' is given to two gates"),
    ],
    ids=["nothing", "a list", "a class", "a function", "a name twice"],
)
def test_what_is_no_row_of_gates_is_an_error(make, message):
    with pytest.raises(lf.GateError, match=message):
        make()


def test_it_shows_its_gates():
    model = lf.Sequential(lf.Linear(2), act=Square())
    assert repr(model) == "Sequential(Linear(2), act=Square())"


# Building -------------------------------------------------------------------------------------------------------


def test_all_shapes_are_inferred_before_data_is_touched(rng):
    model = lf.Sequential(lf.Linear(5), lf.Sequential(Scale(), Square()), lf.Linear(2))
    assert model.build(rng, (4, 3)) == (4, 2)
    assert [parameter.value.shape for parameter in model.parameters()] == [(5, 3), (5,), (5,), (2, 5), (2,)]


def test_the_same_seed_builds_the_same_weights():
    models = [lf.Sequential(lf.Linear(5), lf.Linear(2)) for _ in range(2)]
    for model in models:
        model.build(np.random.default_rng(7), (1, 3))
    assert np.array_equal(models[0][1].weight.value, models[1][1].weight.value)


def test_building_again_after_training_keeps_the_weights(rng):
    model = lf.Sequential(lf.Linear(5), Scale(), lf.Linear(2))
    model.build(rng, (4, 3))
    store = lf.ParameterStore(model.parameters())
    store.values += 1.0
    expected = model.forward(X)
    model.build(rng, (100, 3))
    assert np.array_equal(model.forward(X), expected)
    assert all(parameter.value.base is store.values for parameter in model.parameters())


def test_a_build_that_failed_can_be_repeated(rng):
    model = lf.Sequential(Scale(), lf.Linear(2, in_features=9))
    with pytest.raises(lf.GateError):
        model.build(rng, (4, 3))
    model[1].in_features = 3
    model.build(rng, (4, 3))
    assert [step.gate for step in model.steps] == list(model)
    assert list(model.named_parameters()) == ["0.gamma", "1.weight", "1.bias"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_first_forward_builds_in_the_type_of_the_input(dtype):
    model = lf.Sequential(lf.Linear(5), Scale(), lf.Linear(2))
    assert model.forward(X.astype(dtype)).dtype == dtype
    (dx,), grads = model.backward(G.astype(dtype))
    assert {dx.dtype, *(grad.dtype for grad in grads.values())} == {np.dtype(dtype)}


def test_lists_and_numbers_are_inputs():
    model = lf.Sequential(lf.Linear(1, bias=False, init="zeros"))
    model.build(np.random.default_rng(0), (1, 2))
    model[0].weight.value = [[2.0, 3.0]]
    assert model.forward([[1, 10]]).tolist() == [[32.0]]
    assert lf.Sequential(Square()).forward(3) == 9.0


# Sweeps ---------------------------------------------------------------------------------------------------------


def test_a_scalar_output_needs_no_upstream_gradient():
    model = lf.Sequential(Square())
    model.forward(3.0)
    assert model.backward()[0] == (6.0,)
    assert model.backward(2)[0] == (12.0,)


def test_a_scalar_output_keeps_the_type_of_its_model():
    model = lf.Sequential(Square())
    model.forward(np.float32(3.0))
    assert model.backward()[0][0].dtype == model.backward(2.0)[0][0].dtype == np.float32


def test_a_scalar_of_integers_has_a_real_gradient():
    model = lf.Sequential(Square())
    model.forward(np.array(3))
    assert np.issubdtype(model.backward()[0][0].dtype, np.floating)


def test_an_array_output_needs_one():
    model = lf.Sequential(Square())
    model.forward(X)
    with pytest.raises(lf.GateError, match=r"backward from an output of shape \(4, 3\) needs the upstream gradient"):
        model.backward()


def test_too_many_gradients_are_an_error():
    model = lf.Sequential(Square())
    model.forward(X)
    with pytest.raises(lf.GateError, match=r"Sequential\.backward takes 1 gradients, one per output; 2 were given"):
        model.backward(X, X)


def test_too_many_inputs_are_an_error():
    model = lf.Sequential(Square())
    model.forward(X)
    with pytest.raises(lf.GateError, match=r"forward takes 1 inputs, 2 were given"):
        model.forward(X, X)


@pytest.mark.parametrize("failed", [False, True], ids=["never ran", "failed"])
def test_backward_needs_a_forward_that_succeeded(failed):
    model = lf.Sequential(lf.Linear(2), Square())
    if failed:
        model.forward(X)
        with pytest.raises(lf.GateError, match=r"Linear\(2\)"):
            model.forward(np.ones((4, 9)))
    with pytest.raises(lf.GateError, match="Sequential: backward before forward"):
        model.backward(G)


def test_rows_may_differ_from_sweep_to_sweep():
    model = lf.Sequential(lf.Linear(2), Square())
    for rows in (4, 1, 7):
        assert model.forward(np.ones((rows, 3))).shape == (rows, 2)
        assert model.backward(np.ones((rows, 2)))[0][0].shape == (rows, 3)


# The same gate at several places --------------------------------------------------------------------------------


def separate(shared, count):
    """As many gates as asked, with parameters of their own that are equal."""
    return [copy.deepcopy(shared) for _ in range(count)]


@pytest.mark.parametrize("is_built", [False, True], ids=["unbuilt", "built"])
@pytest.mark.parametrize("make", [Scale, Square, lambda: lf.Linear(3)], ids=["Scale", "Square", "Linear"])
def test_a_gate_used_three_times_sums_what_three_separate_gates_would_get(make, is_built, rng):
    gate = make()
    if is_built:
        gate.build(rng, (4, 3))
    model = lf.Sequential(gate, lf.Sequential(gate, Square()), gate)
    model.build(rng, (4, 3))
    first, second, third = separate(gate, 3)
    reference = lf.Sequential(first, lf.Sequential(second, Square()), third)
    upstream = np.ones((4, 3))
    assert np.array_equal(model.forward(X), reference.forward(X))
    (dx,), grads = model.backward(upstream)
    (expected,), _ = reference.backward(upstream)
    assert np.array_equal(dx, expected)
    assert list(grads) == [f"0.{name}" for name in gate.named_parameters()]
    for name, parameter in gate.named_parameters().items():
        total = sum(other.named_parameters()[name].grad for other in (first, second, third))
        assert np.allclose(parameter.grad, total, rtol=1e-12)


def test_a_sequential_used_twice_shares_its_parameters(rng):
    block = lf.Sequential(lf.Linear(3), Square(), Scale())
    model = lf.Sequential(block, block)
    model.build(rng, (4, 3))
    first, second = separate(block, 2)
    reference = lf.Sequential(first, second)
    assert len(model.parameters()) == 3
    assert np.array_equal(model.forward(X), reference.forward(X))
    model.backward(np.ones((4, 3)))
    reference.backward(np.ones((4, 3)))
    for mine, one, two in zip(block.parameters(), first.parameters(), second.parameters(), strict=True):
        assert np.allclose(mine.grad, one.grad + two.grad, rtol=1e-12)


def test_state_of_a_gate_at_two_places_is_one_and_the_same(rng):
    class Noisy(Square):
        def build(self, rng, shape):
            self.mean = lf.Buffer(0.0)
            self.rng = np.random.default_rng(rng.integers(1 << 30))
            return shape

    noisy = Noisy()
    model = lf.Sequential(noisy, noisy)
    model.build(rng, (4, 3))
    first, second = (step.gate for step in model.steps)
    assert first is second is noisy


# Copies ---------------------------------------------------------------------------------------------------------


def test_a_copy_computes_the_same_and_shares_nothing():
    model = nest(layers())
    expected = run(model)
    other = copy.deepcopy(model)
    assert all(map(np.array_equal, run(other), expected))
    for parameter in other.parameters():
        parameter.value[:] = 0.0
    assert all(map(np.array_equal, run(model), expected))


def test_a_copy_taken_between_forward_and_backward_can_be_run_back():
    model = lf.Sequential(*layers())
    model.forward(X)
    other = copy.deepcopy(model)
    assert np.array_equal(other.backward(G)[0][0], model.backward(G)[0][0])


# Summary --------------------------------------------------------------------------------------------------------


def test_the_summary_counts_shared_parameters_once(rng):
    linear = lf.Linear(3)
    model = lf.Sequential(linear, block=lf.Sequential(linear, Square()))
    model.build(rng, (32, 3))
    lines = [line.split() for line in model.summary().splitlines()]
    assert lines == [
        ["name", "gate", "output", "shape", "parameters"],
        ["0", "Linear(3)", "(32,", "3)", "12"],
        ["block.0", "Linear(3)", "(32,", "3)", "0"],
        ["block.1", "Square()", "(32,", "3)", "0"],
        ["total", "12"],
    ]


def test_a_summary_before_shapes_are_known_is_an_error():
    with pytest.raises(lf.GateError, match="summary comes after"):
        lf.Sequential(lf.Linear(3)).summary()


def test_a_subclass_may_write_a_backward_of_its_own():
    class Reversed(lf.Sequential):
        """Passes the gradient on with its sign turned, as in adversarial training of domains."""

        def backward(self, grad):
            (grad_x,), param_grads = super().backward(grad)
            return (-grad_x,), param_grads

    x, grad = np.ones((2, 3)), np.ones((2, 4))
    plain = lf.Sequential(lf.Linear(4), lf.Tanh())
    turned = Reversed(*plain)
    plain.forward(x)
    (expected,), _ = plain.backward(grad)
    turned.forward(x)
    (grad_x,), param_grads = turned.backward(grad)
    np.testing.assert_array_equal(grad_x, -expected)
    assert set(param_grads) == {"0.weight", "0.bias"}
