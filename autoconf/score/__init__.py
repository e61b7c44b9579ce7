"""`autoconf score`: predicted masks against true ones, by a referee that shares no code with the training.

pairs.py     which prediction belongs to which truth     metrics.py   Dice and IoU, pure
masks.py     one pair of masks, checked                  overlay.py   the picture
report.py    the table on the screen
"""

from __future__ import annotations

import csv
import io
import os
from typing import Any

from autoconf.errors import AutoconfError
from autoconf.output import check_out, progress, to_json, write_files
from autoconf.score.pairs import Pair, find_pairs
from autoconf.score.report import print_scores

FEW_CASES = 30  # below this the mean of a test set moves by several points with the choice of cases


def score(pred: str, truth: str, out: str, split: str = "testing", dataset_dir: str = "") -> None:
    """Score predicted masks against the truth: Dice and IoU per case, beside an all-background prediction.

    pred: folder of <case>.nii.gz masks, or of PNG masks.
    truth: datalist.json, where every case of the split counts and a missing prediction scores as empty; or a folder
      of BraTS cases, of <case>.nii.gz masks, or of PNG masks with the same names, where only predicted cases count.
    out: folder for scores.csv, summary.json and, where the images are known, overlay.png.
    split: the part of a datalist: testing, validation (fold 0) or training.
    dataset_dir: where the datalist's data lie now, if they were moved.
    """
    pairs = find_pairs(pred, truth, split, dataset_dir)
    check_out(out, outside=truth if os.path.isdir(truth) else None)
    scored = progress(pairs.scored, len(pairs.scored), "scoring cases")
    rows = [score_case(pair, pairs.kind) for pair in scored]
    summary = {"pred": pred, "truth": truth, "kind": pairs.kind}
    summary |= {"split": split} if truth.lower().endswith(".json") else {}
    summary |= summarise(rows)
    files: dict[str, str | bytes] = {"scores.csv": _csv(rows), "summary.json": to_json(summary)}
    picture = _overlay(pairs.scored, rows)
    if picture:
        files["overlay.png"] = picture
    write_files(out, files)
    print_scores(out, rows, summary, pairs, list(files))


def score_case(pair: Pair, kind: str) -> dict[str, Any]:
    """One row of scores.csv. The all-background prediction goes through the same function as the real one.

    Raises AutoconfError if the background scores above 0 on a tumour: then this program is broken.
    """
    import numpy as np

    from autoconf.score.masks import read_pair
    from autoconf.score.metrics import overlap

    pred, truth = read_pair(kind, pair.pred, pair.truth)
    found = overlap(pred.data, truth.data)
    background = overlap(np.zeros_like(truth.data), truth.data)
    if background.truth and (background.dice or background.iou):
        raise AutoconfError(f"{pair.case}: an all-background prediction scores {background.dice}. Report this bug.")
    row = {"case": pair.case, "dice": round(found.dice, 6), "iou": round(found.iou, 6)}
    if truth.voxel_ml is None:
        row |= {"pred_pixels": found.pred, "true_pixels": found.truth}
    else:
        row |= {"pred_ml": round(found.pred * truth.voxel_ml, 4), "true_ml": round(found.truth * truth.voxel_ml, 4)}
        row |= {"pred_voxels": found.pred, "true_voxels": found.truth}
    return row | {
        "dice_all_background": background.dice,
        "iou_all_background": background.iou,
        "missing": int(pair.pred is None),
        "both_empty": int(found.empty),
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean over all cases, none left out, with what a reader needs to doubt it."""
    import numpy as np

    def average(name: str) -> float:
        return round(float(np.mean([row[name] for row in rows])), 6)

    dice, iou = [row["dice"] for row in rows], [row["iou"] for row in rows]
    summary: dict[str, Any] = {
        "n": len(rows),
        "mean_dice": average("dice"),
        "median_dice": round(float(np.median(dice)), 6),
        "min_dice": min(dice),
        "worst_case": rows[int(np.argmin(dice))]["case"],
        "mean_iou": average("iou"),
        "median_iou": round(float(np.median(iou)), 6),
        "min_iou": min(iou),
        "all_background": {"mean_dice": average("dice_all_background"), "mean_iou": average("iou_all_background")},
        "missing": [row["case"] for row in rows if row["missing"]],
        "both_empty": sum(row["both_empty"] for row in rows),
    }
    if len(rows) < FEW_CASES:
        summary["warning"] = f"few cases ({len(rows)}): as many others could give a clearly different mean"
    return summary


def _overlay(pairs: list[Pair], rows: list[dict[str, Any]]) -> bytes | None:
    """The picture of the best, the median and the worst case that have an image; None where no image is known."""
    dice = {row["case"]: row["dice"] for row in rows}
    shown = sorted((pair for pair in pairs if pair.flair), key=lambda pair: (-dice[pair.case], pair.case))
    if not shown:
        return None
    from autoconf.score.overlay import draw

    chosen = {len(shown) // 2: "median"}
    chosen |= {len(shown) - 1: "worst"} | {0: "best"}  # with one or two cases a place has several names
    return draw([(chosen[place], dice[shown[place].case], shown[place]) for place in sorted(chosen)])


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
