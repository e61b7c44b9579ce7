"""Does `autoconf score` tell the truth? Masks whose scores are known by arithmetic go through its whole path.

Every check writes tiny NIfTI files, scores them as a user does, and reads scores.csv and summary.json.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np

from autoconf.doctor.checks import Outcome, Subject

SHAPE = (40, 36, 32)
SIDE, SHIFT = 12, 3  # voxels of the cube, and how far it is moved
TOLERANCE = 1e-5  # scores.csv has six decimals
ISOTROPIC = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Example:
    """One made-up case: two boolean arrays of SHAPE, and the spacing of their axes in mm."""

    pred: np.ndarray
    truth: np.ndarray
    spacing: Sequence[float] = ISOTROPIC


def scored(examples: Sequence[Example]) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """The rows of scores.csv in the order of the examples, and the whole tumour's part of summary.json."""
    from autoconf.score import score

    with tempfile.TemporaryDirectory() as home:
        folders = {name: os.path.join(home, name) for name in ("pred", "truth")}
        for name, folder in folders.items():
            os.mkdir(folder)
            for number, example in enumerate(examples):
                mask = getattr(example, name).astype(np.uint8)
                image = nibabel.Nifti1Image(mask, np.diag([*example.spacing, 1.0]))
                nibabel.save(image, os.path.join(folder, f"case{number:02d}.nii.gz"))
        out = os.path.join(home, "scores")
        with contextlib.redirect_stdout(io.StringIO()):
            score(folders["pred"], folders["truth"], out, jobs=1)
        with open(os.path.join(out, "scores.csv"), encoding="utf-8", newline="") as stream:
            rows = sorted(csv.DictReader(stream), key=lambda row: row["case"])
        with open(os.path.join(out, "summary.json"), encoding="utf-8") as stream:
            summary = json.load(stream)["regions"]["wt"]
    return [_numbers(row) for row in rows if row.get("region", "wt") == "wt"], summary


def _numbers(row: dict[str, str]) -> dict[str, float]:
    found = {}
    for name, text in row.items():
        with contextlib.suppress(ValueError, TypeError):
            found[name] = float(text)
    return found


def box(start: Sequence[int], side: int | Sequence[int] = SIDE) -> np.ndarray:
    """(SHAPE) bool: a box of `side` voxels that begins at a voxel."""
    sides = [side] * 3 if isinstance(side, int) else side
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(low, low + length) for low, length in zip(start, sides, strict=True))] = True
    return mask


def _compare(example: Example, expected: dict[str, float]) -> Outcome:
    """Score one example and compare some of its columns."""
    (row,), _ = scored([example])
    passed = all(abs(row[name] - value) <= TOLERANCE for name, value in expected.items())
    return Outcome(", ".join(f"{name} {row[name]:.6g}" for name in expected), passed)


CUBE = box((10, 9, 8))
NOTHING = np.zeros(SHAPE, bool)


def perfect(_: Subject) -> Outcome:
    ones = dict.fromkeys(("dice", "iou", "nsd", "sensitivity", "precision", "lesion_dice", "lesion_f1"), 1.0)
    return _compare(Example(CUBE, CUBE), ones | {"hd95": 0.0, "lesion_hd95": 0.0})


def all_background(_: Subject) -> Outcome:
    """The study's own sanity check."""
    zeros = dict.fromkeys(("dice", "iou", "nsd", "sensitivity", "precision", "lesion_dice", "lesion_f1"), 0.0)
    return _compare(Example(NOTHING, CUBE), zeros)


def all_foreground(_: Subject) -> Outcome:
    """Dice 2p/(1+p), where p is the tumour's share of the grid; its IoU is p."""
    share = CUBE.mean()
    outcome = _compare(Example(~NOTHING, CUBE), {"dice": 2 * share / (1 + share), "iou": float(share)})
    return Outcome(f"{outcome.measured} (p {share:.6g})", outcome.passed)


def shifted(_: Subject) -> Outcome:
    """A cube of side n, moved by k: they share (n-k)/n of each. A sixth of the surface is k away, none further."""
    expected = {"dice": 1 - SHIFT / SIDE, "iou": (SIDE - SHIFT) / (SIDE + SHIFT), "hd95": float(SHIFT)}
    return _compare(Example(box((10 + SHIFT, 9, 8)), CUBE), expected)


def anisotropic(_: Subject) -> Outcome:
    """The same move along an axis of 2.5 mm and along one of 0.5 mm."""
    spacing = (0.5, 1.0, 2.5)
    moved = [box((10 + SHIFT, 9, 8)), box((10, 9, 8 + SHIFT))]
    rows, _names = scored([Example(mask, CUBE, spacing) for mask in moved])
    measured = [row["hd95"] for row in rows]
    expected = [SHIFT * spacing[0], SHIFT * spacing[2]]
    passed = bool(np.allclose(measured, expected, atol=TOLERANCE))
    return Outcome(f"hd95 {measured[0]:g} and {measured[1]:g} mm", passed)


def extra_lesion(_: Subject) -> Outcome:
    """A false object of 50 voxels far from the tumour; false objects count whatever their size."""
    large = box((4, 4, 4), (20, 20, 20))
    (row,), _names = scored([Example(large | box((34, 30, 25), (5, 5, 2)), large)])
    dice = 2 * large.sum() / (2 * large.sum() + 50)
    passed = abs(row["lesion_dice"] - 0.5) <= TOLERANCE and abs(row["dice"] - dice) <= TOLERANCE and row["dice"] > 0.99
    return Outcome(f"lesion_dice {row['lesion_dice']:.6g}, dice {row['dice']:.6g}", passed)


def missed_tumour(_: Subject) -> Outcome:
    """A metric that leaves NaN out of its mean gets better when a tumour is missed (MONAI#9095)."""
    near = [Example(box((10 + step, 9, 8)), CUBE) for step in (1, 2, 3)]
    before, after = (_means(scored(examples)[1]) for examples in (near, [*near[:2], Example(NOTHING, CUBE)]))
    names = ("hd95", "lesion_hd95", "dice", "iou", "nsd", "lesion_dice")
    worse = {name: after[name] > before[name] if "hd95" in name else after[name] < before[name] for name in names}
    measured = ", ".join(f"{name} {before[name]:.4g} -> {after[name]:.4g}" for name in names[:3])
    wrong = [name for name in names if not worse[name]]
    return Outcome(measured, not wrong, f"not worse: {', '.join(wrong)}" if wrong else "")


def false_tumour(_: Subject) -> Outcome:
    """Dice 0 for a tumour that is not there, and it counts in the mean; 1 for nothing where nothing is."""
    rows, summary = scored([Example(CUBE, CUBE), Example(CUBE, NOTHING), Example(NOTHING, NOTHING)])
    dice = [row["dice"] for row in rows]
    mean = _means(summary)["dice"]
    passed = dice == [1.0, 0.0, 1.0] and abs(mean - 2 / 3) <= TOLERANCE
    return Outcome(f"dice {', '.join(f'{d:g}' for d in dice)}, mean {mean:.6g}", passed)


def _means(summary: dict[str, Any]) -> dict[str, float]:
    return {name: value["mean"] for name, value in summary.items() if isinstance(value, dict) and "mean" in value}
