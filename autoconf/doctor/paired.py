"""Is a network better without something that it was given? The same cases twice, judged by the paired differences.

docs/how-to/doctor.md derives the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from autoconf.score.compare import per_patient

MARGIN = 0.03  # Dice; a mean gain up to this is a finding, no failure
GROSS = 0.1  # Dice; a mean gain that needs no interval: one case that goes wholly wrong widens it beyond use
GROSS_OF_FEW = 0.2  # Dice; the same below ENOUGH patients
ENOUGH = 3  # patients below which an interval says nothing
LEVEL = 0.95  # one-sided


@dataclass(frozen=True)
class Gain:
    """Gain in Dice over patients: its mean, the lower bound of its one-sided interval, and how many patients.

    low is -inf below ENOUGH patients.
    """

    mean: float
    low: float
    patients: int

    @property
    def few(self) -> bool:
        """Too few patients for a verdict on anything but a gross gain."""
        return self.patients < ENOUGH

    @property
    def is_clear(self) -> bool:
        """A gross gain, or more than MARGIN with an interval above 0."""
        if self.few:
            return self.mean > GROSS_OF_FEW
        return self.mean > GROSS or (self.mean > MARGIN and self.low > 0)

    @property
    def is_unclear(self) -> bool:
        """More than MARGIN, but by too few or too uneven cases to be sure."""
        return self.mean > MARGIN and not self.is_clear

    def __str__(self) -> str:
        if self.few:
            return f"{self.mean:+.3f}, n = {self.patients}"
        return f"{self.mean:+.3f}, 95 % lower bound {self.low:+.3f}, n = {self.patients}"


def gain(after: Sequence[float], before: Sequence[float], patients: Sequence[str]) -> Gain:
    """What `after` gains over `before`: Dice of the same cases, in one order; patients: the patient of each case.

    Several scans of a patient count as one, by their mean. The interval is that of Student's t.
    Source: Student, Biometrika 6, 1-25 (1908).
    """
    differences = per_patient(np.asarray(after, float) - np.asarray(before, float), list(patients))
    mean, count = float(differences.mean()), len(differences)
    if count < ENOUGH:
        return Gain(mean, -math.inf, count)
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    return Gain(mean, mean - float(stats.t.ppf(LEVEL, count - 1)) * error, count)
