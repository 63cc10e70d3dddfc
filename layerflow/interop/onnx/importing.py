"""Reads ONNX files as graphs of gates, which can be trained, drawn and gradient-checked."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import layerflow.gates as gates
from layerflow.containers.graph import ComputationalGraph
from layerflow.containers.node import Node
from layerflow.errors import ConfigError, DataError, LayerflowError
from layerflow.gate import Gate
from layerflow.interop.onnx.definitions import definition_of, inferred_types, operators_of
from layerflow.interop.onnx.onnx_gates import Feed, Given, Moved, Operator, Referred, arrays_of
from layerflow.interop.onnx.operators import OPERATORS
from layerflow.parameter import Array

TYPES = {"FLOAT", "DOUBLE", "BOOL", *(f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64))}
RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}


class UnsupportedOperator(LayerflowError):
    """Operators of an ONNX file that no gate computes."""


def import_onnx(path: str | Path, fixed: Mapping[str, Any] | None = None) -> ComputationalGraph:
    """Return the model of an ONNX file as a graph of gates, in evaluation mode as it was exported.

        model = lf.import_onnx("model.onnx")
        model.forward(x)
        lf.Trainer(model, loss=lf.SoftmaxCE(), optimizer=lf.SGD(0.01)).fit(x, y)

    Weights become parameters, under the names of the file where no gate of the catalogue has them. Operators on whole
    numbers and truth values are evaluated by onnx.reference.

    Args:
        path: the file.
        fixed: inputs that never change, such as the shape that something gets, by name.

    Raises:
        ConfigError: onnx is not installed.
        DataError: the file is missing, or is no ONNX model.
        UnsupportedOperator: operators without a gate, each with its node and what is missing.
    """
    try:
        import onnx
    except ImportError:
        raise ConfigError("ONNX needs onnx, which is not installed: pip install 'layerflow[onnx]'") from None
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    try:
        proto = onnx.load(file)
    except Exception as error:
        raise DataError(f"{file}: not an ONNX model that onnx can read: {str(error).splitlines()[0]}") from error
    if not proto.graph.node or not proto.opset_import:
        raise DataError(f"{file}: not an ONNX model: it has no operators, or no version of them")
    return Importer(onnx, proto, str(file), fixed).graph


class Importer:
    """Builds a graph from an ONNX model; the functions of `OPERATORS` use it.

    Attributes:
        values: what each value of the file is: a node, or an array that never changes.
    """

    def __init__(self, onnx: Any, proto: Any, where: str, fixed: Mapping[str, Any] | None = None) -> None:
        self.onnx, self.where = onnx, where
        self.opsets = {each.domain: each.version for each in proto.opset_import}
        self.opset = self.opsets.get("", 1)
        self.graph = ComputationalGraph()
        self.values: dict[str, Any] = {}
        self.types: dict[str, Any] = {}
        self.learned: dict[int, Node] = {}
        self._read(proto, fixed)

    def _read(self, proto: Any, fixed: Mapping[str, Any] | None) -> None:
        onnx, graph = self.onnx, proto.graph
        try:
            inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
        except Exception:  # not all operators have rules; what is known will have to do
            inferred = graph
        self.types = {
            each.name: each.type for part in (inferred.input, inferred.value_info, inferred.output) for each in part
        }
        for tensor in graph.initializer:
            array = onnx.numpy_helper.to_array(tensor)
            self.values[tensor.name] = array
        self.values |= {name: np.asarray(value) for name, value in (fixed or {}).items()}
        for given in graph.input:
            if given.name not in self.values:
                kind = given.type.tensor_type.elem_type
                if not given.type.HasField("tensor_type"):
                    raise UnsupportedOperator(f"{self.where}: input {given.name!r} is a sequence, map or optional")
                is_real = onnx.helper.tensor_dtype_to_np_dtype(kind).kind == "f"
                self.values[given.name] = self.graph.input(_name(given.name), needs_grad=is_real)
        self._operators(graph.node)
        self.graph.output(*[self._result(each.name) for each in graph.output])
        self.graph.training = False
        try:
            self.graph.finish()
        except LayerflowError as error:
            raise UnsupportedOperator(f"{self.where}: {error}") from error

    def _result(self, name: str) -> Node:
        value = self.values[name]
        return value if isinstance(value, Node) else self.node(value)

    def _operators(self, nodes: Any) -> None:
        problems = []
        for node in nodes:
            try:
                self._operator(node)
            except UnsupportedOperator as error:
                problems.append(str(error))
            except Exception as error:
                problems.append(str(self.refused(node, f"{type(error).__name__}: {str(error).splitlines()[0]}")))
            if problems and not all(name in self.values for name in node.output if name):
                for name in filter(None, node.output):  # so that what follows is looked at too
                    self.values[name] = self.graph.input(f"missing {name}")
        if problems:
            raise UnsupportedOperator("\n".join(problems))

    def _operator(self, node: Any) -> None:
        inputs = [self.values[name] if name else None for name in node.input]
        attributes = {each.name: _plain(self.onnx.helper.get_attribute_value(each)) for each in node.attribute}
        if node.op_type in RANDOM or any(each.HasField("g") for each in node.attribute):
            raise self.refused(node, "random numbers, loops and branches")
        for name in filter(None, [*node.input, *node.output]):
            kind = self.types[name].tensor_type.elem_type if name in self.types else 0
            if kind and self.onnx.TensorProto.DataType.Name(kind) not in TYPES:
                raise self.refused(node, f"numbers of type {self.onnx.TensorProto.DataType.Name(kind)}")
            if name in self.types and not self.types[name].HasField("tensor_type"):
                raise self.refused(node, "sequences, maps and optional values")
        if node.op_type == "Identity":
            found: Any = inputs[0]
        elif node.op_type in ("Shape", "Size") and (count := self._counted(node)) is not None:
            found = count
        elif all(each is None or isinstance(each, np.ndarray) for each in inputs):
            found = self._run(node)(*inputs)
        elif not self._is_real(node):
            found = self.operator(node, inputs)
        else:
            try:
                if node.op_type not in OPERATORS:
                    raise self.refused(node, "")
                found = OPERATORS[node.op_type](self, node, inputs, attributes)
            except UnsupportedOperator:
                if self._expanded(node):
                    return
                raise
        for name, value in zip(node.output, found if isinstance(found, tuple | list) else (found,), strict=False):
            self.values[name] = value

    def _counted(self, node: Any) -> Array | None:
        """The shape or size of a vector that is a shape itself: how many axes something has, which is known."""
        name = node.input[0]
        if not isinstance(self.values[name], Node) or self.kind(name) not in ("i", "u") or node.attribute:
            return None
        try:
            shape = self.shape(self.values[name], node)
        except UnsupportedOperator:
            return None
        if len(shape) != 1 or None in shape:
            return None
        return np.array(shape if node.op_type == "Shape" else shape[0], np.int64)

    def _is_real(self, node: Any) -> bool:
        """Whether inputs and outputs hold real numbers; unknown ones do."""
        inputs, outputs = (
            [self.kind(name) in ("f", "?") for name in part if name] for part in (node.input, node.output)
        )
        return any(inputs) and any(outputs)

    def _expanded(self, node: Any) -> bool:
        """Import an operator that ONNX defines by others; whether there is such a definition."""
        for name, value in zip(node.input, (self.values.get(name) for name in node.input), strict=True):
            if name not in self.types and isinstance(value, np.ndarray):
                kind = self.onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
                self.types[name] = self.onnx.helper.make_tensor_type_proto(kind, value.shape)
        body = definition_of(self.onnx, node, self.opset, self.types)
        if body is None:
            return False
        given = {formal: actual for formal, actual in zip(body.input, node.input, strict=False) if actual}
        nodes = operators_of(self.onnx, node, body, set(body.input) - given.keys())
        versions = {each.domain: each.version for each in body.opset_import} or self.opsets
        types = {formal: self.types[actual] for formal, actual in given.items() if actual in self.types}
        outer = self.values, self.types, self.opset, self.opsets
        self.values = {formal: self.values[actual] for formal, actual in given.items()}
        self.types = types | inferred_types(self.onnx, nodes, types, versions)
        self.opset, self.opsets = versions.get("", self.opset), versions
        try:
            for each in nodes:
                self._operator(each)
            found = [self.values.get(formal) for formal in body.output]
        finally:
            self.values, self.types, self.opset, self.opsets = outer
        self.values |= {name: value for name, value in zip(node.output, found, strict=False) if name}
        return True

    # What the table uses -------------------------------------------------------------------------------------------

    def refused(self, node: Any, what: str) -> UnsupportedOperator:
        name = f" {node.name!r}" if node.name else f" that gives {node.output[0]!r}"
        return UnsupportedOperator(
            f"{self.where}: operator {node.op_type}{name} has no gate{': ' if what else ''}{what}"
        )

    def node(self, value: Any) -> Node:
        """The node of a value: an array of real numbers is learned, others never change."""
        if isinstance(value, Node):
            return value
        array = np.asarray(value)
        if array.dtype.kind == "f" and array.size > 1:
            if id(value) not in self.learned:
                names = [name for name, each in self.values.items() if each is value]
                free = _name(names[0]) if names else f"weight{len(self.learned)}"
                self.learned[id(value)] = self.graph.parameter(free, array)
            return self.learned[id(value)]
        return self.graph.constant(array)

    def apply(self, gate: Gate, *inputs: Any) -> Any:
        return self.graph.apply(gate, *[self.node(value) for value in inputs if value is not None])

    def layer(self, gate: Gate, x: Any, **arrays: Any) -> Any:
        """A gate with weights; where they are computed, they are inputs of the gate."""
        if all(isinstance(array, np.ndarray) for array in arrays.values()):
            cells = arrays_of(gate)
            for name, array in arrays.items():
                cells[name].value = np.array(array)
            return self.apply(gate, x)
        return self.apply(Given(gate, tuple(arrays)), x, *arrays.values())

    def operator(self, node: Any, inputs: list[Any], only: int | None = None) -> Any:
        """An operator that has no derivative; one of its outputs, or all."""
        run = self._open(self._run(node), inputs)
        if only is not None:
            gate = Operator(lambda *arrays: [run(*arrays)[only]], node.op_type, 1)
        else:
            gate = Operator(run, node.op_type, len(node.output))
        return self.referred(gate, [value for value in inputs if isinstance(value, Node)])

    def referred(self, gate: Referred, nodes: list[Node]) -> Any:
        """Add a gate that onnx.reference evaluates."""
        gate.feeds = [self._feed(node) for node in nodes]
        return self.graph.apply(gate, *nodes)

    def moved(self, node: Any, inputs: list[Any], moved: tuple[int, ...], fill: float = 0.0) -> Any:
        """An operator that puts elements at other places."""
        if self.kind(node.output[0]) not in ("f", "?"):
            return self.operator(node, inputs)
        inputs = [self.node(value) if i in moved else value for i, value in enumerate(inputs)]
        present = [i for i, value in enumerate(inputs) if isinstance(value, Node)]
        places = tuple([present.index(i) for i in moved])
        gate = Moved(self._open(self._run(node), inputs), node.op_type, len(node.output), places, fill)
        return self.referred(gate, [inputs[i] for i in present])

    def _feed(self, node: Node) -> Feed:
        """Returns the value of a node while shapes are inferred."""
        if isinstance(node.step.gate, Referred):
            return Feed(node.step.gate, node.step.writes.index(node.slot), None)
        name = next((name for name, each in self.values.items() if each is node), "")
        return Feed(None, 0, self.dtype(name) if name in self.types else np.float32)

    def _open(self, run: Callable[..., Any], inputs: list[Any]) -> Callable[..., Any]:
        """An operator as a function of the inputs that are computed; the others are what they are."""
        places = [i for i, value in enumerate(inputs) if isinstance(value, Node)]

        def opened(*arrays: Any) -> Any:
            real = [array.dtype for array in arrays if array.dtype.kind == "f"][:1]  # the type that the graph runs in
            whole = [
                value.astype(real[0]) if real and isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
                for value in inputs
            ]
            for i, array in zip(places, arrays, strict=True):
                whole[i] = array
            return run(*whole)

        return opened

    def _run(self, node: Any) -> Callable[..., Any]:
        """An operator as a function of all its inputs, by onnx.reference."""
        from onnx.reference import ReferenceEvaluator

        copied = self.onnx.NodeProto()
        copied.CopyFrom(node)
        evaluators: list[Any] = []

        def run(*arrays: Any) -> Any:
            kept = [f"i{i}" if array is not None else "" for i, array in enumerate(arrays)]
            if not evaluators:
                del copied.input[:]
                copied.input.extend(kept)
                try:
                    evaluators.append(ReferenceEvaluator(copied, opsets=self.opsets))
                except Exception as error:
                    raise self.refused(node, f"onnx.reference does not have it: {error}") from error
            given = {name: array for name, array in zip(kept, arrays, strict=True) if name}
            with np.errstate(all="ignore"):
                found = evaluators[0].run(None, given)
            return [np.asarray(each) for each in found]

        return run

    def dtype(self, name: str) -> np.dtype[Any]:
        """The type of a value; `object` where it is not known."""
        value = self.values.get(name)
        if isinstance(value, np.ndarray):
            return np.dtype(value.dtype)
        kind = self.types[name].tensor_type.elem_type if name in self.types else 0
        return np.dtype(self.onnx.helper.tensor_dtype_to_np_dtype(kind) if kind else object)

    def kind(self, name: str) -> str:
        """The kind of a value: "f" for real numbers, "i" and "u" for whole ones, "b" for truth values, "?" unknown."""
        kind = self.dtype(name).kind
        return "?" if kind == "O" else kind

    def shape(self, value: Any, node: Any) -> tuple[Any, ...]:
        """The shape of a value, None for sizes that are not known."""
        if isinstance(value, np.ndarray):
            shape: tuple[int, ...] = value.shape
            return shape
        name = next((name for name, each in self.values.items() if each is value), None)
        if name not in self.types or not self.types[name].tensor_type.HasField("shape"):
            raise self.refused(node, "the number of axes of an input is not known")
        dims = self.types[name].tensor_type.shape.dim
        return tuple([each.dim_value if each.HasField("dim_value") else None for each in dims])

    def axes(self, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> tuple[int, ...]:
        """The axes of a reduction; none for all."""
        given = inputs[1] if len(inputs) > 1 and inputs[1] is not None else attributes.get("axes", ())
        if isinstance(given, Node):
            raise self.refused(node, "axes that are computed")
        return tuple(int(axis) for axis in given)

    def padded(
        self, node: Any, x: Any, attributes: dict[str, Any], rank: int, fill: float = 0.0, kernel: Any = None
    ) -> tuple[Any, tuple[int, ...]]:
        """The padding that a gate does by itself, and what it is applied to: padded already where sides differ."""
        pads = self.pads(node, x, attributes, rank, kernel)
        if pads[:rank] == pads[rank:]:
            return x, tuple(pads[:rank])
        maker = self.onnx.helper.make_node("Pad", ["x", "pads"], ["y"])
        whole = np.array([0, 0, *pads[:rank], 0, 0, *pads[rank:]])
        gate = Moved(self._open(self._run(maker), [self.node(x), whole]), "Pad", 1, (0,), fill)
        return self.referred(gate, [self.node(x)]), (0,) * rank

    def pads(self, node: Any, x: Any, attributes: dict[str, Any], rank: int, kernel: Any = None) -> list[int]:
        """The padding before all axes, then after them."""
        pads, auto = attributes.get("pads", [0] * 2 * rank), attributes.get("auto_pad", "NOTSET")
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            sizes = self.shape(self.values[x] if isinstance(x, str) else x, node)[2:]
            kernel = kernel or attributes.get("kernel_shape")
            kernel = kernel or self.shape(self.values[node.input[1]], node)[2:]
            strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
            if None in sizes:
                raise self.refused(node, f"auto_pad={auto} for sizes that are not known")
            total = [
                max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
                for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
            ]
            low = [n // 2 if auto == "SAME_UPPER" else n - n // 2 for n in total]
            pads = [*low, *[n - before for n, before in zip(total, low, strict=True)]]
        return list(pads)

    def scaled(self, x: Any, factor: float) -> Any:
        return x if factor == 1 else self.apply(gates.Multiply(), x, np.asarray(factor, np.float32))

    def shifted(self, x: Any, number: float) -> Any:
        return x if number == 0 else self.apply(gates.Add(), x, np.asarray(number, np.float32))


def _plain(value: Any) -> Any:
    """An attribute as a Python value."""
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "__len__") and not isinstance(value, str) and not hasattr(value, "SerializeToString"):
        return [each.decode() if isinstance(each, bytes) else each for each in value]
    return value


def _name(name: str) -> str:
    return name.replace("/", ".").strip(".") or "x"
