"""Two sets of predictions of the same cases: is one better, or can the data not tell?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from autoconf.score.metrics import METRICS
from autoconf.score.summary import better, intervals

ALPHA = 0.05
TIE = 1.5e-6  # differences up to this are ties: values are rounded to six digits, so that equals may differ by one
Row = dict[str, Any]


def compare(rows: list[Row], others: list[Row]) -> dict[str, dict[str, dict[str, Any]]]:
    """region -> metric -> the paired difference, rows minus others, with all that is needed to judge it.

    Both hold the same cases and regions. difference: mean over cases, its 95 % bootstrap interval over patients (low,
    high), p of Wilcoxon's signed-rank test on the patients' mean differences, p_holm corrected over the metrics of
    the region, wins, losses and ties of `rows` in cases, and a verdict in words.
    Source: Wilcoxon, Biometrics Bulletin 1, 80-83 (1945); Holm, Scand. J. Stat. 6, 65-70 (1979).
    """
    found = {}
    for region in dict.fromkeys(row["region"] for row in rows):
        own = {row["case"]: row for row in rows if row["region"] == region}
        theirs = {row["case"]: row for row in others if row["region"] == region}
        if own.keys() != theirs.keys():
            raise ValueError("two sets of scores of the same cases")
        patients = [row["patient"] for row in own.values()]
        table = np.array([[own[case][name] - theirs[case][name] for name in METRICS] for case in own])
        found[region] = _judged(table, patients)
    return found


def _judged(table: np.ndarray, patients: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The differences of one region, (cases, METRICS)."""
    low, high = intervals(table, patients)
    p = [wilcoxon(per_patient(table[:, place], patients)) for place in range(len(METRICS))]
    found = {}
    for place, (name, corrected) in enumerate(zip(METRICS, holm(p), strict=True)):
        column, mean = table[:, place], float(table[:, place].mean())
        tied = np.abs(column) <= TIE
        wins = sum(better(name, float(d)) for d in column[~tied])
        found[name] = {
            "difference": round(mean, 6),
            "low": round(float(low[place]), 6),
            "high": round(float(high[place]), 6),
            "p": round(p[place], 6),
            "p_holm": round(corrected, 6),
            "wins": wins,
            "losses": int((~tied).sum()) - wins,
            "ties": int(tied.sum()),
            "verdict": _verdict(name, mean, float(low[place]), float(high[place]), corrected),
        }
    return found


def wilcoxon(differences: np.ndarray) -> float:
    """Two-sided p of the signed-rank test; 1 where all differences are ties."""
    real = differences[np.abs(differences) > TIE]
    return float(stats.wilcoxon(real).pvalue) if real.size else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Step-down corrected p-values, in the order given, at most 1."""
    order = np.argsort(p, kind="stable")
    corrected, highest = [0.0] * len(p), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = highest
    return corrected


def per_patient(values: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Mean per patient: two scans of one patient are no two witnesses."""
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    return np.bincount(index, weights=values, minlength=len(names)) / np.bincount(index, minlength=len(names))


def _verdict(name: str, mean: float, low: float, high: float, p: float) -> str:
    """In words. Only an interval without 0 and a corrected p below ALPHA together make a difference."""
    if low == high == 0:
        return "the same"
    if low <= 0 <= high or p >= ALPHA:
        return "these data cannot tell the two apart"
    return "better" if better(name, mean) else "worse"
