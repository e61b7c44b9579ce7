"""Measure volumes, a case in memory at a time: grids, brain and tumour sizes, intensities.

Headers first, so that a structural error shows before any voxel is read; then each file once (volumes.py), counted
(counts.py) and forgotten. What was measured before is taken from a cache (cache.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
from isal import isal_zlib

from autoconf.data import traits
from autoconf.data.brats import MODALITIES
from autoconf.data.cache import Cache, Key
from autoconf.data.counts import Counts, Intensities, count
from autoconf.data.gz import Memory
from autoconf.data.scans import Scan
from autoconf.data.volumes import Grid, Volume, check_same_grid, read_channels, read_grid, read_volume
from autoconf.errors import AutoconfError, DataError
from autoconf.pool import in_order

MEASURE_VERSION = 3  # of this code and of counts.py: raise it when a number changes, and every cache is void
WORD = np.dtype(np.uint64)  # 8 bytes are looked at in one step
RUN = 8  # voxels that are sampled together
Box = list[tuple[int, int]]  # first and last + 1 index on each axis, in the order of the file


@dataclass(frozen=True)
class Measured:
    """One case: its row of the fingerprint, and the counts of its voxels by contrast."""

    row: dict[str, Any]
    brain: dict[str, Counts]  # the voxels that are not 0
    foreground: dict[str, Counts]  # the voxels inside the mask, 0 or not; {} without a mask or with an empty one
    coarse: np.ndarray  # traits.coarse of the first contrast that is there
    content: list[int]  # a checksum of the voxels of each contrast that are not 0, and of their box
    agreement: list[float] | None  # traits.agreement; None where a contrast or the tumour is missing

    def add_to(self, intensities: dict[str, Intensities]) -> None:
        """Add the counts to those of other cases, by contrast."""
        for contrast, found in self.brain.items():
            intensities[contrast].brain.add(found)
        for contrast, found in self.foreground.items():
            intensities[contrast].foreground.add(found)


def measure_cases(
    cases: Sequence[Scan], cache: Cache | None = None, jobs: int = 1, keep_going: bool = False
) -> Iterator[Measured | AutoconfError]:
    """Measure every case, in their order, after a look at all new headers; at most 2 * jobs cases are in memory.

    cache: what is in it and unchanged is not measured again. jobs: processes; about 100 MB each.
    A case that cannot be trained on raises AutoconfError, or with keep_going the error is yielded in its place.
    """
    grids: list[Grid | AutoconfError | None] = []  # None: of a case that was measured before
    for case in cases:
        try:
            known = cache is not None and cache.may_have(_key(case, cache))
            grids.append(None if known else check_headers(case))
        except AutoconfError as error:
            if not keep_going:
                raise
            grids.append(error)
    tasks = [(case, grid, cache) for case, grid in zip(cases, grids, strict=True)]
    for found in in_order(_outcome, tasks, jobs):
        if isinstance(found, AutoconfError) and not keep_going:
            raise found
        yield found


def check_headers(case: Scan) -> Grid:
    """Compare the headers of a case's files; returns the common grid. Raises AutoconfError, naming the file."""
    grids = [read_grid(path, channels) for path, channels in _files(case)]
    for grid in grids[1:]:
        check_same_grid(grid, grids[0])
    return grids[0]


def measure(case: Scan, grid: Grid | None = None, memory: Memory | None = None) -> Measured:
    """Read one case, a volume at a time.

    grid: what `check_headers` said of it, if that was asked already. memory: to be used again for the next case.

    The row: case, shape (voxels, RAS+ axis order), spacing (mm, RAS+), brain_shape (bounding box of the voxels that
    are not 0 in at least one contrast), and, of the mask, tumour_voxels, tumour_ml and labels (None without a mask).
    Raises AutoconfError, naming the file, for anything that cannot be trained on.
    """
    grid = grid or check_headers(case)
    memory = memory or Memory()
    mask, flags, inside = _measure_mask(case.label, grid, memory)
    samples: list[np.ndarray] = []
    content: list[int] = []
    boxes: list[Box] = []
    brain: dict[str, Counts] = {}
    foreground: dict[str, Counts] = {}
    picture = np.zeros(0, np.float32)  # of the first contrast
    outside = np.ones(inside.size, bool)
    for contrast, volume in _modalities(case, memory):
        check_same_grid(volume, grid)
        not_zero, box = _not_zero(volume.data)
        brain[contrast] = count(not_zero, zeros=False)
        _check_scan(volume, brain[contrast])
        voxels = volume.data.ravel(order="F")
        if inside.size:
            foreground[contrast] = count(voxels[inside])
            outside &= voxels[inside] == 0
        if not picture.size:
            picture = traits.coarse(volume.data, _slices(box))
        boxes.append(box)
        content.append(isal_zlib.crc32(not_zero, isal_zlib.crc32(np.array(box))))
        samples.append(_sample(voxels))
    sides = np.max(boxes, axis=0)[:, 1] - np.min(boxes, axis=0)[:, 0]
    row = {
        "case": case.case,
        "shape": grid.shape,
        "spacing": grid.spacing,
        "orientation": "".join(nibabel.aff2axcodes(grid.affine)),
        "brain_shape": [int(sides[axis]) for axis in grid.to_ras],
    }
    if case.label:
        mask["outside_head"] = int(np.count_nonzero(outside))
    return Measured(row | mask, brain, foreground, picture, content, _agreement(samples, flags))


