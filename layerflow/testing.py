"""Help for those who test gates of their own: all laws in one call, or one test per law.

from layerflow.testing import check_gate, law_tests

check_gate(Scale(), np.random.default_rng(0).normal(size=(4, 3)))

test_scale = law_tests([(Scale(), x), (Scale(2.0), x)])      # in a test file: pytest runs one test per gate and law
"""

from layerflow.gradcheck.laws import LAWS, Law, check_gate, law_tests

__all__ = ["LAWS", "Law", "check_gate", "law_tests"]
