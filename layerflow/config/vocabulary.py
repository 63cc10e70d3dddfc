"""What other frameworks call it: words people bring along, answered with layerflow's own."""

import re
from collections.abc import Collection

from layerflow.errors import did_you_mean

SETTINGS: dict[str, tuple[str, ...]] = {
    "alpha": ("regularizer.strength", "negative_slope", "optimizer.weight_decay"),
    "batch": ("train.batch_size",),
    "beta1": ("optimizer.betas",),
    "beta2": ("optimizer.betas",),
    "beta_1": ("optimizer.betas",),
    "batch_size": ("train.batch_size",),
    "beta_2": ("optimizer.betas",),
    "criterion": ("loss",),
    "dataset": ("data",),
    "drop_rate": ("rate",),
    "dropout": ("rate",),
    "early_stop": ("train.early_stopping",),
    "epsilon": ("optimizer.eps",),
    "epochs": ("train.epochs",),
    "eta": ("optimizer.lr",),
    "eta0": ("optimizer.lr",),
    "file": ("path",),
    "filename": ("path",),
    "filepath": ("path",),
    "gradient_clip_val": ("train.clip_norm",),
    "gradient_clipping": ("train.clip_norm",),
    "hidden_layer_sizes": ("model",),
    "hidden_layers": ("model",),
    "hidden_size": ("out_features",),
    "hidden_units": ("out_features",),
    "initializer": ("init",),
    "input_dim": ("in_features",),
    "input_size": ("in_features",),
    "kernel_initializer": ("init",),
    "l1": ("regularizer",),
    "l2": ("regularizer",),
    "label": ("target",),
    "label_column": ("target",),
    "lambda": ("regularizer.strength",),
    "layers": ("model",),
    "learning_rate": ("optimizer.lr",),
    "learning_rate_init": ("optimizer.lr",),
    "loss_function": ("loss",),
    "lr_scheduler": ("schedule",),
    "lr": ("optimizer.lr",),
    "max_epochs": ("train.epochs",),
    "max_grad_norm": ("train.clip_norm",),
    "max_iter": ("train.epochs",),
    "minibatch_size": ("train.batch_size",),
    "n_epochs": ("train.epochs",),
    "n_iter": ("train.epochs",),
    "n_iter_no_change": ("train.early_stopping.patience",),
    "nesterovs_momentum": ("optimizer.nesterov",),
    "net": ("model",),
    "network": ("model",),
    "neurons": ("out_features",),
    "nodes": ("out_features",),
    "normalization": ("data.scale",),
    "normalize": ("data.scale",),
    "num_epochs": ("train.epochs",),
    "output_dim": ("out_features",),
    "output_size": ("out_features",),
    "p": ("rate",),
    "patience": ("train.early_stopping.patience",),
    "penalty": ("regularizer",),
    "preprocessing": ("data.scale",),
    "random_seed": ("seed",),
    "random_state": ("seed",),
    "reg": ("regularizer.strength",),
    "regularization": ("regularizer",),
    "scaler": ("data.scale",),
    "scaling": ("data.scale",),
    "scheduler": ("schedule",),
    "size": ("out_features",),
    "solver": ("optimizer",),
    "step_size": ("optimizer.lr",),
    "stepsize": ("optimizer.lr",),
    "target_column": ("target",),
    "test_size": ("data.test",),
    "test_split": ("data.test",),
    "trainer": ("train",),
    "training": ("train",),
    "units": ("out_features",),
    "updater": ("optimizer",),
    "use_bias": ("bias",),
    "val": ("data.validation",),
    "val_split": ("data.validation",),
    "validation_fraction": ("data.validation",),
    "validation_size": ("data.validation",),
    "validation_split": ("data.validation",),
}

TYPES = {
    "adagradoptimizer": "Adagrad",
    "bce": "SigmoidCE",
    "bceloss": "SigmoidCE",
    "bcewithlogitsloss": "SigmoidCE",
    "binarycrossentropy": "SigmoidCE",
    "categoricalcrossentropy": "SoftmaxCE",
    "cosineannealing": "Cosine",
    "cosineannealinglr": "Cosine",
    "crossentropy": "SoftmaxCE",
    "crossentropyloss": "SoftmaxCE",
    "dense": "Linear",
    "exponentiallr": "Exponential",
    "fc": "Linear",
    "fullyconnected": "Linear",
    "hinge": "MulticlassSVM",
    "hingeloss": "MulticlassSVM",
    "huberloss": "Huber",
    "innerproduct": "Linear",
    "l1": "L1Regularizer",
    "l1loss": "AbsoluteError",
    "l2": "L2Regularizer",
    "logisticloss": "SigmoidCE",
    "mae": "AbsoluteError",
    "maeloss": "AbsoluteError",
    "meansquarederror": "SquaredError",
    "minmaxscaler": "MinMax",
    "mse": "SquaredError",
    "mseloss": "SquaredError",
    "multimarginloss": "MulticlassSVM",
    "multisteplr": "MultiStep",
    "softmaxloss": "SoftmaxCE",
    "softmaxwithloss": "SoftmaxCE",
    "sparsecategoricalcrossentropy": "SoftmaxCE",
    "standardscaler": "Standard",
    "steplr": "Step",
    "swish": "SiLU",
}


def setting_hint(word: str, known: Collection[str], sections: Collection[str]) -> str:
    """Return what to write instead of the unknown setting `word`: its translation, or the closest known one."""
    homes = SETTINGS.get(word.lower().replace("-", "_"), ())
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
    return f"; known keys: {', '.join(known)}" if known else "; it takes no settings"


def type_hint(word: str, known: Collection[str]) -> str:
    """Return what to write instead of the unknown type `word`, and the types there are."""
    ours = TYPES.get(word.lower().replace("_", "").replace("-", ""))
    if re.fullmatch(r"[0-9]+([.][0-9]+)? *%", word):
        return f": a share is written as a fraction, such as {float(word.rstrip(' %')) / 100:g}"
    hint = f", layerflow calls it {ours!r}" if ours in known else did_you_mean(word, known)
    return f"{hint if hint.endswith('?') else hint + '.'} Known: {', '.join(sorted(known))}"


def metric_hint(word: str, known: Collection[str]) -> str:
    """Return what to write instead of the unknown metric `word`."""
    parts = [{"validation": "val", "training": "train", "acc": "accuracy"}.get(part, part) for part in word.split("_")]
    if (ours := "_".join(parts)) in known:
        return f", layerflow calls it {ours!r}"
    return did_you_mean(word, known) or f"; there are {', '.join(known)}"
