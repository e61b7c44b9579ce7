"""Read one NIfTI file, its header alone or whole, or say in one line why it cannot be used."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np

from autoconf.data.gz import Memory, gunzip
from autoconf.errors import DataError
from autoconf.output import by

# What it repairs in a header it says to nobody in particular: what cannot be repaired is an error that names the file.
nibabel.imageglobals.logger.setLevel("CRITICAL")

GRID_TOLERANCE_MM = 1e-2  # two affines nearer than this in every entry describe the same grid
LARGEST = float(np.finfo(np.float32).max)  # networks compute in float32 at most
# No scan of a head is outside of this, but one with metres or micrometres for millimetres is; resampled to a network's
# voxels it would fill all memory.
SMALLEST_VOXEL, LONGEST_SIDE, FARTHEST = 0.01, 1000.0, 1e5  # mm; the last: of the first voxel from the origin
FLATTEST = 1e-3  # of the volume that voxels of these sides have if nothing is sheared


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file lie."""

    path: str
    size: tuple[int, ...]  # (i, j, k) voxels, in the order of the file
    affine: np.ndarray  # (4, 4), voxel index -> mm, RAS+ world

    @property
    def to_ras(self) -> list[int]:
        """For each world axis (R, A, S) the array axis that runs along it, in either direction."""
        towards = nibabel.io_orientation(self.affine)[:, 0]
        return [int(np.flatnonzero(towards == axis)[0]) for axis in range(3)]

    @property
    def shape(self) -> list[int]:
        """Voxels per axis, RAS+ order."""
        return [self.size[axis] for axis in self.to_ras]

    @property
    def spacing(self) -> list[float]:
        """mm per voxel and axis, RAS+ order."""
        sizes = nibabel.affines.voxel_sizes(self.affine)
        return [round(float(sizes[axis]), 6) for axis in self.to_ras]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000


