"""One case: its masks read, each region scored, the reference predictions beside it, the probabilities looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autoconf.data.masks import Labels, read_prediction, read_truth
from autoconf.data.pairs import Pair
from autoconf.data.volumes import check_same_grid, read_channels, read_volume
from autoconf.errors import AutoconfError, DataError
from autoconf.score.masks import WT
from autoconf.score.metrics import METRICS, score_masks
from autoconf.score.probabilities import Calibration, calibrate
from autoconf.score.references import Atlas, flair_threshold

DIGITS = 6  # of what is written
Row = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """What was found for one case."""

    rows: list[Row]  # of scores.csv, one per region
    references: list[Row] = field(default_factory=list)  # of references.csv
    calibration: Calibration | None = None


@dataclass(frozen=True)
class ScoringTask:
    """What is the same for every case of a run."""

    kind: str  # "volumes" or "images"
    regions: tuple[str, ...]
    atlas: Atlas | None = None
    references: bool = True


def values_of(kind: str, pair: Pair) -> tuple[set[int], set[int]]:
    """The values above 0 in the true and in the predicted mask of a case. Checks both; raises AutoconfError."""
    truth = read_truth(kind, pair)
    return truth.values, read_prediction(kind, pair, truth).values


def score_case(task: ScoringTask, pair: Pair) -> Scored:
    """Score one case. Raises AutoconfError for a mask that cannot be read, or lies on another grid than its truth.

    The all-background prediction goes through the same functions as the real one; where it scores above 0 on a tumour,
    this program is broken, and says so.
    """
    truth = read_truth(task.kind, pair)
    pred = read_prediction(task.kind, pair, truth)
    flair = _flair(pair, truth) if task.references else None
    rows, references, calibration = [], [], None
    for region in task.regions:
        of_truth, of_prediction = pair.read_as[region]
        true, found = truth.region(of_truth), pred.region(of_prediction)
        head = {"case": pair.case, "patient": pair.patient, "region": region}
        rows.append(head | _row(found, true, truth) | {"missing": int(pair.pred is None)})
        if task.references:
            for name, guess in _guesses(true, region, flair, truth, task.atlas):
                references.append({"reference": name} | head | _row(guess, true, truth))
                _check_background(references[-1])
        if region == WT and pair.probability:
            probability = _probability(pair, truth)
            calibration = calibrate(pair.case, probability, found, true, truth.spacing)
    return Scored(rows, references, calibration)


def _row(pred: np.ndarray, truth: np.ndarray, labels: Labels) -> Row:
    scores = score_masks(pred, truth, labels.spacing)
    row: Row = {name: round(float(scores[name]), DIGITS) for name in METRICS}
    sizes = int(np.count_nonzero(pred)), int(np.count_nonzero(truth))
    if labels.voxel_ml is None:
        row |= {"area_error_pixels": sizes[0] - sizes[1], "pred_pixels": sizes[0], "true_pixels": sizes[1]}
    else:
        pred_ml, true_ml = (round(size * labels.voxel_ml, 4) for size in sizes)
        row |= {"volume_error_ml": round(pred_ml - true_ml, 4), "pred_ml": pred_ml, "true_ml": true_ml}
    row |= {name: int(scores[name]) for name in ("lesions_true", "lesions_pred")}
    return row | {"both_empty": int(sizes == (0, 0))}


def _guesses(
    truth: np.ndarray, region: str, flair: np.ndarray | None, labels: Labels, atlas: Atlas | None
) -> Iterator[tuple[str, np.ndarray]]:
    """The reference predictions: name, mask."""
    yield "all_background", np.zeros_like(truth)
    yield "all_foreground", np.ones_like(truth) if flair is None else flair != 0
    if region == WT and flair is not None:
        yield "flair_threshold", flair_threshold(flair, labels.spacing)
        if atlas is not None and labels.affine is not None:
            yield "training_atlas", atlas.predict(flair != 0, labels.affine)


def _check_background(row: Row) -> None:
    if row["reference"] == "all_background" and not row["both_empty"] and (row["dice"] or row["iou"]):
        raise AutoconfError(f"{row['case']}: an all-background prediction scores {row['dice']}. Report this bug.")


def _flair(pair: Pair, truth: Labels) -> np.ndarray | None:
    if pair.flair is None:
        return None
    volume = read_volume(pair.flair)
    check_same_grid(volume, truth.volume)
    return volume.data


def _probability(pair: Pair, truth: Labels) -> np.ndarray:
    """The whole tumour's probability on the grid of the true mask: the first channel where there are several."""
    path = pair.probability or ""
    try:
        volume = read_volume(path)
    except DataError as error:
        if error.kind != "not-3d":
            raise
        volume = read_channels(path, (0,))[0]
    check_same_grid(volume, truth.volume)
    if volume.data.min() < 0 or volume.data.max() > 1:
        raise AutoconfError(f"{path}: holds values outside 0 to 1, so it is no probability. Remove or correct it.")
    # Thresholds are compared in the map's own type, and an integer cannot hold them.
    return volume.data if volume.data.dtype.kind == "f" else volume.data.astype(np.float32)
