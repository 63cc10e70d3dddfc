"""Records what torch.optim and torch.optim.lr_scheduler do, for tests that run without torch.

    python scripts/record_optimizers.py               # writes tests/recorded/optimizers.npz; needs torch

The function that is minimised has 12 parameters, a matrix W of shape (2, 5) that decays and a vector b that does not:
f = sum(sin(3 W) * cos(W)) + sum(W^2) / 4 + sum(sin(W x + b)) + sum(b^2) / 8. It is not convex. The recorded
trajectories hold W and b, flat and in that order, after some of 100 steps.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 100
KEPT_STEPS = [1, 2, 3, *range(10, STEPS + 1, 10)]
RECORDED = Path(__file__).resolve().parents[1] / "tests" / "recorded" / "optimizers.npz"

# Only well-conditioned settings can be compared. With eps = 1e-8, for example, centered RMSprop may divide by a
# variance that is nearly 0: torch's own trajectory moved by 5e-3 when its start moved by one unit in the last place.
# With its default settings Adadelta is unstable at the minimum: from step 60 on, rounding errors grow to 1e-5.
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.02}),
    ("SGD", {"lr": 0.02, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.01, "momentum": 0.9}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.01, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": [0.8, 0.99], "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.02}),
    ("AdamW", {"lr": 0.02, "betas": [0.7, 0.95], "eps": 1e-4, "weight_decay": 0.3}),
    ("Adam", {"lr": 0.05, "betas": [0.8, 0.9], "amsgrad": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.05, "betas": [0.8, 0.99], "eps": 1e-3, "weight_decay": 0.1, "momentum_decay": 0.02}),
    ("RAdam", {"lr": 0.01}),
    ("RAdam", {"lr": 0.05, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.1}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.05, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.1}),
    ("Adadelta", {"rho": 0.95, "eps": 1e-5}),
    ("Adadelta", {"lr": 0.1, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    ("LBFGS", {"lr": 0.1}),
    ("LBFGS", {"lr": 0.05, "history_size": 3}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.005, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1, "momentum": 0.7}),
    ("RMSprop", {"lr": 0.005, "alpha": 0.95, "eps": 1e-2, "centered": True}),
    ("RMSprop", {"lr": 0.001, "alpha": 0.9, "centered": True, "momentum": 0.5, "weight_decay": 0.1}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.2, "lr_decay": 0.05, "weight_decay": 0.1, "eps": 1e-6, "initial_accumulator_value": 0.4}),
]

EPOCHS = 40
BASE_LR = 0.3
LOSSES = [1 / (1 + epoch) if epoch < 9 else 0.1 + 0.01 * (epoch % 3) for epoch in range(EPOCHS)]


def start() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first W, the first b and x."""
    rng = np.random.default_rng(7)
    return rng.normal(size=(2, 5)), rng.normal(size=2), rng.normal(size=5)


def trajectory(name: str, settings: dict[str, Any]) -> np.ndarray:
    """Return W and b after each step of torch's optimizer, shape (STEPS, 12)."""
    import torch

    torch.set_default_dtype(torch.float64)  # NAdam keeps its product of momenta in the default type
    W, b, x = (torch.tensor(array, requires_grad=True) for array in start())
    others = {key: value for key, value in settings.items() if key != "weight_decay"}
    decay = [{"params": [W], **({"weight_decay": settings["weight_decay"]} if "weight_decay" in settings else {})}]
    if name == "LBFGS":  # one iteration per step, and no end before the last step
        optimizer = torch.optim.LBFGS([W, b], max_iter=1, tolerance_grad=0, tolerance_change=0, **others)
    else:
        optimizer = getattr(torch.optim, name)([*decay, {"params": [b], "weight_decay": 0.0}], **others)

    def evaluate() -> torch.Tensor:
        optimizer.zero_grad()
        f = (torch.sin(3 * W) * torch.cos(W)).sum() + (W**2).sum() / 4 + torch.sin(W @ x + b).sum() + (b**2).sum() / 8
        f.backward()
        return f

    points = []
    for _ in range(STEPS):
        optimizer.step(evaluate)
        points.append(torch.cat([W.flatten(), b]).detach().numpy().copy())
    return np.array(points)


