"""What is drawn: items, wires, and the gradient on each wire alone."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.report.graph.picture import find_gate, picture_of


def test_the_lecture_graph_has_its_values_and_gradients_on_the_wires(lecture):
    picture = picture_of(lecture)
    numbers = [(w.source.label, w.target.label, float(w.value), float(w.grad)) for w in picture.wires]
    assert numbers == [
        ("x", "+", -2.0, -4.0),
        ("y", "+", 5.0, -4.0),
        ("+", "×", 3.0, -4.0),
        ("z", "×", -4.0, 3.0),
        ("×", "output", -12.0, 1.0),
    ]
    kinds = {item.label: item.kind for item in picture.items}
    assert kinds == {"x": "data", "y": "data", "z": "data", "+": "gate", "×": "gate", "output": "output"}


def test_the_gradients_of_the_wires_at_a_fork_add_up_to_the_gradient_of_the_value(forked):
    graph = forked.graph
    picture = picture_of(forked)
    for item in picture.gates:
        leaving = [wire.grad for wire in wires_from(picture, item) if wire.grad is not None]
        total = graph.grads[graph.nodes[item.name].slot]
        np.testing.assert_allclose(sum(leaving), total, rtol=1e-12)


def test_tied_weights_are_one_item_with_a_wire_to_each_use(forked):
    picture = picture_of(forked)
    (weight,) = [item for item in picture.items if item.kind == "parameter" and np.ndim(item_value(picture, item)) == 2]
    wires = wires_from(picture, weight)
    assert [type(wire.target.gate).__name__ for wire in wires] == ["Linear", "Linear", "Multiply", "Multiply"]
    parameter = forked.graph.parameters()[0]
    np.testing.assert_allclose(sum(wire.grad for wire in wires), parameter.grad, rtol=1e-12)


def wires_from(picture, item):
    return [wire for wire in picture.wires if wire.source is item]


def item_value(picture, item):
    return wires_from(picture, item)[0].value


def test_a_node_is_drawn_with_what_it_depends_on_and_nothing_else(forked):
    graph = forked.graph
    picture = picture_of(graph["linear"])
    assert [item.name for item in picture.gates] == ["linear"]
    assert [item.kind for item in picture.items] == ["data", "parameter", "parameter", "gate", "output"]


def test_without_values_the_wires_know_their_shapes_alone(forked):
    picture = picture_of(forked, values=False)
    assert not picture.has_values
    assert all(wire.value is None and wire.grad is None for wire in picture.wires)
    assert picture.wires[0].shape == (8, 5)


def test_a_model_that_never_ran_is_drawn_without_values():
    picture = picture_of(lf.Sequential(hidden=lf.Linear(4), act=lf.ReLU(), out=lf.Linear(2)))
    assert not picture.has_values
    assert [(item.kind, item.label) for item in picture.items] == [
        ("data", "x"),
        ("parameter", "hidden.weight"),
        ("parameter", "hidden.bias"),
        ("gate", "Linear(4)"),
        ("gate", "ReLU"),
        ("parameter", "out.weight"),
        ("parameter", "out.bias"),
        ("gate", "Linear(2)"),
        ("output", "output"),
    ]


def test_a_nested_container_is_drawn_flat_with_dotted_names():
    model = lf.Sequential(block=lf.Sequential(lf.Linear(3), lf.ReLU()), head=lf.Linear(2))
    model.forward(np.ones((2, 3)))
    assert [item.name for item in picture_of(model).gates] == ["block.0", "block.1", "head"]


def test_after_forward_alone_there_are_values_and_no_gradients(lecture):
    lecture = lf.Sequential(lf.Linear(2))
    lecture.forward(np.ones((1, 2)))
    picture = picture_of(lecture)
    assert picture.has_values
    assert all(wire.value is not None and wire.grad is None for wire in picture.wires)


def test_drawing_leaves_the_sweeps_as_they_were(forked):
    before = [None if grad is None else np.copy(grad) for grad in forked.graph.grads]
    picture_of(forked)
    forked.backward()
    for was, now in zip(before, forked.graph.grads, strict=True):
        assert (was is None and now is None) or np.array_equal(was, now)


def test_a_gate_is_found_by_name_or_by_a_type_that_is_the_only_one(forked):
    picture = picture_of(forked)
    assert find_gate(picture, "linear").name == "linear"
    assert find_gate(picture, "Mean").name == "mean"
    with pytest.raises(lf.GateError, match=r"no gate 'lineer'.*linear \(Linear\)"):
        find_gate(picture, "lineer")
    with pytest.raises(lf.GateError, match="'Linear' matches 2 gates"):
        find_gate(picture, "Linear")
