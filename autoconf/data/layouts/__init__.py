"""Which layout a folder has: each module here knows one, and says which scans it recognises.

brats.py      BraTS 2018 to 2024 names          bids.py    sub-*/ses-*/anat, with derivatives
decathlon.py  Task01_BrainTumour: 4D files      npy.py     image_*.npy and mask_*.npy of the 128-voxel recipe
nnunet.py     <case>_0000 and dataset.json      (2D images are the business of ../images.py)
"""

from __future__ import annotations

import importlib
import os
from dataclasses import replace

from autoconf.data.scans import SIDES, LayoutScans, first_twice
from autoconf.errors import AutoconfError

# In the order in which they are asked: a dataset.json or a BIDS tree says more than the names of single files.
LAYOUTS = {
    "decathlon": "4D files and dataset.json of the Medical Segmentation Decathlon",
    "nnunet": "<case>_0000.nii.gz in imagesTr, and dataset.json, as nnU-Net reads",
    "bids": "sub-<patient>/.../sub-<patient>_T1w.nii.gz",
    "brats": "<case>_t1/_t1ce/_t2/_flair/_seg or <case>-t1n/-t1c/-t2w/-t2f/-seg",
    "npy": "image_<n>.npy and mask_<n>.npy",
}


def find_scans(root: str, layout: str = "auto") -> list[LayoutScans]:
    """What each layout (or the one asked for) recognises below root, without what recognised nothing.

    A file belongs to the first layout that recognises a scan with it: `sub-01_FLAIR.nii.gz` of a BIDS tree is no
    BraTS case. Raises AutoconfError for an unknown layout, CaseError for a folder that cannot be walked.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise AutoconfError(
            f"--layout {layout}: no such layout. There are: auto, {', '.join(LAYOUTS)}, classes, pairs."
        )
    recognised: list[LayoutScans] = []
    claimed: set[str] = set()
    for name in LAYOUTS if layout == "auto" else [layout]:
        found = importlib.import_module(f"autoconf.data.layouts.{name}").find(root)
        if found and not all(claimed.intersection(map(os.path.normpath, scan.files)) for scan in found.scans):
            twice = first_twice(scan.case for scan in found.scans)
            if twice:
                raise AutoconfError(f"case '{twice}' is there twice in this {name} folder. Rename or remove one.")
            recognised.append(_with_sides(root, found))
            for files in (found.others, *(scan.files for scan in found.scans)):
                claimed.update(map(os.path.normpath, files))
    return recognised


def _with_sides(root: str, found: LayoutScans) -> LayoutScans:
    """A folder train/, val/ or test/ directly below root says on which side its scans are."""
    if any(scan.side for scan in found.scans):
        return found
    first = [os.path.relpath(scan.files[0], root).split(os.sep)[0].lower() for scan in found.scans]
    sides = [SIDES.get(name, "") for name in first]
    return replace(found, scans=[replace(scan, side=side) for scan, side in zip(found.scans, sides, strict=True)])