def schedules() -> dict[str, list[float]]:
    """Return the learning rate of each epoch, by the layerflow expression it belongs to."""
    from torch.optim import lr_scheduler as ls

    def plateau(optimizer: Any) -> Any:
        return ls.ReduceLROnPlateau(optimizer, factor=0.5, patience=3, threshold=1e-3, min_lr=0.01)

    def plateau_of_accuracy(optimizer: Any) -> Any:
        return ls.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=2)

    def warm(optimizer: Any, then: Callable[[Any], Any], epochs: int, factor: float) -> Any:
        rise = ls.LinearLR(optimizer, start_factor=factor, total_iters=epochs)
        return ls.SequentialLR(optimizer, [rise, then(optimizer)], milestones=[epochs])

    made: dict[str, Callable[[Any], Any]] = {
        "Constant()": lambda o: ls.ConstantLR(o, factor=1.0),
        "Step(7)": lambda o: ls.StepLR(o, 7),
        "Step(step_size=3, gamma=0.8)": lambda o: ls.StepLR(o, 3, 0.8),
        "MultiStep([5, 11, 30], gamma=0.3)": lambda o: ls.MultiStepLR(o, [5, 11, 30], 0.3),
        "MultiStep([20, 4, 4])": lambda o: ls.MultiStepLR(o, [20, 4, 4]),
        "Exponential(0.9)": lambda o: ls.ExponentialLR(o, 0.9),
        "Cosine()": lambda o: ls.CosineAnnealingLR(o, EPOCHS),
        "Cosine(epochs=40, min_lr=0.02)": lambda o: ls.CosineAnnealingLR(o, 40, 0.02),
        "Polynomial()": lambda o: ls.PolynomialLR(o, EPOCHS),
        "Polynomial(2.5, epochs=25)": lambda o: ls.PolynomialLR(o, 25, 2.5),
        "CosineWarmRestarts(7)": lambda o: ls.CosineAnnealingWarmRestarts(o, 7),
        "CosineWarmRestarts(4, factor=2, min_lr=0.01)": lambda o: ls.CosineAnnealingWarmRestarts(o, 4, 2, 0.01),
        "OneCycle()": lambda o: ls.OneCycleLR(o, BASE_LR, EPOCHS, cycle_momentum=False),
        "OneCycle(0.45, div_factor=10, final_div_factor=100)": lambda o: ls.OneCycleLR(
            o, BASE_LR, EPOCHS, pct_start=0.45, div_factor=10, final_div_factor=100, cycle_momentum=False
        ),
        "Cyclic(0.8, 6)": lambda o: ls.CyclicLR(o, BASE_LR, 0.8, 6, cycle_momentum=False),
        "Warmup(6)": lambda o: ls.LinearLR(o, total_iters=6),
        "Warmup(5, 0.1, after=Cosine())": lambda o: warm(o, lambda p: ls.CosineAnnealingLR(p, EPOCHS - 5), 5, 0.1),
        "Warmup(4, 0.25, after=Step(10))": lambda o: warm(o, lambda p: ls.StepLR(p, 10), 4, 0.25),
        "ReduceOnPlateau(factor=0.5, patience=3, threshold=1e-3, min_lr=0.01)": plateau,
        "ReduceOnPlateau('val_accuracy', factor=0.5, patience=2)": plateau_of_accuracy,
    }
    return {expression: _rates(make) for expression, make in made.items()}


def _rates(make: Callable[[Any], Any]) -> list[float]:
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE_LR)
    scheduler = make(optimizer)
    rates = []
    for loss in LOSSES:
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(1 - loss if scheduler.mode == "max" else loss)
        else:
            scheduler.step()
    return rates


def main() -> None:
    """Write the file."""
    import torch

    rates = schedules()
    trajectories = np.array([trajectory(name, settings) for name, settings in OPTIMIZERS])
    W, b, x = start()
    arrays = {
        "torch": np.array(torch.__version__),
        "W": W,
        "b": b,
        "x": x,
        "optimizers": np.array(json.dumps(OPTIMIZERS)),
        "kept_steps": np.array(KEPT_STEPS),
        "trajectories": trajectories[:, np.array(KEPT_STEPS) - 1],
        "base_lr": np.array(BASE_LR),
        "losses": np.array(LOSSES),
        "schedules": np.array(list(rates)),
        "rates": np.array(list(rates.values())),
    }
    RECORDED.parent.mkdir(exist_ok=True)
    np.savez_compressed(RECORDED, **arrays)
    print(f"{RECORDED}: {RECORDED.stat().st_size} bytes, torch {torch.__version__}")


if __name__ == "__main__":
    main()
