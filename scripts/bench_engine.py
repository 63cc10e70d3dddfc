"""Times training steps of layerflow's engines beside those of its peers, in one run, each in a process of its own.

    python scripts/bench_engine.py                        # all networks and all contestants that are installed
    python scripts/bench_engine.py --networks 64-32-10 gru-16 --threads 2 --rounds 5
    python scripts/bench_engine.py --contestants native jax-scan

Wall microseconds per step, the median and the minimum over all rounds; the contestants take turns. `numpy` and `native`
are whole epochs of `Trainer.fit`, shuffling, metrics and records included; `native-step` is the engine alone. `c` is
written by hand for this one network, with the BLAS that NumPy ships; it needs gcc. With one thread each process has one
core. Then, in a process that has imported
its packages: the seconds to step 20 without and with compiled code on disk, and the peak of memory.
Peers that are not installed are left out and named.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

MLPS = {
    "2-16-16-2": 32, "64-32-10": 64, "64-128-10": 32, "784-256-10": 128, "784-512-256-10": 128,
    "3072-1024-512-10": 256,
}  # fmt: skip
OTHERS = {"cnn-8": 64, "cnn-28": 64, "gru-16": 32, "gru-64": 32, "lstm-16": 32, "lstm-64": 32, "transformer": 32}
NETWORKS = MLPS | OTHERS
CONTESTANTS = "hand", "numpy", "native", "native-step", "xla", "c", "torch", "torch-compile", "jax", "jax-scan"
LR, MOMENTUM, HIDDEN = 1e-4, 0.9, 128
Run = Callable[[int], None]


def data(network: str, batches: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Samples and labels, or what to predict."""
    rng, samples = np.random.default_rng(0), NETWORKS[network] * batches
    kind, _, size = network.partition("-")
    if network in MLPS:
        widths = list(map(int, network.split("-")))
        shape: tuple[int, ...] = (widths[0],)
        classes = widths[-1]
    else:
        classes = 10
        shape = {"cnn": (1, int(size or 0), int(size or 0)), "transformer": (32, 64)}.get(kind, (int(size or 0), 32))
    x = rng.normal(size=(samples, *shape)).astype(np.float32)
    return x, x.copy() if kind == "transformer" else rng.integers(0, classes, samples)


# layerflow ---------------------------------------------------------------------------------------------------------


def layerflow_model(network: str) -> Any:
    import layerflow as lf

    kind = network.partition("-")[0]
    if network in MLPS:
        widths = list(map(int, network.split("-")))[1:]
        gates = [gate for width in widths for gate in (lf.Linear(width), lf.ReLU())][:-1]
        return lf.Sequential(*gates)
    if kind == "cnn":
        gates = [
            gate for c in (16, 32) for gate in (lf.Conv2d(c, 3, padding=1), lf.ReLU(), lf.MaxPool2d(2))
        ]  # fmt: skip
        return lf.Sequential(*gates, lf.Flatten(), lf.Linear(10))
    if kind == "transformer":
        attention = lf.Residual(lf.LayerNorm(), lf.MultiHeadAttention(4, causal=True))
        feed = lf.Residual(lf.LayerNorm(), lf.Linear(256), lf.GELU(approximate="tanh"), lf.Linear(64))
        return lf.Sequential(attention, feed)
    layer = lf.GRU if kind == "gru" else lf.LSTM
    return lf.Sequential(layer(HIDDEN, return_sequences=False), lf.Linear(10))


