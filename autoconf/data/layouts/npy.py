"""The popular recipe of 128-voxel arrays: image_<n>.npy (128, 128, 128, channels) and mask_<n>.npy beside each other.

It crops every case at one fixed box, drops small tumours, rescales each slice by itself and loses position and voxel
size. It is read, converted to NIfTI with 1 mm voxels, and the user is warned.
"""

from __future__ import annotations

import os
import re

from autoconf.data.brats import MODALITIES, walk_files
from autoconf.data.convert import open_npy
from autoconf.data.problems import LEFT_OUT, Problem
from autoconf.data.scans import SIDES, LayoutScans, Scan
from autoconf.errors import AutoconfError, DataError
from autoconf.output import by

_FILE = re.compile(r"(?P<kind>image|mask)_(?P<case>.+)\.npy")
# The recipe stacks FLAIR, T1c, T2; the study's four channels are T1 first, in the order of MODALITIES.
CHANNELS = {3: {"flair": 0, "t1c": 1, "t2": 2}, 4: {contrast: i for i, contrast in enumerate(MODALITIES)}}
WARNING = (
    "image_*.npy arrays are no native BraTS: position and voxel size are lost (1 mm is assumed), each case was cut at "
    "one fixed box, small tumours may have been dropped. Take the NIfTI files if you can; scores do not compare."
)


def find(root: str) -> LayoutScans | None:
    """One scan per image_<n>.npy; the mask_<n>.npy may lie in any folder (images/, masks/) below root.

    Raises AutoconfError if two files are of one case, or if no array can be used.
    """
    files: dict[str, dict[str, str]] = {}
    for folder, name in walk_files(root):
        match = _FILE.fullmatch(name)
        if match:
            case, path = _case(root, folder, match["case"]), os.path.join(folder, name)
            other = files.setdefault(case, {}).setdefault(match["kind"], path)
            if other != path:
                raise AutoconfError(f"{other} and {path} are both the {match['kind']} of case '{case}'. Rename one.")
    scans: list[Scan] = []
    problems: list[Problem] = []
    for case, of_kind in sorted(files.items()):
        if "image" not in of_kind:
            finding = f"{of_kind['mask']}: a mask without an image. Add the image, or remove the mask."
            problems.append(Problem("orphan-mask", case, finding))
            continue
        try:
            scans.append(_scan(case, of_kind))
        except DataError as error:
            problems.append(Problem(error.kind, case, str(error)))
    broken = [problem for problem in problems if problem.severity == LEFT_OUT]
    if broken and not scans:
        raise AutoconfError(f"none of the {len(broken)} cases can be used: {broken[0].finding}")
    return LayoutScans("npy", scans, [WARNING], problems=problems) if scans else None


def _scan(case: str, of_kind: dict[str, str]) -> Scan:
    path = of_kind["image"]
    shape = open_npy(path).shape
    if len(shape) != 4 or shape[-1] not in CHANNELS:
        held = by(shape) or "a single number"
        raise DataError(
            "not-3d", f"{path}: is {held}, not height x width x depth x 3 or 4 modalities. Export it again."
        )
    of_contrast = CHANNELS[shape[-1]]
    image = tuple(path if contrast in of_contrast else None for contrast in MODALITIES)
    channels = tuple(of_contrast.get(contrast, -1) for contrast in MODALITIES)
    return Scan(
        case, case, image, of_kind.get("mask"), channels, side=SIDES.get(case.split("_")[0].lower(), ""), convert=True
    )


def _case(root: str, folder: str, number: str) -> str:
    """`train_12` for train/images/image_12.npy: numbers start anew in each part of a split."""
    parts = [
        p for p in os.path.relpath(folder, root).split(os.sep) if p not in (".", "images", "masks", "image", "mask")
    ]
    return "_".join([*parts, number])
