"""Convolution, pooling and normalisation against plain loops, and what they refuse."""

import numpy as np
import pytest

import layerflow as lf

RNG = np.random.default_rng(7)


def built(gate, *shape):
    gate.build(np.random.default_rng(0), shape)
    return gate


def by_loops(x, weight, bias, stride, padding, dilation, groups):
    """Return the convolution of x, one product at a time."""
    batch, channels, height, width = x.shape
    out, _, rows, columns = weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    high = (height + 2 * padding - dilation * (rows - 1) - 1) // stride + 1
    wide = (width + 2 * padding - dilation * (columns - 1) - 1) // stride + 1
    y = np.zeros((batch, out, high, wide)) + bias[:, None, None]
    per_group, out_per_group = channels // groups, out // groups
    for n, o, r, s, c, i, j in np.ndindex(batch, out, high, wide, per_group, rows, columns):
        channel = o // out_per_group * per_group + c
        y[n, o, r, s] += weight[o, c, i, j] * padded[n, channel, stride * r + dilation * i, stride * s + dilation * j]
    return y


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 1, 2), (1, 2, 2, 4), (3, 0, 1, 1)]
)
def test_a_convolution_equals_plain_loops(stride, padding, dilation, groups):
    x = RNG.normal(size=(2, 4, 6, 5))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    gate = built(lf.Conv2d(4, [3, 2], **options), *x.shape)
    gate.bias.value = RNG.normal(size=4)
    expected = by_loops(x, gate.weight.value, gate.bias.value, stride, padding, dilation, groups)
    np.testing.assert_allclose(gate.forward(x), expected, rtol=1e-13, atol=1e-13)


def test_a_transposed_convolution_is_the_adjoint_of_the_convolution():
    x = RNG.normal(size=(2, 3, 7, 7))
    convolution = built(lf.Conv2d(4, 3, stride=2, padding=1, bias=False), *x.shape)
    y = RNG.normal(size=convolution.forward(x).shape)
    adjoint = built(lf.ConvTranspose2d(3, 3, stride=2, padding=1, bias=False), *y.shape)
    adjoint.weight.value = convolution.weight.value
    assert np.sum(convolution.forward(x) * y) == pytest.approx(np.sum(x * adjoint.forward(y)), rel=1e-12)


def test_padding_same_keeps_the_size_and_puts_the_odd_zero_last():
    gate = built(lf.Conv1d(1, 2, padding="same", bias=False), 1, 1, 4)
    gate.weight.value = np.ones((1, 1, 2))
    np.testing.assert_array_equal(gate.forward(np.array([[[1.0, 2.0, 4.0, 8.0]]])), [[[3.0, 6.0, 12.0, 8.0]]])


def test_of_equal_elements_the_first_gets_the_gradient_of_max_pooling():
    gate = lf.MaxPool2d(2)
    gate.forward(np.ones((1, 1, 2, 4)))
    (grad,), _ = gate.backward(np.array([[[[3.0, 5.0]]]]))
    np.testing.assert_array_equal(grad, [[[[3, 0, 5, 0], [0, 0, 0, 0]]]])


def test_padding_never_wins_in_max_pooling():
    y = lf.MaxPool2d(3, stride=2, padding=1).forward(np.full((1, 1, 4, 4), -7.0))
    np.testing.assert_array_equal(y, np.full((1, 1, 2, 2), -7.0))


def test_adaptive_pooling_takes_the_means_of_bins_that_may_overlap():
    y = lf.AdaptiveAvgPool2d([1, 2]).forward(np.array([[[[1.0, 2.0, 6.0]]]]))
    np.testing.assert_allclose(y, [[[[1.5, 4.0]]]])