@dataclass(frozen=True)
class Volume:
    """A 3D array as stored, and where its voxels lie."""

    path: str
    data: np.ndarray  # (i, j, k) in the order of the file, i fastest in memory; not to be written to
    affine: np.ndarray  # (4, 4), voxel index -> mm, RAS+ world

    @property
    def grid(self) -> Grid:
        """The same place without the voxels."""
        return Grid(self.path, self.data.shape, self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return self.grid.voxel_ml


def read_grid(path: str, channels: Sequence[int] = ()) -> Grid:
    """The header alone, under a millisecond. channels: those that will be read of a 4D file; none: it must be 3D.

    Raises DataError for a file that is no NIfTI, has other axes, holds no numbers or lies on a degenerate grid.
    """
    return _open(path, channels)[0]


def read_volume(path: str, memory: Memory | None = None) -> Volume:
    """The whole volume, its gzip checksum verified; integers stay integers unless the header scales them.

    memory: where a gzip file is written to; the volume is valid until the next one is read into it.
    Raises DataError for a file that is truncated, no NIfTI, not 3D, on a degenerate grid or not finite.
    """
    return _read(path, (), memory)[0]


def read_channels(path: str, channels: Sequence[int]) -> list[Volume]:
    """Some channels of a 4D file, counted along its last axis, each as a 3D volume; the file is read once.

    Raises DataError as `read_volume` does, and if there are fewer channels.
    """
    return _read(path, channels, None)


def read_image(path: str, channel: int | None) -> Volume:
    """A 3D file, or one channel of a 4D one. Raises DataError as `read_volume` does."""
    return read_volume(path) if channel is None else read_channels(path, [channel])[0]


def bounding_box(mask: np.ndarray, margin: int | Sequence[int] = 0) -> tuple[slice, ...]:
    """The smallest box that holds all of a mask; one voxel if it is empty, so that no axis vanishes.

    margin: voxels around it, of each axis or of all, as far as the array goes.
    """
    box = []
    for axis, more in enumerate(np.broadcast_to(margin, mask.ndim).tolist()):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        low, high = (int(there[0]), int(there[-1]) + 1) if there.size else (0, 1)
        box.append(slice(max(low - more, 0), min(high + more, mask.shape[axis])))
    return tuple(box)


def check_same_grid(volume: Volume | Grid, reference: Volume | Grid) -> None:
    """Raise DataError, naming both files, unless the two have the same shape and affine."""
    found, wanted = (item.grid if isinstance(item, Volume) else item for item in (volume, reference))
    if found.size != wanted.size:
        difference = f"is {by(found.size)} voxels but {wanted.path} is {by(wanted.size)}"
    elif not np.allclose(found.affine, wanted.affine, atol=GRID_TOLERANCE_MM):
        difference = f"has another affine (position, direction or spacing) than {wanted.path}"
    else:
        return
    raise DataError("grid", f"{found.path}: {difference}. Co-register both to one grid, or leave the case out.")


def _read(path: str, channels: Sequence[int], memory: Memory | None) -> list[Volume]:
    grid, stored = _open(path, channels)
    end = int(stored.offset) + math.prod(map(int, stored.shape)) * stored.dtype.itemsize
    with _named(path):
        if path.lower().endswith(".gz"):  # in half of nibabel's time: the voxels stay where they were written to
            data = np.ndarray(stored.shape, stored.dtype, gunzip(path, end, memory), stored.offset, order="F")
            data = nibabel.volumeutils.apply_read_scaling(data, stored.slope, stored.inter)
        elif (held := os.path.getsize(path)) < end:  # before nibabel takes memory for all that is promised
            raise EOFError(f"its header promises {end} bytes, it holds {held}")
        else:
            data = np.asanyarray(stored)
    if not data.dtype.isnative:
        data = data.astype(data.dtype.newbyteorder("="), order="F")
    volumes = [Volume(path, data[..., channel], grid.affine) for channel in channels]
    volumes = volumes or [Volume(path, data, grid.affine)]
    for volume in volumes:
        _check_finite(volume)
    return volumes


def _open(path: str, channels: Sequence[int]) -> tuple[Grid, Any]:
    """The grid of a file, checked, and nibabel's view of its voxels, which are read when they are asked for."""
    with _named(path):
        image: Any = nibabel.load(path)  # Any: its types know of no array
    shape, affine, dtype = image.shape, image.affine, image.dataobj.dtype
    if channels and (len(shape) != 4 or max(channels) >= shape[3]):
        wanted = max(channels) + 1
        raise DataError(
            "not-3d", f"{path}: has shape {by(shape)}, but needs a fourth axis of at least {wanted}. Correct it."
        )
    if not channels and len(shape) != 3:
        raise DataError("not-3d", f"{path}: has shape {by(shape)}, not three axes. Save one 3D image per file.")
    if min(shape) < 1:
        raise DataError("not-3d", f"{path}: has shape {by(shape)}, so it holds no voxels. Export it again.")
    _check_affine(path, shape, affine)
    if dtype.kind not in "iuf":
        raise DataError("not-numbers", f"{path}: holds {dtype} values, not numbers. Save it as int16 or float32.")
    return Grid(path, tuple(shape[:3]), affine), image.dataobj


def _check_affine(path: str, shape: Sequence[int], affine: np.ndarray) -> None:
    known = bool(np.isfinite(affine).all())
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0)) if known else np.zeros(3)
    if not known or abs(float(np.linalg.det(affine[:3, :3]))) <= FLATTEST * sizes.prod():
        what = "its affine has no volume, so spacing is unknown. Convert the scan again."
        raise DataError("degenerate-affine", f"{path}: {what}")
    longest = max(n * size for n, size in zip(shape[:3], sizes, strict=True))
    if sizes.min() < SMALLEST_VOXEL or longest > LONGEST_SIDE:
        held = f"{' x '.join(f'{size:.3g}' for size in sizes)} mm, {longest:.3g} mm at the longest side"
        raise DataError(
            "degenerate-affine", f"{path}: has voxels of {held}. No head is: correct its header to millimetres."
        )
    if np.abs(affine[:3, 3]).max() > FARTHEST:
        raise DataError(
            "degenerate-affine", f"{path}: lies more than {FARTHEST / 1000:g} m from its origin. Correct its header."
        )


def _check_finite(volume: Volume) -> None:
    if volume.data.dtype.kind != "f":
        return
    low, high = float(volume.data.min()), float(volume.data.max())  # NaN if there is one
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DataError(
            "not-finite", f"{volume.path}: holds NaN or infinite values. Replace them by 0 or export it again."
        )
    if max(-low, high) > LARGEST:
        raise DataError("not-finite", f"{volume.path}: holds values beyond {LARGEST:.2g}. Export it again as float32.")


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Turn what may go wrong while a file is read into one line that names it."""
    try:
        yield
    except FileNotFoundError:
        raise DataError("unreadable", f"{path}: no such file. Put it back, or run inspect again.") from None
    except MemoryError:
        raise DataError("unreadable", f"{path}: needs more memory than there is. Is its header right?") from None
    except Exception as error:  # noqa: BLE001 - of bytes that may be anything nibabel makes any error
        effective = os.access in os.supports_effective_ids
        if os.path.isfile(path) and not os.access(path, os.R_OK, effective_ids=effective):  # which nibabel does not say
            what = "no permission to read it. Change its permissions."
            raise DataError("unreadable", f"{path}: {what}") from None
        what = " ".join(str(error).split())[:80] or type(error).__name__
        raise DataError(
            "unreadable", f"{path}: truncated or not a NIfTI file ({what}). Copy or download it again."
        ) from error
