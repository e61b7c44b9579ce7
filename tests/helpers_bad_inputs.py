"""What a bad input is, what is promised of it, and how it is made.

A kind of bad input changes one thing of a sound data set, four small phantom heads. `helpers_bad_ways` sends it.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

WAYS = ("inspect", "bundle", "score")
CASE = "BraTS-GLI-00002-000"  # the one that a kind spoils
ENDS = ("t1n", "t1c", "t2w", "t2f", "seg")
SPACING = 5.625  # mm, of the phantom's 32 voxels in 180 mm


@dataclass(frozen=True)
class Promise:
    """What is promised of one way: `right`, with what must be true of the answer, or `refused`, or `left out`."""

    end: str
    said: str = ""  # in the one line
    expected: dict[str, Any] = field(default_factory=dict)


def right(said: str = "", **expected: Any) -> Promise:
    """The way goes through, and what it makes is that of the sound case but for what is expected.

    said: of `inspect` on stdout, of the bundle on stderr. expected: `name` of the case, if it has another. Of
    `inspect`: parts of the case's row of fingerprint.json, `anew` if that is to be measured from the files again,
    `cases`, how many there are, and the kind of problem that it `warns` of. Of the bundle: `dice` (at least), `masks`
    (their names), and of a mask the `voxels` of tumour. Of `score`: `dice`.
    """
    return Promise("right", said, expected)


def refused(said: str) -> Promise:
    """One line that holds `said`, exit status 1, and nothing is written."""
    return Promise("refused", said)


def left_out(kind: str, said: str, **expected: Any) -> Promise:
    """`inspect` leaves the case out and counts it; problems.csv has a row of that kind that holds `said`.

    expected: the name of the `case`, and `of` which it is one, where that is not a case of the phantom.
    """
    return Promise("left out", said, {"kind": kind} | expected)


@dataclass(frozen=True)
class Kind:
    """One kind of bad input.

    what: as the page names it. where: what `make` gets: the path of a `scan` (T2; for `score` a predicted mask), of a
    `mask` or a `picture`, the folder of a `case`, or that of the whole `data` set. A way without a promise is not gone.
    """

    what: str
    where: str
    make: Callable[[Path], Any]
    inspect: Promise | None = None
    bundle: Promise | None = None
    score: Promise | None = None
    late: bool = False  # made after the headers were looked at, before the voxels are read
    as_user: bool = False  # sent by somebody without root's rights

    def promise(self, way: str) -> Promise | None:
        return getattr(self, way)


@dataclass(frozen=True)
class Outcome:
    """What a way ended with. line: what a person is told, its paths shortened."""

    end: str
    line: str
    resident: int  # bytes in memory at its peak, beyond what was there before


def unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def packed(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content, 1, mtime=0))


def put(path: Path, place: int, value: Any) -> None:
    """Overwrite numbers of a NIfTI header, which the file format says the places of."""
    content = bytearray(unpacked(path))
    raw = np.atleast_1d(value).tobytes()
    content[place : place + len(raw)] = raw
    packed(path, bytes(content))


def rewritten(path: Path, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    """Save a volume anew: `change` gets its voxels and affine and returns others."""
    image = nibabel.load(path)
    array, affine = change(np.asarray(image.dataobj), image.affine.copy())
    made = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    nibabel.save(made, path)
