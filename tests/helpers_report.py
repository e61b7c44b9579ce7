"""A run to report on: the files that a training, `score`, `inspect` and `doctor` leave, made by hand or by them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from helpers_volumes import SHAPE, TUMOUR, store, write_case

from autoconf.inspect import inspect
from autoconf.score import score

PLAN = "# autoconf plan work\npatch_size: [32, 32, 32]  # covers 84% of the brain\n# rejected: 64, needs 8 GB\n"
RECORD: dict[str, Any] = {
    "bundle": "unetr3d",
    "command": "python -m monai.bundle run training --datalist work/datalist.json",
    "folder": "/home/someone",
    "started": "2026-01-02T03:04:05+0000",
    "seed": 7,
    "cases": 12,
    "max_epochs": 4,
    "weights": 16674833,
    "device": "CPU, 2 of 2 cores",
    "system": "Linux",
    "versions": {"python": "3.11.7", "torch": "2.13.0", "monai": None},
    "files": {"plan.yaml": PLAN},
}
PROGRESS = (
    "epoch,seconds,learning_rate,loss,validation_dice\n"
    "1,43.1,0.0003,0.55,\n2,76.7,0.0002,0.41,0.81\n3,110.6,0.0001,0.36,0.86\n4,152.4,0.0,0.35,0.85\n"
)
CHECKS = [
    {
        "group": "metric",
        "check": "empty",
        "expected": "0",
        "measured": "0",
        "verdict": "pass",
        "seconds": 0.1,
        "note": "",
    },
    {
        "group": "data",
        "check": "leak",
        "expected": "0",
        "measured": "2",
        "verdict": "FAIL",
        "seconds": 0.2,
        "note": "!",
    },
]
METRICS = ("dice", "iou", "hd95", "nsd", "sensitivity", "precision", "lesion_dice", "lesion_hd95", "lesion_f1")
PRED = (slice(5, 8), slice(7, 10), slice(2, 4))  # one row more than the tumour, to the front: 18 voxels


def write_run(folder: Path, record: dict[str, Any] | None = RECORD, progress: str | None = PROGRESS) -> Path:
    """`folder/run` with run.json and progress.csv, as far as they are given."""
    run = folder / "run"
    run.mkdir(parents=True)
    if record is not None:
        (run / "run.json").write_text(json.dumps(record))
    if progress is not None:
        (run / "progress.csv").write_text(progress)
    return run


def write_scores(folder: Path, cases: list[str], regions: tuple[str, ...] = ("wt",), pred: str = "gone") -> Path:
    """scores.csv and summary.json in the form of `autoconf score`, for masks that need not be there.

    The Dice of case i of n is (i + 1) / (n + 1); its predicted volume is 10 i + 2 mL, its true one 10 i.
    """
    folder.mkdir(parents=True)
    rows = []
    for place, case in enumerate(cases):
        value = (place + 1) / (len(cases) + 1)
        for region in regions:
            numbers = {name: 10 * (1 - value) if "hd95" in name else value for name in METRICS}
            sizes = {"volume_error_ml": 2.0, "pred_ml": 10.0 * place + 2, "true_ml": 10.0 * place}
            flags = {"both_empty": 0, "missing": 0}
            rows.append({"case": case, "patient": case, "region": region} | numbers | sizes | flags)
    with open(folder / "scores.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    spread = {"mean": 0.892, "low": 0.76, "high": 0.96, "median": 0.9, "q1": 0.8, "q3": 0.95, "min": 0.7, "max": 0.99}
    poor = {"mean": 0.1, "low": 0.05, "high": 0.2, "median": 0.1, "q1": 0.1, "q3": 0.1, "min": 0.0, "max": 0.3}
    summary = {
        "pred": pred,
        "truth": pred,
        "kind": "volumes",
        "excluded": [],
        "n": len(cases),
        "patients": len(cases),
        "regions": {region: {name: spread for name in METRICS} for region in regions},
        "worst": {region: cases[:5] for region in regions},
        "both_empty": {region: 0 for region in regions},
        "missing": [],
        "references": {region: {"all_background": {name: poor for name in METRICS}} for region in regions},
        "verdicts": ["better than no tumour anywhere: wt Dice +0.792, 95 % interval [+0.700, +0.880]"],
        "warnings": [f"few patients ({len(cases)}): as many others could give a clearly different mean"],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_scored_run(folder: Path, affine: np.ndarray | None = None) -> Path:
    """Four cases inspected, two of them predicted (PRED, and the very tumour) and scored; returns `folder/run`."""
    for number in range(4):
        write_case(folder / "data", f"BraTS2021_{number:05d}", affine=affine, seed=number)
    inspect(str(folder / "data"), str(folder / "work"))
    for number, box in enumerate((PRED, TUMOUR)):
        mask = np.zeros(SHAPE, np.uint8)
        mask[box] = 1
        (folder / "masks").mkdir(exist_ok=True)
        store(mask, folder / "masks" / f"BraTS2021_{number:05d}.nii.gz", affine)
    run = write_run(folder, RECORD | {"datalist": str(folder / "work" / "datalist.json")})
    score(str(folder / "masks"), str(folder / "data"), str(run / "scores"), jobs=1)
    (run / "doctor.json").write_text(json.dumps(CHECKS))
    return run
