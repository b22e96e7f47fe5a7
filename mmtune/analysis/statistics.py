"""Whether two classifiers differ by more than chance, on the same rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.errors import InputError


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Rows that only `a` gets right, rows that only `b` gets right, and the two-sided exact p-value."""

    only_a: int
    only_b: int
    p_value: float

    def a_is_worse(self, alpha: float) -> bool:
        """Whether `a` is right less often than `b`, and significantly so at the level `alpha`."""
        return self.only_a < self.only_b and self.p_value < alpha


def mcnemar_exact(a_right: NDArray[np.bool_], b_right: NDArray[np.bool_]) -> McNemar:
    """McNemar's exact test of two classifiers that answered the same rows; (N,) bool each, N >= 1.

    Under the null hypothesis each row that one alone gets right is a fair coin's toss (McNemar 1947).
    Raises InputError unless both are bool arrays of one length.
    """
    for right in (a_right, b_right):
        if right.dtype != np.bool_ or right.ndim != 1 or not len(right):
            raise InputError(f"hits must be a bool array (N,) with N >= 1, got {right.shape} {right.dtype}")
    if len(a_right) != len(b_right):
        raise InputError(f"both classifiers must answer the same rows, got {len(a_right)} and {len(b_right)}")
    from scipy.stats import binomtest

    only_a, only_b = int((a_right & ~b_right).sum()), int((b_right & ~a_right).sum())
    tosses = only_a + only_b
    p_value = float(binomtest(only_a, tosses, 0.5).pvalue) if tosses else 1.0
    return McNemar(only_a=only_a, only_b=only_b, p_value=p_value)
