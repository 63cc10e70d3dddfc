"""`layerflow train --overfit-batches N`: whether the model can overfit the first few batches."""

import sys
from dataclasses import replace

import numpy as np

from layerflow.config import Config
from layerflow.config.experiment import Experiment
from layerflow.runs.run import Result, prepared
from layerflow.training.callbacks import make_progress
from layerflow.training.evaluation import predict_scores
from layerflow.training.metrics import accuracy, r2

FITTED = {"classification": 1.0, "regression": 0.99}  # accuracy, and R^2


def overfit(config: Config, count: int, quiet: bool) -> Result:
    """Train on the first `count` batches alone, the same in every epoch, and evaluate on them; write nothing.

    A model that cannot overfit a few batches has a mistake in it, or needs more epochs or parameters.
    """
    from layerflow.cli import EXIT_CHECK_FAILED

    progress = None if quiet else make_progress(config.name)
    experiment = on_first_batches(prepared(config), count)
    x, y, _ = experiment.data()
    experiment.prepare()
    start = experiment.evaluate(experiment.parts.train)["loss"]
    try:
        history = experiment.fit(callbacks=[progress] if progress else [])
    finally:
        if progress:
            progress.close()
    state = experiment.trainer.state
    end = experiment.evaluate(experiment.parts.train)["loss"]
    measure = accuracy if state.task == "classification" else r2
    reached = measure(predict_scores(experiment.model, x, config.dtype), np.asarray(y))
    is_fitted = reached >= FITTED[state.task]
    verdict = "can fit" if is_fitted else "does not fit"
    print(
        f"{config.name}: the model ({state.store.size:,} parameters) {verdict} {len(state.batches)} batch(es), "
        f"{len(x)} samples: after {len(history)} epochs the loss went from {start:.4g} to {end:.4g}, "
        f"{measure.__name__} {reached:.4f}",
        file=sys.stderr,
    )
    if not is_fitted:
        print(
            f"{config.name}: try fewer batches, more epochs or parameters, another learning rate, "
            "no dropout and no regularizer; `layerflow check` finds common mistakes",
            file=sys.stderr,
        )
    seconds = sum(record["seconds"] for record in history.records)
    return Result(
        config.name,
        "fitted" if is_fitted else "not fitted",
        epochs=len(history),
        seconds=seconds,
        exit_code=0 if is_fitted else EXIT_CHECK_FAILED,
    )


def on_first_batches(experiment: Experiment, count: int) -> Experiment:
    """Return the same training on its first batches alone: no held-out parts, no early stopping, no shuffling."""
    parts = experiment.parts
    batches = experiment.trainer.state.batches
    rows = batches.order(0)[: count * batches.batch_size]
    first = replace(parts, train=parts.train.take(rows), validation=None, test=None)
    return Experiment(experiment.config, first, early_stopping=None, best=None, shuffle=False, drop_last=False)
