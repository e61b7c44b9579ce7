"""Bad input: values and sizes of scans and masks in sound files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from bad_headers import affine, array, every
from helpers_bad_inputs import CASE, ENDS, SPACING, Kind, left_out, refused, rewritten, right

NOT_FINITE = left_out("not-finite", "or export it again")
CONSTANT = left_out("constant", "so it is no scan")
MISSING = right("it counts as a missing contrast")
NO_MASK = left_out("not-labels", "Save it without interpolation")
UNKNOWN = refused("Say what it means: --pred-labels")
ANEW = right(anew=True)
NO_LABEL = refused("Save it without interpolation")
Voxels = Callable[[np.ndarray], np.ndarray]


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


def shifted(path: Path) -> None:
    rewritten(path, lambda voxels, a: (voxels, np.eye(4)))


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
    Kind("NaN in one voxel", "scan", array(one(np.nan)), NOT_FINITE, refused("holds NaN"), refused("holds NaN")),
    Kind("infinity in one voxel", "scan", array(one(np.inf)), NOT_FINITE, refused("infinite"), refused("infinite")),
    Kind("minus infinity in one voxel", "scan", array(one(-np.inf)), NOT_FINITE, refused("infinite")),
    Kind(
        *("1e300 in one voxel", "scan", array(one(1e300, np.float64))),
        *(left_out("not-finite", "Export it again as float32"), refused("more than float32")),
    ),
    Kind("nothing but 0", "scan", array(np.zeros_like), CONSTANT, MISSING, right(dice=0)),
    Kind("one value everywhere", "scan", array(lambda v: np.full_like(v, 7)), CONSTANT, MISSING),
    Kind("a mask in a scan's place", "scan", array(lambda v: (v > 0).astype(np.uint8)), CONSTANT),
    Kind("one voxel in an empty scan", "scan", array(lambda v: one(9, np.int16)(np.zeros_like(v))), CONSTANT),
    Kind("the ends of int32 in a voxel each", "scan", array(lambda v: one(-(2**31), np.int32)(v)), right(), right()),
    Kind("2^62 in an int64", "scan", array(one(2**62, np.int64)), right(), right()),
    Kind("2^64 - 1 in a uint64", "scan", array(one(2**64 - 1, np.uint64)), right(), right()),
    Kind("65535 in a uint16", "scan", array(one(65535, np.uint16)), right(), right()),
    Kind("nothing above 0 (Hounsfield-like)", "scan", array(lambda v: v - np.int16(2000) * (v > 0)), right(), right()),
]
MASKS = [
    Kind("whole labels as floats", "mask", array(lambda v: v.astype(np.float32)), right(), right(), right()),
    Kind("whole labels as 64-bit integers", "mask", array(lambda v: v.astype(np.int64)), right(), right(), right()),
    Kind(
        "fractions in a mask", "mask", array(lambda v: v * np.float32(0.5)), NO_MASK, NO_LABEL, refused("Save it as 0")
    ),
    Kind("negative labels", "mask", array(lambda v: -v.astype(np.int16)), NO_MASK, NO_LABEL, refused("Save it as 0")),
    Kind("NaN in a mask", "mask", array(one(np.nan)), NOT_FINITE, refused("holds NaN"), refused("holds NaN")),
    Kind("300 labels", "mask", array(spread), left_out("labels", "what the values mean: --labels"), None, UNKNOWN),
    Kind("an unknown label", "mask", array(lambda v: v * 5), left_out("labels", "--labels"), right(voxels=0), UNKNOWN),
    Kind(
        "tumour as 255",
        "mask",
        array(lambda v: (v > 0) * np.uint8(255)),
        left_out("labels", "--labels"),
        right("none of which the datalist calls tumour", voxels=0),
        right(),
    ),
    Kind(
        "10^12 as a label", "mask", array(lambda v: v * np.int64(10**12)), left_out("labels", "--labels"), None, UNKNOWN
    ),
    Kind(
        "an empty mask",
        "mask",
        array(np.zeros_like),
        right(warns="empty-mask", anew=True),
        right(voxels=0),
        right(dice=0),
    ),
    Kind(
        "a lesion of one voxel",
        "mask",
        array(single),
        right(anew=True, tumour_voxels=1),
        right(voxels=1),
        right(dice=2 / 498),
    ),
    Kind(
        "a mask that is tumour everywhere",
        "mask",
        array(np.ones_like),
        left_out("mask-outside-head", "Does it"),
        None,
        right(dice=994 / (32**3 + 497)),
    ),
    Kind(
        "a mask of colours",
        "mask",
        array(lambda v: v.astype([("R", "u1"), ("G", "u1"), ("B", "u1")])),
        left_out("not-numbers", "Save"),
        refused("Save"),
        refused("Save"),
    ),
    Kind(
        "a mask of complex numbers",
        "mask",
        array(lambda v: v * np.complex64(1)),
        left_out("not-numbers", "Save"),
        refused("Save"),
        refused("Save"),
    ),
    Kind(
        "a mask of another size",
        "mask",
        array(lambda v: v[1:]),
        left_out("grid", "voxels but"),
        refused("onto one grid"),
        refused("voxels but"),
    ),
    Kind(
        "a mask elsewhere",
        "mask",
        shifted,
        left_out("grid", "another affine"),
        refused("one grid"),
        refused("another affine"),
    ),
    Kind(
        "a mask that was deleted",
        "mask",
        Path.unlink,
        right(labels=None, tumour_voxels=None, tumour_ml=None, label_voxels=None, outside_head=None),
        refused("is not there"),
    ),
]
CASES = [
    Kind("a scan of one slice", "case", cropped(slice(None), slice(None), slice(16, 17)), ANEW, right(), right()),
    Kind("a scan of 4 x 4 x 4 voxels", "case", cropped(*[slice(14, 18)] * 3), ANEW, right(), right()),
    Kind("a scan of one voxel", "case", cropped(*[slice(16, 17)] * 3), CONSTANT, MISSING, right()),
    Kind(
        "a scan of 1,000 slices",
        "case",
        repeated((32, 32, 1000), (SPACING, SPACING, 0.18)),
        ANEW,
        right(dice=0.8),
    ),
    Kind(
        "voxels of 5.6 x 5.6 x 22.5 mm",
        "case",
        repeated((32, 32, 8), (SPACING, SPACING, 4 * SPACING)),
        ANEW,
        right(),
        right(),
    ),
    Kind("stored slice-first, the head turned", "case", slices_first, ANEW, right(), right()),
    Kind(
        "a scan of 1.2 m",
        "case",
        affine(lambda a: a @ np.diag([1, 1, 7, 1])),
        left_out("degenerate-affine", "No head is"),
        refused("No head is"),
        refused("No head is"),
    ),
]
KINDS = SCANS + MASKS + CASES
