"""From the votes of several label functions to one mask, a soft consensus, and where nobody knows.

`majority`, `staple` and `agreement` take {name: int8 votes} and return the probability of tumour, float32, NaN where
all abstain. `label` runs label functions, a fusion and the rules, one after the other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .label_rules import Rule, apply
from .label_scan import NOT, TUMOUR, Scan
from .labelers import Votes, tumour_share

Labeler = Callable[[Scan], np.ndarray]
Fusion = Callable[[Votes], np.ndarray]
SURE = 1e-4  # how near to 0 and 1 a quality of STAPLE may come: nobody is never wrong


@dataclass(frozen=True)
class Labelled:
    """votes: of each label function. soft: float32 in 0..1. hard: bool. ignore: bool, where nobody knows."""

    votes: dict[str, np.ndarray]
    soft: np.ndarray
    hard: np.ndarray
    ignore: np.ndarray


def label(
    scan: Scan,
    labelers: Mapping[str, Labeler],
    fusion: Fusion,
    rules: Sequence[Rule] = (),
    seeded: Mapping[str, Callable[[Scan, Votes], np.ndarray]] | None = None,
    unsure: Sequence[float] = (0.35, 0.65),
    vote_rules: Sequence[Rule] = (),
) -> Labelled:
    """Ask all label functions, fuse what they say, clean the mask.

    vote_rules: clean what each marks, before the others hear of it. rules: clean the fused mask.
    seeded: label functions that begin from the votes of the others. unsure: the probabilities between which a voxel is
    ignored, unless the rules decided about it. A voxel that the rules took away is no tumour in the soft mask either;
    one that they added is one half at least.
    """
    votes = {name: cleaned(scan, labeler(scan), vote_rules) for name, labeler in labelers.items()}
    votes |= {name: labeler(scan, votes) for name, labeler in (seeded or {}).items()}
    found = fusion(votes)
    unknown = np.isnan(found) & scan.brain
    probability = np.nan_to_num(found)
    marked = probability > 0.5
    hard = apply(rules, scan, marked)
    soft = np.where(hard, np.maximum(probability, 0.5), np.where(marked, 0, probability)).astype(np.float32)
    doubtful = (probability > unsure[0]) & (probability < unsure[1])
    ignore = (unknown & ~hard) | (doubtful & (hard == marked))
    return Labelled(votes, soft, hard, ignore & scan.brain)


def present(parts: Any) -> Any:
    """A dict or list without the parts that a config switched off, which are None."""
    if isinstance(parts, Mapping):
        return {name: part for name, part in parts.items() if part is not None}
    return [part for part in parts if part is not None]


def cleaned(scan: Scan, vote: np.ndarray, rules: Sequence[Rule]) -> np.ndarray:
    """A vote in which what the rules take away is no tumour any more; what they would add stays as it was."""
    marked = vote == TUMOUR
    return np.where(marked & ~apply(rules, scan, marked), NOT, vote).astype(np.int8)


def majority(votes: Votes) -> np.ndarray:
    """The share of those who speak that says tumour."""
    return tumour_share(votes)


def agreement(votes: Votes, power: float = 1.0) -> np.ndarray:
    """As majority, each weighed by how well it agrees with the others on this scan: mean Dice, where both speak."""
    weights = {name: agreement_of(name, votes) ** power for name in votes}
    said = sum(weights[name] * (vote >= 0) for name, vote in votes.items())
    tumour = sum(weights[name] * (vote == TUMOUR) for name, vote in votes.items())
    return np.divide(tumour, said, out=np.full(said.shape, np.nan), where=said > 0).astype(np.float32)


def agreement_of(name: str, votes: Votes) -> float:
    """Mean Dice of one with each of the others, where both speak; 0 where it never says tumour, 1 if it is alone."""
    others = [dice(votes[name], vote) for other, vote in votes.items() if other != name]
    return float(np.mean(others)) if others else 1.0


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice of two votes where neither abstains; 0 if one of them never says tumour there."""
    both = (first >= 0) & (second >= 0)
    a, b = (first == TUMOUR) & both, (second == TUMOUR) & both
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 0.0


def staple(votes: Votes, prior: float | None = None, steps: int = 50, tolerance: float = 1e-5) -> np.ndarray:
    """Probability of tumour by STAPLE: who agrees with the hidden truth more is believed more.

    Expectation maximisation over the patterns of votes: voxels with the same votes have the same probability.
    Voxels on which all who speak say not are left out: with them, a million healthy voxels would make every specificity
    1 (Asman & Landman, IEEE TMI 30, 1779-1794 (2011)). An abstention says nothing.
    prior: share of tumour among the voxels that are looked at; None: the mean vote.
    Source: S. K. Warfield, K. H. Zou, W. M. Wells, IEEE TMI 23, 903-921 (2004).
    """
    names = list(votes)
    table = np.stack([votes[name].ravel() for name in names])
    code = functools.reduce(lambda sofar, vote: sofar * 3 + vote, table.astype(np.int64) + 1)
    patterns, inverse, counts = np.unique(code, return_inverse=True, return_counts=True)
    digits = np.stack([patterns // 3**place % 3 for place in range(len(names))][::-1]) - 1  # (names, patterns)
    yes, no = digits == TUMOUR, digits == NOT
    asked = yes.any(axis=0)
    share = np.full(len(patterns), np.nan)
    share[no.any(axis=0)] = 0.0
    if asked.any():
        p, q = np.full(len(names), 0.9), np.full(len(names), 0.9)  # sensitivity and specificity of each
        yes, no, number = yes[:, asked], no[:, asked], counts[asked].astype(float)
        pi = prior if prior is not None else float((yes.mean(axis=0) * number).sum() / number.sum())
        pi = float(np.clip(pi, SURE, 1 - SURE))
        weight = np.full(yes.shape[1], pi)
        for _ in range(steps):
            tumour = np.log(pi) + yes.T @ np.log(p) + no.T @ np.log(1 - p)
            healthy = np.log(1 - pi) + yes.T @ np.log(1 - q) + no.T @ np.log(q)
            before, weight = weight, 1 / (1 + np.exp(np.clip(healthy - tumour, -500, 500)))
            here, there = weight * number, (1 - weight) * number
            p = _ratio(yes @ here, (yes | no) @ here)
            q = _ratio(no @ there, (yes | no) @ there)
            if np.abs(weight - before).max() < tolerance:
                break
        share[asked] = weight
    return share[inverse].reshape(next(iter(votes.values())).shape).astype(np.float32)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, kept away from 0 and 1; one half where there is nothing to divide by."""
    return np.clip(np.divide(part, whole, out=np.full(part.shape, 0.5), where=whole > 0), SURE, 1 - SURE)
