"""What tests of run folders share."""

import pytest

from layerflow.config import Registry


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The built-in types, found once."""
    return Registry.builtin()
