"""Small made-up cases, as many as wanted, to see how cost grows with their number."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np

SIDE = 40  # voxels: small, so that 4,000 cases are 2.6 GB
MODALITIES = ("t1", "t1c", "t2", "flair")


def make_cases(folder: Path, cases: int) -> str:
    """Write so many cases of 40^3 voxels of 2 mm, all different, and their datalist; returns the datalist's path.

    A ball of noise with a brighter ball in it. Not compressed: to unpack is part of other benchmarks.
    """
    folder.mkdir(parents=True)
    places = np.indices((SIDE,) * 3) - SIDE // 2
    head = (places**2).sum(axis=0) < (0.45 * SIDE) ** 2
    tumour = ((places - SIDE // 6) ** 2).sum(axis=0) < (SIDE / 8) ** 2
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    random = np.random.default_rng(0)
    items = []
    for case in range(cases):
        name = f"case_{case:05d}"
        paths = [f"{name}_{contrast}.nii" for contrast in MODALITIES]
        for path in paths:
            values = random.integers(100, 300, head.shape, np.int16) * head + 200 * (tumour & head)
            nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), affine), folder / path)
        label = f"{name}_seg.nii"
        nibabel.save(nibabel.Nifti1Image((tumour & head).astype(np.uint8), affine), folder / label)
        items.append({"case": name, "patient": name, "fold": case % 4, "image": paths, "label": label})
    head_of_list = {
        "kind": "volumes",
        "dataset_dir": str(folder),
        "modalities": list(MODALITIES),
        "regions": {"wt": [1]},
    }
    datalist = folder / "datalist.json"
    datalist.write_text(json.dumps(head_of_list | {"training": items, "testing": []}))
    return str(datalist)
