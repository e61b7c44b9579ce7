"""BraTS names, 2018 to 2024 (../brats.py, which the bundle has too), and what the challenge says about labels."""

from __future__ import annotations

import re

from autoconf.inspect.brats import find_cases, scheme_of
from autoconf.inspect.labels import FAMILIES
from autoconf.inspect.scans import Found, Scan


def find(root: str) -> Found | None:
    """Every case of BraTS names below root."""
    cases = find_cases(root)
    scans = [Scan(case.case, case.patient, case.image, case.label, family=_family(case)) for case in cases]
    return Found("brats", scans) if scans else None


def _family(case) -> str:
    """brats2018-2021 by the file names, else brats-gli, brats-ped, ... by the case's name; "" where it says nothing."""
    if scheme_of(case) == "BraTS 2018-2021":
        return "brats2018-2021"
    challenge = re.match(r"brats-([a-z]+(-rt)?)-\d", case.case, re.IGNORECASE)
    family = f"brats-{challenge[1].lower()}" if challenge else ""
    return family if family in FAMILIES else ""
