"""Write as NIfTI what the bundles cannot read: .npy arrays and MetaImage files (.mha).

Each case has a folder of its own, with a note of what its files were made from: what has not changed is not written
again, and what no longer belongs to the data is removed.
"""

from __future__ import annotations

import json
import os
import shutil
import tokenize
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import nibabel
import numpy as np

from autoconf.data.brats import SCHEMES
from autoconf.data.scans import Scan
from autoconf.errors import AutoconfError, DataError

ENDS = SCHEMES["BraTS 2023+"]
NOTE = ".source.json"
VERSION = 1  # of this code: raise it when the files that it writes change


def to_nifti(scan: Scan, folder: str) -> Scan:
    """Write a scan's files as folder/<case>/<case>-t1n.nii.gz and so on, in BraTS 2023 names; returns the new scan.

    A file that is NIfTI already stays where it is. Arrays get an affine of 1 mm voxels, RAS+, as they lie; one-hot
    masks become label numbers. Raises DataError for a file that cannot be read.
    """
    home = os.path.join(folder, scan.case)
    targets = [os.path.join(home, f"{scan.case}{end}.nii.gz") for end in ENDS]
    *image, label = map(_as_nifti, (*scan.image, scan.label), targets)
    made = replace(scan, image=tuple(image), label=label, channels=(), convert=False)
    source = _source(scan)
    if _noted(home) == source and all(os.path.isfile(path) for path in made.files):
        return made
    if _noted(home) is not None:
        shutil.rmtree(home)
    os.makedirs(home, exist_ok=True)
    for place, (path, target) in enumerate(zip(scan.image, image, strict=True)):
        if path and target and path != target:
            _write(path, target, scan.channels[place] if scan.channels else None)
    if scan.label and label and scan.label != label:
        _write(scan.label, label, None, mask=True)
    with open(os.path.join(home, NOTE), "w") as file:  # last: without it, all is written again
        json.dump(source, file)
    return made


def forget_others(folder: str, cases: Collection[str]) -> None:
    """Remove from `folder` the cases that `to_nifti` once wrote and that are not among `cases`; nothing else."""
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        home = os.path.join(folder, name)
        if name not in cases and _noted(home) is not None:
            shutil.rmtree(home)


def _source(scan: Scan) -> dict[str, Any]:
    """What the files of a scan are made from."""
    files = []
    for path in scan.files:
        try:
            stat = os.stat(path)
        except OSError as error:
            raise DataError("unreadable", f"{path}: {error.strerror}. Put it back, or remove the case.") from None
        files.append([os.path.abspath(path), stat.st_size, stat.st_mtime_ns])
    return {"version": VERSION, "files": files, "channels": list(scan.channels)}


def _noted(home: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(home, NOTE)) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def _as_nifti(path: str | None, target: str) -> str | None:
    """Where an image is as NIfTI: where it is already, or the target that is to be written."""
    return path if path is None or path.lower().endswith((".nii", ".nii.gz")) else target


def _write(path: str, target: str, channel: int | None, mask: bool = False) -> None:
    array, affine = (open_npy(path), np.eye(4)) if path.lower().endswith(".npy") else _read_itk(path)
    if array.dtype.kind not in "biuf" or not array.size:
        raise DataError("not-numbers", f"{path}: holds {array.size} {array.dtype} values. Save it as int16 or float32.")
    if channel is not None:
        array = array[..., channel]
    if mask and array.ndim == 4:  # one-hot, background first
        array = array[..., 0] if array.shape[-1] == 1 else array.argmax(axis=-1)
    if array.ndim != 3:
        raise DataError("not-3d", f"{path}: has {array.ndim} axes, not three. Save one 3D image per file.")
    if mask and np.array_equal(array, np.rint(array)) and array.min() >= 0 and array.max() < 256:
        array = array.astype(np.uint8)
    array = as_readable(array)
    partial = target.removesuffix(".nii.gz") + ".partial.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array, affine), partial)
    os.replace(partial, target)


def as_readable(array: np.ndarray) -> np.ndarray:
    """The array in a type that every NIfTI reader and viewer knows: float32 in place of rarer ones."""
    rare = array.dtype.name in ("float16", "float64", "bool", "int64", "uint64")
    return array.astype(np.float32) if rare else array


def open_npy(path: str) -> np.ndarray:
    """The array of an .npy file, of which only the header is read yet; no archive, and nothing pickled is ever opened.

    Raises DataError for a file that is none, or shorter than its header says.
    """
    try:
        with np.errstate(over="raise"):  # of its size, if the header says more than there can be
            return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, ArithmeticError, SyntaxError, tokenize.TokenError) as error:
        what = " ".join(str(error).split())[:80]  # the header is Python source, and it may be any
        raise DataError("unreadable", f"{path}: not a readable array ({what}). Copy it again or remove it.") from None


def _read_itk(path: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        import SimpleITK
    except ImportError:
        raise AutoconfError(f"{path}: reading .mha files needs SimpleITK. Install it: pip install SimpleITK.") from None
    try:
        image = SimpleITK.ReadImage(path)
        array = SimpleITK.GetArrayFromImage(image).T
    except (RuntimeError, ValueError, MemoryError) as error:  # its words for damage, no voxels, too many
        what = " ".join(str(error).split())[-80:]
        raise DataError("unreadable", f"{path}: not a readable image ({what}). Copy it again or remove it.") from None
    dimension = image.GetDimension()
    if dimension < 3:
        raise DataError("not-3d", f"{path}: has {dimension} axes, not three. Save one 3D image per file.")
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:3, :3]
    affine[:3, :3] = direction @ np.diag(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK's world grows to the left and to the back
    return array, affine
