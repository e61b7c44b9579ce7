"""The datalist as the checks of the data read it, and what was measured of its cases."""

from __future__ import annotations

import functools
import os
from typing import Any

from autoconf.data.brats import MODALITIES
from autoconf.data.cache import Cache
from autoconf.data.datalist import Case, Datalist, read_datalist
from autoconf.data.measure import measure_cases
from autoconf.data.scans import Scan
from autoconf.doctor.checks import Subject


def read_list(subject: Subject) -> Datalist:
    """The datalist that is examined. Raises AutoconfError if it cannot be read."""
    return read_datalist(subject.datalist)


@functools.lru_cache(maxsize=2)
def measured(subject: Subject) -> tuple[Any, ...]:
    """`inspect`'s Measured of every case, from its cache where the files are unchanged. Volumes only.

    Raises AutoconfError for a file that cannot be read.
    """
    datalist = read_list(subject)
    folder = os.path.join(subject.work or subject.scratch, ".cache")
    if not os.path.isdir(folder):
        folder = os.path.join(subject.scratch, ".cache")
    return tuple(measure_cases([scan_of(datalist, case) for case in datalist.cases], Cache(folder)))


def scan_of(datalist: Datalist, case: Case) -> Scan:
    """The case as `inspect` knows it."""
    found = [datalist.file_of(case, contrast) for contrast in MODALITIES]
    images = tuple(file[0] if file else None for file in found)
    channels = tuple(file[1] or 0 for file in found if file) if case.stacked else ()
    return Scan(case.name, case.patient, images, case.label, channels)
