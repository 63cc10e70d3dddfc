"""The words of messages: what a type hint asks for, what was given, and what other frameworks call it."""

import re
import typing
from collections.abc import Collection, Sequence
from typing import Any, Literal

from layerflow.config.signatures import (
    MODEL,
    ElementKind,
    bare,
    fixed_hints,
    is_path,
    item_hint,
    mapped_hint,
    members_of,
    metadata_of,
)
from layerflow.errors import did_you_mean

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
WORDS = ((int, "a whole number"), (float, "a number"), (str, "text"), (None, "null"), (type(None), "null"))
METRIC_PARTS = {"validation": "val", "valid": "val", "training": "train", "testing": "test", "acc": "accuracy"}


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


def metric_hint(word: str, known: Collection[str]) -> str:
    """Return what to write instead of the unknown metric `word`."""
    ours = "_".join(METRIC_PARTS.get(part, part) for part in word.split("_"))
    if ours in known:
        return f", layerflow calls it {ours!r}"
    return did_you_mean(word, known) or f"; there are {', '.join(known)}"


def phrase(hint: Any) -> str:
    """Say what a hint asks for: `a number, a list of numbers or null`."""
    parts: list[str] = []
    for member in members_of(hint):
        parts += [word for word in _phrases(member) if word not in parts]
    if "a number" in parts and "a whole number" in parts:
        parts.remove("a whole number")
    parts.sort(key=lambda part: part == "null")
    return listed(parts) or "a plain value"


def with_article(noun: str) -> str:
    """Put `a` or `an` before a noun."""
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does: `a, b or c`."""
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)


def shown(value: object) -> str:
    """Say what was given instead: `the text 'abc'`, `a list`, `-3`."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        return f"the text {value[:37] + '...' if len(value) > 40 else value!r}"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return "a mapping" if isinstance(value, dict) else repr(value)


def _phrases(hint: Any) -> list[str]:
    kinds = [mark.name for mark in metadata_of(hint) if isinstance(mark, ElementKind)]
    if kinds:
        return [f"{with_article(kinds[0])} ({{type: ...}})"]
    if MODEL in metadata_of(hint):
        return ["a list of gates"]
    if is_path(hint):
        return ["a path"]
    hint = bare(hint)
    if typing.get_origin(hint) is Literal:
        return [repr(choice) if isinstance(choice, str) else shown(choice) for choice in typing.get_args(hint)]
    if (fixed := fixed_hints(hint)) is not None:
        return [f"a list of {len(fixed)} ({', '.join(map(phrase, fixed))})"]
    if (item := item_hint(hint)) is not None:
        return ["a list" if item is Any else f"a list (each item {phrase(item)})"]
    if mapped_hint(hint) is not None:
        return ["a mapping"]
    if hint is bool:
        return ["true", "false"]
    if word := next((word for known, word in WORDS if hint is known), None):
        return [word]
    is_own = isinstance(hint, type) and hint.__module__ != "builtins"
    return [f"{with_article(hint.__name__)} ({{type: ...}})"] if is_own else []
