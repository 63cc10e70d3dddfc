"""The gates at the start: units that are dead or saturated, and how activations and gradients change with depth."""

from layerflow.gates import ReLU, Sigmoid, Tanh
from layerflow.parameter import Array
from layerflow.preflight.context import Context, model_steps, rms, swept
from layerflow.preflight.finding import Finding, judge, listed
from layerflow.training.objective import Objective

STEEP_ENOUGH = 0.04  # of the slope at 0: flatter means saturated. sigmoid: |x| > 4.6; tanh: |x| > 2.3
WARM_UP = 3  # steps after which gradients that were exactly 0 are looked at again


def dead_relus(context: Context) -> Finding | None:
    """No layer has many ReLUs that are 0 for every sample, and so get no gradient."""
    shares: dict[str, float] = {}
    shown = []
    for name, step in model_steps(context.swept):
        if isinstance(step.gate, ReLU):
            output = context.swept.values[step.writes]
            dead = int((output <= 0).all(axis=0).sum())
            units = output[0].size
            shares[name] = dead / units
            shown.append(f"{name!r} {dead} of {units}")
    if not shares:
        return None
    worst = max(shares.values())
    evidence = f"0 for every one of {len(context.swept.scores)} samples: {listed(shown)}"
    remedy = (
        "a smaller learning rate if they died in training; at the start: scale the features, `init: he`, or LeakyReLU"
    )
    return judge("dead ReLUs", worst, evidence, remedy, look=worst > 0.3, bad=worst > 0.9)


def saturation(context: Context) -> Finding | None:
    """No layer has many sigmoids or tanhs in their flat parts, which pass no gradient on."""
    shares: dict[str, float] = {}
    for name, step in model_steps(context.swept):
        output = context.swept.values[step.writes]
        if isinstance(step.gate, Sigmoid):
            shares[name] = float((4 * output * (1 - output) < STEEP_ENOUGH).mean())
        elif isinstance(step.gate, Tanh):
            shares[name] = float((1 - output * output < STEEP_ENOUGH).mean())
    if not shares:
        return None
    worst = max(shares.values())
    evidence = f"in the flat parts: {listed([f'{name!r} {share:.0%}' for name, share in shares.items()])}"
    remedy = "smaller sums: scale the features (`data.scale: Standard`), `init: xavier`"
    return judge("saturated units", worst, evidence, remedy, look=worst > 0.25, bad=worst > 0.9)


def activations_by_depth(context: Context) -> Finding | None:
    """The hidden layers' outputs neither grow nor shrink much with depth."""
    sizes = _sizes(context.swept, context.swept.values)[:-1]
    if len(sizes) < 2:
        return None
    first, last = sizes[0][1], sizes[-1][1]
    ratio = last / first if first else 0.0
    evidence = f"the last hidden layer's are {ratio:.2g} times the first's; rms {_shown(sizes)}"
    remedy = "`init: he` before ReLU, `init: xavier` before Sigmoid and Tanh"
    return judge("activations", ratio, evidence, remedy, look=not 1 / 20 < ratio < 20, bad=not 1e-4 < ratio < 1e4)


def gradients_by_depth(context: Context) -> Finding | None:
    """The gradient arrives at the first layer: it neither vanishes nor explodes on the way back."""
    objective, when = context.swept, "at the start"
    sizes = _sizes(objective, objective.grads)
    if len(sizes) < 2:
        return None
    if min(size for _, size in sizes) == 0.0:  # as behind a last layer of zeros, which the first step mends
        trainer = context.fresh_trainer()
        for x, y in list(trainer.state.batches.epoch(0))[:WARM_UP]:
            trainer.train_step(x, y)
        objective, when = swept(trainer, context.x[:64], context.y[:64]), f"after {WARM_UP} steps"
        sizes = _sizes(objective, objective.grads)
    smallest, first, last = min(size for _, size in sizes), sizes[0][1], sizes[-1][1]
    ratio = first / last if last else 0.0
    evidence = f"{when}, the first layer's is {ratio:.2g} times the last one's; rms {_shown(sizes)}"
    if smallest == 0.0:
        blocked = [name for name, size in sizes if size == 0.0]
        remedy = f"nothing reaches {listed([repr(name) for name in blocked])}: "
        remedy += "no layer but the last may start from zeros; look for dead ReLUs"
        return judge("gradients", 0.0, evidence, remedy, bad=True)
    remedy = "the first layers hardly learn" if ratio < 1 else "the first layers' gradients explode: train.clip_norm"
    remedy += "; `init: he` or `xavier`, ReLU in place of Sigmoid, or residual connections"
    return judge("gradients", ratio, evidence, remedy, look=not 1 / 50 < ratio < 50, bad=not 1e-6 < ratio < 1e6)


def _sizes(objective: Objective, arrays: list[Array | None]) -> list[tuple[str, float]]:
    """Return the size of what lies at the output of every gate with parameters, by name."""
    return [
        (name, rms(0.0 if arrays[step.writes] is None else arrays[step.writes]))
        for name, step in model_steps(objective)
        if step.parameter_count
    ]


def _shown(sizes: list[tuple[str, float]]) -> str:
    return listed([f"{name!r} {size:.2g}" for name, size in sizes], most=8)