def layerflow_run(network: str, engine: str, threads: int) -> Run:
    from threadpoolctl import threadpool_limits

    import layerflow as lf

    threadpool_limits(threads)
    x, y = data(network)
    loss = lf.SquaredError() if y.dtype == np.float32 else lf.SoftmaxCE()
    settings: dict[str, Any] = {"batch_size": NETWORKS[network], "threads": threads}
    settings["engine"] = engine.removesuffix("-step")
    trainer = lf.Trainer(layerflow_model(network), loss, lf.SGD(LR, momentum=MOMENTUM), **settings)
    if engine == "native-step":
        trainer.prepare(x, y)
        xs, rows = trainer.state.batches.x, np.arange(len(x)).reshape(-1, NETWORKS[network])

        def steps(count: int) -> None:
            with np.errstate(all="ignore"):
                while count > 0:
                    done = trainer.state.engine.take_steps((xs, trainer.state.batches.y), rows[:count])[0]
                    if not done:
                        raise ValueError("a step was not taken")
                    count -= done

        return steps
    trainer.prepare(x, y)
    state, epochs = trainer.state, [0]

    def epoch(count: int) -> None:
        with np.errstate(all="ignore"):
            for _ in range(max(count // len(state.batches), 1)):
                trainer._run_epoch(state, [])
                epochs[0] += 1

    epoch.unit = len(state.batches)  # type: ignore[attr-defined]
    return epoch


def by_hand(network: str, threads: int) -> Run:
    from threadpoolctl import threadpool_limits

    sys.path.insert(0, str(Path(__file__).parent))
    from bench_step import ByHand

    hand = ByHand(list(map(int, network.split("-"))), NETWORKS[network])
    x, y = data(network)
    batch = NETWORKS[network]
    threadpool_limits(threads)

    def steps(count: int) -> None:
        for i in range(count):
            at = i % 40 * batch
            hand.step(x[at : at + batch], y[at : at + batch])

    return steps


# C -----------------------------------------------------------------------------------------------------------------


def in_c(network: str, threads: int) -> Run:
    """The step written out in C, with OpenBLAS for the products."""
    import ctypes

    from threadpoolctl import threadpool_info, threadpool_limits

    widths, batch = list(map(int, network.split("-"))), NETWORKS[network]
    layers, offset, body, back = [], 0, [], []
    for m, n in pairwise(widths):
        layers.append((m, n, offset, offset + m * n))
        offset += m * n + n
    for i, (m, n, w, b) in enumerate(layers):
        relu = "if (v < 0) v = 0;" if i + 1 < len(layers) else ""
        body.append(
            f"gemm(101,111,112,B,{n},{m},1,a{i},{m},W+{w},{m},0,a{i + 1},{n});"
            f"for(int r=0;r<B;r++)for(int c=0;c<{n};c++){{float v=a{i + 1}[r*{n}+c]+W[{b}+c];{relu}"
            f"a{i + 1}[r*{n}+c]=v;}}"
        )
        down = (
            f"gemm(101,111,111,B,{m},{n},1,d{i + 1},{n},W+{w},{m},0,d{i},{m});"
            f"for(int k=0;k<B*{m};k++)if(a{i}[k]<=0)d{i}[k]=0;"
        )
        back.insert(
            0,
            f"gemm(101,112,111,{n},{m},B,1,d{i + 1},{n},a{i},{m},0,G+{w},{m});"
            f"for(int c=0;c<{n};c++)G[{b}+c]=0;for(int r=0;r<B;r++)for(int c=0;c<{n};c++)G[{b}+c]+=d{i + 1}[r*{n}+c];"
            + (down if i else ""),
        )
    arrays = "".join(f"static float s{i}[{batch}*{n}],d{i}[{batch}*{n}];" for i, n in enumerate(widths))
    last, classes = len(widths) - 1, widths[-1]
    softmax = (
        f"for(int r=0;r<B;r++){{float*s=a{last}+r*{classes},*d=d{last}+r*{classes},m=s[0],t=0;"
        f"for(int c=1;c<{classes};c++)if(s[c]>m)m=s[c];for(int c=0;c<{classes};c++)t+=d[c]=expf(s[c]-m);"
        f"for(int c=0;c<{classes};c++)d[c]/=t*B;d[y[r]]-=1.0f/B;}}"
    )
    source = (
        "#include <math.h>\n#include <stdint.h>\n"
        "typedef void (*gemm_t)(int,int,int,int64_t,int64_t,int64_t,float,const float*,int64_t,const float*,int64_t,"
        f"float,float*,int64_t);\n{arrays}\n"
        "void steps(gemm_t gemm,float*W,float*G,float*V,const float*x,const int64_t*y,int count){const int B="
        f"{batch};for(int k=0;k<count;k++,x=k%40?x+B*{widths[0]}:x-39*B*{widths[0]},y=k%40?y+B:y-39*B){{"
        f"const float*a0=x;{''.join(f'float*a{i}=s{i};' for i in range(1, len(widths)))}"
        f"{''.join(body)}{softmax}{''.join(back)}"
        f"for(int i=0;i<{offset};i++){{V[i]=0.9f*V[i]+G[i];W[i]-=1e-4f*V[i];}}}}}}"
    )
    folder = Path(tempfile.mkdtemp())
    (folder / "step.c").write_text(source)
    command = ["gcc", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "-o", "step.so", "step.c", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "step.so"))
    blas = ctypes.CDLL(next(info["filepath"] for info in threadpool_info() if info["user_api"] == "blas"))
    gemm = ctypes.cast(blas.scipy_cblas_sgemm64_, ctypes.c_void_p)
    x, y = data(network)
    values = np.random.default_rng(0).normal(0, 0.05, offset).astype(np.float32)
    grads, velocity = np.zeros_like(values), np.zeros_like(values)
    threadpool_limits(threads)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (values, grads, velocity, x, y)]

    def steps(count: int) -> None:
        library.steps(gemm, *pointers, ctypes.c_int(count))

    steps.keep = values, grads, velocity, x, y  # type: ignore[attr-defined]
    return steps


