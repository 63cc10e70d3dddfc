"""The gradient check by the name that the README gives: the same as `layerflow gradcheck`, with the same arguments."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works from a checkout that is not installed, too

from layerflow.cli import main

if __name__ == "__main__":
    sys.exit(main(["gradcheck", *sys.argv[1:]]))
