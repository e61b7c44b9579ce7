"""Whether files can be read, are whole, and lie on one grid: from their headers."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
from tqdm import tqdm

from .errors import refuse
from .nifti import Unreadable, brief, check_header, promised_bytes, read_nifti


def grids_of(channels: dict[str, int]) -> dict[str, tuple[tuple[int, ...], np.ndarray]]:
    """Shape and affine of every file. To wait for files takes longer than to read headers: threads wait together."""
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        found = pool.map(_grid, channels, channels.values())
        shown = tqdm(found, "checking files", len(channels), disable=not sys.stderr.isatty(), leave=False)
        return dict(zip(channels, shown, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


def _grid(path: str, channels: int = 0) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of a 3D NIfTI; refuses a file that is missing, unreadable, not 3D or cut short.

    channels: 1 or more if the file may hold so many modalities on a fourth axis.
    """
    if not path.lower().endswith((".nii", ".nii.gz")):
        refuse(f"{path} is no NIfTI file. Convert it, as `autoconf inspect` does for a data set with masks.")
    try:
        image = nibabel.load(path)
    except FileNotFoundError:
        refuse(f"{path} is not there. Check --dataset_dir, or run `autoconf inspect` again.")
    except Exception as error:  # noqa: BLE001 - of bytes that may be anything nibabel makes any error
        if os.path.isfile(path) and not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            refuse(f"{path} cannot be read (Permission denied). Check its permissions.")
        refuse(f"{path} cannot be read as NIfTI ({brief(error)}). Copy or download it again.")
    held = image.shape[3] if len(image.shape) == 4 else 1
    if len(image.shape) not in (3, 4) or held < channels or (len(image.shape) == 4 and not channels):
        wanted = f"a fourth axis of at least {channels}" if channels > 1 else "a single 3D volume"
        refuse(f"{path} has shape {by(image.shape)}; {wanted} is needed. Save it as that.")
    try:
        check_header(path, image)
    except Unreadable as error:
        refuse(str(error))
    if _damaged(path, image):
        refuse(f"{path} is cut short or damaged. Copy or download it again.")
    return image.shape[:3], image.affine


def _damaged(path: str, image: nibabel.Nifti1Image) -> bool:
    """Tell whether a file is shorter than its header promises.

    A gzip ends with the size of what it holds; only where that is another size (several gzips in one file, or a piece
    of one) it is unpacked, to know. Damage inside it shows when the case is read: the reader compares the checksum.
    """
    promised = promised_bytes(image)
    if not path.lower().endswith(".gz"):
        return os.path.getsize(path) < promised
    with open(path, "rb") as packed:
        packed.seek(-4, os.SEEK_END)
        if int.from_bytes(packed.read(), "little") == promised % 2**32:
            return False
    try:
        read_nifti(path)
    except Unreadable:
        return True
    return False


def by(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)
