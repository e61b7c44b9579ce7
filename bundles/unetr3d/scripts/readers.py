"""Read NIfTI files fast: the files of a scan side by side, voxels as they are stored.

Unpacking is most of what it costs to read a scan. ISA-L unpacks three times faster than Python's own gzip where it is
installed (`pip install isal`), and lets the threads of one scan run at the same time.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path

import nibabel
import numpy as np
from monai.data import NibabelReader
from monai.utils import ensure_tuple

from .errors import refuse

try:
    from isal import igzip, isal_zlib

    gunzip: Callable[[bytes], bytes] = igzip.decompress
    BAD_GZIP: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, isal_zlib.error)
except ImportError:
    gunzip = gzip.decompress
    BAD_GZIP = (EOFError, OSError, zlib.error)

KEPT = ("uint8", "int8", "int16", "int32", "float32")  # torch computes with these; others become the next wider one
WIDER = {"uint16": "int32"}
SHORTEST = 348  # bytes of a NIfTI-1 header
BAD_NIFTI = (
    *(nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError),
    *(nibabel.wrapstruct.WrapStructError, ValueError, OverflowError),
)


class Unreadable(ValueError):
    """A file is missing, damaged or no NIfTI. The message says which and why."""


def read_nifti(path: str | PathLike) -> nibabel.Nifti1Image:
    """Read a whole NIfTI file into memory, and be sure of it.

    nibabel alone stops at the last voxel, before the checksum of a `.gz`, and would hand over damaged voxels as sound.
    Returns an image whose voxels are in memory. Raises Unreadable.
    """
    try:
        packed = Path(path).read_bytes()
        content = gunzip(packed) if packed[:2] == b"\x1f\x8b" else packed
    except FileNotFoundError as error:
        raise Unreadable(f"{path} is not there") from error
    except (IsADirectoryError, PermissionError) as error:
        raise Unreadable(f"{path} cannot be read ({error.strerror})") from error
    except BAD_GZIP as error:
        raise Unreadable(f"{path} is cut short or damaged") from error
    if len(content) < SHORTEST:
        raise Unreadable(f"{path} is cut short or damaged")
    kind = nibabel.Nifti2Image if content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nibabel.Nifti1Image
    try:
        image = kind.from_bytes(content)
        promised = promised_bytes(image)
        if min(image.shape) < 1:
            raise ValueError(f"its shape is {image.shape}")
    except BAD_NIFTI as error:
        raise Unreadable(f"{path} cannot be read as NIfTI ({error})") from error
    if len(content) < promised:
        raise Unreadable(f"{path} is cut short or damaged")
    return image


def promised_bytes(image: nibabel.Nifti1Image) -> int:
    """How long a NIfTI file must be, unpacked, to hold all that its header says."""
    return int(image.dataobj.offset) + int(np.prod(image.shape)) * image.get_data_dtype().itemsize


def voxels(image: nibabel.Nifti1Image) -> np.ndarray:
    """The values of an image in the narrowest type that torch computes with: integers stay integers. Axes as stored."""
    values = np.asanyarray(image.dataobj)
    name = values.dtype.newbyteorder("=").name
    return values.astype(name if name in KEPT else WIDER.get(name, "float32"), copy=False)


class NiftiReader(NibabelReader):
    """A reader for `LoadImaged`, whose `dtype` must be null for stored integers to stay integers.

    A list of files becomes the channels of one image, (C, H, W, D), with the affine of the first. Keeps no state, so
    that threads may share it (MONAI's own mixes up their files). Stops the run with one line on a bad file.
    """

    def read(self, data: Sequence[str | PathLike] | str | PathLike, **kwargs: object) -> list[nibabel.Nifti1Image]:
        paths = ensure_tuple(data)
        with ThreadPoolExecutor(len(paths)) as pool:
            try:
                images = list(pool.map(read_nifti, paths))
            except Unreadable as error:
                refuse(f"{error}. Copy or download it again.")
        for path, image in zip(paths, images, strict=True):
            if image.shape != images[0].shape:
                refuse(
                    f"{path} has shape {image.shape} but {paths[0]} has {images[0].shape}. Bring both onto one grid."
                )
        return images

    def get_data(self, img: list[nibabel.Nifti1Image]) -> tuple[np.ndarray, dict]:
        arrays = [voxels(image) for image in img]
        meta = {
            key: value for key, value in self._get_meta_dict(img[0]).items() if np.asarray(value).dtype.kind in "iuf"
        }
        meta |= {"affine": self._get_affine(img[0]), "original_affine": self._get_affine(img[0])}
        meta |= {"spatial_shape": np.asarray(img[0].shape[:3]), "space": "RAS", "as_closest_canonical": False}
        if len(arrays) == 1:
            return arrays[0], meta | {"original_channel_dim": float("nan") if arrays[0].ndim == 3 else -1}
        stacked = np.empty((len(arrays), *arrays[0].shape), np.result_type(*arrays))
        with ThreadPoolExecutor(len(arrays)) as pool:
            list(pool.map(_copy, stacked, arrays))
        return stacked, meta | {"original_channel_dim": 0}


def _copy(to: np.ndarray, array: np.ndarray) -> None:
    """From a file's order of voxels, the first axis fastest, to C order; a plane at a time fits into the cache."""
    for place in range(array.shape[1]):
        to[:, place] = array[:, place]
