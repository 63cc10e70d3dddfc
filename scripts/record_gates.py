"""Records what PyTorch computes for the cases of `layerflow.gates.examples`, for tests that run without torch.

    python scripts/record_gates.py                    # writes tests/recorded/gates.npz; needs torch

Everything is float64. For each case the file holds the inputs, the parameters, an upstream gradient, and torch's output
and gradients of the same function, written in torch's own words and differentiated by its autograd. Left out are
noise, which comes from another generator, and gates with several outputs.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.gate import Gate
from layerflow.gates.examples import examples

RECORDED = Path(__file__).resolve().parents[1] / "tests" / "recorded" / "gates.npz"


def references() -> dict[str, Callable[..., Any]]:
    """Return, by the name of the gate, the same function on tensors: `reference(gate, *inputs, **parameters)`."""
    import torch
    from torch import nn
    from torch.nn import functional

    def reduced(gate: Any, x: Any, reduce: Callable[..., Any]) -> Any:
        axes = tuple(range(x.ndim)) if gate.axis is None else gate.axis
        return reduce(x, axes, gate.keepdims) if x.ndim else x * 1

    def batch_mean(losses: Any, weights: Any, factor: Any = None) -> Any:
        each = losses.reshape(len(losses), -1).sum(1)
        weights = torch.ones(len(each), dtype=each.dtype) if weights is None else weights
        return (weights * each).sum() / (weights if factor is None else weights * factor).sum()

    def tensor_of(class_weight: Any) -> Any:
        return None if class_weight is None else torch.as_tensor(class_weight)

    def class_loss(
        gate: Any, s: Any, t: Any, weights: Any, losses: Callable[..., Any], per_class_in_losses: bool = True
    ) -> Any:
        per_class, classes = tensor_of(gate.class_weight), s.shape[-1]
        is_soft, rows = t.ndim == s.ndim, s.reshape(-1, classes)
        t = t.reshape(-1, classes) if is_soft else t.flatten()
        weights = torch.ones(len(rows), dtype=s.dtype) if weights is None else weights.flatten()
        weights = weights.repeat_interleave(len(rows) // len(weights))
        if gate.ignore_index is not None:
            weights = weights * (t != gate.ignore_index)
            t = torch.where(t == gate.ignore_index, 0, t)
        factor = None
        if per_class is not None:
            smoothing = getattr(gate, "label_smoothing", 0.0)
            factor = ((1 - smoothing) * t + smoothing / classes) @ per_class if is_soft else per_class[t]
        each = losses(rows, t, per_class)
        return batch_mean(each if per_class_in_losses or factor is None else each * factor, weights, factor)

    def softmax_ce(gate: Any, s: Any, t: Any, weights: Any = None) -> Any:
        def losses(rows: Any, t: Any, per_class: Any) -> Any:
            return functional.cross_entropy(
                rows, t, weight=per_class, reduction="none", label_smoothing=gate.label_smoothing
            )

        return class_loss(gate, s, t, weights, losses)

    def focal(gate: Any, s: Any, t: Any, weights: Any = None) -> Any:
        def losses(rows: Any, t: Any, per_class: Any) -> Any:
            nll = functional.cross_entropy(rows, t, reduction="none")
            return (1 - torch.exp(-nll)) ** gate.gamma * nll

        return class_loss(gate, s, t, weights, losses, per_class_in_losses=False)

    def svm(gate: Any, s: Any, t: Any, weights: Any = None) -> Any:
        def losses(rows: Any, t: Any, per_class: Any) -> Any:  # torch averages over the classes, where this loss sums
            hinge = functional.multi_margin_loss(rows, t, margin=gate.margin, weight=per_class, reduction="none")
            return hinge * rows.shape[1]

        return class_loss(gate, s, t, weights, losses)

    def sigmoid_ce(gate: Any, s: Any, t: Any, weights: Any = None) -> Any:
        t = t.to(s.dtype).reshape(s.shape)
        pos_weight = tensor_of(gate.pos_weight)
        losses = functional.binary_cross_entropy_with_logits(s, t, reduction="none", pos_weight=pos_weight)
        if gate.class_weight is None:
            return batch_mean(losses, weights)
        factor = tensor_of(gate.class_weight)[t.long().flatten()]
        return batch_mean(losses.flatten() * factor, weights, factor)

    def gaussian(gate: Any, s: Any, t: Any, weights: Any = None) -> Any:
        means, log_variances = s.chunk(2, dim=1)
        return batch_mean(
            functional.gaussian_nll_loss(means, t.reshape(means.shape), log_variances.exp(), reduction="none"), weights
        )

    def quantile_loss(q: float, missing: Any) -> Any:  # torch has none; its maximum halves the gradient at ties
        return torch.where(missing > 0, q * missing, torch.where(missing < 0, (q - 1) * missing, 0 * missing))

    def padded(gate: Any, x: Any) -> Any:
        sizes = gate.padding if isinstance(gate.padding, list) else [gate.padding] * (2 * (x.ndim - 2))
        return functional.pad(x, sizes, gate.mode, gate.value if gate.mode == "constant" else None)

    def elementwise(loss: Callable[..., Any]) -> Callable[..., Any]:
        def mean(gate: Any, s: Any, t: Any, weights: Any = None) -> Any:
            return batch_mean(loss(gate, s, t.to(s.dtype).reshape(s.shape)), weights)

        return mean

    def sliced(gate: Any, x: Any) -> Any:
        positions = np.arange(x.numel()).reshape(x.shape)[gate.key]  # torch has no negative steps
        return torch.take(x, torch.as_tensor(np.ascontiguousarray(positions)).reshape(np.shape(positions)))

    def convolution(gate: Any, x: Any, convolve: Callable[..., Any], weight: Any, bias: Any = None) -> Any:
        windows = gate.windows
        x = functional.pad(x, [size for pair in reversed(windows.padding) for size in pair])
        return convolve(x, weight, bias, windows.stride, 0, windows.dilation, gate.groups)

    def transposed(gate: Any, x: Any, weight: Any, bias: Any = None) -> Any:
        windows = gate.windows
        padding = [before for before, _ in windows.padding]
        return functional.conv_transpose2d(x, weight, bias, windows.stride, padding, 0, gate.groups, windows.dilation)

    def pooled(gate: Any, x: Any, pool: Callable[..., Any]) -> Any:
        windows = gate.windows
        return pool(x, windows.kernel, windows.stride, [before for before, _ in windows.padding])

    def batch_norm(gate: Any, x: Any, weight: Any = None, bias: Any = None) -> Any:
        running = None, None
        if not gate.training:
            running = torch.as_tensor(gate.running_mean.value), torch.as_tensor(gate.running_var.value)
        return functional.batch_norm(x, *running, weight, bias, gate.training, gate.momentum, gate.eps)

    def ending(gate: Any, x: Any) -> Any:
        return gate.normalized_shape or x.shape[-1:]

    def recurrent(run: Callable[..., Any]) -> Callable[..., Any]:
        def outputs(gate: Any, x: Any, mask: Any = None, **parameters: Any) -> Any:
            zeros = torch.zeros((1 + gate.bidirectional, len(x), gate.hidden_size), dtype=x.dtype)
            state = (zeros, zeros) if gate.formula.states == 2 else zeros
            options = True, 1, 0.0, True, gate.bidirectional
            if mask is None:
                y, last, *_ = run(x, state, list(parameters.values()), *options, True)
            else:
                rows = nn.utils.rnn.pack_padded_sequence(x, mask.sum(1), batch_first=True, enforce_sorted=False)
                y, last, *_ = run(rows.data, rows.batch_sizes, state, list(parameters.values()), *options)
                packed = nn.utils.rnn.PackedSequence(y, rows.batch_sizes, rows.sorted_indices, rows.unsorted_indices)
                y, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
                last = last[:, rows.unsorted_indices]
            return y if gate.return_sequences else torch.cat(list(last), dim=1)

        return outputs

    def rnn(gate: Any, *inputs: Any, **parameters: Any) -> Any:
        run = torch.rnn_tanh if gate.formula.nonlinearity == "tanh" else torch.rnn_relu
        return recurrent(run)(gate, *inputs, **parameters)

    def rnn_cell(gate: Any, x: Any, h: Any, **parameters: Any) -> Any:
        step = torch.rnn_tanh_cell if gate.formula.nonlinearity == "tanh" else torch.rnn_relu_cell
        return step(x, h, *parameters.values())

    def attention(gate: Any, query: Any, key: Any, value: Any, mask: Any = None) -> Any:
        seen = mask if mask is None else mask | ~mask.any(-1, keepdim=True)  # torch gives NaN where nothing is seen
        y = functional.scaled_dot_product_attention(query, key, value, seen, is_causal=gate.causal)
        return y if mask is None else y * mask.any(-1, keepdim=True)

    def multi_head(gate: Any, *inputs: Any, **parameters: Any) -> Any:
        query, key, value = inputs[:3] if len(inputs) > 2 else inputs[:1] * 3
        unseen = ~inputs[-1] if len(inputs) in (2, 4) else None
        later = torch.ones((query.shape[1], key.shape[1]), dtype=torch.bool).triu(1) if gate.causal else None
        module = nn.MultiheadAttention(query.shape[2], gate.num_heads, batch_first=True, dtype=query.dtype)
        weights = {name.replace("out_proj_", "out_proj."): item for name, item in parameters.items()}
        arguments = {"key_padding_mask": unseen, "attn_mask": later, "need_weights": False}
        return torch.func.functional_call(module, weights, (query, key, value), arguments)[0]

    def norm(gate: Any, x: Any) -> Any:
        return torch.linalg.vector_norm(x, dim=gate.axis, keepdim=gate.keepdims)

    def prod(gate: Any, x: Any) -> Any:
        for axis in sorted((axis % x.ndim for axis in all_axes(gate, x)), reverse=True):
            x = x.prod(axis, keepdim=gate.keepdims)
        return x

    def all_axes(gate: Any, x: Any) -> tuple[int, ...]:
        if gate.axis is None:
            return tuple(range(x.ndim))
        return gate.axis if isinstance(gate.axis, tuple) else (gate.axis,)

    def variance(reduce: Callable[..., Any]) -> Callable[..., Any]:
        return lambda gate, x: reduce(x, all_axes(gate, x), correction=gate.correction, keepdim=gate.keepdims)

    return {
        "PReLU": lambda gate, x, weight: functional.prelu(x, weight),
        "Hardtanh": lambda gate, x: functional.hardtanh(x, gate.min_val, gate.max_val),
        "ReLU6": lambda gate, x: functional.relu6(x),
        "Hardsigmoid": lambda gate, x: (x / 6 + 0.5).clamp(0, 1),  # the gradient of torch's own has a 1/6 in float32
        "Hardswish": lambda gate, x: functional.hardswish(x),
        "Threshold": lambda gate, x: functional.threshold(x, gate.threshold, gate.value),
        "SELU": lambda gate, x: functional.selu(x),
        "CELU": lambda gate, x: functional.celu(x, gate.alpha),
        "Mish": lambda gate, x: functional.mish(x),
        "Softsign": lambda gate, x: functional.softsign(x),
        "LogSigmoid": lambda gate, x: functional.logsigmoid(x),
        "GLU": lambda gate, x: functional.glu(x, gate.axis),
        "Abs": lambda gate, x: x.abs(),
        "Sqrt": lambda gate, x: x.sqrt(),
        "Sin": lambda gate, x: x.sin(),
        "Cos": lambda gate, x: x.cos(),
        "Erf": lambda gate, x: torch.erf(x),
        "Clip": lambda gate, x: x.clamp(*gate.bounds),
        "Where": lambda gate, condition, a, b: torch.where(condition != 0, a, b),
        "Min": lambda gate, x: torch.amin(x, all_axes(gate, x), gate.keepdims),
        "Prod": prod,
        "Var": variance(torch.var),
        "Std": variance(torch.std),
        "LogSumExp": lambda gate, x: torch.logsumexp(x, all_axes(gate, x), gate.keepdims),
        "Norm": norm,
        "CumSum": lambda gate, x: x.cumsum(gate.axis),
        "Stack": lambda gate, *inputs: torch.stack(inputs, gate.axis),
        "Gather": lambda gate, x, index: torch.gather(x, gate.axis, index),
        "Einsum": lambda gate, *inputs: torch.einsum(gate.arguments["subscripts"], *inputs),
        "Embedding": lambda gate, tokens, weight: functional.embedding(tokens, weight, gate.padding_idx),
        "PositionalEmbedding": lambda gate, x, weight: x + weight[: x.shape[1]],
        "SinusoidalEncoding": lambda gate, x: x + torch.as_tensor(gate.forward(np.zeros(x.shape))),
        "RNNCell": rnn_cell,
        "GRUCell": lambda gate, x, h, **parameters: torch.gru_cell(x, h, *parameters.values()),
        "RNN": rnn,
        "GRU": recurrent(torch.gru),
        "LSTM": recurrent(torch.lstm),
        "ScaledDotProductAttention": attention,
        "MultiHeadAttention": multi_head,
        "Conv1d": lambda gate, x, **parameters: convolution(gate, x, functional.conv1d, **parameters),
        "Conv2d": lambda gate, x, **parameters: convolution(gate, x, functional.conv2d, **parameters),
        "ConvTranspose2d": transposed,
        "MaxPool1d": lambda gate, x: pooled(gate, x, functional.max_pool1d),
        "MaxPool2d": lambda gate, x: pooled(gate, x, functional.max_pool2d),
        "AvgPool2d": lambda gate, x: pooled(gate, x, functional.avg_pool2d),
        "GlobalAvgPool": lambda gate, x: x.flatten(2).mean(2),
        "AdaptiveAvgPool2d": lambda gate, x: functional.adaptive_avg_pool2d(x, gate.output_size),
        "Upsample": lambda gate, x: functional.interpolate(x, scale_factor=gate.scale_factor, mode=gate.mode),
        "BatchNorm": batch_norm,
        "GroupNorm": lambda gate, x, weight=None, bias=None: functional.group_norm(
            x, gate.num_groups, weight, bias, gate.eps
        ),
        "InstanceNorm": lambda gate, x, weight=None, bias=None: functional.instance_norm(
            x, weight=weight, bias=bias, eps=gate.eps
        ),
        "LayerNorm": lambda gate, x, weight, bias: functional.layer_norm(x, ending(gate, x), weight, bias, gate.eps),
        "RMSNorm": lambda gate, x, weight: functional.rms_norm(x, ending(gate, x), weight, gate.eps),
        "Add": lambda gate, a, b: torch.add(a, b),
        "Subtract": lambda gate, a, b: torch.sub(a, b),
        "Multiply": lambda gate, a, b: torch.mul(a, b),
        "Divide": lambda gate, a, b: torch.div(a, b),
        "Negate": lambda gate, x: torch.neg(x),
        "Power": lambda gate, x: torch.pow(x, gate.exponent),
        "Maximum": lambda gate, a, b: torch.maximum(a, b),
        "Minimum": lambda gate, a, b: torch.minimum(a, b),
        "MatMul": lambda gate, a, b: torch.matmul(a, b),
        "Exp": lambda gate, x: torch.exp(x),
        "Log": lambda gate, x: torch.log(x),
        "Sum": lambda gate, x: reduced(gate, x, torch.sum),
        "Mean": lambda gate, x: reduced(gate, x, torch.mean),
        "Max": lambda gate, x: reduced(gate, x, torch.amax),
        "Reshape": lambda gate, x: x.reshape(gate.shape),
        "Flatten": lambda gate, x: torch.flatten(x, 1) if x.ndim > 1 else x[:, None],
        "Transpose": lambda gate, x: x.permute(gate.axes or tuple(reversed(range(x.ndim)))),
        "Concatenate": lambda gate, *inputs: torch.cat(inputs, gate.axis),
        "Slice": sliced,
        "Linear": lambda gate, x, weight, bias=None: functional.linear(x, weight, bias),
        "BiasTrick": lambda gate, x: functional.pad(x, (0, 1), value=1.0),
        "ReLU": lambda gate, x: functional.relu(x),
        "LeakyReLU": lambda gate, x: functional.leaky_relu(x, gate.negative_slope),
        "ELU": lambda gate, x: functional.elu(x, gate.alpha),
        "Sigmoid": lambda gate, x: torch.sigmoid(x),
        "Tanh": lambda gate, x: torch.tanh(x),
        "Softplus": lambda gate, x: functional.softplus(x, threshold=50.0),  # beyond the threshold it returns x
        "GELU": lambda gate, x: functional.gelu(x, approximate=gate.approximate),
        "SiLU": lambda gate, x: functional.silu(x),
        "Softmax": lambda gate, x: functional.softmax(x, gate.axis),
        "LogSoftmax": lambda gate, x: functional.log_softmax(x, gate.axis),
        "SoftmaxCE": softmax_ce,
        "TiedLinear": lambda gate, x, weight, bias=None: functional.linear(
            x, weight.T if gate.transposed else weight, bias
        ),
        "PaddingMask": lambda gate, x: (x != gate.padding_idx).to(x.dtype) + 0 * x,
        "FocalCE": focal,
        "MulticlassSVM": svm,
        "Quantile": elementwise(lambda gate, s, t: quantile_loss(gate.quantile, t - s)),
        "PoissonNLL": elementwise(lambda gate, s, t: functional.poisson_nll_loss(s, t, reduction="none")),
        "GaussianNLL": gaussian,
        "KLDivergence": elementwise(lambda gate, s, t: functional.kl_div(s, t, reduction="none")),
        "Triplet": lambda gate, a, p, n: functional.triplet_margin_loss(a, p, n, margin=gate.margin, eps=gate.eps),
        "CosineEmbedding": lambda gate, a, b, t: functional.cosine_embedding_loss(a, b, t, gate.margin),
        "Pad": padded,
        "SigmoidCE": sigmoid_ce,
        "SquaredError": elementwise(lambda gate, s, t: functional.mse_loss(s, t, reduction="none")),
        "AbsoluteError": elementwise(lambda gate, s, t: functional.l1_loss(s, t, reduction="none")),
        "Huber": elementwise(lambda gate, s, t: functional.huber_loss(s, t, delta=gate.delta, reduction="none")),
        "ClippedNLL": elementwise(lambda gate, s, t: -torch.log(((1 + (2 * t - 1) * s) / 2).clamp(gate.floor, 1))),
        "LogisticLikelihood": elementwise(lambda gate, s, t: 1 - torch.sigmoid((2 * t - 1) * s)),
        "L2Regularizer": lambda gate, *weights: gate.strength * sum(w.square().sum() for w in weights),
        "L1Regularizer": lambda gate, *weights: gate.strength * sum(torch.linalg.vector_norm(w, 1) for w in weights),
    }


def torch_result(gate: Gate, inputs: list[np.ndarray], grad: np.ndarray) -> dict[str, np.ndarray]:
    """Return torch's output and gradients: `output`, `grad0`, `grad1`, ... of the inputs, `grad_weight`, ..."""
    import torch

    def leaf(array: np.ndarray, needs_grad: bool) -> Any:
        return torch.tensor(array, requires_grad=needs_grad)

    gradients, _ = gate.backward(grad)
    tensors = [leaf(x, mine is not None) for x, mine in zip(inputs, gradients, strict=True)]
    parameters = {name: leaf(item.value, True) for name, item in gate.named_parameters().items()}
    output = references()[type(gate).__name__](gate, *tensors, **parameters)
    output.backward(torch.tensor(grad))
    named = {f"grad{i}": tensor for i, tensor in enumerate(tensors)}
    named |= {f"grad_{name}": tensor for name, tensor in parameters.items()}
    found = {name: tensor.grad.numpy() for name, tensor in named.items() if tensor.grad is not None}
    return {"output": output.detach().numpy(), **found}


