"""One NIfTI file, read fast and checked: damage, lies in its header, and values that no network can use.

Unpacking is most of what it costs to read a scan. ISA-L unpacks three times faster than Python's own gzip where it is
installed (`pip install isal`), and lets the threads of one scan run at the same time.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Callable
from os import PathLike
from pathlib import Path

import nibabel
import numpy as np

try:
    from isal import igzip, isal_zlib

    open_gzip: Callable[..., io.BufferedIOBase] = igzip.GzipFile
    BAD_GZIP: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, isal_zlib.error)
except ImportError:
    open_gzip = gzip.GzipFile
    BAD_GZIP = (EOFError, OSError, zlib.error)

# What it repairs in a header it says to nobody in particular: what cannot be repaired is refused, by the file's name.
nibabel.imageglobals.logger.setLevel("CRITICAL")

KEPT = ("uint8", "int8", "int16", "int32", "float32")  # torch computes with these; others become the next wider one
WIDER = {"uint16": "int32"}
SHORTEST, LONGEST = 348, 540  # bytes of a NIfTI-1 and of a NIfTI-2 header
CHUNK = 1 << 19  # bytes that are unpacked at once
# No scan of a head is outside of this, but one with metres or micrometres for millimetres is; resampled to the
# network's voxels it would fill all memory.
SMALLEST_VOXEL, LONGEST_SIDE, FARTHEST = 0.01, 1000.0, 1e5  # mm; the last: of the first voxel from the origin
FLATTEST = 1e-3  # of the volume that voxels of these sides have if nothing is sheared


class Unreadable(ValueError):
    """A file is missing, damaged, no NIfTI or no scan. The message is one line: which file, why, and what to do."""

    def __init__(self, what: str, cure: str = "Copy or download it again") -> None:
        super().__init__(f"{what}. {cure}.")


def read_nifti(path: str | PathLike) -> nibabel.Nifti1Image:
    """Read a whole NIfTI file into memory, and be sure of it.

    nibabel alone stops at the last voxel, before the checksum of a `.gz`, and would hand over damaged voxels as sound.
    Takes memory for what the file holds, never for more than its header says. Returns an image whose voxels are in
    memory. Raises Unreadable.
    """
    try:
        packed = Path(path).read_bytes()
        content = unpacked(packed) if packed[:2] == b"\x1f\x8b" else packed
    except FileNotFoundError as error:
        raise Unreadable(f"{path} is not there") from error
    except (IsADirectoryError, PermissionError) as error:
        raise Unreadable(f"{path} cannot be read ({error.strerror})", "Check its permissions") from error
    except BAD_GZIP as error:
        raise Unreadable(f"{path} is cut short or damaged") from error
    if len(content) < SHORTEST:
        raise Unreadable(f"{path} is cut short or damaged")
    try:
        image = _kind(content).from_bytes(content)
        promised = promised_bytes(image)
    except Exception as error:  # noqa: BLE001 - of bytes that may be anything nibabel makes any error
        raise Unreadable(f"{path} cannot be read as NIfTI ({brief(error)})") from error
    check_header(path, image)
    if len(content) < promised:
        raise Unreadable(f"{path} is cut short or damaged")
    return image


def unpacked(packed: bytes) -> bytes:
    """The content of a gzipped NIfTI file as far as its header says. All is unpacked, because the checksum is last.

    Raises one of BAD_GZIP.
    """
    with open_gzip(fileobj=io.BytesIO(packed)) as stream:
        start = stream.read(LONGEST)
        try:
            header = _kind(start).header_class(start[: _kind(start).header_class.sizeof_hdr], check=False)
            size = header.get_data_dtype().itemsize * math.prod(int(n) for n in header.get_data_shape())
            left = int(header.get_data_offset()) + size - len(start)
        except Exception:  # noqa: BLE001 - as below
            return start  # enough to say why it is none
        parts = [start]
        while chunk := stream.read1(CHUNK):
            if left > 0:
                parts.append(chunk[:left])
                left -= len(chunk)
    return b"".join(parts)


def _kind(content: bytes) -> type[nibabel.Nifti1Image]:
    return nibabel.Nifti2Image if content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nibabel.Nifti1Image


def promised_bytes(image: nibabel.Nifti1Image) -> int:
    """How long a NIfTI file must be, unpacked, to hold all that its header says."""
    return int(image.dataobj.offset) + math.prod(map(int, image.shape)) * image.get_data_dtype().itemsize


def check_header(path: str | PathLike, image: nibabel.Nifti1Image) -> None:
    """Raise Unreadable for an image without voxels, of something else than numbers, or on a grid that is no scan's."""
    shape, affine, dtype = image.shape, np.asarray(image.affine, np.float64), image.get_data_dtype()
    if min(shape, default=0) < 1:
        raise Unreadable(f"{path} has shape {shape}, so it holds no voxels", "Export it again")
    if dtype.kind not in "iuf":
        raise Unreadable(f"{path} holds {dtype} values, not numbers", "Save it as int16 or float32")
    known = bool(np.isfinite(affine).all())
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0)) if known else np.zeros(3)
    if not known or abs(np.linalg.det(affine[:3, :3])) <= FLATTEST * sizes.prod():
        raise Unreadable(f"{path}: its affine has no volume, so the voxel size is unknown", "Convert the scan again")
    longest = max(n * size for n, size in zip(shape[:3], sizes, strict=False))
    if sizes.min() < SMALLEST_VOXEL or longest > LONGEST_SIDE:
        held = f"{' x '.join(f'{size:.3g}' for size in sizes)} mm, {longest:.3g} mm at the longest side"
        raise Unreadable(f"{path} has voxels of {held}", "No head is: correct its header to millimetres")
    if np.abs(affine[:3, 3]).max() > FARTHEST:
        raise Unreadable(f"{path} lies more than {FARTHEST / 1000:g} m from its origin", "Correct its header")


def voxels(path: str | PathLike, image: nibabel.Nifti1Image) -> np.ndarray:
    """The values of an image in the narrowest type that torch computes with: integers stay integers. Axes as stored.

    path: for the message. Raises Unreadable for values that are no numbers, or that float32 cannot hold.
    """
    try:
        values = np.asanyarray(image.dataobj)
    except Exception as error:  # noqa: BLE001 - as above
        raise Unreadable(f"{path} cannot be read as NIfTI ({brief(error)})") from error
    name = values.dtype.newbyteorder("=").name
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        values = values.astype(name if name in KEPT else WIDER.get(name, "float32"), copy=False)
    if values.dtype.kind == "f" and not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise Unreadable(
            f"{path} holds NaN, infinite values, or more than float32 can", "Put 0 there, or export it again"
        )
    return values


def brief(error: Exception) -> str:
    """What a library says, in one line."""
    return " ".join(str(error).split())[:120] or type(error).__name__
