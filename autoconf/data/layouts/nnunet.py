"""nnU-Net's raw data: imagesTr/<case>_0000.nii.gz, labelsTr/<case>.nii.gz, dataset.json, and perhaps its splits."""

from __future__ import annotations

import os
import re

from autoconf.data.brats import patient_of
from autoconf.data.layouts.dataset_json import CURE, DatasetJson, read_dataset_json, read_json, texts
from autoconf.data.scans import LayoutScans, Scan, is_metaimage
from autoconf.errors import AutoconfError

SPLITS = "splits_final.json"
_FILE = re.compile(r"(?P<stem>.+)(\.nii(\.gz)?|\.mha)", re.IGNORECASE)


def find(root: str) -> LayoutScans | None:
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
    return LayoutScans(
        "nnunet", scans, regions=known.regions, meaning=known.meaning, folds=_folds(root, {scan.case for scan in scans})
    )


def _scans(root: str, images: str, labels: str, known: DatasetJson, side: str) -> list[Scan]:
    ending = str(known.content.get("file_ending"))
    masks = _by_name(os.path.join(root, labels))
    files: dict[str, dict[int, str]] = {}
    for name, paths in _by_name(os.path.join(root, images)).items():
        case, _, channel = name.rpartition("_")
        if case and re.fullmatch("[0-9]{4}", channel):
            files.setdefault(case, {})[int(channel)] = _one(paths, name + ending)
    scans = []
    for case, of_channel in files.items():
        image = tuple(None if channel is None else of_channel.get(channel) for channel in known.channels)
        label = _one(masks[case], case + ending) if case in masks else None
        convert = any(map(is_metaimage, (*image, label)))
        scans.append(Scan(case, patient_of(case), image, label, side=side if label else "", convert=convert))
    return scans


def _by_name(folder: str) -> dict[str, list[str]]:
    """The paths of all images in a folder by their names without extension."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        match = _FILE.fullmatch(name)
        if match and not name.startswith("."):
            found.setdefault(match["stem"], []).append(os.path.join(folder, name))
    return found


def _one(paths: list[str], expected: str) -> str:
    """The one path, or of several the one that is named as expected. Raises AutoconfError if that is not clear."""
    paths = [path for path in paths if os.path.basename(path) == expected] or paths
    if len(paths) > 1:
        raise AutoconfError(f"{paths[0]} and {os.path.basename(paths[1])} are the same image. Remove one.")
    return paths[0]


def _folds(root: str, cases: set[str]) -> dict[str, int] | None:
    """case -> fold of an existing splits_final.json, which nnU-Net keeps beside the preprocessed data."""
    path = os.path.join(root, SPLITS)
    if not os.path.isfile(path):
        return None
    splits = read_json(path)
    good = isinstance(splits, list) and splits and all(isinstance(split, dict) for split in splits)
    if not good or any(texts(split.get(part)) is None for split in splits for part in ("train", "val")):
        raise AutoconfError(f'{path}: not a list of {{"train": [names], "val": [names]}}. {CURE}')
    validating = [case for split in splits for case in split["val"]]
    folds = {case: fold for fold, split in enumerate(splits) for case in split["val"]}
    if len(folds) < len(validating):
        raise AutoconfError(f"{path}: a case validates in two splits. {CURE}")
    for case in (case for split in splits for case in split["train"]):
        folds.setdefault(case, len(splits))  # validates in no split that is listed, but trains
    unknown = sorted(set(folds) - cases)
    if unknown:
        raise AutoconfError(f"{path}: lists case '{unknown[0]}', which has no image. {CURE}")
    if not folds:
        raise AutoconfError(f"{path}: lists no case. {CURE}")
    return folds
