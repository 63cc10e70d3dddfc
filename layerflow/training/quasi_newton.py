"""Steps that know the curvature, from the gradients before: for full batches."""

from layerflow.errors import ConfigError
from layerflow.parameter import Array
from layerflow.training.optimizers import Optimizer
from layerflow.training.schedules import number

CURVED = 1e-10  # s^T y above which a pair says something about the curvature


class LBFGS(Optimizer):
    """Limited-memory BFGS: w = w - lr * H g, H being an estimate of the inverse of the second derivatives.

    With the changes s = w_t - w_(t-1) and y = g_t - g_(t-1) of the last steps, newest first:

        a_i = s_i^T q / (y_i^T s_i),  q = q - a_i y_i;  q = q * s_1^T y_1 / y_1^T y_1  (from q = g)
        q = q + s_i (a_i - y_i^T q / (y_i^T s_i))       (oldest first);  w = w - lr * q

    The first step is lr * min(1, 1 / sum |g|) * g. It needs gradients without noise: batches of all samples, no
    dropout. Each step of the trainer is one iteration, without a line search.

    Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989, algorithm 2.1.
    """

    def __init__(self, lr: float = 1.0, history_size: int = 100, weight_decay: float = 0.0) -> None:
        self.lr = number(self, "lr", lr)
        if not isinstance(history_size, int) or isinstance(history_size, bool) or history_size < 1:
            raise ConfigError(f"LBFGS: history_size is {history_size!r}, expected an integer of at least 1")
        self.history_size = history_size
        self.weight_decay = number(self, "weight_decay", weight_decay)

    def update(self, values: Array, grads: Array) -> None:
        former_values, former_grads = self.slot("values"), self.slot("grads")
        if self.steps == 1:
            former_values[...], former_grads[...] = values, grads
            values -= grads * min(1.0, 1.0 / max(float(abs(grads).sum()), 1e-300)) * self.lr
            return
        pairs = [
            (self.slot(f"step{i}"), self.slot(f"change{i}")) for i in range(min(self.history_size, self.steps - 1))
        ]
        step, change = values - former_values, grads - former_grads
        former_values[...], former_grads[...] = values, grads
        if step @ change > CURVED:
            for older, newer in zip(pairs[:0:-1], pairs[-2::-1], strict=True):
                older[0][...], older[1][...] = newer
            pairs[0][0][...], pairs[0][1][...] = step, change
        known = [(s, y, 1.0 / float(s @ y)) for s, y in pairs if s @ y > 0]
        direction, parts = grads.copy(), []
        for s, y, inverse in known:
            parts.append(inverse * float(s @ direction))
            direction -= parts[-1] * y
        if known:
            s, y, inverse = known[0]
            direction *= 1.0 / (inverse * float(y @ y))
        for (s, y, inverse), part in zip(known[::-1], parts[::-1], strict=True):
            direction += (part - inverse * float(y @ direction)) * s
        values -= self.lr * direction
