"""Does `autoconf score` tell the truth? Masks whose scores follow from arithmetic go through its whole path.

Each writes tiny NIfTI files, scores them as a user does, and reads scores.csv and summary.json. Scores that are broken
on purpose must be found.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
import pytest

from autoconf.errors import AutoconfError
from autoconf.score import cases, score, summary

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
    with tempfile.TemporaryDirectory() as home:
        folders = {name: os.path.join(home, name) for name in ("pred", "truth")}
        for name, folder in folders.items():
            os.mkdir(folder)
            for number, example in enumerate(examples):
                mask = getattr(example, name).astype(np.uint8)
                image = nibabel.Nifti1Image(mask, np.diag([*example.spacing, 1.0]))
                nibabel.save(image, os.path.join(folder, f"case{number:02d}.nii.gz"))
        out = os.path.join(home, "scores")
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


def _compare(example: Example, expected: dict[str, float]) -> bool:
    """Score one example and compare some of its columns."""
    (row,), _ = scored([example])
    return all(abs(row[name] - value) <= TOLERANCE for name, value in expected.items())


CUBE = box((10, 9, 8))
NOTHING = np.zeros(SHAPE, bool)


def perfect() -> bool:
    ones = dict.fromkeys(("dice", "iou", "nsd", "sensitivity", "precision", "lesion_dice", "lesion_f1"), 1.0)
    return _compare(Example(CUBE, CUBE), ones | {"hd95": 0.0, "lesion_hd95": 0.0})


def all_background() -> bool:
    """The study's own sanity check."""
    zeros = dict.fromkeys(("dice", "iou", "nsd", "sensitivity", "precision", "lesion_dice", "lesion_f1"), 0.0)
    return _compare(Example(NOTHING, CUBE), zeros)


def all_foreground() -> bool:
    """Dice 2p/(1+p), where p is the tumour's share of the grid; its IoU is p."""
    share = CUBE.mean()
    return _compare(Example(~NOTHING, CUBE), {"dice": 2 * share / (1 + share), "iou": float(share)})


def shifted() -> bool:
    """A cube of side n, moved by k: they share (n-k)/n of each. A sixth of the surface is k away, none further."""
    expected = {"dice": 1 - SHIFT / SIDE, "iou": (SIDE - SHIFT) / (SIDE + SHIFT), "hd95": float(SHIFT)}
    return _compare(Example(box((10 + SHIFT, 9, 8)), CUBE), expected)


def anisotropic() -> bool:
    """The same move along an axis of 2.5 mm and along one of 0.5 mm."""
    spacing = (0.5, 1.0, 2.5)
    moved = [box((10 + SHIFT, 9, 8)), box((10, 9, 8 + SHIFT))]
    rows, _names = scored([Example(mask, CUBE, spacing) for mask in moved])
    measured = [row["hd95"] for row in rows]
    expected = [SHIFT * spacing[0], SHIFT * spacing[2]]
    return bool(np.allclose(measured, expected, atol=TOLERANCE))


def extra_lesion() -> bool:
    """A false object of 50 voxels far from the tumour; false objects count whatever their size."""
    large = box((4, 4, 4), (20, 20, 20))
    (row,), _names = scored([Example(large | box((34, 30, 25), (5, 5, 2)), large)])
    dice = 2 * large.sum() / (2 * large.sum() + 50)
    return abs(row["lesion_dice"] - 0.5) <= TOLERANCE and abs(row["dice"] - dice) <= TOLERANCE and row["dice"] > 0.99


def missed_tumour() -> bool:
    """A metric that leaves NaN out of its mean gets better when a tumour is missed (MONAI#9095)."""
    near = [Example(box((10 + step, 9, 8)), CUBE) for step in (1, 2, 3)]
    before, after = (_means(scored(examples)[1]) for examples in (near, [*near[:2], Example(NOTHING, CUBE)]))
    names = ("hd95", "lesion_hd95", "dice", "iou", "nsd", "lesion_dice")
    worse = {name: after[name] > before[name] if "hd95" in name else after[name] < before[name] for name in names}
    return all(worse.values())


def false_tumour() -> bool:
    """Dice 0 for a tumour that is not there, and it counts in the mean; 1 for nothing where nothing is."""
    rows, summary = scored([Example(CUBE, CUBE), Example(CUBE, NOTHING), Example(NOTHING, NOTHING)])
    dice = [row["dice"] for row in rows]
    mean = _means(summary)["dice"]
    return dice == [1.0, 0.0, 1.0] and abs(mean - 2 / 3) <= TOLERANCE


def _means(summary: dict[str, Any]) -> dict[str, float]:
    return {name: value["mean"] for name, value in summary.items() if isinstance(value, dict) and "mean" in value}


KNOWN = {
    "perfect mask": perfect,
    "all background": all_background,
    "all foreground": all_foreground,
    "shifted cube": shifted,
    "anisotropic voxels": anisotropic,
    "extra lesion": extra_lesion,
    "missed tumour": missed_tumour,
    "false tumour": false_tumour,
}

true_scores = cases.score_masks


def ignoring_spacing(pred, truth, spacing):
    return true_scores(pred, truth, [1.0] * pred.ndim)


def smoothed(pred, truth, spacing):
    found = true_scores(pred, truth, spacing)
    return found | {"dice": (2 * (pred & truth).sum() + 1) / (pred.sum() + truth.sum() + 1)}


def without_lesions(pred, truth, spacing):
    found = true_scores(pred, truth, spacing)
    return found | {"lesion_dice": found["dice"]}


def forgiving(pred, truth, spacing):
    found = true_scores(pred, truth, spacing)
    return found if truth.any() else found | {"dice": 1.0}


def confused(pred, truth, spacing):
    found = true_scores(pred, truth, spacing)
    return found | {"iou": found["dice"]}


def failing() -> set[str]:
    found = set()
    for name, known in KNOWN.items():
        try:
            if not known():
                found.add(name)
        except AutoconfError:  # score itself refuses to go on
            found.add(name)
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_the_scores_are_true(name) -> None:
    assert KNOWN[name]()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (ignoring_spacing, {"anisotropic voxels"}),
        (smoothed, set(KNOWN)),
        (without_lesions, {"extra lesion"}),
        (forgiving, {"false tumour"}),
        (confused, {"all foreground", "shifted cube"}),
    ],
)
def test_wrong_scores_are_found(scores, expected, monkeypatch) -> None:
    monkeypatch.setattr(cases, "score_masks", scores)
    assert failing() == expected


def test_a_mean_that_drops_missed_tumours_is_found(monkeypatch) -> None:
    spreads = summary.spreads

    def dropping(rows):
        found = [row for row in rows if row["pred_ml"] > 0]
        return spreads(found or rows)

    monkeypatch.setattr(summary, "spreads", dropping)
    found = failing()
    assert "missed tumour" in found and not found & {"perfect mask", "shifted cube", "extra lesion"}
