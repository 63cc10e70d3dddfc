"""How well a trained model of the copy task copies sequences that are longer than those it was trained on.

python scripts/copy_length.py runs/ntm_copy/001 --lengths 4 8 12 16
"""

import argparse

import numpy as np

import layerflow as lf
from layerflow.data import CopyTask


def main() -> None:
    """Print the share of wrong bits, and of sequences without one, for each length."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--lengths", type=int, nargs="+", default=[4, 8, 12, 16])
    parser.add_argument("--bits", type=int, default=6, help="bits per step, as in training")
    parser.add_argument("--samples", type=int, default=500)
    options = parser.parse_args()
    model = lf.load_model(options.model).model
    model.training = False
    for length in options.lengths:
        data = CopyTask(samples=options.samples, length=length, bits=options.bits, seed=7).read()
        wrong = (model.forward(data.x.astype(np.float32)) > 0) != (data.y > 0)
        answer = wrong[:, length + 1 :]
        whole = 1 - answer.any(axis=(1, 2)).mean()
        print(f"length {length:3}: {answer.mean():.2%} wrong bits, {whole:.1%} of the sequences without one")


if __name__ == "__main__":
    main()
