"""Read one NIfTI volume from disk, or say in one line why it cannot be used."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass

import nibabel
import numpy as np

from autoconf.errors import AutoconfError
from autoconf.output import by

GRID_TOLERANCE_MM = 1e-2  # two affines nearer than this in every entry describe the same grid


@dataclass(frozen=True)
class Volume:
    """A 3D array as stored, and where its voxels lie."""

    path: str
    data: np.ndarray  # (i, j, k) in the order of the file
    affine: np.ndarray  # (4, 4), voxel index -> mm, RAS+ world

    @property
    def to_ras(self) -> list[int]:
        """For each world axis (R, A, S) the array axis that runs along it, in either direction."""
        towards = nibabel.io_orientation(self.affine)[:, 0]
        return [int(np.flatnonzero(towards == axis)[0]) for axis in range(3)]

    @property
    def shape(self) -> list[int]:
        """Voxels per axis, RAS+ order."""
        return [self.data.shape[axis] for axis in self.to_ras]

    @property
    def spacing(self) -> list[float]:
        """mm per voxel and axis, RAS+ order."""
        sizes = nibabel.affines.voxel_sizes(self.affine)
        return [round(float(sizes[axis]), 6) for axis in self.to_ras]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000


def read_volume(path: str) -> Volume:
    """The whole volume, its gzip checksum verified; integers stay integers unless the header scales them.

    Raises AutoconfError for a file that is truncated, no NIfTI, not 3D, on a degenerate grid or not finite.
    """
    try:
        image = nibabel.load(path)
        if path.lower().endswith(".gz"):  # one call is faster than nibabel's blocks, and checks the checksum
            with open(path, "rb") as file:
                image = type(image).from_bytes(gzip.decompress(file.read()))
        data = np.asanyarray(image.dataobj)
    except FileNotFoundError:
        raise AutoconfError(f"{path}: no such file. Put it back, or run inspect again.") from None
    except PermissionError:
        raise AutoconfError(f"{path}: no permission to read it. Change its permissions.") from None
    except (EOFError, OSError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise AutoconfError(
            f"{path}: truncated or not a NIfTI file ({_brief(error)}). Copy or download it again."
        ) from error
    _check(path, data, image.affine)
    return Volume(path, data, image.affine)


def check_same_grid(volume: Volume, reference: Volume) -> None:
    """Raise AutoconfError, naming both files, unless the two have the same shape and affine."""
    if volume.data.shape != reference.data.shape:
        difference = f"is {by(volume.data.shape)} voxels but {reference.path} is {by(reference.data.shape)}"
    elif not np.allclose(volume.affine, reference.affine, atol=GRID_TOLERANCE_MM):
        difference = f"has another affine (position, direction or spacing) than {reference.path}"
    else:
        return
    raise AutoconfError(f"{volume.path}: {difference}. Resample one onto the other's grid, or leave the case out.")


def _check(path: str, data: np.ndarray, affine: np.ndarray) -> None:
    if data.ndim != 3:
        raise AutoconfError(f"{path}: has shape {by(data.shape)}, not three axes. Save one 3D image per file.")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise AutoconfError(f"{path}: its affine has no volume, so spacing is unknown. Convert the scan again.")
    if data.dtype.kind not in "iuf":
        raise AutoconfError(f"{path}: holds {data.dtype} values, not numbers. Save it as int16 or float32.")
    if data.dtype.kind == "f" and not np.isfinite(data).all():
        raise AutoconfError(f"{path}: holds NaN or infinite values. Replace them by 0 or export it again.")


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__
