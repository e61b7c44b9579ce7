"""What a NIfTI header says of axes, types and places.

The places of its fields: nifti.nimh.nih.gov/nifti-1 (dim 40, datatype 70, bitpix 72, pixdim 76, vox_offset 108,
scl_slope 112, scl_inter 116, qform_code 252, sform_code 254, quatern_b 256, srow_x 280).
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from bad.files import DAMAGED, NO_NIFTI, RIGHT, as_nii
from bad.row import SPACING, affine, array, both, every, left_out, packed, put, right, row, unpacked

HUGE = 32767
# What inspect, the bundle and score say.
NOT_3D = (left_out("not-3d", "Save one 3D image per file"), "a single 3D volume is needed", "not three axes")
EMPTY = (left_out("not-3d", "no voxels"), "no voxels", "no voxels")
NOT_NUMBERS = (left_out("not-numbers", "Save it as int16 or float32"), "Save it as int16", "Save it as int16")
NO_VOLUME = (left_out("degenerate-affine", "Convert the scan again"), "Convert the scan again", "Convert the scan")
TOO_LONG = (left_out("degenerate-affine", "to millimetres"), *["No head is: correct its header to millimetres"] * 2)
FAR = (left_out("degenerate-affine", "from its origin"), "from its origin", "from its origin")
ELSEWHERE = (left_out("grid", "another affine"), "have different affines", "another affine")
BEYOND = (left_out("not-finite", "Export it again as float32"), "holds NaN, infinite values", "values beyond 3.4e+38")


def header(place: int, *values: object):
    """Overwrite a field of one file."""
    return lambda path: put(path, place, np.array(values) if len(values) > 1 else values[0])


def dim(*sizes: int):
    return header(40, *(np.int16(size) for size in (len(sizes), *sizes)))


def nifti_2(*sizes: int):
    """The same scan as NIfTI-2, with other sizes in its header."""

    def make(path: Path) -> None:
        image = nibabel.load(path)
        content = bytearray(nibabel.Nifti2Image(np.asarray(image.dataobj), image.affine).to_bytes())
        content[16:80] = np.array([len(sizes), *sizes] + [1] * (7 - len(sizes)), np.int64).tobytes()
        packed(path, bytes(content))

    return make


def rgb(voxels: np.ndarray) -> np.ndarray:
    colours = np.zeros(voxels.shape, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    colours["R"] = voxels
    return colours


def swapped(path: Path) -> None:
    image = nibabel.load(path)
    made = nibabel.Nifti1Image(np.asarray(image.dataobj).astype(">i2"), image.affine, image.header.as_byteswapped(">"))
    packed(path, made.to_bytes())


def scaled(*factors: float):
    """Save the same voxels in other sizes."""

    def change(a: np.ndarray) -> np.ndarray:
        a[:3, :3] = a[:3, :3] * factors
        return a

    return affine(change)


def entry(row: int, column: int, value: float):
    """Save the same voxels with another number in their affine."""

    def change(a: np.ndarray) -> np.ndarray:
        a[row, column] = value
        return a

    return affine(change)


def long_extension(size: int):
    """Say that an extension follows the header, of that many bytes."""

    def make(path: Path) -> None:
        content = bytearray(unpacked(path))
        content[108:112] = np.float32(368).tobytes()
        content[348:352] = b"\1\0\0\0"
        content[352:352] = np.array([size, 4, 0, 0], np.int32).tobytes()
        packed(path, bytes(content))

    return make


def other_qform(path: Path) -> None:
    image = nibabel.load(path)
    image.set_qform(np.diag([1.0, 2, 3, 1]), code=1)
    image.set_sform(image.affine, code=2)
    packed(path, image.to_bytes())
    put(path, 80, np.float32([9, 9, 9]))


def qform_alone(*pixdim: float):
    return both(NO_SFORM, header(80, *(np.float32(v) for v in pixdim)))


NO_SFORM = header(254, np.int16(0))
HUGE_DIM = dim(HUGE, HUGE, HUGE)
TINY = scaled(*[0.02 / SPACING] * 3)  # 35 terabytes, of a scan that is no longer than a head
NO_MM = header(80, *[np.float32(0)] * 3)
ROWS = [
    row("a header of 32767 x 32767 x 32767 voxels", "case", every(HUGE_DIM), *TOO_LONG),
    row("a header of 32767 x 32767 x 32767 voxels of 0.02 mm", "case", every(TINY, HUGE_DIM), *DAMAGED),
    row("such a header in files that are not packed", "case", every(TINY, HUGE_DIM, as_nii), *DAMAGED[:2]),
    row("a header of 2^40 voxels per axis (NIfTI-2)", "case", every(nifti_2(2**40, 2**40, 2**40)), *TOO_LONG),
    row("sizes whose product is 2^64 (NIfTI-2)", "case", every(nifti_2(2**22, 2**21, 2**21)), *TOO_LONG),
    row("a header of seven axes of 32767", "scan", dim(*[HUGE] * 7), *NOT_3D[:2]),
    row("a header of 0 voxels", "scan", dim(32, 0, 32), *EMPTY),
    row("a negative size", "scan", dim(32, -32, 32), *EMPTY),
    row("a header of no axes", "scan", header(40, np.int16(0)), *NOT_3D[:2]),
    row("a header of 9 axes", "scan", header(40, np.int16(9)), *NO_NIFTI),
    row("two axes", "scan", array(lambda v: v[..., 16]), *NOT_3D),
    row("a time axis", "scan", array(lambda v: np.stack([v, v], -1)), *NOT_3D),
    row("a time axis of one time", "scan", array(lambda v: v[..., None]), *NOT_3D),
    row("colours (RGB)", "scan", array(rgb), *NOT_NUMBERS),
    row("complex numbers", "scan", array(lambda v: v * np.complex64(1)), *NOT_NUMBERS),
    row("floats of 128 bits", "scan", header(70, np.int16(1536)), *NO_NIFTI),
    row("an unknown type of number", "scan", header(70, np.int16(9999)), *NO_NIFTI),
    row("a wrong number of bits per voxel", "scan", header(72, np.int16(64)), right(), right()),
    row("big-endian", "scan", swapped, right(), right()),
    row("voxels said to begin after the end", "scan", header(108, np.float32(1e9)), *DAMAGED),
    row("voxels said to begin inside the header", "scan", header(108, np.float32(16)), *NO_NIFTI),
    row("voxels said to begin at no number", "scan", header(108, np.float32(np.nan)), *NO_NIFTI),
    row("an extension of two gigabytes", "scan", long_extension(2**31 - 16), *NO_NIFTI),
    row("an extension of no length", "scan", long_extension(0), *NO_NIFTI),
    row("values scaled by 0, which means not at all", "scan", header(112, np.float32(0)), *RIGHT),
    row("values scaled by NaN, which means not at all", "scan", header(112, np.float32(np.nan)), *RIGHT),
    row("values scaled by infinity", "scan", header(112, np.float32(np.inf)), *RIGHT),
    row("values scaled beyond every float", "scan", header(112, np.float32(3e38)), *BEYOND),
    row("values shifted by NaN", "scan", header(116, np.float32(np.nan)), *NO_NIFTI),
    row("voxels of 0 mm beside a sound sform", "case", every(NO_MM), *RIGHT),
    row("voxels of 0 mm, no sform", "scan", both(NO_SFORM, NO_MM), *ELSEWHERE[:2]),
    row("voxels of -5.625 mm, no sform", "case", every(qform_alone(*[-SPACING] * 3)), *RIGHT),
    row("voxels of NaN mm, no sform", "scan", qform_alone(np.nan, 1, 1), *NO_VOLUME[:2]),
    row("NaN in the sform", "scan", header(280, np.float32(np.nan)), *NO_VOLUME),
    row("a rotation that cannot be (qform)", "scan", both(NO_SFORM, header(256, np.float32(3))), *NO_NIFTI[:2]),
    row("an affine without volume", "case", every(header(312, *[np.float32(0)] * 4)), *NO_VOLUME),
    row(
        *("a sheared affine", "case", every(entry(0, 1, 2.0))),
        *(right(spacing=[SPACING, 5.969977, SPACING]), right(dice=0.9), right()),
    ),
    row("sform and qform that disagree", "case", every(other_qform), *RIGHT),
    row("one contrast whose sform disagrees", "scan", entry(0, 3, 40.0), *ELSEWHERE),
    row("one contrast stored mirrored", "scan", scaled(-1, 1, 1), *ELSEWHERE[:2]),
    row(
        *("neither sform nor qform", "case", every(header(252, np.int16(0)), NO_SFORM)),
        *(right(orientation="LAS"), right(), right()),
    ),
    row("voxels in metres", "case", every(scaled(1e-3, 1e-3, 1e-3)), *TOO_LONG),
    row("voxels in micrometres", "case", every(scaled(1e3, 1e3, 1e3)), *TOO_LONG),
    row("an origin of 1e30 mm", "case", every(entry(0, 3, 1e30)), *FAR),
]
