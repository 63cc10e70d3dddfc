"""What is wrong with a configuration, where, and what to write instead."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from layerflow.errors import ConfigError, did_you_mean

Path = tuple[str | int, ...]

MOST_PROBLEMS = 100
"""The most problems of a report; further ones are counted."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where text came from: a file (problems are labelled `name:line:column`) or an override (labelled by its text)."""

    name: str
    lines: tuple[str, ...] = ()
    is_override: bool = False


@dataclass(frozen=True)
class Place:
    """A spot in a source; line and column count from 1, as editors do. Line 0 means the source as a whole."""

    source: Source
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if self.source.is_override:
            return f"override {self.source.name}"
        return f"{self.source.name}:{self.line}:{self.column}" if self.line else self.source.name

    @property
    def excerpt(self) -> str:
        """The source line and a caret below it, or an empty string when there is no such line."""
        if not 1 <= self.line <= len(self.source.lines) or not self.source.lines[self.line - 1].strip():
            return ""
        line, column = self.source.lines[self.line - 1], self.column - 1
        start = max(0, column - 80)
        shown = "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line[start : start + 120])
        padding = "".join("\t" if character == "\t" else " " for character in shown[: column - start])
        return f"\n    {shown}\n    {padding}^"


@dataclass(frozen=True)
class Problem:
    """One thing to fix.

    Attributes:
        place: where it is.
        path: the setting it is about.
        message: what is wrong, and what to write instead.
        choices: everything that may be written there; a report lists the same choices once.
    """

    place: Place
    path: Path
    message: str
    choices: str = ""

    def text(self, with_choices: bool = True) -> str:
        """Return the lines that a person reads."""
        setting = f"{dotted(self.path)}: " if self.path else ""
        return f"{self.place}: {setting}{self.message}{self.choices if with_choices else ''}{self.place.excerpt}"

    def as_dict(self) -> dict[str, object]:
        """Return the problem in values that JSON can hold."""
        return {
            "source": self.place.source.name,
            "line": self.place.line or None,
            "column": self.place.column or None,
            "setting": dotted(self.path),
            "message": self.message + self.choices,
        }


class InvalidConfig(ConfigError):
    """All problems of a configuration, in the order of the file; `found` holds them, `problems` as plain values."""

    def __init__(self, found: Iterable[Problem]) -> None:
        self.found = sorted(dict.fromkeys(found), key=_position)
        listed = self.found[:MOST_PROBLEMS]
        first = {problem.choices: index for index, problem in reversed(list(enumerate(listed)))}
        lines = [problem.text(with_choices=first[problem.choices] == index) for index, problem in enumerate(listed)]
        if further := len(self.found) - len(listed):
            lines.append(f"... and {further:,} more problems")
        super().__init__("\n".join(lines), [problem.as_dict() for problem in listed])


def _position(problem: Problem) -> tuple[bool, int, int]:
    place = problem.place
    return (True, 0, 0) if place.source.is_override else (False, place.line, place.column)


def dotted(path: Path) -> str:
    """Return `("model", 0, "bias")` as `model.0.bias`, the way an override names it."""
    return ".".join(str(part) if str(part).isprintable() else repr(part) for part in path)


# Words ---------------------------------------------------------------------------------------------------------------

SETTINGS = {  # our words, and those of other frameworks
    "bias": "use_bias",
    "data": "dataset",
    "data.scale": "normalization normalize preprocessing scaler scaling",
    "data.test": "test_size test_split",
    "data.validation": "val val_split valid validation_fraction validation_size validation_split",
    "in_features": "input_dim input_size",
    "init": "initializer kernel_initializer",
    "loss": "criterion loss_function",
    "model": "hidden_layer_sizes hidden_layers layers net network",
    "optimizer": "solver updater",
    "optimizer.betas": "beta1 beta2 beta_1 beta_2",
    "optimizer.eps": "epsilon",
    "optimizer.lr": "eta eta0 learning_rate learning_rate_init lr step_size stepsize",
    "optimizer.nesterov": "nesterovs_momentum",
    "out_features": "hidden_size hidden_units neurons nodes output_dim output_size size units",
    "path": "file filename filepath",
    "rate": "drop_rate dropout p",
    "regularizer": "l1 l2 penalty regularization",
    "regularizer.strength": "alpha lambda reg",
    "negative_slope": "alpha",
    "optimizer.weight_decay": "alpha",
    "schedule": "lr_scheduler scheduler",
    "seed": "random_seed random_state",
    "target": "label label_column target_column",
    "train": "trainer training",
    "train.batch_size": "batch batch_size minibatch_size",
    "train.clip_norm": "gradient_clip_val gradient_clipping max_grad_norm",
    "train.early_stopping": "early_stop",
    "train.early_stopping.patience": "n_iter_no_change patience",
    "train.epochs": "epochs max_epochs max_iter n_epochs n_iter num_epochs",
}
TYPES = {
    "AbsoluteError": "l1loss mae maeloss",
    "Adagrad": "adagradoptimizer",
    "Cosine": "cosineannealing cosineannealinglr",
    "Exponential": "exponentiallr",
    "Huber": "huberloss",
    "L1Regularizer": "l1",
    "L2Regularizer": "l2",
    "Linear": "dense fc fullyconnected innerproduct",
    "MinMax": "minmaxscaler",
    "MultiStep": "multisteplr",
    "MulticlassSVM": "hinge hingeloss multimarginloss",
    "SiLU": "swish",
    "SigmoidCE": "bce bceloss bcewithlogitsloss binarycrossentropy logisticloss",
    "SoftmaxCE": "categoricalcrossentropy crossentropy crossentropyloss softmaxloss softmaxwithloss "
    "sparsecategoricalcrossentropy",
    "SquaredError": "meansquarederror mse mseloss",
    "Standard": "standardscaler",
    "Step": "steplr",
}


def setting_hint(word: str, known: Collection[str], sections: Collection[str]) -> str:
    """Return what to write instead of the unknown setting `word`: its translation, or the closest known one."""
    foreign = word.lower().replace("-", "_")
    homes = [ours for ours, words in SETTINGS.items() if foreign in words.split()]
    here = next((home.rpartition(".")[2] for home in homes if home.rpartition(".")[2] in known), None)
    if here is not None:
        return f", layerflow calls it {here!r}"
    if close := did_you_mean(word, known):
        return close
    elsewhere = next((home for home in homes if home.partition(".")[0] in sections), None)
    if elsewhere is not None:
        return f", layerflow calls it {elsewhere!r}"
    if word in sections:
        return f"; {word!r} belongs at the top level of the file"
    if word in ("import", "imports"):
        return "; a configuration imports no code: use --import FILE on the command line"
    return f"; known keys: {', '.join(known)}" if known else "; it takes no settings"


def type_hint(word: str, known: Collection[str]) -> str:
    """Return what to write instead of the unknown type `word`."""
    if re.fullmatch(r"[0-9]+([.][0-9]+)? *%", word):
        return f": write the fraction {float(word.rstrip(' %')) / 100:g}"
    foreign = word.lower().replace("_", "").replace("-", "")
    ours = next((ours for ours, words in TYPES.items() if foreign in words.split()), None)
    return f", layerflow calls it {ours!r}" if ours in known else did_you_mean(word, known)


def shown(value: object) -> str:
    """Say what was given instead: `the text 'abc'`, `a list`, `-3`."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        return f"the text {value[:37] + '...' if len(value) > 40 else value!r}"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return "a mapping" if isinstance(value, dict) else repr(value)