def test_batch_norm_keeps_moving_averages_with_the_unbiased_variance_and_uses_them_in_evaluation():
    x = np.array([[1.0, 10.0], [3.0, 10.0], [5.0, 40.0]])
    gate = built(lf.BatchNorm(momentum=0.25), *x.shape)
    gate.training = True
    np.testing.assert_allclose(gate.forward(x).mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(gate.running_mean.value, 0.25 * np.array([3.0, 20.0]))
    np.testing.assert_allclose(gate.running_var.value, 0.75 + 0.25 * np.array([4.0, 300.0]))
    gate.training = False
    expected = (x - gate.running_mean.value) / np.sqrt(gate.running_var.value + 1e-5)
    np.testing.assert_allclose(gate.forward(x), expected)
    np.testing.assert_allclose(gate.running_mean.value, 0.25 * np.array([3.0, 20.0]))


@pytest.mark.parametrize("gate", [lf.BatchNorm(), lf.GroupNorm(2), lf.InstanceNorm(), lf.LayerNorm()], ids=repr)
def test_a_constant_input_gives_zero_and_a_large_offset_does_no_harm(gate):
    x = np.full((3, 4, 5, 5), 1e8)
    built(gate, *x.shape)
    np.testing.assert_array_equal(gate.forward(x), np.zeros_like(x))
    noise = RNG.normal(size=x.shape)
    np.testing.assert_allclose(gate.forward(1e8 + noise), gate.forward(noise), atol=1e-6)


def test_a_small_convolutional_network_trains():
    x = RNG.normal(size=(64, 1, 8, 8))
    y = (x[:, 0, :4].sum(axis=(1, 2)) > x[:, 0, 4:].sum(axis=(1, 2))).astype(int)
    model = lf.Sequential(
        lf.Conv2d(8, 3, padding="same"), lf.BatchNorm(), lf.ReLU(), lf.MaxPool2d(2), lf.Flatten(), lf.Linear(2)
    )
    trainer = lf.Trainer(model, lf.SoftmaxCE(), lf.Adam(0.01), epochs=15, batch_size=16, seed=0, metrics=["accuracy"])
    history = trainer.fit(x, y)
    assert history["train_loss"][-1] < 0.2 * history["train_loss"][0]
    assert trainer.predict(x).shape == (64, 2)


IMAGE = np.zeros((2, 4, 5, 5))
REFUSED = [
    (lambda: lf.Conv2d(0, 3), "out_channels must be an integer, 1 or more, not 0"),
    (
        lambda: lf.Conv2d(4, [3]),
        r"kernel_size must be an integer, 1 or more, or a list of 2 such integers, one per axis",
    ),
    (lambda: lf.Conv2d(4, 3, stride=0), "stride must be"),
    (lambda: lf.Conv2d(4, 3, padding=-1), "padding must be an integer, 0 or more"),
    (lambda: lf.Conv2d(4, 3, padding="full"), "not 'full'"),
    (lambda: lf.Conv2d(4, 3, padding="same", stride=2), "padding='same' needs stride 1"),
    (lambda: lf.MaxPool2d(2, padding=2), "padding must be at most half of kernel_size 2, not 2"),
    (lambda: lf.Upsample(1.5), "scale_factor must be an integer"),
    (lambda: lf.Upsample(2, "cubic"), "mode must be 'nearest' or 'bilinear', not 'cubic'"),
    (lambda: lf.BatchNorm(eps=0), "eps must be a finite number above 0, not 0"),
    (lambda: lf.BatchNorm(momentum=2), "momentum must be a number from 0 to 1, not 2"),
    (lambda: lf.LayerNorm([]), "normalized_shape must be"),
    (lambda: built(lf.Conv2d(4, 6), *IMAGE.shape), "has height 5 with its padding, less than the 6"),
    (lambda: built(lf.Conv2d(4, [2, 3], dilation=3), *IMAGE.shape), "has width 5 with its padding, less than the 7"),
    (lambda: built(lf.Conv2d(4, 3, groups=3), *IMAGE.shape), "groups=3 must divide the 4 input channels"),
    (lambda: built(lf.Conv2d(6, 3, groups=4), *IMAGE.shape), "and the 6 output channels"),
    (lambda: built(lf.Conv2d(4, 3, in_channels=3), *IMAGE.shape), r"expected \(batch, 3, height, width\)"),
    (lambda: built(lf.Conv1d(4, 3), *IMAGE.shape), r"expected \(batch, 4, length\)"),
    (lambda: built(lf.Conv2d(4, 3), *IMAGE.shape).forward(IMAGE[:, :2]), r"expected \(batch, 4, height, width\)"),
    (lambda: built(lf.ConvTranspose2d(1, 2, padding=4), *IMAGE.shape), "padding leaves nothing of the output"),
    (lambda: lf.MaxPool2d(6).forward(IMAGE), "smaller kernel or more padding"),
    (lambda: lf.GlobalAvgPool().forward(np.zeros((2, 3))), "with a position"),
    (lambda: built(lf.BatchNorm(), 3, 4).forward(np.zeros((1, 4))), "training needs 2 or more for a variance"),
    (lambda: built(lf.BatchNorm(), 3, 4).forward(np.zeros((3, 5))), r"expected \(batch, 4, ...\)"),
    (lambda: built(lf.GroupNorm(3), 2, 4), "num_groups=3 must divide the 4 channels"),
    (lambda: lf.InstanceNorm().forward(np.zeros((2, 3, 1))), "a single position, whose variance is 0"),
    (lambda: built(lf.LayerNorm([5, 4]), *IMAGE.shape), r"expected \(..., 5, 4\)"),
    (lambda: built(lf.RMSNorm(), 3, 4).forward(np.zeros((3, 5))), r"expected \(..., 4\)"),
]


@pytest.mark.parametrize(("act", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_does_not_fit_is_named(act, message):
    with pytest.raises(lf.GateError, match=message):
        act()
