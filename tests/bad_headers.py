"""Bad input: what a NIfTI header says of axes, types and places.

The places of its fields: nifti.nimh.nih.gov/nifti-1 (dim 40, datatype 70, bitpix 72, pixdim 76, vox_offset 108,
scl_slope 112, scl_inter 116, qform_code 252, sform_code 254, quatern_b 256, srow_x 280).
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from helpers_bad_inputs import CASE, ENDS, SPACING, Kind, left_out, packed, put, refused, rewritten, right, unpacked

NOT_3D = left_out("not-3d", "Save one 3D image per file")
UNREADABLE = left_out("unreadable", "Copy or download it again")
TRUNCATED = refused("truncated or not a NIfTI file")
NO_VOLUME = left_out("degenerate-affine", "Convert the scan again")
TOO_LONG = left_out("degenerate-affine", "correct its header to millimetres")
LONG = refused("correct its header to millimetres")
CUT = refused("is cut short or damaged")
NO_NIFTI = refused("cannot be read as NIfTI")


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


def array(change):
    """Save other voxels on the same grid."""
    return lambda path: rewritten(path, lambda voxels, affine: (change(voxels), affine))


def affine(change):
    """Save every file of a case, or one file, on another grid."""

    def make(where: Path) -> None:
        for path in [where / f"{CASE}-{end}.nii.gz" for end in ENDS] if where.is_dir() else [where]:
            rewritten(path, lambda voxels, affine: (voxels, change(affine)))

    return make


def every(change):
    """Do it to every file of a case."""

    def make(home: Path) -> None:
        for end in ENDS:
            change(home / f"{CASE}-{end}.nii.gz")

    return make


def both(*changes):
    def make(path: Path) -> None:
        for change in changes:
            change(path)

    return make


def rgb(voxels: np.ndarray) -> np.ndarray:
    colours = np.zeros(voxels.shape, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    colours["R"] = voxels
    return colours


def swapped(path: Path) -> None:
    image = nibabel.load(path)
    made = nibabel.Nifti1Image(np.asarray(image.dataobj).astype(">i2"), image.affine, image.header.as_byteswapped(">"))
    packed(path, made.to_bytes())


def scaled(a: np.ndarray, *factors: float) -> np.ndarray:
    a[:3, :3] = a[:3, :3] * factors
    return a


def entry(row: int, column: int, value: float):
    def change(a: np.ndarray) -> np.ndarray:
        a[row, column] = value
        return a

    return change


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
    return both(header(254, np.int16(0)), header(80, *(np.float32(v) for v in pixdim)))


def huge(path: Path) -> None:
    """A header of 35 terabytes, of a scan that is no longer than a head."""
    rewritten(path, lambda voxels, affine: (voxels, scaled(affine, *[0.02 / SPACING] * 3)))
    dim(HUGE, HUGE, HUGE)(path)


def huge_nii(path: Path) -> None:
    huge(path)
    path.with_suffix("").write_bytes(unpacked(path))
    path.unlink()


def flat(path: Path) -> None:
    put(path, 312, np.zeros(4, np.float32))  # the third row of the sform


NO_FORM = both(header(252, np.int16(0)), header(254, np.int16(0)))
HUGE = 32767
KINDS = [
    Kind("a header of 32767 x 32767 x 32767 voxels", "case", every(dim(HUGE, HUGE, HUGE)), TOO_LONG, LONG, LONG),
    Kind("a header of 32767 x 32767 x 32767 voxels of 0.02 mm", "case", every(huge), UNREADABLE, CUT, TRUNCATED),
    Kind("such a header in files that are not packed", "case", every(huge_nii), UNREADABLE, CUT),
    Kind(
        "a header of 2^40 voxels per axis (NIfTI-2)", "case", every(nifti_2(2**40, 2**40, 2**40)), TOO_LONG, LONG, LONG
    ),
    Kind("sizes whose product is 2^64 (NIfTI-2)", "case", every(nifti_2(2**22, 2**21, 2**21)), TOO_LONG, LONG, LONG),
    Kind("a header of seven axes of 32767", "scan", dim(*[HUGE] * 7), NOT_3D, refused("a single 3D volume")),
    Kind(
        "a header of some gigabytes",
        "case",
        both(affine(lambda a: scaled(a, 0.05, 0.05, 0.05)), every(dim(2000, 2000, 2000))),
        UNREADABLE,
        CUT,
        TRUNCATED,
    ),
    Kind(
        "a header of 0 voxels",
        "scan",
        dim(32, 0, 32),
        left_out("not-3d", "no voxels"),
        refused("no voxels"),
        refused("no voxels"),
    ),
    Kind(
        "a negative size",
        "scan",
        dim(32, -32, 32),
        left_out("not-3d", "no voxels"),
        refused("no voxels"),
        refused("no voxels"),
    ),
    Kind("a header of no axes", "scan", header(40, np.int16(0)), NOT_3D, refused("a single 3D volume")),
    Kind("a header of 9 axes", "scan", header(40, np.int16(9)), UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("a header of -3 axes", "scan", header(40, np.int16(-3)), UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("two axes", "scan", array(lambda v: v[..., 16]), NOT_3D, refused("a single 3D volume"), refused("three axes")),
    Kind(
        "a time axis",
        "scan",
        array(lambda v: np.stack([v, v], -1)),
        NOT_3D,
        refused("single 3D"),
        refused("three axes"),
    ),
    Kind(
        "a time axis of one time",
        "scan",
        array(lambda v: v[..., None]),
        NOT_3D,
        refused("single 3D"),
        refused("three axes"),
    ),
    Kind(
        "five axes",
        "scan",
        array(lambda v: v[..., None, None]),
        NOT_3D,
        refused("a single 3D volume"),
        refused("three axes"),
    ),
    Kind(
        "colours (RGB)",
        "scan",
        array(rgb),
        left_out("not-numbers", "Save it as int16"),
        refused("int16"),
        refused("int16"),
    ),
    Kind(
        "complex numbers",
        "scan",
        array(lambda v: v * np.complex64(1)),
        left_out("not-numbers", "Save"),
        refused("int16"),
        refused("int16"),
    ),
    Kind("floats of 128 bits", "scan", header(70, np.int16(1536)), UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("an unknown type of number", "scan", header(70, np.int16(9999)), UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("single bits as the type", "scan", header(70, np.int16(1)), UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("a wrong number of bits per voxel", "scan", header(72, np.int16(64)), right(), right()),
    Kind("big-endian", "scan", swapped, right(), right()),
    Kind("voxels said to begin after the end", "scan", header(108, np.float32(1e9)), UNREADABLE, CUT, TRUNCATED),
    Kind(
        "voxels said to begin inside the header", "scan", header(108, np.float32(16)), UNREADABLE, NO_NIFTI, TRUNCATED
    ),
    Kind("voxels said to begin at no number", "scan", header(108, np.float32(np.nan)), UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind(
        "voxels said to begin before the file", "scan", header(108, np.float32(-400)), UNREADABLE, NO_NIFTI, TRUNCATED
    ),
    Kind("an extension of two gigabytes", "scan", long_extension(2**31 - 16), UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("an extension of no length", "scan", long_extension(0), UNREADABLE, NO_NIFTI, TRUNCATED),
    Kind("values scaled by 0, which means not at all", "scan", header(112, np.float32(0)), right(), right(), right()),
    Kind(
        "values scaled by NaN, which means not at all",
        "scan",
        header(112, np.float32(np.nan)),
        right(),
        right(),
        right(),
    ),
    Kind("values scaled by infinity", "scan", header(112, np.float32(np.inf)), right(), right(), right()),
    Kind(
        "values scaled beyond every float",
        "scan",
        header(112, np.float32(3e38)),
        left_out("not-finite", "Export"),
        refused("finite"),
        refused(""),
    ),
    Kind("values shifted by NaN", "scan", header(116, np.float32(np.nan)), UNREADABLE, refused("Copy"), refused("")),
    Kind(
        "voxels of 0 mm beside a sound sform",
        "case",
        every(header(80, np.float32(0), np.float32(0), np.float32(0))),
        right(),
        right(),
        right(),
    ),
    Kind(
        "voxels of 0 mm, no sform", "scan", qform_alone(0, 0, 0), left_out("grid", "another affine"), refused("affine")
    ),
    Kind(
        "voxels of -5.625 mm, no sform",
        "case",
        every(qform_alone(-SPACING, -SPACING, -SPACING)),
        right(),
        right(),
        right(),
    ),
    Kind("voxels of NaN mm, no sform", "scan", qform_alone(np.nan, 1, 1), NO_VOLUME, refused("no volume")),
    Kind(
        "NaN in the sform",
        "scan",
        header(280, np.float32(np.nan)),
        NO_VOLUME,
        refused("no volume"),
        refused("no volume"),
    ),
    Kind(
        "a rotation that cannot be (qform)",
        "scan",
        both(header(254, np.int16(0)), header(256, np.float32(3))),
        UNREADABLE,
        refused(""),
    ),
    Kind("an affine without volume", "case", every(flat), NO_VOLUME, refused("no volume"), refused("no volume")),
    Kind(
        "a sheared affine",
        "case",
        affine(entry(0, 1, 2.0)),
        right(spacing=[SPACING, 5.969977, SPACING]),
        right(dice=0.9),
        right(),
    ),
    Kind("sform and qform that disagree", "case", every(other_qform), right(), right(), right()),
    Kind(
        "one contrast whose sform disagrees",
        "scan",
        affine(entry(0, 3, 40.0)),
        left_out("grid", "another affine"),
        refused("different affines"),
        refused("another affine"),
    ),
    Kind(
        "one contrast stored mirrored",
        "scan",
        affine(lambda a: scaled(a, -1, 1, 1)),
        left_out("grid", "another affine"),
        refused("different affines"),
    ),
    Kind("neither sform nor qform", "case", every(NO_FORM), right(orientation="LAS"), right(), right()),
    Kind("voxels in metres", "case", affine(lambda a: scaled(a, 1e-3, 1e-3, 1e-3)), TOO_LONG, LONG, LONG),
    Kind("voxels in micrometres", "case", affine(lambda a: scaled(a, 1e3, 1e3, 1e3)), TOO_LONG, LONG, LONG),
    Kind(
        "an origin of 1e30 mm",
        "case",
        affine(entry(0, 3, 1e30)),
        left_out("degenerate-affine", "from its origin"),
        refused("from its origin"),
        refused("from its origin"),
    ),
]
