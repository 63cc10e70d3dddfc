"""PyTorch's modules and functions as gates, so that the gradient check works on them; and weights from PyTorch.

Needs PyTorch, which is imported here only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.errors import ConfigError, DataError, GateError, did_you_mean
from layerflow.gate import Gate, Gradients
from layerflow.parameter import Array, Cell, Parameter

try:
    import torch
except ImportError as error:
    raise ImportError("layerflow.interop.torch needs PyTorch: pip install torch") from error


class TorchGate(Gate):
    """y = function(*inputs), computed and differentiated by PyTorch; see `from_torch`."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function, self.name = function, name
        module = function if isinstance(function, torch.nn.Module) else None
        named = dict(module.named_parameters()) if module is not None else {}
        self.weights = {key: Parameter(value.detach().cpu().double().numpy().copy()) for key, value in named.items()}
        if module is not None:
            module.double()

    def forward(self, *inputs: Any) -> Any:
        tensors = [torch.tensor(np.asarray(x)) for x in inputs]
        for tensor in tensors:
            tensor.requires_grad_(tensor.is_floating_point())
        with torch.enable_grad():
            learned = []
            if isinstance(self.function, torch.nn.Module):
                self.function.train(self.training)
                for key, parameter in self.function.named_parameters():
                    parameter.data = torch.tensor(self.weights[key].value, dtype=torch.float64)
                    learned.append(parameter)
            outputs = self.function(*tensors)
        several = outputs if isinstance(outputs, tuple | list) else (outputs,)
        if not all(isinstance(output, torch.Tensor) for output in several):
            raise GateError(f"{self.name}: returned {type(outputs).__name__}, expected tensors")
        self.save(tensors, learned, several)
        arrays = tuple([output.detach().cpu().numpy() for output in several])
        return arrays if len(arrays) > 1 else arrays[0]

    def backward(self, *grads: Any) -> Gradients:
        tensors, learned, outputs = self.saved
        sources = [tensor for tensor in tensors if tensor.requires_grad] + learned
        used = [(output, torch.tensor(np.asarray(grad))) for output, grad in zip(outputs, grads, strict=True)]
        used = [(output, grad.to(output.dtype)) for output, grad in used if output.requires_grad]
        found = torch.autograd.grad(
            [output for output, _ in used], sources, [grad for _, grad in used], retain_graph=True, allow_unused=True
        )
        arrays = {id(source): grad for source, grad in zip(sources, found, strict=True)}

        def array(source: Any) -> Array | None:
            grad = arrays.get(id(source))
            return None if grad is None else grad.detach().cpu().numpy()

        weights = {
            f"weights.{key}": np.zeros(parameter.value.shape) if (grad := array(source)) is None else grad
            for (key, parameter), source in zip(self.weights.items(), learned, strict=True)
        }
        return tuple(map(array, tensors)), weights

    def __repr__(self) -> str:
        return self.name


def from_torch(function: Any) -> Gate:
    """Return a module, a `torch.autograd.Function` or a function of tensors as a gate in float64.

        report = lf.check_gradients(from_torch(MyFunction), x)

    The check then compares the backward that was written for PyTorch with differences of its forward, and names what
    is wrong with it. A module is turned into float64; its parameters are checked too.

    Args:
        function: a `torch.nn.Module`, a subclass of `torch.autograd.Function`, or any function of tensors.

    Raises:
        GateError: something else.
    """
    if isinstance(function, type) and issubclass(function, torch.autograd.Function):
        kind: Any = function
        return TorchGate(kind.apply, kind.__name__)
    if isinstance(function, torch.nn.Module) or callable(function):
        return TorchGate(function, getattr(function, "__name__", type(function).__name__))
    raise GateError(f"from_torch: {function!r} is no module, autograd function or function of tensors")


# Weights -------------------------------------------------------------------------------------------------------------


@dataclass
class LoadedWeights:
    """What `load_weights` did.

    Attributes:
        matched: the names here, and those of the arrays they got.
        missing: names here that got none.
        unused: names there that nothing here took.
    """

    matched: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} arrays loaded"]
        lines += [f"missing: {', '.join(self.missing)}"] if self.missing else []
        lines += [f"not used: {', '.join(self.unused)}"] if self.unused else []
        return "\n".join(lines)


def load_weights(model: Gate, weights: Mapping[str, Any] | str | Path, strict: bool = True) -> LoadedWeights:
    """Put the weights of a PyTorch model into a model of the same structure, by name.

    PyTorch's names of recurrent weights, `weight_ih_l0`, and of norms, `running_mean`, are understood.

    Args:
        model: a model with weights (after `build`, or a first `forward`).
        weights: a `state_dict`, or the file of one (`.pt`, `.pth`, read without unpickling code, or `.safetensors`).
        strict: whether every name must be matched.

    Raises:
        ConfigError: the model has no weights yet; a name is not matched, if `strict`.
        DataError: the file cannot be read; an array has another shape. The model is then unchanged.
    """
    held: dict[str, Cell] = {**model.named_parameters(), **model.named_buffers()}
    if empty := [name for name, cell in held.items() if not cell.has_value]:
        raise ConfigError(
            f"{', '.join(empty)}: no value yet; build the model, or run forward once, before loading weights"
        )
    given = {name: _array(value) for name, value in _state(weights).items()}
    by_our_name = {_our_name(name): name for name in given}
    report, chosen = LoadedWeights(), {}
    for name, cell in held.items():
        source = by_our_name.get(name)
        if source is None:
            report.missing.append(name)
            continue
        if given[source].shape != cell.value.shape:
            raise DataError(f"{source} has shape {given[source].shape}, but {name} needs {cell.value.shape}")
        report.matched[name], chosen[name] = source, given[source]
    report.unused = [name for name in given if name not in report.matched.values() and "num_batches" not in name]
    if strict and (report.missing or report.unused):
        hint = did_you_mean(report.missing[0], report.unused) if report.missing else ""
        raise ConfigError(f"the weights do not fit the model{hint}\n{report}\n(strict=False loads what matches)")
    for name, array in chosen.items():
        held[name].value = array.astype(held[name].value.dtype)
    return report


def _state(weights: Any) -> Mapping[str, Any]:
    if isinstance(weights, Mapping):
        return weights
    path = Path(weights)
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            found: Mapping[str, Any] = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except ImportError:
        raise ConfigError(f"{path}: needs safetensors: pip install safetensors") from None
    except Exception as error:  # what a damaged or foreign file makes of it
        raise DataError(f"{path}: no state_dict that can be read without running code: {error}") from error
    if not isinstance(found, Mapping):
        raise DataError(f"{path}: contains {type(found).__name__}, expected a state_dict; save model.state_dict()")
    return found


def _array(value: Any) -> Array:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _our_name(name: str) -> str:
    """PyTorch numbers the layers of a recurrent module, and calls an attention's last matrix by a module's name."""
    return (
        name.replace("_l0", "").replace("out_proj.weight", "out_proj_weight").replace("out_proj.bias", "out_proj_bias")
    )
