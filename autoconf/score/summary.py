"""From cases to a verdict: means with intervals over patients, reference rows, and what they say in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from autoconf.score.metrics import LOWER_IS_BETTER, METRICS
from autoconf.score.probabilities import THRESHOLDS, Calibration, expected_error

DRAWS = 10_000
SEED = 0  # the same scores give the same interval
LEVEL = 0.95
BLOCK = 2_000_000  # counts drawn at once, 16 MB
FEW_PATIENTS = 30  # below this the mean of a test set moves by several points with the choice of patients
WORST = 5  # cases that are named
REFERENCE_NAMES = {
    "all_background": "no tumour anywhere",
    "all_foreground": "tumour everywhere",
    "flair_threshold": "a FLAIR threshold",
    "training_atlas": "the mean mask of the training cases",
}
Row = dict[str, Any]


def summarise(rows: list[Row], references: list[Row]) -> dict[str, Any]:
    """All that is said of a set of cases, none left out. rows, references: as in scores.csv and references.csv."""
    regions = list(dict.fromkeys(row["region"] for row in rows))
    first = [row for row in rows if row["region"] == regions[0]]
    patients = len({row["patient"] for row in first})
    summary: dict[str, Any] = {
        "n": len(first),
        "patients": patients,
        "regions": {},
        "worst": {},
        "both_empty": {},
        "missing": [row["case"] for row in first if row["missing"]],
        "references": {},
    }
    for region in regions:
        some = [row for row in rows if row["region"] == region]
        summary["regions"][region] = spreads(some)
        summary["worst"][region] = [row["case"] for row in sorted(some, key=lambda row: row["dice"])[:WORST]]
        summary["both_empty"][region] = sum(row["both_empty"] for row in some)
        summary["references"][region] = {
            name: spreads([row for row in references if (row["region"], row["reference"]) == (region, name)])
            for name in dict.fromkeys(row["reference"] for row in references if row["region"] == region)
        }
    summary["verdicts"] = [said for region in regions for said in _against(region, rows, references)]
    summary["warnings"] = _warnings(summary)
    return summary


def spreads(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """metric -> mean, its interval (low, high), median, quartiles (q1, q3), min, max."""
    patients = [row["patient"] for row in rows]
    table = np.array([[row[name] for name in METRICS] for row in rows], float)
    low, high = intervals(table, patients)
    found = {
        "mean": table.mean(axis=0),
        "low": low,
        "high": high,
        "median": np.median(table, axis=0),
        "q1": np.percentile(table, 25, axis=0),
        "q3": np.percentile(table, 75, axis=0),
        "min": table.min(axis=0),
        "max": table.max(axis=0),
    }
    return {
        name: {key: round(float(values[place]), 6) for key, values in found.items()}
        for place, name in enumerate(METRICS)
    }


def intervals(table: np.ndarray, patients: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of the mean of each column, drawing patients; a patient brings all his rows.

    table: (cases, columns). patients: one name per row. Returns low and high, (columns,) each; with one patient both
    are the mean itself, which says that there is no interval, not that it is narrow.
    Source: Efron, The Jackknife, the Bootstrap and Other Resampling Plans, SIAM (1982); drawing whole patients as in
    Field & Welsh, J. R. Stat. Soc. B 69, 369-390 (2007).
    """
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    sums = np.zeros((len(names), table.shape[1]))
    np.add.at(sums, index, table)
    sizes = np.bincount(index, minlength=len(names)).astype(float)
    generator = np.random.default_rng(SEED)
    means = []
    for size in _blocks(DRAWS, max(1, BLOCK // len(names))):
        # How often each patient is drawn is all that a mean needs.
        drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=size).astype(float)
        means.append((drawn @ sums) / (drawn @ sizes)[:, None])
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail], axis=0)
    return low, high


def _blocks(total: int, most: int) -> list[int]:
    """Sizes of at most `most` that add up to `total`."""
    return [min(most, total - done) for done in range(0, total, most)]


def _against(region: str, rows: list[Row], references: list[Row]) -> list[str]:
    """One sentence per reference: whether the model beats it, by the paired difference in Dice."""
    own = {row["case"]: row for row in rows if row["region"] == region}
    said = []
    for name in dict.fromkeys(row["reference"] for row in references if row["region"] == region):
        theirs = {r["case"]: r for r in references if (r["region"], r["reference"]) == (region, name)}
        difference = np.array([[own[case]["dice"] - theirs[case]["dice"]] for case in own])
        low, high = (float(edge[0]) for edge in intervals(difference, [row["patient"] for row in own.values()]))
        mean = float(difference.mean())
        other, gap = REFERENCE_NAMES[name], f"{region} Dice {mean:+.3f}, 95 % interval [{low:+.3f}, {high:+.3f}]"
        if mean > 0 and len({row["patient"] for row in own.values()}) == 1:
            said.append(f"better than {other}, but one patient is no evidence: {region} Dice {mean:+.3f}")
        elif low > 0:
            said.append(f"better than {other}: {gap}")
        elif mean > 0:
            said.append(f"NOT BETTER beyond doubt than {other}: {gap}, which holds 0")
        else:
            said.append(f"NOT BETTER than {other}: {gap}")
    return said


def _warnings(summary: dict[str, Any]) -> list[str]:
    warnings, patients = [], summary["patients"]
    if patients < FEW_PATIENTS:
        one = "one patient gives no interval at all" if patients == 1 else "an interval from so few is itself unsure"
        warnings.append(f"few patients ({patients}): as many others could give a clearly different mean, and {one}")
    if summary["missing"]:
        warnings.append(f"{len(summary['missing'])} case(s) without a prediction are scored as empty masks")
    return warnings


def calibration_summary(found: list[Calibration], rows: list[Row]) -> dict[str, Any]:
    """The calibration of all cases together, and how well entropy puts the cases in order."""
    dice = {row["case"]: row["dice"] for row in rows if row["region"] == "wt"}
    curve = np.mean([one.dice for one in found], axis=0)
    voxels, confidence, tumour = (
        np.sum([getattr(one, name) for one in found], axis=0) for name in ("voxels", "confidence", "tumour")
    )
    best, error = int(curve.argmax()), expected_error(voxels, confidence, tumour)
    bins = [
        {"probability": round(float(c / v), 4), "tumour": round(float(t / v), 4), "voxels": int(v)}
        for v, c, t in zip(voxels, confidence, tumour, strict=True)
        if v
    ]
    return {
        "cases": len(found),
        "ece": None if error is None else round(error, 6),
        "best_threshold": THRESHOLDS[best],
        "dice_at_best_threshold": round(float(curve[best]), 6),
        "dice_at_half": round(float(curve[THRESHOLDS.index(0.5)]), 6),
        "entropy_and_dice_spearman": _spearman([one.entropy for one in found], [dice[one.case] for one in found]),
        "bins": bins,
        "note": "a threshold chosen on these cases must not be reported on them",
    }


def _spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Rank correlation; None where one of the two does not vary."""
    if len(first) < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return round(float(stats.spearmanr(first, second).statistic), 4)


def better(name: str, difference: float) -> bool:
    """Whether a difference in a metric is a gain."""
    return difference < 0 if name in LOWER_IS_BETTER else difference > 0