def cases(seed: int) -> list[tuple[str, Gate, list[np.ndarray], np.ndarray]]:
    """Return name, gate (built, and run forward once), inputs and upstream gradient of every case torch can judge."""
    rng = np.random.default_rng(seed)
    known, listed = references(), []
    for kind, entries in examples(rng).items():
        for number, (gate, given) in enumerate(entries):
            if kind not in known:
                continue
            inputs = [np.asarray(x) for x in given]
            gate.build(rng, *(x.shape for x in inputs))
            grad = np.asarray(rng.normal(size=np.shape(gate.forward(*inputs))))
            listed.append((f"{kind}-{number}", gate, inputs, grad))
    return listed


def main() -> None:
    """Write the file."""
    import torch

    arrays: dict[str, np.ndarray] = {"torch": np.array(torch.__version__)}
    gates = {}
    for name, gate, inputs, grad in cases(seed=0):
        gates[name] = repr(gate)
        arrays |= {f"{name}/input{i}": x for i, x in enumerate(inputs)} | {f"{name}/upstream": grad}
        arrays |= {f"{name}/{key}": item.value for key, item in gate.named_parameters().items()}
        arrays |= {f"{name}/torch/{key}": array for key, array in torch_result(gate, inputs, grad).items()}
    flat = np.concatenate([np.asarray(array, np.float64).ravel() for key, array in arrays.items() if key != "torch"])
    layout = {key: [array.shape, str(array.dtype)] for key, array in arrays.items() if key != "torch"}
    RECORDED.parent.mkdir(exist_ok=True)
    index = np.array(json.dumps({"gates": gates, "layout": layout}))
    np.savez_compressed(RECORDED, torch=arrays["torch"], index=index, values=flat)
    print(f"{RECORDED}: {RECORDED.stat().st_size} bytes, {len(gates)} cases, torch {torch.__version__}")


if __name__ == "__main__":
    main()