def _outcome(case: Scan, grid: Grid | AutoconfError | None, cache: Cache | None) -> Measured | AutoconfError:
    if isinstance(grid, AutoconfError):
        return grid
    try:
        return _measure_once(case, grid, _MEMORY, cache)
    except AutoconfError as error:
        return error


_MEMORY = Memory()  # of this process: one case is measured at a time


def _files(case: Scan) -> list[tuple[str, tuple[int, ...]]]:
    """Each file of a case once, the mask last, with the channels to read of it (none of a 3D file)."""
    channels = tuple(getattr(case, "channels", ()))
    files = [(path, channels) for path in dict.fromkeys(case.image) if path]
    return files + ([(case.label, ())] if case.label else [])


def _modalities(case: Scan, memory: Memory) -> Iterator[tuple[str, Volume]]:
    """The modalities that the case has; each overwrites the one before, unless one file holds them all."""
    there = [(contrast, path) for contrast, path in zip(MODALITIES, case.image, strict=True) if path]
    channels = tuple(getattr(case, "channels", ()))
    if channels:
        volumes = read_channels(there[0][1], channels)
        yield from ((contrast, volume) for (contrast, _), volume in zip(there, volumes, strict=True))
    else:
        yield from ((contrast, read_volume(path, memory)) for contrast, path in there)


def _not_zero(data: np.ndarray) -> tuple[np.ndarray, Box]:
    """All voxels that are not 0, with a few that are, flat; and the box that holds them.

    Integers are compared 8 bytes at once: what is 0 there, five of six voxels of a BraTS case, is not looked at again.
    """
    flat, each = data.ravel(order="F"), WORD.itemsize // data.dtype.itemsize
    if data.dtype.kind not in "iu" or data.shape[0] % each:
        there = flat != 0
        return flat[there], _box(there.reshape(data.shape, order="F"))
    words = flat.view(WORD)
    there = words != 0
    first, *others = _box(there.reshape((-1, *data.shape[1:]), order="F"))
    low, high = (each * edge for edge in first)
    while low < high and not data[low].any():  # at most each - 1 times
        low += 1
    while low < high and not data[high - 1].any():
        high -= 1
    return words[there].view(data.dtype), [(low, high), *others]


def _slices(box: Box) -> tuple[slice, slice, slice]:
    i, j, k = (slice(low, high) for low, high in box)
    return i, j, k


def _box(there: np.ndarray) -> Box:
    """First and last + 1 index of all that is True, in the array's axis order."""
    plane = np.asarray(there.any(axis=2))
    edges = [np.flatnonzero(profile) for profile in (plane.any(axis=1), plane.any(axis=0), there.any(axis=(0, 1)))]
    return [(int(found[0]), int(found[-1]) + 1) if found.size else (0, 0) for found in edges]


def _sample(flat: np.ndarray) -> np.ndarray:
    """A few voxels from all over a volume: RUN neighbours at a time, because memory comes in lines of some."""
    whole = flat[: flat.size - flat.size % RUN]
    return whole.reshape(-1, RUN)[:: traits.STEP].ravel()


def _agreement(samples: list[np.ndarray], flags: np.ndarray | None) -> list[float] | None:
    """`traits.agreement` of the sampled voxels in the head. flags: the mask there."""
    if flags is None or len(samples) < len(MODALITIES):
        return None
    head = np.any(samples, axis=0)
    return traits.agreement(np.array([found[head] for found in samples]), flags[head] != 0)


def _check_scan(volume: Volume, found: Counts) -> None:
    _, _, low, high = found.moments
    if not found.voxels or low == high:
        held = f"only 0 and {low:g}" if 0 < found.voxels < volume.data.size else "one value everywhere"
        raise DataError(
            "constant", f"{volume.path}: holds {held}, so it is no scan. Export it again, or leave the case out."
        )


