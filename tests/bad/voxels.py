"""Values and sizes of scans and masks in sound files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

from bad.files import GONE, RIGHT
from bad.headers import BEYOND, ELSEWHERE, NOT_NUMBERS, TOO_LONG, scaled
from bad.row import CASE, ENDS, SPACING, affine, array, every, left_out, right, row

Voxels = Callable[[np.ndarray], np.ndarray]
# What inspect, the bundle and score say.
NOT_FINITE = (left_out("not-finite", "or export it again"), "holds NaN, infinite values", "holds NaN or infinite")
CONSTANT = (left_out("constant", "so it is no scan"), right("it counts as a missing contrast"))
NO_MASK = (left_out("not-labels", "Save it without interpolation"), "Save it without interpolation", "Save it as 0")
UNKNOWN = left_out("labels", "what the values mean: --labels")
UNKNOWN_TO_SCORE = "Say what it means: --pred-labels"
SIZE = (left_out("grid", "voxels but"), "Bring both onto one grid", "voxels but")
ANEW = (right(anew=True), right(), right())


def one(value: float, dtype: type = np.float32) -> Voxels:
    """Another value in one voxel, and the type that holds it."""

    def change(voxels: np.ndarray) -> np.ndarray:
        voxels = voxels.astype(dtype)
        voxels[16, 16, 16] = value
        return voxels

    return change


def spread(voxels: np.ndarray) -> np.ndarray:
    """The tumour in as many labels as there are numbers below 300."""
    marked = voxels > 0
    return np.where(marked, np.cumsum(marked.ravel()).reshape(voxels.shape) % 300, 0).astype(np.int16)


def single(voxels: np.ndarray) -> np.ndarray:
    """Of the mask one voxel of oedema."""
    place = tuple(np.argwhere(voxels == 2)[0])
    mask = np.zeros_like(voxels)
    mask[place] = 2
    return mask


def cropped(*box: slice) -> Callable[[Path], None]:
    return every(array(lambda voxels: np.ascontiguousarray(voxels[box])))


def repeated(shape: tuple[int, int, int], spacing: tuple[float, ...]) -> Callable[[Path], None]:
    """Every file of the case as nearest neighbours on another grid that covers the same head."""

    def change(path: Path) -> None:
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj)
        places = [np.arange(n) * old // n for n, old in zip(shape, voxels.shape, strict=True)]
        turned = image.affine.copy()
        turned[:3, :3] = turned[:3, :3] @ np.diag(np.array(spacing) / SPACING)
        nibabel.save(nibabel.Nifti1Image(voxels[np.ix_(*places)], turned), path)

    return every(change)


def slices_first(home: Path) -> None:
    """Stored as S, L, A, and turned by 10 degrees."""
    turn = np.radians(10)
    rotate = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    for end in ENDS:
        path = home / f"{CASE}-{end}.nii.gz"
        image = nibabel.load(path)
        voxels = np.ascontiguousarray(np.asarray(image.dataobj).transpose(2, 0, 1))
        a = image.affine.copy()
        a[:3, :3] = rotate @ a[:3, [2, 0, 1]]
        nibabel.save(nibabel.Nifti1Image(voxels, a), path)


SCANS = [
    row("NaN in one voxel", "scan", array(one(np.nan)), *NOT_FINITE),
    row("infinity in one voxel", "scan", array(one(np.inf)), *NOT_FINITE),
    row("minus infinity in one voxel", "scan", array(one(-np.inf)), *NOT_FINITE[:2]),
    row("1e300 in one voxel", "scan", array(one(1e300, np.float64)), *BEYOND[:2]),
    row("nothing but 0", "scan", array(np.zeros_like), *CONSTANT, right(dice=0)),
    row("one value everywhere", "scan", array(lambda v: np.full_like(v, 7)), *CONSTANT),
    row("a mask in a scan's place", "scan", array(lambda v: (v > 0).astype(np.uint8)), CONSTANT[0]),
    row("one voxel in an empty scan", "scan", array(lambda v: one(9, np.int16)(np.zeros_like(v))), CONSTANT[0]),
    row("the ends of int32 in a voxel each", "scan", array(lambda v: one(-(2**31), np.int32)(v)), right(), right()),
    row("2^62 in an int64", "scan", array(one(2**62, np.int64)), right(), right()),
    row("2^64 - 1 in a uint64", "scan", array(one(2**64 - 1, np.uint64)), right(), right()),
    row("65535 in a uint16", "scan", array(one(65535, np.uint16)), right(), right()),
    row("nothing above 0 (Hounsfield-like)", "scan", array(lambda v: v - np.int16(2000) * (v > 0)), right(), right()),
]
NOT_TUMOUR = right("none of which the datalist calls tumour", voxels=0)
WITHOUT_MASK = dict.fromkeys(("labels", "tumour_voxels", "tumour_ml", "label_voxels", "outside_head"))
OUTSIDE = left_out("mask-outside-head", "Does it belong to this scan?")
MASKS = [
    row("whole labels as floats", "mask", array(lambda v: v.astype(np.float32)), *RIGHT),
    row("whole labels as 64-bit integers", "mask", array(lambda v: v.astype(np.int64)), *RIGHT),
    row("fractions in a mask", "mask", array(lambda v: v * np.float32(0.5)), *NO_MASK),
    row("negative labels", "mask", array(lambda v: -v.astype(np.int16)), *NO_MASK),
    row("NaN in a mask", "mask", array(one(np.nan)), *NOT_FINITE),
    row("300 labels", "mask", array(spread), UNKNOWN, None, UNKNOWN_TO_SCORE),
    row("an unknown label", "mask", array(lambda v: v * 5), UNKNOWN, right(voxels=0), UNKNOWN_TO_SCORE),
    row("tumour as 255", "mask", array(lambda v: (v > 0) * np.uint8(255)), UNKNOWN, NOT_TUMOUR, right()),
    row("10^12 as a label", "mask", array(lambda v: v * np.int64(10**12)), UNKNOWN, None, UNKNOWN_TO_SCORE),
    row(
        *("an empty mask", "mask", array(np.zeros_like)),
        *(right(warns="empty-mask", anew=True), right(voxels=0), right(dice=0)),
    ),
    row(
        *("a lesion of one voxel", "mask", array(single)),
        *(right(anew=True, tumour_voxels=1), right(voxels=1), right(dice=2 / 498)),
    ),
    row(
        *("a mask that is tumour everywhere", "mask", array(np.ones_like)),
        *(OUTSIDE, None, right(dice=994 / (32**3 + 497))),
    ),
    row("a mask of colours", "mask", array(lambda v: v.astype([(c, "u1") for c in "RGB"])), *NOT_NUMBERS),
    row("a mask of complex numbers", "mask", array(lambda v: v * np.complex64(1)), *NOT_NUMBERS),
    row("a mask of another size", "mask", array(lambda v: v[1:]), *SIZE),
    row("a mask elsewhere", "mask", affine(lambda a: np.eye(4)), *ELSEWHERE),
    row("a mask that was deleted", "mask", Path.unlink, right(**WITHOUT_MASK), GONE[1]),
]
FLAT = repeated((32, 32, 8), (SPACING, SPACING, 4 * SPACING))
FINE = repeated((32, 32, 1000), (SPACING, SPACING, 0.18))
CASES = [
    row("a scan of one slice", "case", cropped(slice(None), slice(None), slice(16, 17)), *ANEW),
    row("a scan of 4 x 4 x 4 voxels", "case", cropped(*[slice(14, 18)] * 3), *ANEW),
    row("a scan of one voxel", "case", cropped(*[slice(16, 17)] * 3), *CONSTANT, right()),
    row("a scan of 1,000 slices", "case", FINE, ANEW[0], right(dice=0.8)),
    row("voxels of 5.6 x 5.6 x 22.5 mm", "case", FLAT, *ANEW),
    row("stored slice-first, the head turned", "case", slices_first, *ANEW),
    row("a scan of 1.2 m", "case", every(scaled(1, 1, 7)), *TOO_LONG),
]
