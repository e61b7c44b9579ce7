"""A row of the table of bad input: what is given, how it is made, and how each reader ends with it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

CASE = "BraTS-GLI-00002-000"  # the one that a row breaks
ENDS = ("t1n", "t1c", "t2w", "t2f", "seg")
GONE = object()  # in place of a value: its key is deleted
SPACING = 5.625  # mm, of the phantom's 32 voxels in 180 mm


Change = Callable[[Path], Any]


@dataclass(frozen=True)
class End:
    """How a reader ends: `right`, `refused` or `left out`. said: in its one line. expected: of the answer."""

    how: str
    said: str = ""
    expected: dict[str, Any] = field(default_factory=dict)


def right(said: str = "", **expected: Any) -> End:
    """The input is read, and the answer is that of the sound case but for what is expected.

    said: of `inspect` on stdout, of the bundle on stderr. expected: `name` of the case, if it has another. Of
    `inspect`: parts of the case's row of fingerprint.json, `anew` if that is to be measured from the files again,
    `cases`, how many there are, and the kind of problem that it `warns` of. Of the bundle: `dice` (at least), `masks`
    (their names), and of a mask the `voxels` of tumour. Of `score`: `dice`.
    """
    return End("right", said, expected)


def left_out(kind: str, said: str, **expected: Any) -> End:
    """`inspect` excludes the case and counts it; problems.csv has a row of that kind that holds `said`.

    expected: the name of the `case`, and `of` which it is one, where that is not a case of the phantom.
    """
    return End("left out", said, {"kind": kind} | expected)


@dataclass(frozen=True)
class Row:
    """given: as the page names it. ends: of each reader of its section, in order; None for one that is not tried."""

    given: str
    where: str
    make: Change
    ends: tuple[End | None, ...]
    late: bool = False
    as_user: bool = False


def row(given: str, where: str, make: Change, *ends: End | str | None, **more: bool) -> Row:
    """A row; an end that is a text is a refusal: one line that holds it, exit status 1, and nothing is written.

    where: what `make` gets: the path of a `scan` (T2; for `score` a predicted mask), of a `mask` or a `picture`, the
    folder of a `case`, that of the whole `data` set; elsewhere the file or folder that the section says. more: `late`,
    made after the headers were read and before the voxels are; `as_user`, read by somebody without root's rights.
    """
    return Row(given, where, make, tuple(End("refused", e) if isinstance(e, str) else e for e in ends), **more)


def unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def packed(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content, 1, mtime=0))


def content(text: str | bytes) -> Change:
    """Write something else into the file."""
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode())


def changed(**more: object) -> Change:
    """Replace parts of a JSON file."""

    def make(path: Path) -> None:
        merged = json.loads(path.read_text()) | more
        path.write_text(json.dumps({key: value for key, value in merged.items() if value is not GONE}))

    return make


def written(json_of: object) -> Change:
    return content(json.dumps(json_of))


def cut(share: float) -> Change:
    """Leave the first part of the file."""
    return lambda path: content(path.read_bytes()[: int(share * path.stat().st_size)])(path)


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
    nibabel.save(nibabel.Nifti1Image(array, affine, dtype=array.dtype), path)


def array(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Save other voxels on the same grid."""
    return lambda path: rewritten(path, lambda voxels, affine: (change(voxels), affine))


def affine(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Save the same voxels on another grid."""
    return lambda path: rewritten(path, lambda voxels, affine: (voxels, change(affine)))


def both(*changes: Change) -> Change:
    """Do one after the other."""

    def make(path: Path) -> None:
        for change in changes:
            change(path)

    return make


def every(*changes: Change) -> Change:
    """Do it to every file of a case."""

    def make(home: Path) -> None:
        for end in ENDS:
            both(*changes)(home / f"{CASE}-{end}.nii.gz")

    return make
