"""What may be wrong with a scan, as pure functions: a scan in, the changed one out.

Each changes the four modalities as they lie in their files, before any preparation. Where the grid changes the truth
goes the same way. As after skull-stripping, outside the head all stays 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy import ndimage
from scipy.spatial.transform import Rotation

MODALITIES = ("t1", "t1c", "t2", "flair")
OBLIQUE = (1.0, 1.0, 1.0)  # the axis of a turn, in world axes: none is spared
WAVES = 3  # cosines per axis of a bias field, from none to one whole wave over the scan


@dataclass(frozen=True)
class Scan:
    """channels: (H, W, D) each, in the order of MODALITIES, None where there is no file. truth: (H, W, D) boolean.

    affine: (4, 4), voxels to mm, RAS+.
    """

    channels: tuple[np.ndarray | None, ...]
    truth: np.ndarray
    affine: np.ndarray

    @property
    def head(self) -> np.ndarray:
        """(H, W, D) boolean: what is not 0 in every contrast."""
        return functools.reduce(np.logical_or, [c != 0 for c in self.channels if c is not None])

    @property
    def spacing(self) -> np.ndarray:
        return nibabel.affines.voxel_sizes(self.affine)


Change = Callable[[Scan, np.random.Generator], Scan]


def unchanged(scan: Scan, _: np.random.Generator) -> Scan:
    return scan


def missing(scan: Scan, _: np.random.Generator, contrast: str) -> Scan:
    """The file of one contrast is not there."""
    return replace(
        scan, channels=tuple(None if n == contrast else c for n, c in zip(MODALITIES, scan.channels, strict=True))
    )


def bias_field(scan: Scan, generator: np.random.Generator, factor: float) -> Scan:
    """Brightness drifts through the scan, in each contrast in its own way: by 1/factor to factor at most."""

    def uneven(channel: np.ndarray) -> np.ndarray:
        return (channel * factor ** smooth(channel.shape, generator)).astype(np.float32)

    return _each(scan, uneven)


def smooth(shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
    """(H, W, D) float32, a sum of the lowest cosines with drawn weights; its largest absolute value is 1."""
    field = generator.standard_normal((WAVES,) * len(shape))
    field[(0,) * len(shape)] = 0  # the same everywhere: no drift
    for length in shape:
        waves = np.cos(np.pi * np.outer(np.arange(WAVES), (np.arange(length) + 0.5) / length))
        field = np.tensordot(field, waves, axes=(0, 0))  # that axis becomes the last: after all, they are in order
    return (field / np.abs(field).max()).astype(np.float32)


def noise(scan: Scan, generator: np.random.Generator, share: float) -> Scan:
    """Rician noise inside the head. share: of the contrast's own standard deviation there.

    Source: Gudbjartsson & Patz, Magn. Reson. Med. 34, 910-914 (1995).
    """

    def noisy(channel: np.ndarray) -> np.ndarray:
        head = channel != 0
        sigma = share * channel[head].std() if head.any() else 0.0
        real, imaginary = sigma * generator.standard_normal((2, *channel.shape), dtype=np.float32)
        return np.where(head, np.hypot(channel + real, imaginary), 0).astype(np.float32)

    return _each(scan, noisy)


def thick_slices(scan: Scan, _: np.random.Generator, millimetres: float) -> Scan:
    """Axial slices of that thickness, brought back to the scan's own grid: the truth stays as it is."""
    spacing = _by_world_axis(scan)
    spacing[2] = max(millimetres, spacing[2])
    thick = _resampled(scan, spacing)
    matrices = [linear(new, old, shift) for new, old, shift in _between(scan, thick)]
    head = scan.head
    return replace(scan, channels=_channels(thick, lambda c: _along(matrices, c) * head))


def voxel_size(scan: Scan, _: np.random.Generator, spacing: Sequence[float]) -> Scan:
    """The whole scan with other voxels. spacing: mm, along the patient's right-left, front-back and feet-head."""
    return _resampled(scan, np.asarray(spacing, float))


def turned_header(scan: Scan, _: np.random.Generator, degrees: float) -> Scan:
    """The header says that the scan is turned about its middle; the voxels stay."""
    return replace(scan, affine=turned(scan, degrees))


def tilted_head(scan: Scan, _: np.random.Generator, degrees: float) -> Scan:
    """The head lay so in the scanner: the same place in the world, on a grid that is turned about the scan's middle."""
    affine = turned(scan, degrees)
    step = np.linalg.solve(scan.affine, affine)

    def sampled(values: np.ndarray) -> np.ndarray:
        return ndimage.affine_transform(np.asarray(values, np.float32), step, order=1)

    return _moved(scan, sampled, affine)


def turned(scan: Scan, degrees: float) -> np.ndarray:
    """The scan's affine, turned about the middle of its grid and an oblique axis."""
    middle = scan.affine[:3, :3] @ ((np.asarray(scan.truth.shape) - 1) / 2) + scan.affine[:3, 3]
    axis = np.asarray(OBLIQUE) / np.linalg.norm(OBLIQUE)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix()
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    return turn @ scan.affine


