"""The few cases that a bundle's process works on: some of the datalist, or one made up so that a mistake shows.

A sample is the overrides that point a config at it: `datalist`, and `mask_dir` where masks had to be made.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from autoconf.data.split import TESTING
from autoconf.doctor.checks import Subject
from autoconf.doctor.lists import read_list
from autoconf.doctor.opened import config, is_3d

RAS_SHAPE = (26, 34, 22)  # voxels of the crooked case, in RAS+ order
RAS_SPACING = (1.0, 1.5, 2.0)  # mm
PICTURE = (150, 190)  # rows and columns of the crooked picture


def sample(subject: Subject, training: int, validation: int = 1, **size: Any) -> dict[str, Any]:
    """A datalist of the first few cases with a mask: of the folds that train, and of fold 0.

    The cases of fold 0 are its `testing` section too, so that inference reads the cases that validate.
    size: overrides that masks depend on, where they must be made.
    """
    content = read_list(subject)
    root = content.get("dataset_dir") or os.path.dirname(os.path.abspath(subject.datalist))
    labelled = [item for item in content["training"] if item.get("label") or content.get("layout") == "classes"]
    fold = _in_order([item for item in labelled if item.get("fold") == 0])[:validation]
    rest = _in_order([item for item in labelled if item.get("fold") != 0])[:training]
    if not fold or not rest:
        raise ValueError("the datalist needs a case with a mask in fold 0 and one in another fold")
    chosen = content | {"training": fold + rest, TESTING: fold, "unlabelled": [], "dataset_dir": root}
    overrides = {"datalist": _write(subject, chosen), "dataset_dir": "", "fold": 0}
    if not is_3d(subject) and not all(item.get("label") for item in fold + rest):
        overrides["mask_dir"] = _pseudo_masks(subject, str(overrides["datalist"]), size)
    return overrides


def _in_order(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One case of each patient first, because further scans of a patient say little that is new."""
    seen: Counter[str] = Counter()
    ranked = []
    for item in sorted(listed, key=_spread):
        patient = item.get("patient") or item["case"]
        ranked.append((seen[patient], item))
        seen[patient] += 1
    return [item for _, item in sorted(ranked, key=lambda pair: pair[0])]


def _spread(item: dict[str, Any]) -> str:
    """Cases in an order that has nothing to do with their names, so that a few are of several classes."""
    import hashlib

    return hashlib.sha256(item["case"].encode()).hexdigest()


def _write(subject: Subject, content: dict[str, Any]) -> str:
    folder = tempfile.mkdtemp(dir=subject.scratch)
    path = os.path.join(folder, "datalist.json")
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(content, stream)
    return path


def _pseudo_masks(subject: Subject, datalist: str, size: dict[str, Any]) -> str:
    """The masks that the bundle's own `pseudo_label.yaml` makes; returns their folder."""
    folder = tempfile.mkdtemp(dir=subject.scratch)
    parser = config(subject, "pseudo_label", datalist=datalist, dataset_dir="", output_dir=folder, **size)
    parser.get_parsed_content("labeller").run()
    return os.path.join(folder, "masks")


def crooked(subject: Subject) -> dict[str, Any]:
    """One made-up case that validates and is to be segmented. A flip, a swap of axes or a lost affine changes it.

    A volume: voxels of 1 x 1.5 x 2 mm, stored slice-first and right-to-left, the head turned by 10 degrees, brain and
    tumour off-centre and lopsided, each contrast another noise. An image: 150 x 190 pixels, lopsided.
    """
    folder = tempfile.mkdtemp(dir=subject.scratch)
    if is_3d(subject):
        return {"datalist": _crooked_volume(subject, folder), "dataset_dir": "", "fold": 0}
    return {"datalist": _crooked_image(subject, folder), "dataset_dir": "", "mask_dir": "", "fold": 0}


def crooked_arrays() -> tuple[list[np.ndarray], np.ndarray]:
    """Four int16 contrasts and a uint8 mask of the labels 1, 2 and 4; RAS_SHAPE."""
    brain = np.zeros(RAS_SHAPE, bool)
    brain[3:22, 5:31, 2:18] = True
    brain[3:9, 5:14, 2:9] = False
    contrasts = [np.zeros(RAS_SHAPE, np.int16) for _ in range(4)]
    for number, contrast in enumerate(contrasts):
        contrast[brain] = np.random.default_rng(number).integers(100, 1000, int(brain.sum()))
    mask = np.zeros(RAS_SHAPE, np.uint8)
    mask[12:19, 20:29, 9:15] = 2
    mask[12:15, 20:24, 12:15] = 0  # an L
    mask[16:18, 22:26, 10:12] = 1
    mask[18, 22:26, 10:12] = 4
    return contrasts, mask


def crooked_affine() -> np.ndarray:
    """(4, 4) voxel to RAS+ mm of axes S, L, A."""
    turn = np.radians(10)
    rotate = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    right, front, up = RAS_SPACING
    affine = np.eye(4)
    affine[:3, :3] = rotate @ np.array([[0, -right, 0], [0, 0, front], [up, 0, 0]])
    affine[:3, 3] = (20, -30, 5)
    return affine


def _crooked_volume(subject: Subject, folder: str) -> str:
    contrasts, mask = crooked_arrays()
    case = "BraTS-GLI-09999-000"
    os.mkdir(os.path.join(folder, case))
    names = [f"{case}/{case}-{end}.nii.gz" for end in ("t1n", "t1c", "t2w", "t2f", "seg")]
    for name, array in zip(names, [*contrasts, mask], strict=True):
        stored = np.ascontiguousarray(array[::-1].transpose(2, 0, 1))
        nibabel.save(nibabel.Nifti1Image(stored, crooked_affine()), os.path.join(folder, name))
    item = {"case": case, "patient": case, "image": names[:4], "label": names[4]}
    regions = {"wt": [1, 2, 4], "tc": [1, 4], "et": [4]}
    head = {"kind": "volumes", "dataset_dir": folder, "contrasts": ["t1", "t1c", "t2", "flair"], "regions": regions}
    return _write(subject, head | {"training": [item | {"fold": 0}], TESTING: [item]})


def _crooked_image(subject: Subject, folder: str) -> str:
    picture = np.zeros(PICTURE, np.uint8)
    picture[20:120, 30:170] = np.random.default_rng(0).integers(20, 120, (100, 140))
    mask = np.zeros(PICTURE, np.uint8)
    mask[30:80, 90:150] = 255
    mask[30:50, 90:110] = 0  # an L
    picture[mask > 0] += 100
    for name, array in (("images", picture), ("masks", mask)):
        os.mkdir(os.path.join(folder, name))
        Image.fromarray(array).save(os.path.join(folder, name, "crooked.png"))
    item = {"case": "images/crooked.png", "patient": "crooked", "image": "images/crooked.png"}
    item |= {"label": "masks/crooked.png"}
    head = {"kind": "images", "dataset_dir": folder, "layout": "pairs"}
    return _write(subject, head | {"training": [item | {"fold": 0}], TESTING: [item]})
