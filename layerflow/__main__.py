"""`python -m layerflow` does what `layerflow` does."""

import sys

from layerflow.cli import main

sys.exit(main())