def _measure_mask(
    path: str | None, reference: Grid, memory: Memory
) -> tuple[dict[str, Any], np.ndarray | None, np.ndarray]:
    """The mask's part of the row, a sample of its voxels, and where it is not 0: flat, first axis fastest.

    tumour_voxels and tumour_ml are of all labels; who knows the scheme corrects them by label_voxels.
    """
    if path is None:
        return {"tumour_voxels": None, "tumour_ml": None, "labels": None}, None, np.empty(0, int)
    mask = read_volume(path, memory)
    check_same_grid(mask, reference)
    flat = mask.data.ravel(order="F")
    inside = _where_not_zero(flat)
    labels, voxels = np.unique(flat[inside], return_counts=True)
    odd = labels[(labels < 0) | (labels != np.rint(labels))]
    if odd.size:
        raise DataError(
            "not-labels", f"{path}: holds {odd[0]:g}; a mask holds 0, 1, 2, ... Save it without interpolation."
        )
    row = {
        "tumour_voxels": inside.size,
        "tumour_ml": round(inside.size * mask.voxel_ml, 4),
        "labels": [0] * (inside.size < flat.size) + [int(label) for label in labels],
        "label_voxels": {str(int(label)): int(n) for label, n in zip(labels, voxels, strict=True)},
    }
    return row, _sample(flat), inside


def _where_not_zero(flat: np.ndarray) -> np.ndarray:
    """Positions of what is not 0; by words of 8 bytes where that is possible, because nearly all of a mask is 0."""
    if flat.dtype.kind not in "iu" or flat.nbytes % WORD.itemsize:
        return np.flatnonzero(flat != 0)
    each = WORD.itemsize // flat.dtype.itemsize
    words = np.flatnonzero(flat.view(WORD) != 0)
    places = (words[:, None] * each + np.arange(each)).ravel()
    return places[flat[places] != 0]


def _measure_once(case: Scan, grid: Grid | None, memory: Memory, cache: Cache | None) -> Measured:
    if cache is None:
        return measure(case, grid, memory)
    key = _key(case, cache)
    stored = cache.get(key)
    measured = _from_stored(case, *stored) if stored else None
    if measured is None:
        measured = measure(case, grid, memory)
        cache.put(key, *_to_store(measured))
    return measured


def _key(case: Scan, cache: Cache) -> Key | None:
    files = [os.path.abspath(path) for path, _ in _files(case)]
    layout = [list(channels) for _, channels in _files(case)]
    return cache.key(files, {"version": MEASURE_VERSION, "case": case.case, "layout": layout})


def _to_store(measured: Measured) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """All counts end to end in three arrays, because each array of a record costs half a millisecond."""
    named = [(part, c, found) for part in ("brain", "foreground") for c, found in getattr(measured, part).items()]
    index = [[part, contrast, found.values.size] for part, contrast, found in named]
    arrays = {
        name: np.concatenate([getattr(found, name) for *_, found in named]) for name in ("values", "counts", "moments")
    }
    data = {"row": measured.row, "index": index, "content": measured.content, "agreement": measured.agreement}
    return data, arrays | {"coarse": measured.coarse}


def _from_stored(case: Scan, data: dict[str, Any], arrays: dict[str, np.ndarray]) -> Measured | None:
    """The inverse of `_to_store`; None if the record does not hold a whole case."""
    parts: dict[str, dict[str, Counts]] = {"brain": {}, "foreground": {}}
    there = [contrast for contrast, path in zip(MODALITIES, case.image, strict=True) if path]
    try:
        lengths = [length for *_, length in data["index"]]
        cuts = np.cumsum(lengths)[:-1]
        values, counts = np.split(arrays["values"], cuts), np.split(arrays["counts"], cuts)
        moments = arrays["moments"].reshape(len(lengths), -1)
        for (part, contrast, length), *found in zip(data["index"], values, counts, moments, strict=True):
            parts[part][contrast] = Counts(*found)
            if not parts[part][contrast].is_sound() or length != found[0].size:
                return None
        row, coarse = data["row"], arrays["coarse"]
        more = (coarse, [int(checksum) for checksum in data["content"]], data["agreement"])
        expected = {"brain": there, "foreground": there if row["tumour_voxels"] else []}
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if {part: list(found) for part, found in parts.items()} != expected or row.get("case") != case.case:
        return None
    if coarse.shape != (traits.COARSE**3,) or not np.isfinite(coarse).all():
        return None
    return Measured(row, parts["brain"], parts["foreground"], *more)