def orientation(scan: Scan, _: np.random.Generator, codes: str) -> Scan:
    """The same scan with its axes stored in another order and direction, say `RAS`."""
    change = ornt_transform(io_orientation(scan.affine), axcodes2ornt(codes))
    affine = scan.affine @ inv_ornt_aff(change, scan.truth.shape)

    def stored(values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(apply_orientation(values, change))

    return Scan(_channels(scan, stored), stored(scan.truth), affine)


# The grid


def _resampled(scan: Scan, by_world_axis: np.ndarray) -> Scan:
    """A coarser voxel is the mean of what lies in it, a finer one is interpolated."""
    axes = io_orientation(scan.affine)[:, 0].astype(int)
    old, new = scan.spacing, by_world_axis[axes]
    shape = [max(1, round(n * o / s)) for n, o, s in zip(scan.truth.shape, old, new, strict=True)]
    matrices = [
        mean(n, m, s / o) if s > o else linear(n, m, s / o)
        for n, m, o, s in zip(scan.truth.shape, shape, old, new, strict=True)
    ]
    affine = scan.affine.copy()
    affine[:3, :3] *= new / old
    affine[:3, 3] += scan.affine[:3, :3] @ ((new / old - 1) / 2)  # both grids begin at the same edge
    return _moved(scan, lambda values: _along(matrices, values), affine)


def mean(old: int, new: int, scale: float) -> np.ndarray:
    """(new, old): each new voxel, `scale` old ones wide, is the mean of what it covers. Both begin at the same edge."""
    begins = np.arange(new)[:, None] * scale
    covered = np.minimum(begins + scale, np.arange(old) + 1) - np.maximum(begins, np.arange(old))
    return _to_one(np.clip(covered, 0, None))


def linear(old: int, new: int, scale: float) -> np.ndarray:
    """(new, old): each new voxel, `scale` old ones wide, lies between two. Both begin at the same edge."""
    places = np.clip((np.arange(new)[:, None] + 0.5) * scale - 0.5, 0, old - 1)
    return np.clip(1 - np.abs(places - np.arange(old)), 0, None)


def _to_one(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-9)


def _along(matrices: Sequence[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Multiply each axis by its matrix, in float32."""
    found = np.asarray(values, np.float32)
    for matrix in matrices:
        if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix))):
            found = np.moveaxis(found, 0, -1)
        else:
            found = np.tensordot(found, matrix.astype(np.float32), axes=(0, 1))
    return found


def _between(scan: Scan, thick: Scan) -> list[tuple[int, int, float]]:
    """Per axis the voxels of `thick` and of `scan`, and the size of the latter in the former."""
    return list(zip(thick.truth.shape, scan.truth.shape, scan.spacing / thick.spacing, strict=True))


def _by_world_axis(scan: Scan) -> np.ndarray:
    """Voxel size along right-left, front-back and feet-head, mm."""
    found = np.empty(3)
    found[io_orientation(scan.affine)[:, 0].astype(int)] = scan.spacing
    return found


def _moved(scan: Scan, way: Callable[[np.ndarray], np.ndarray], affine: np.ndarray) -> Scan:
    """All of a scan on a new grid. A voxel belongs to the head, and to the tumour, if at least half of it does."""
    head = way(scan.head) >= 0.5
    return Scan(_channels(scan, lambda c: np.where(head, way(c), 0).astype(np.float32)), way(scan.truth) >= 0.5, affine)


def _channels(scan: Scan, way: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray | None, ...]:
    return tuple(None if channel is None else way(channel) for channel in scan.channels)


def _each(scan: Scan, way: Callable[[np.ndarray], np.ndarray]) -> Scan:
    return replace(scan, channels=_channels(scan, way))


def _at(change: Callable[..., Scan], value: object) -> Change:
    return lambda scan, generator: change(scan, generator, value)


# What is asked, in the order of the page: kind -> label -> change. Labels that are numbers are strengths.
KINDS: dict[str, dict[str, Change]] = {
    "missing contrast": {name: _at(missing, name) for name in MODALITIES},
    "bias field": {str(factor): _at(bias_field, factor) for factor in (1.25, 1.5, 2, 3)},
    "noise": {str(share): _at(noise, share) for share in (0.1, 0.25, 0.5, 1, 2)},
    "thick slices": {str(mm): _at(thick_slices, mm) for mm in (2, 3, 4, 5, 6)},
    "turned header": {str(degrees): _at(turned_header, degrees) for degrees in (5, 10, 20, 30)},
    "tilted head": {str(degrees): _at(tilted_head, degrees) for degrees in (5, 10, 20, 30)},
    "stored as": {codes: _at(orientation, codes) for codes in ("RAS", "LPI", "SRA", "ASL")},
    "voxel size": {
        name: _at(voxel_size, size)
        for name, size in {
            "0.7": (0.7, 0.7, 0.7),
            "1.5": (1.5, 1.5, 1.5),
            "2": (2.0, 2.0, 2.0),
            "1x1x3": (1.0, 1.0, 3.0),
        }.items()
    },
}
