"""The XLA engine: recorded programs on CPU, GPU or TPU, by JAX: one function of jax.numpy for each kind of node."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.engine.compiling import CompilingEngine
from layerflow.engine.numpy import Update
from layerflow.engine.program import Guard, Node, Program, slices
from layerflow.errors import ConfigError
from layerflow.parameter import Array
from layerflow.store import ParameterStore

MOST_STEPS = 256  # in one call


def jax() -> Any:
    """The module jax, with 64 bits.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import jax as module
    except ImportError:
        raise ConfigError("engine xla needs jax, which is not installed: pip install 'layerflow[xla]'") from None
    configuration: Any = module.config
    configuration.update("jax_enable_x64", True)
    return module


# Nodes -------------------------------------------------------------------------------------------------------------


def _elementwise(jnp: Any, node: Node, x: Sequence[Any]) -> Any:
    function = node.settings["function"]
    if function in ("cast", "copy"):
        return x[0]
    if function == "power":  # JAX takes another way for Python's numbers
        return jnp.power(x[0], jnp.asarray(x[1]))
    return getattr(jnp, function)(*x)


def _windows(jnp: Any, node: Node, x: Sequence[Any]) -> Any:
    found = x[0]
    for axis, size in zip(node.settings["axes"], node.settings["sizes"], strict=True):
        places = np.arange(node.shape[axis])[:, None] + np.arange(size)
        found = jnp.moveaxis(jnp.take(found, places, axis=axis), axis + 1, -1)
    return found


def _update(jnp: Any, node: Node, x: Sequence[Any]) -> Any:
    return x[0].at[slices(node.settings["starts"], node.settings["steps"], node.inputs[1].shape)].set(x[1])


def _scatter(jnp: Any, node: Node, x: Sequence[Any]) -> Any:
    place = x[0].at[tuple(x[2:])]
    return place.add(x[1]) if node.settings["mode"] == "add" else place.set(x[1])


def _matrices(jnp: Any, node: Node, x: Sequence[Any]) -> Any:
    return jnp.matmul(x[0], x[1], precision="highest")


KINDS: dict[str, Callable[[Any, Node, Sequence[Any]], Any]] = {
    "constant": lambda jnp, node, x: jnp.asarray(node.settings["value"]),
    "elementwise": _elementwise,
    "reduce": lambda jnp, node, x: getattr(jnp, node.settings["function"])(x[0], axis=node.settings["axes"]),
    "arg": lambda jnp, node, x: getattr(jnp, node.settings["function"])(x[0], axis=node.settings["axis"]),
    "cumulate": lambda jnp, node, x: getattr(jnp, f"cum{node.settings['function']}")(x[0], axis=node.settings["axis"]),
    "dot": _matrices,
    "reshape": lambda jnp, node, x: x[0].reshape(node.shape),
    "transpose": lambda jnp, node, x: x[0].transpose(node.settings["axes"]),
    "broadcast": lambda jnp, node, x: jnp.broadcast_to(x[0], node.shape),
    "slice": lambda jnp, node, x: x[0][slices(node.settings["starts"], node.settings["steps"], node.shape)],
    "windows": _windows,
    "update": _update,
    "gather": lambda jnp, node, x: x[0][tuple(x[1:])],
    "scatter": _scatter,
    "concatenate": lambda jnp, node, x: jnp.concatenate(x, axis=node.settings["axis"]),
}


