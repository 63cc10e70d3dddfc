"""Gates of functions: of NumPy, PyTorch and JAX."""

import numpy as np
import pytest

import layerflow as lf

RNG = np.random.default_rng(2)
X = RNG.normal(size=(3, 4))


def test_two_functions_are_a_gate_that_is_checked_and_used():
    square = lf.gate_from(lambda x: x * x, lambda grad, x: 2 * x * grad, name="square")
    assert lf.check_gradients(square, X).ok
    wrong = lf.gate_from(lambda x: x * x, lambda grad, x: x * grad)
    report = lf.check_gradients(wrong, X)
    assert not report.ok and "factor" in str(report)
    model = lf.Sequential(lf.Linear(3), square, lf.Linear(1))
    assert lf.check_gradients(model, X).ok
    assert repr(square) == "square"


def test_several_inputs_and_outputs_and_labels():
    def forward(x, w, labels):
        return x * w, (x[np.arange(3), labels]).sum()

    def backward(grad_y, grad_s, x, w, labels):
        grad_x = grad_y * w
        grad_x[np.arange(3), labels] += grad_s
        return grad_x, grad_y * x, None

    gate = lf.gate_from(forward, backward)
    assert lf.check_gradients(gate, X, RNG.normal(size=(3, 4)), np.array([0, 2, 1])).ok


def test_what_is_no_function_is_named():
    with pytest.raises(lf.GateError, match="gate_from: backward is 3, not a function"):
        lf.gate_from(np.tanh, 3)


@pytest.mark.torch
def test_a_function_of_torch_is_checked_and_a_wrong_one_is_named():
    torch = pytest.importorskip("torch")
    from layerflow.interop.torch import from_torch

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * grad

    class Wrong(Cube):
        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return 2 * x**2 * grad

    assert lf.check_gradients(from_torch(Cube), X).ok
    report = lf.check_gradients(from_torch(Wrong), X)
    assert not report.ok and "constant factor" in str(report)
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    report = lf.check_gradients(from_torch(module), X)
    assert report.ok and len(report.tensors) == 5
    assert lf.check_gradients(from_torch(torch.nn.functional.cross_entropy), X, np.array([0, 3, 1])).ok
    with pytest.raises(lf.GateError, match="no module, autograd function or function"):
        from_torch(3)


@pytest.mark.torch
def test_weights_of_torch_are_loaded_by_name(tmp_path):
    torch = pytest.importorskip("torch")
    from layerflow.interop.torch import load_weights

    theirs = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    theirs[1].running_mean += 0.3
    theirs.eval()
    ours = lf.Sequential(lf.Linear(5), lf.BatchNorm(), lf.ReLU(), lf.Linear(2))
    ours.forward(X.astype(np.float32))
    ours.training = False
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    report = load_weights(ours, tmp_path / "weights.pt")
    assert len(report.matched) == 8 and not report.missing and not report.unused
    with torch.no_grad():
        expected = theirs(torch.tensor(X.astype(np.float32))).numpy()
    np.testing.assert_allclose(ours.forward(X.astype(np.float32)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
def test_recurrent_weights_are_loaded_too(kind):
    torch = pytest.importorskip("torch")
    from layerflow.interop.torch import load_weights

    theirs, ours = getattr(torch.nn, kind)(3, 6, batch_first=True).double(), getattr(lf, kind)(6)
    x = RNG.normal(size=(2, 5, 3))
    ours.forward(x)
    load_weights(ours, theirs.state_dict())
    with torch.no_grad():
        expected = theirs(torch.tensor(x))[0].numpy()
    np.testing.assert_allclose(ours.forward(x), expected, rtol=1e-10)


@pytest.mark.torch
def test_weights_that_do_not_fit_change_nothing(tmp_path):
    torch = pytest.importorskip("torch")
    from layerflow.interop.torch import load_weights

    ours = lf.Sequential(lf.Linear(5), lf.Linear(2))
    with pytest.raises(lf.ConfigError, match=r"0\.weight, .*no value yet"):
        load_weights(ours, {})
    ours.forward(X)
    before = ours[0].weight.value.copy()
    state = {"0.weight": torch.zeros(5, 4), "0.bias": torch.zeros(5), "1.weight": torch.zeros(2, 6)}
    with pytest.raises(lf.DataError, match=r"1.weight has shape \(2, 6\), but 1.weight needs \(2, 5\)"):
        load_weights(ours, state)
    del state["1.weight"]
    state["head.weight"] = torch.zeros(2, 5)
    with pytest.raises(lf.ConfigError, match=r"missing: 1.weight, 1.bias\nnot used: head.weight"):
        load_weights(ours, state)
    np.testing.assert_array_equal(ours[0].weight.value, before)
    assert load_weights(ours, state, strict=False).missing == ["1.weight", "1.bias"]
    assert not ours[0].weight.value.any()
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(lf.DataError, match=r"damaged.pt: no state_dict that can be read without running code"):
        load_weights(ours, tmp_path / "damaged.pt")
    with pytest.raises(lf.DataError, match="no such file"):
        load_weights(ours, tmp_path / "none.pt")


@pytest.mark.torch
def test_a_function_of_jax_is_checked_and_a_wrong_one_is_named():
    jax = pytest.importorskip("jax")
    from layerflow.interop.jax import from_jax

    @jax.custom_vjp
    def sine(x):
        return jax.numpy.sin(x)

    sine.defvjp(lambda x: (jax.numpy.sin(x), x), lambda x, grad: (grad * jax.numpy.cos(x),))
    assert lf.check_gradients(from_jax(sine), X).ok

    @jax.custom_vjp
    def wrong(x):
        return jax.numpy.sin(x)

    wrong.defvjp(lambda x: (jax.numpy.sin(x), x), lambda x, grad: (-grad * jax.numpy.cos(x),))
    report = lf.check_gradients(from_jax(wrong), X)
    assert not report.ok and "sign" in str(report)
    assert lf.check_gradients(from_jax(lambda x, w: x @ w), X, RNG.normal(size=(4, 2))).ok
    with pytest.raises(lf.GateError, match="is not a function"):
        from_jax(3)
