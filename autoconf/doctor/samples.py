"""The few cases that a bundle's process works on: some of the datalist, or one made up so that a mistake shows.

A sample is the overrides that point a config at it: `datalist`, and `mask_dir` where masks had to be made.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from autoconf.data.brats import MODALITIES
from autoconf.data.datalist import IMAGES, VOLUMES, Case, Datalist
from autoconf.data.labels import SCHEMES
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
    datalist = read_list(subject)
    fold, rest = (
        _in_order([case for case in cases if case.label or datalist.layout == "classes"])
        for cases in (datalist.validating(), datalist.learning())
    )
    fold, rest = fold[:validation], rest[:training]
    if not fold or not rest:
        raise ValueError("the datalist needs a case with a mask in fold 0 and one in another fold")
    chosen = datalist.with_cases([*fold, *rest, *(replace(case, section=TESTING) for case in fold)])
    overrides = {"datalist": _write(subject, chosen), "dataset_dir": "", "fold": 0}
    if not is_3d(subject) and not all(case.label for case in fold + rest):
        overrides["mask_dir"] = _pseudo_masks(subject, str(overrides["datalist"]), size)
    return overrides


def _in_order(cases: list[Case]) -> list[Case]:
    """One case of each patient first, because further scans of a patient say little that is new.

    Among these an order that has nothing to do with their names, so that a few are of several classes.
    """
    seen: Counter[str] = Counter()
    ranked = []
    for case in sorted(cases, key=lambda case: hashlib.sha256(case.name.encode()).hexdigest()):
        ranked.append((seen[case.patient], case))
        seen[case.patient] += 1
    return [case for _, case in sorted(ranked, key=lambda pair: pair[0])]


def _write(subject: Subject, datalist: Datalist) -> str:
    path = Path(tempfile.mkdtemp(dir=subject.scratch), "datalist.json")
    path.write_text(datalist.text(), encoding="utf-8")
    return str(path)


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
    """Four int16 modalities and a uint8 mask of the labels 1, 2 and 4; RAS_SHAPE."""
    brain = np.zeros(RAS_SHAPE, bool)
    brain[3:22, 5:31, 2:18] = True
    brain[3:9, 5:14, 2:9] = False
    modalities = [np.zeros(RAS_SHAPE, np.int16) for _ in range(4)]
    for number, contrast in enumerate(modalities):
        contrast[brain] = np.random.default_rng(number).integers(100, 1000, int(brain.sum()))
    mask = np.zeros(RAS_SHAPE, np.uint8)
    mask[12:19, 20:29, 9:15] = 2
    mask[12:15, 20:24, 12:15] = 0  # an L
    mask[16:18, 22:26, 10:12] = 1
    mask[18, 22:26, 10:12] = 4
    return modalities, mask


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
    modalities, mask = crooked_arrays()
    case = "BraTS-GLI-09999-000"
    os.mkdir(os.path.join(folder, case))
    names = [f"{case}/{case}-{end}.nii.gz" for end in ("t1n", "t1c", "t2w", "t2f", "seg")]
    for name, array in zip(names, [*modalities, mask], strict=True):
        stored = np.ascontiguousarray(array[::-1].transpose(2, 0, 1))
        nibabel.save(nibabel.Nifti1Image(stored, crooked_affine()), os.path.join(folder, name))
    images = tuple(os.path.join(folder, name) for name in names[:4])
    crooked_case = Case(case, case, images, fold=0, label=os.path.join(folder, names[4]))
    regions = SCHEMES["brats2018-2021"].regions
    datalist = Datalist("crooked", VOLUMES, folder, (), modalities=MODALITIES, regions=regions)
    return _write(subject, datalist.with_cases([crooked_case, replace(crooked_case, section=TESTING)]))


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
    image, label = (os.path.join(folder, name, "crooked.png") for name in ("images", "masks"))
    crooked_case = Case("images/crooked.png", "crooked", (image,), fold=0, label=label)
    datalist = Datalist("crooked", IMAGES, folder, (), layout="pairs")
    return _write(subject, datalist.with_cases([crooked_case, replace(crooked_case, section=TESTING)]))
