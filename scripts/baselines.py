"""What a model of sequences has to beat, on the same test part: n-grams of characters, and simple forecasts.

python scripts/baselines.py configs/words_gru.yaml configs/series_lstm.yaml
"""

import sys
from itertools import product
from typing import Any

import numpy as np

from layerflow.config import load_config
from layerflow.config.experiment import Parts, read_parts

ORDERS = 3
ADDED = 0.1  # to every count
GRID = (0.01, 0.05, 0.2, 0.5, 1.0)


def ngrams(parts: Parts) -> dict[str, float]:
    """Return the test perplexity of uni-, bi- and trigrams with added counts, and of their best mixture.

    The weights of the mixture are those with the lowest perplexity on the validation part.
    """
    size = len(parts.train.classes or ())
    counts = [np.zeros((size,) * order) for order in range(1, ORDERS + 1)]
    for context, label in _contexts(parts.train):
        for order, table in enumerate(counts):
            np.add.at(table, (*context[ORDERS - 1 - order :], label), 1)

    def probabilities(part: Any) -> Any:
        context, label = _joined(part)
        found = []
        for order, table in enumerate(counts):
            smoothed = (table + ADDED) / (table + ADDED).sum(axis=-1, keepdims=True)
            found.append(smoothed[(*context[ORDERS - 1 - order :], label)])
        return np.array(found)

    held, test = probabilities(parts.validation), probabilities(parts.test)
    result = {f"{order}-grams": _perplexity(test[order - 1]) for order in range(1, ORDERS + 1)}
    mixtures = [np.array(each) / sum(each) for each in product(GRID, repeat=ORDERS)]
    best = min(mixtures, key=lambda weights: _perplexity(weights @ held))
    return result | {"interpolated trigrams": _perplexity(best @ test)}


def _perplexity(probabilities: Any) -> float:
    return float(np.exp(-np.log(probabilities).mean()))


def _contexts(part: Any) -> Any:
    """Yield, per position, the symbols before it and the symbol itself; padding is left out."""
    for t in range(part.y.shape[1]):
        rows = part.y[:, t] != 0
        before = [part.x[rows, max(t - back, 0)] for back in range(ORDERS - 2, -1, -1)]
        yield [*before], part.y[rows, t]


def _joined(part: Any) -> Any:
    pairs = list(_contexts(part))
    context = [np.concatenate([before[i] for before, _ in pairs]) for i in range(ORDERS - 1)]
    return context, np.concatenate([label for _, label in pairs])


def forecasts(parts: Parts, season: int = 11) -> dict[str, float]:
    """Return the test rmse of the last value, of the value a season ago, and of least squares on the window."""
    (train_x, train_y), (x, y) = ((part.x[:, :, 0], part.y) for part in (parts.train, parts.test))
    design = [np.column_stack([window, np.ones(len(window))]) for window in (train_x, x)]
    weights, *_ = np.linalg.lstsq(design[0], train_y, rcond=None)
    guesses = {"last value": x[:, -1], f"{season} steps ago": x[:, -season], "least squares": design[1] @ weights}
    return {name: float(np.sqrt(np.mean((guess - y) ** 2))) for name, guess in guesses.items()}


if __name__ == "__main__":
    for path in sys.argv[1:]:
        parts = read_parts(load_config(path))
        found = forecasts(parts) if parts.train.classes is None else ngrams(parts)
        print(path, ", ".join(f"{name} {value:.2f}" for name, value in found.items()))
