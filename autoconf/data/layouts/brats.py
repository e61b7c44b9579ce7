"""BraTS names, 2018 to 2024 (../brats.py, which the bundle has too), and what the challenge says about labels."""

from __future__ import annotations

import os
import re
from collections import Counter

from autoconf.data.brats import BratsCase, find_cases, scheme_of
from autoconf.data.labels import FAMILIES
from autoconf.data.scans import LayoutScans, Scan, is_metaimage


def find(root: str) -> LayoutScans | None:
    """Every case of BraTS names below root."""
    cases = find_cases(root)
    shared = Counter(_folder(case) for case in cases)
    scans = []
    for case in cases:
        label = _label(case, alone=shared[_folder(case)] == 1)
        convert = any(map(is_metaimage, (*case.image, label)))
        scans.append(Scan(case.case, case.patient, case.image, label, family=family_of(case), convert=convert))
    return LayoutScans("brats", scans) if scans else None


def _folder(case: BratsCase) -> str:
    return os.path.dirname(next(path for path in (*case.image, case.label) if path))


def _label(case: BratsCase, alone: bool) -> str | None:
    """The mask; where it is missing, a lone *_Segm.nii, as the mask of BraTS20_Training_355 was published.

    alone: no other case lies in the folder.
    """
    if case.label or not alone:
        return case.label
    folder = _folder(case)
    names = sorted(name for name in os.listdir(folder) if re.fullmatch(r".*_segm\.nii(\.gz)?", name, re.IGNORECASE))
    return os.path.join(folder, names[0]) if len(names) == 1 else None


def family_of(case: BratsCase) -> str:
    """brats2018-2021 by the file names, else brats-gli, brats-ped, ... by the case's name; "" where it says nothing."""
    if scheme_of(case) == "BraTS 2018-2021":
        return "brats2018-2021"
    challenge = re.match(r"brats-([a-z]+(-rt)?)-\d", case.case, re.IGNORECASE)
    family = f"brats-{challenge[1].lower()}" if challenge else ""
    return family if family in FAMILIES else ""
