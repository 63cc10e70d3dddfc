"""`layerflow generate`: write text with a trained language model, token by token."""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.cli import add_command, add_model_argument, positive
from layerflow.cli.output import add_output_options, check_output, write_output
from layerflow.config import Registry
from layerflow.data.text import END, PADDING
from layerflow.errors import ConfigError, DataError
from layerflow.parameter import Array
from layerflow.runs.model import SavedModel

EXAMPLES = """\
  layerflow generate runs/words_gru/001
  layerflow generate runs/words_gru/001 --prompt un --samples 20 --temperature 0.7 --seed 1
  layerflow generate runs/words_gru/001 --top-k 3 -o words.txt
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(subparsers, common, "generate", "write text with a trained language model", EXAMPLES)
    add_model_argument(parser)
    parser.add_argument("--prompt", default="", metavar="TEXT", help="what each text begins with (default: nothing)")
    parser.add_argument("--samples", type=positive, default=10, metavar="N", help="how many texts (default: 10)")
    parser.add_argument(
        "--length", type=positive, default=200, metavar="N",
        help="the most tokens per text after the prompt; a model of lines stops at the end of one (default: 200)",
    )  # fmt: skip
    parser.add_argument(
        "--temperature", type=float, default=1.0, metavar="T",
        help="divides the scores: below 1 the probable tokens become more probable, 0 always takes the most probable "
        "one (default: 1)",
    )  # fmt: skip
    parser.add_argument("--top-k", type=positive, metavar="K", help="choose among the K most probable tokens only")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random choices (default: 0)")
    add_output_options(parser, "write the texts to this file (default: standard output)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the texts."""
    if not 0 <= arguments.temperature < np.inf:
        raise ConfigError(f"--temperature is {arguments.temperature}, expected 0 or more")
    if arguments.seed < 0:
        raise ConfigError(f"--seed is {arguments.seed}, expected 0 or more")
    inputs: list[str | Path] = [arguments.model, arguments.model / "model.npz"]
    if arguments.output is not None:
        check_output(arguments.output, arguments.force, inputs)
    saved = SavedModel.load(arguments.model, Registry.builtin(arguments.imports))
    writer = Writer(saved, arguments.temperature, arguments.top_k, np.random.default_rng(arguments.seed))
    texts = [writer.write(arguments.prompt, arguments.length) for _ in range(arguments.samples)]
    text = "".join(f"{each}\n" for each in texts)
    write_output(text, arguments.output, arguments.force, inputs, f"{len(texts)} texts")
    if writer.is_cut:
        print(f"the model looks at the last {writer.window} tokens only", file=sys.stderr)
    return 0


class Writer:
    """Draws one token after the other from what a model says about the next one.

    Attributes:
        window: the tokens per sample in training; the model is shown no more than so many.
        is_cut: whether a text was longer.
    """

    def __init__(self, saved: SavedModel, temperature: float, top_k: int | None, rng: "np.random.Generator") -> None:
        vocabulary = saved.preprocessing.vocabulary
        if vocabulary is None or vocabulary != saved.classes:
            raise ConfigError(
                f"{saved.path}: no language model; generate needs one that was trained on a Text of windows or lines"
            )
        self.saved, self.vocabulary, self.rng = saved, vocabulary, rng
        self.temperature, self.top_k = temperature, top_k
        self.index = {symbol: token for token, symbol in enumerate(vocabulary)}
        self.is_lines, self.window, self.is_cut = vocabulary[0] == PADDING, saved.preprocessing.sample_shape[0], False

    def write(self, prompt: str, length: int) -> str:
        """Return the prompt and what follows it."""
        if unknown := [symbol for symbol in prompt if symbol not in self.index]:
            known = "".join(self.vocabulary[self.is_lines :])
            raise DataError(f"--prompt: the character {unknown[0]!r} is not in the vocabulary: {known!r}")
        tokens = [self.index[symbol] for symbol in prompt]
        if self.is_lines or not tokens:
            tokens = [self.index.get(END, 0), *tokens]
        start = len(tokens) - len(prompt)
        for _ in range(length):
            token = self._next(tokens)
            if self.is_lines and self.vocabulary[token] in (END, PADDING):
                break
            tokens.append(token)
        return "".join(self.vocabulary[token] for token in tokens[start:])

    def _next(self, tokens: list[int]) -> int:
        self.is_cut |= len(tokens) > self.window
        shown = np.array([tokens[-self.window :]], self.saved.dtype)
        model = self.saved.model
        model.training = False
        scores: Array = np.asarray(model.forward(shown)[0, -1], np.float64)
        if not np.isfinite(scores).all():
            raise DataError(f"{self.saved.path}: the model's scores are not finite after {len(tokens)} tokens")
        if self.is_lines:
            scores[0] = -np.inf  # padding is no token of the text
        if self.temperature == 0:
            return int(scores.argmax())
        if self.top_k is not None and self.top_k < len(scores):
            scores[np.argsort(-scores, kind="stable")[self.top_k :]] = -np.inf
        weights = np.exp((scores - scores.max()) / self.temperature)
        return int(self.rng.choice(len(weights), p=weights / weights.sum()))