# PyTorch -----------------------------------------------------------------------------------------------------------


def in_torch(network: str, threads: int, is_compiled: bool) -> Run:
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    kind = network.partition("-")[0]
    if network in MLPS:
        layers: list[Any] = []
        for m, n in pairwise(map(int, network.split("-"))):
            layers += [nn.Linear(m, n), nn.ReLU()]
        model: Any = nn.Sequential(*layers[:-1])
    elif kind == "cnn":
        side = int(network.partition("-")[2]) // 4
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * side * side, 10),
        )  # fmt: skip
    elif kind == "transformer":
        model = nn.TransformerEncoderLayer(64, 4, 256, 0.0, "gelu", batch_first=True, norm_first=True)
    else:

        class Recurrent(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = (nn.GRU if kind == "gru" else nn.LSTM)(32, HIDDEN, batch_first=True)
                self.head = nn.Linear(HIDDEN, 10)

            def forward(self, x: Any) -> Any:
                return self.head(self.layer(x)[0][:, -1])

        model = Recurrent()
    if is_compiled:
        model = torch.compile(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    is_regression = kind == "transformer"
    loss: Any = nn.MSELoss() if is_regression else nn.CrossEntropyLoss()
    x, y = (torch.from_numpy(array) for array in data(network))
    batch = NETWORKS[network]
    mask = nn.Transformer.generate_square_subsequent_mask(32) if is_regression else None

    def steps(count: int) -> None:
        for i in range(count):
            at = i % 40 * batch
            optimizer.zero_grad()
            scores = model(x[at : at + batch], src_mask=mask) if is_regression else model(x[at : at + batch])
            loss(scores, y[at : at + batch]).backward()
            optimizer.step()

    return steps


# JAX ---------------------------------------------------------------------------------------------------------------


def in_jax(network: str, is_scan: bool) -> Run:
    import jax
    import jax.numpy as jnp
    from jax import lax

    kind = network.partition("-")[0]
    rng = np.random.default_rng(0)

    def array(*shape: int) -> Any:
        return jnp.asarray(rng.normal(0, 0.05, shape).astype(np.float32))

    def norm(h: Any) -> Any:
        mean = h.mean(-1, keepdims=True)
        return (h - mean) / jnp.sqrt(((h - mean) ** 2).mean(-1, keepdims=True) + 1e-5)

    if network in MLPS:
        parameters: Any = [(array(n, m), array(n)) for m, n in pairwise(map(int, network.split("-")))]

        def model(p: Any, x: Any) -> Any:
            for i, (w, b) in enumerate(p):
                x = x @ w.T + b
                x = jnp.maximum(x, 0) if i + 1 < len(p) else x
            return x

    elif kind == "cnn":
        side = int(network.partition("-")[2]) // 4
        parameters = [(array(16, 1, 3, 3), array(16)), (array(32, 16, 3, 3), array(32)),
                      (array(10, 32 * side * side), array(10))]  # fmt: skip

        def model(p: Any, x: Any) -> Any:
            for w, b in p[:2]:
                x = jnp.maximum(lax.conv(x, w, (1, 1), "SAME") + b[None, :, None, None], 0)
                x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
            return x.reshape(len(x), -1) @ p[2][0].T + p[2][1]

    elif kind == "transformer":
        parameters = {name: array(*shape) for name, shape in {
            "q": (64, 64), "k": (64, 64), "v": (64, 64), "o": (64, 64), "up": (64, 256), "down": (256, 64),
        }.items()}  # fmt: skip
        seen = jnp.tril(jnp.ones((32, 32), bool))

        def model(p: Any, x: Any) -> Any:
            h = norm(x)
            q, k, v = ((h @ p[name]).reshape(len(x), 32, 4, 16).swapaxes(1, 2) for name in "qkv")
            scores = jnp.where(seen, q @ k.swapaxes(-1, -2) / 4, -jnp.inf)
            x = x + (jax.nn.softmax(scores) @ v).swapaxes(1, 2).reshape(x.shape) @ p["o"]
            return x + jax.nn.gelu(norm(x) @ p["up"]) @ p["down"]

    else:
        gates = 3 if kind == "gru" else 4
        parameters = [array(gates * HIDDEN, 32), array(gates * HIDDEN, HIDDEN), array(gates * HIDDEN),
                      array(gates * HIDDEN), array(10, HIDDEN), array(10)]  # fmt: skip

        def model(p: Any, x: Any) -> Any:
            products = x.swapaxes(0, 1) @ p[0].T + p[2]
            h = jnp.zeros((len(x), HIDDEN))

            def gru(h: Any, a: Any) -> Any:
                b = h @ p[1].T + p[3]
                r, z = jnp.split(jax.nn.sigmoid(a[:, : 2 * HIDDEN] + b[:, : 2 * HIDDEN]), 2, axis=1)
                n = jnp.tanh(a[:, 2 * HIDDEN :] + r * b[:, 2 * HIDDEN :])
                return n + z * (h - n), None

            def lstm(state: Any, a: Any) -> Any:
                h, c = state
                i, f, g, o = jnp.split(a + h @ p[1].T + p[3], 4, axis=1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

            last = lax.scan(gru, h, products)[0] if kind == "gru" else lax.scan(lstm, (h, h), products)[0][0]
            return last @ p[4].T + p[5]

    def objective(p: Any, x: Any, y: Any) -> Any:
        scores = model(p, x)
        if kind == "transformer":
            return ((scores - y) ** 2).mean()
        return -jax.nn.log_softmax(scores)[jnp.arange(len(y)), y].mean()

    def step(state: Any, batch: Any) -> Any:
        p, velocity = state
        value, grads = jax.value_and_grad(objective)(p, *batch)
        velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, grads)
        return (jax.tree.map(lambda w, v: w - LR * v, p, velocity), velocity), value

    x, y = data(network)
    size = NETWORKS[network]
    xs, ys = jnp.asarray(x).reshape(-1, size, *x.shape[1:]), jnp.asarray(y).reshape(-1, size, *y.shape[1:])
    state = [(parameters, jax.tree.map(jnp.zeros_like, parameters))]
    one = jax.jit(step, donate_argnums=0)
    many = jax.jit(lambda state, xs, ys: lax.scan(step, state, (xs, ys)), donate_argnums=0)

    def steps(count: int) -> None:
        if is_scan:
            for _ in range(max(count // len(xs), 1)):
                state[0], values = many(state[0], xs, ys)
            values.block_until_ready()
            return
        for i in range(count):
            state[0], value = one(state[0], (xs[i % len(xs)], ys[i % len(xs)]))
        value.block_until_ready()

    if is_scan:
        steps.unit = len(xs)  # type: ignore[attr-defined]
    return steps


# Measuring ---------------------------------------------------------------------------------------------------------


def made(contestant: str, network: str, threads: int) -> Run:
    """The contestant's steps; raises ImportError or ValueError where it takes no part."""
    if contestant in ("hand", "c") and network not in MLPS:
        raise ValueError("only networks of Linear and ReLU")
    if contestant == "hand":
        return by_hand(network, threads)
    if contestant == "c":
        return in_c(network, threads)
    if contestant.startswith("torch"):
        return in_torch(network, threads, contestant.endswith("compile"))
    if contestant.startswith("jax"):
        return in_jax(network, contestant.endswith("scan"))
    return layerflow_run(network, contestant, threads)


def child(contestant: str, network: str, threads: int, seconds: float) -> None:
    """Measure in this process; print the result as JSON. With one thread it has one core, whatever a peer takes."""
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    __import__({"t": "torch", "j": "jax"}.get(contestant[0], "layerflow"))
    started = time.perf_counter()
    try:
        run = made(contestant, network, threads)
    except (ImportError, ValueError, FileNotFoundError) as error:
        print(json.dumps({"missing": str(error)}))
        return
    unit = getattr(run, "unit", 20)
    run(unit)
    cold = time.perf_counter() - started
    for _ in range(3):
        run(unit)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        run(unit)
        times.append((time.perf_counter() - start) / unit * 1e6)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"median": statistics.median(times), "minimum": min(times), "cold": cold, "peak": peak}))


def measured(contestant: str, network: str, threads: int, seconds: float, cache: str) -> dict[str, Any]:
    """Run a child process."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads)) | {"LAYERFLOW_CACHE": cache}
    words = [sys.executable, __file__, "--child", contestant, network, str(threads), str(seconds)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"missing": (done.stderr.strip().splitlines() or ["failed"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="NAME")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], given.child[1], int(given.child[2]), float(given.child[3]))
        return
    print(f"wall us per step, median (minimum); {given.threads} thread(s), {given.rounds} rounds")
    missing: dict[str, str] = {}
    for network in given.networks:
        with tempfile.TemporaryDirectory() as cache:
            results: dict[str, list[dict[str, Any]]] = {name: [] for name in given.contestants}
            for _ in range(given.rounds):
                for name, found in results.items():
                    found.append(measured(name, network, given.threads, given.seconds, cache))
        print(f"\n{network}, batch {NETWORKS[network]}")
        for name, found in results.items():
            if why := next((each["missing"] for each in found if "missing" in each), ""):
                missing[name] = why
                continue
            median = statistics.median(each["median"] for each in found)
            minimum, peak = min(each["minimum"] for each in found), max(each["peak"] for each in found)
            later = f", later {min(each['cold'] for each in found[1:]):.2f}" if len(found) > 1 else ""
            print(
                f"  {name:14} {median:10.1f} ({minimum:.1f})   step 20 after {found[0]['cold']:.2f} s{later}; "
                f"{peak:.0f} MiB",
                flush=True,
            )
    for name, why in missing.items():
        print(f"{name} was left out of some: {why}")


if __name__ == "__main__":
    main()
