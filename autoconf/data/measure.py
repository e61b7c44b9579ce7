"""Measure volumes, a case in memory at a time: grids, brain and tumour sizes, intensities.

Headers first, so that a structural error shows before any voxel is read; then each file once (volumes.py), counted
(counts.py) and forgotten. What was measured before is taken from a cache (cache.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import nibabel
import numpy as np
from isal import isal_zlib

from autoconf.data import traits
from autoconf.data.brats import MODALITIES
from autoconf.data.cache import Cache
from autoconf.data.counts import Counts, count
from autoconf.data.gz import Memory
from autoconf.data.measured import Measured, from_stored, to_store
from autoconf.data.scans import Scan
from autoconf.data.volumes import Grid, Volume, bounding_box, check_same_grid, read_channels, read_grid, read_volume
from autoconf.errors import AutoconfError, DataError
from autoconf.pool import in_order

MEASURE_VERSION = 4  # of this code and of counts.py: raise it when a number changes, and every cache is void
RUN = 8  # voxels that are sampled together


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
            known = cache is not None and cache.may_have(cache.key(*_record(case)))
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
    boxes: list[list[tuple[int, int]]] = []  # first and last + 1 index on each axis, in the order of the file
    brain: dict[str, Counts] = {}
    foreground: dict[str, Counts] = {}
    picture = np.zeros(0, np.float32)  # of the first contrast
    outside = np.ones(inside.size, bool)
    for contrast, volume in _modalities(case, memory):
        check_same_grid(volume, grid)
        voxels = volume.data.ravel(order="F")
        not_zero = voxels[voxels != 0]
        brain[contrast] = count(not_zero)
        _check_scan(volume, brain[contrast])
        if inside.size:
            foreground[contrast] = count(voxels[inside])
            outside &= voxels[inside] == 0
        box = bounding_box(volume.data != 0)
        if not picture.size:
            picture = traits.coarse(volume.data, box)
        boxes.append([(side.start, side.stop) for side in box])
        content.append(isal_zlib.crc32(not_zero, isal_zlib.crc32(np.array(boxes[-1]))))
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
    """What the cache has of a case, or what is measured now; or the error that says why the case cannot be used."""
    if isinstance(grid, AutoconfError):
        return grid
    key = cache.key(*_record(case)) if cache else None
    stored = cache.get(key) if cache else None
    measured = from_stored(*stored) if stored else None
    if measured is not None:
        return measured
    try:
        measured = measure(case, grid, _MEMORY)
    except AutoconfError as error:
        return error
    if cache:
        cache.put(key, *to_store(measured))
    return measured


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
    inside = np.flatnonzero(flat != 0)
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


def _record(case: Scan) -> tuple[list[str], dict[str, Any]]:
    """What a case's record in the cache is known by, as `Cache.key` asks for it."""
    files = [os.path.abspath(path) for path, _ in _files(case)]
    layout = [list(channels) for _, channels in _files(case)]
    return files, {"version": MEASURE_VERSION, "case": case.case, "layout": layout}
