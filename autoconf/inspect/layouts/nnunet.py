"""nnU-Net's raw data: imagesTr/<case>_0000.nii.gz, labelsTr/<case>.nii.gz, dataset.json, and perhaps its splits."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from autoconf.errors import AutoconfError
from autoconf.inspect.brats import patient_of
from autoconf.inspect.layouts.dataset_json import DatasetJson, read_dataset_json
from autoconf.inspect.scans import Found, Scan

SPLITS = "splits_final.json"
_FILE = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})(?P<ext>\.nii(\.gz)?|\.mha)", re.IGNORECASE)


def find(root: str) -> Found | None:
    """The scans of imagesTr, and those of imagesTs; both are data, so imagesTs counts as nnU-Net means it: for testing.

    Without labelsTs, imagesTs is unlabelled.
    """
    known = read_dataset_json(root)
    if known is None or not os.path.isdir(os.path.join(root, "imagesTr")):
        return None
    scans = _scans(root, "imagesTr", "labelsTr", known, side="")
    scans += _scans(root, "imagesTs", "labelsTs", known, side="testing")
    if not scans:
        return None
    return Found(
        "nnunet", scans, regions=known.regions, meaning=known.meaning, folds=_folds(root, {scan.case for scan in scans})
    )


def _scans(root: str, images: str, labels: str, known: DatasetJson, side: str) -> list[Scan]:
    files: dict[str, dict[int, str]] = {}
    folder = os.path.join(root, images)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        match = _FILE.fullmatch(name)
        if match and not name.startswith("."):
            files.setdefault(match["case"], {})[int(match["channel"])] = os.path.join(folder, name)
    scans = []
    for case, of_channel in files.items():
        image = tuple(None if channel is None else of_channel.get(channel) for channel in known.channels)
        path = next(iter(of_channel.values()))
        label = os.path.join(root, labels, case + _FILE.fullmatch(os.path.basename(path))["ext"])  # type: ignore[index]
        there = label if os.path.isfile(label) else None
        scans.append(Scan(case, patient_of(case), image, there, side=side if there else "", convert=_converts(path)))
    return scans


def _converts(path: str) -> bool:
    return path.lower().endswith(".mha")


def _folds(root: str, cases: set[str]) -> dict[str, int] | None:
    """case -> fold of an existing splits_final.json, which nnU-Net keeps beside the preprocessed data."""
    path = os.path.join(root, SPLITS)
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as stream:
            splits: list[dict[str, Any]] = json.load(stream)
        folds = {str(case): fold for fold, split in enumerate(splits) for case in split["val"]}
        twice = sum(len(split["val"]) for split in splits) - len(folds)
        for case in (case for split in splits for case in split["train"]):
            folds.setdefault(str(case), len(splits))  # validates in no split that is listed, but trains
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AutoconfError(
            f'{path}: not a list of {{"train": [...], "val": [...]}}. Correct it, or move it away.'
        ) from None
    if twice:
        raise AutoconfError(f"{path}: a case validates in two splits. Correct it, or move it away.")
    unknown = sorted(set(folds) - cases)
    if unknown:
        raise AutoconfError(f"{path}: lists case '{unknown[0]}', which has no image. Correct it, or move it away.")
    return folds