def computed(jnp: Any, program: Program, inputs: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The outputs of a program by name, and whether each guard holds."""
    values: dict[int, Any] = {}
    for node in program.live():
        if node.kind == "input":
            value = inputs[node.settings["name"]]
        else:
            value = KINDS[node.kind](jnp, node, [values[each.number] for each in node.inputs])
        values[node.number] = value.astype(node.dtype)
    held = [values[guard.node.number].reshape(()).astype(bool) == guard.expected for guard in program.guards]
    return {name: values[node.number] for name, node in program.outputs.items()}, held


# The engine --------------------------------------------------------------------------------------------------------


class XlaEngine(CompilingEngine):
    """Runs training steps as programs of XLA; see `CompilingEngine`.

    Up to 256 steps run in one call, as a loop of XLA, and the parameters stay on the device meanwhile. Random draws are
    NumPy's own, made on the host.

    Raises:
        ConfigError: JAX is missing.
    """

    name, made_by = "xla", "XLA"

    def __init__(
        self, container: Container, store: ParameterStore, wanted: tuple[int, ...], update: Update | None = None
    ) -> None:
        super().__init__(container, store, wanted, update)
        module = jax()
        devices = module.devices()
        self.notes.append(f"XLA of jax {module.__version__} on {len(devices)} {devices[0].device_kind}")
        self.on_device: dict[int, tuple[Any, Any]] = {}  # arrays of samples, by what they are on the host

    def compiled_sweeps(self, program: Program) -> "_Sweeps":
        return _Sweeps(program, self)

    def compiled_steps(self, program: Program) -> "_Steps":
        return _Steps(program, self)

    def put(self, data: Sequence[Array]) -> list[Any]:
        """The samples on the device, where they stay."""
        for part in data:
            held = self.on_device.get(id(part))
            if held is None or held[0] is not part:
                self.on_device = {key: value for key, value in self.on_device.items() if len(self.on_device) < 8}
                self.on_device[id(part)] = part, jax().numpy.asarray(part)
        return [self.on_device[id(part)][1] for part in data]


class _Sweeps:
    """Both sweeps for batches of one shape."""

    def __init__(self, program: Program, engine: XlaEngine) -> None:
        self.program, self.engine, self.runs, self.trouble = program, engine, 0, ""
        self.outputs: dict[str, Any] = {}
        self.results: tuple[Any, ...] = ()
        module = jax()
        self.function = module.jit(lambda inputs: computed(module.numpy, program, inputs))

    def run(self, inputs: tuple[Array, ...]) -> bool:
        engine, program = self.engine, self.program
        given: dict[str, Any] = {f"input.{i}": value for i, value in enumerate(inputs)}
        given |= {name: value[0] for name, value in engine.drawn(program, 1).items()}
        parameters = engine.container.named_parameters()
        for name in program.inputs:
            kind, _, rest = name.partition(".")
            if kind in ("parameter", "buffer"):
                given[name] = parameters[rest].value if kind == "parameter" else engine.buffers[rest].value
        outputs, held = self.function({name: given[name] for name in program.inputs})
        if not all(bool(each) for each in held):
            return False
        self.outputs = {name: np.array(value) for name, value in outputs.items()}
        self.results = tuple([self.outputs[f"slot.{i}"] for i in range(len(engine.wanted))])
        for name, value in self.outputs.items():
            kind, _, rest = name.partition(".")
            if kind == "grad":
                parameters[rest].grad[...] = value  # type: ignore[index]
            elif kind == "buffer":
                engine.buffers[rest].value = value
        return True


class _Steps:
    """Whole steps on batches of one shape, as a loop that ends before a step whose guards do not hold."""

    def __init__(self, program: Program, engine: XlaEngine) -> None:
        assert engine.update is not None
        self.program, self.engine, self.update, self.runs, self.trouble = program, engine, engine.update, 0, ""
        self.outputs: dict[str, Any] = {}
        self.states = [name for name in program.outputs if name in program.inputs]
        self.series = [f"wanted.{i}" for i in range(len(engine.wanted))]
        self.batches = [name for name in program.inputs if name.startswith("input.")]
        self.fixed = [
            name for name in program.inputs
            if name not in (*self.states, *self.batches, *[draw.name for draw in program.draws])
        ]  # fmt: skip
        self.function = jax().jit(self._loop, donate_argnums=(0,))

    def _loop(self, states: Any, fixed: Any, data: Any, rows: Any, drawn: Any, count: Any) -> Any:
        module = jax()
        jnp, lax, program = module.numpy, module.lax, self.program
        empty = {
            name: jnp.zeros((MOST_STEPS, *program.outputs[name].shape), program.outputs[name].dtype)
            for name in self.series
        }
        grads = program.outputs["grads"]
        start = jnp.int64(0), jnp.int64(-1), states, empty, jnp.zeros(grads.shape, grads.dtype)

        def step(carried: Any) -> Any:
            i, _, states, series, grads = carried
            inputs = dict(states) | dict(fixed)
            inputs |= {name: part[rows[i]] for name, part in zip(self.batches, data, strict=True)}
            inputs |= {name: values[i] for name, values in drawn.items()}
            outputs, held = computed(jnp, program, inputs)
            flags = jnp.stack(held) if held else jnp.ones(1, bool)
            is_right = flags.all()
            failed = jnp.where(is_right, -1, jnp.argmin(flags))
            kept = {name: jnp.where(is_right, outputs[name], states[name]) for name in states}
            series = {name: values.at[i].set(outputs[name]) for name, values in series.items()}
            return (
                i + is_right.astype(jnp.int64),
                failed.astype(jnp.int64),
                kept,
                series,
                jnp.where(is_right, outputs["grads"], grads),
            )

        return lax.while_loop(lambda carried: (carried[0] < count) & (carried[1] < 0), step, start)

    def run(self, data: Sequence[Array], rows: Array) -> tuple[int, Guard | None]:
        engine, update, program = self.engine, self.update, self.program
        count = min(len(rows), MOST_STEPS)
        padded = np.zeros((MOST_STEPS, rows.shape[1]), np.int64)
        padded[:count] = rows[:count]
        drawn = engine.drawn(program, count)
        filled = {
            name: np.concatenate([values, np.zeros((MOST_STEPS - count, *values.shape[1:]), values.dtype)])
            for name, values in drawn.items()
        }
        arrays: dict[str, Any] = {
            "values": engine.store.values, "setting.lr": np.float64(update.lr),
            "setting.step": np.float64(update.steps + 1),
        }  # fmt: skip
        arrays |= {f"slot.{name}": update.vector(name, start) for name, start in program.starts.items()}
        arrays |= {f"buffer.{name}": buffer.value for name, buffer in engine.buffers.items()}
        states = {name: jax().numpy.array(arrays[name]) for name in self.states}
        fixed = {name: arrays[name] for name in self.fixed}
        done, failed, states, series, grads = self.function(states, fixed, engine.put(data), padded, filled, count)
        done = int(done)
        self.outputs = {name: np.asarray(values) for name, values in series.items()}
        for name, value in states.items():
            kind, _, rest = name.partition(".")
            if kind == "values":
                engine.store.values[...] = value
            elif kind == "slot":
                update.vector(rest, program.starts[rest])[...] = value
            elif kind == "buffer" and done:
                engine.buffers[rest].value = np.array(value)
        if done:
            engine.store.grads[...] = grads
        update.steps += done
        if done < count and drawn:  # the generators are where they are after the steps that were taken
            engine._put_back(engine.draws, {})
            engine.drawn(program, done)
        return done, self.program.guards[int(failed)] if int(failed) >= 0 else None
