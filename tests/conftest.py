"""Settings for the whole suite."""

import os

from hypothesis import settings

# The suite runs on all cores already; more threads inside each test only get in each other's way.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# A slow machine is no failure: no test asserts a time.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
