"""What can be said of a label without a truth: who speaks, who agrees, how much is marked, and where."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from .files import whole_file
from .fusion import Labelled, agreement_of
from .label_scan import TUMOUR, Scan, mirrored, plane_distance

COLUMNS = ("case", "who", "coverage", "share", "agreement", "kappa", "touches_skull", "bilateral", "objects")
SKULL_SHARE = 0.5  # of the mask within SKULL_MM of the brain's edge: more looks like a rim, not like a tumour
SKULL_MM = 6.0
BOTH_SIDES = 0.25  # of the mask on the smaller side of the mid-sagittal plane
SYMMETRIC = 0.5  # of the mask whose mirrored place is marked, too
Row = dict[str, object]


def audit(scan: Scan, found: Labelled, case: str) -> list[Row]:
    """A row for each label function and one for the `fused` mask, with COLUMNS.

    coverage: share of the brain on which it speaks (fused: that is not ignored). share: of the brain, marked as tumour.
    agreement: mean Dice with the others where both speak. kappa: mean Cohen's kappa with them, there. touches_skull:
    most of it lies at the brain's edge. bilateral: on both sides alike. objects: connected pieces.
    """
    rows = []
    fused = {"fused": np.where(found.ignore, -1, found.hard).astype(np.int8)}
    for who, vote in {**found.votes, **fused}.items():
        others = {who: vote} | {name: other for name, other in found.votes.items() if name != who}
        kappas = [kappa(vote, other, scan.brain) for name, other in others.items() if name != who]
        mask = found.hard if who == "fused" else vote == TUMOUR
        row: Row = {"case": case, "who": who, "coverage": _share((vote >= 0) & scan.brain, scan.brain)}
        row |= {"share": _share(mask & scan.brain, scan.brain), "agreement": agreement_of(who, others)}
        row |= {"kappa": float(np.mean(kappas)) if kappas else 1.0, "touches_skull": touches_skull(scan, mask)}
        rows.append(row | {"bilateral": bilateral(scan, mask), "objects": int(ndimage.label(mask)[1])})
    return rows


def kappa(first: np.ndarray, second: np.ndarray, brain: np.ndarray) -> float:
    """Cohen's kappa of two votes in the brain where neither abstains: 1 alike, 0 as by chance.

    0 where they never speak of the same voxel, or one of them always says the same: chance explains that.
    Source: J. Cohen, Educ. Psychol. Meas. 20, 37-46 (1960).
    """
    both = (first >= 0) & (second >= 0) & brain
    count = int(both.sum())
    if not count:
        return 0.0
    a, b = first[both] == TUMOUR, second[both] == TUMOUR
    by_chance = float(a.mean() * b.mean() + (~a).mean() * (~b).mean())
    return 0.0 if by_chance >= 1 else (float((a == b).mean()) - by_chance) / (1 - by_chance)


def touches_skull(scan: Scan, mask: np.ndarray) -> bool:
    """Whether most of a mask lies at the edge of the brain."""
    return bool(mask.any()) and float((scan.depth[mask] < SKULL_MM).mean()) > SKULL_SHARE


def bilateral(scan: Scan, mask: np.ndarray) -> bool:
    """Whether a mask lies on both sides of the head and resembles its mirror image: few tumours do, ventricles do."""
    if not mask.any():
        return False
    other = mirrored(mask.astype(np.float32), scan.mirror) > 0.5
    if float(other[mask].mean()) > SYMMETRIC:
        return True
    left = plane_distance(scan, signed=True)[mask] > 0
    return bool(min(left.mean(), 1 - left.mean()) > BOTH_SIDES and other[mask].mean() > SYMMETRIC / 2)


def to_csv(rows: Sequence[Row]) -> str:
    """The rows as a table; numbers with four digits, flags as yes or nothing."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _shown(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def write_csv(rows: Sequence[Row], path: str) -> None:
    """The table as a file, whole or not at all."""
    with whole_file(path, "w") as stream:
        stream.write(to_csv(rows))


def _shown(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.4f}" if isinstance(value, float) else value


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else 0.0
