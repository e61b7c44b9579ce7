"""The verb `phantom`: a procedural BraTS-like data set, for tests and for trying things out."""

import gzip
import io
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from autoconf.errors import AutoconfError
from autoconf.output import progress
from autoconf.phantom.cases import PhantomCase, make_case, make_volume
from autoconf.phantom.mri import MODALITIES
from autoconf.phantom.slices import make_slices

SIZES = 32, 256  # below, cortex and rims vanish; above is finer than BraTS (240)
MOST_CASES = 9999

README = """Synthetic data: no patient was scanned for these pictures.

Made by: python -m autoconf phantom OUT --cases {cases} --size {size} --seed {seed}{flag}
The same command makes the same files.

{content}
"""
VOLUMES = """Each folder is one scan, named as in BraTS 2023: BraTS-GLI-<patient>-<session>.
t1n, t1c, t2w, t2f: T1, T1 with contrast agent, T2, FLAIR; int16, skull-stripped, 0 outside.
seg: 1 necrotic or non-enhancing core, 2 oedema, 3 enhancing tumour; uint8.
Some patients have a second session: keep a patient's scans on one side of a split.
"""
PICTURES = """Each folder is a class: diagnosis and contrast; _NORMAL is the head without tumour.
Pictures are axial, 8-bit grey, patient's right at the left: <case>_<plane>.jpg.
Pictures of one patient look alike: keep them on one side of a split.
"""


def phantom(out: str, cases: int = 12, size: int = 64, seed: int = 0, slices: bool = False) -> None:
    """Make a procedural BraTS-like data set (phantom heads with tumours).

    out: new or empty folder. cases: number of scans. size: voxels per edge of the cubic volumes,
    whose field of view is 180 mm. seed: the same one gives the same bytes. slices: write 2D
    pictures in class folders (`Glioblastoma T1C+`, `_NORMAL T2`, ...) instead of volumes.
    Raises AutoconfError for bad arguments and when `out` cannot be written; then leaves nothing.
    """
    _check_numbers(cases, size, seed, slices)
    target = _check_out(out)
    partial = target.with_name(target.name + ".partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise AutoconfError(_refusal(partial, error)) from error
    try:
        _write_all(partial, cases, size, seed, slices)
        if target.is_dir():
            target.rmdir()
        partial.rename(target)
    except OSError as error:
        raise AutoconfError(_refusal(target, error)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"phantom: wrote {target}")


def _refusal(path: Path, error: OSError) -> str:
    if isinstance(error, FileExistsError):
        return f"{path} is left over from another run. Remove it, or choose another OUT."
    return f"cannot write {path} ({error.strerror or error}). Choose another OUT."


def _check_numbers(cases: int, size: int, seed: int, slices: bool) -> None:
    bounds = {"cases": (cases, 1, MOST_CASES), "size": (size, *SIZES), "seed": (seed, 0, 2**63 - 1)}
    for name, (value, low, high) in bounds.items():
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise AutoconfError(f"--{name} is {value!r}. Give a whole number from {low} to {high}.")
    if not isinstance(slices, bool):
        raise AutoconfError(f"--slices is {slices!r}. Say --slices alone, or leave it out.")


def _check_out(out: str) -> Path:
    if not str(out).strip():
        raise AutoconfError("OUT is empty. Name a new folder to write to.")
    target = Path(str(out)).expanduser().resolve()
    try:
        if target.exists() and not target.is_dir():
            raise AutoconfError(f"{target} is a file. Name a new folder to write to.")
        if target.is_dir() and any(target.iterdir()):
            raise AutoconfError(f"{target} is not empty. Name a new folder, or empty this one.")
    except OSError as error:
        raise AutoconfError(_refusal(target, error)) from error
    return target


def _write_all(folder: Path, cases: int, size: int, seed: int, slices: bool) -> None:
    flag, content = (" --slices", PICTURES) if slices else ("", VOLUMES)
    text = README.format(cases=cases, size=size, seed=seed, flag=flag, content=content.strip())
    (folder / "README.txt").write_text(text, encoding="utf-8")
    for index in progress(range(cases), cases, "phantom"):
        case = make_case(seed, index)
        (_write_pictures if slices else _write_volumes)(folder, case, size)


def _write_volumes(folder: Path, case: PhantomCase, size: int) -> None:
    volume = make_volume(case, size)
    (folder / case.name).mkdir()
    named = dict(zip(MODALITIES, volume.images, strict=True)) | {"seg": volume.labels}
    for suffix, array in named.items():
        path = folder / case.name / f"{case.name}-{suffix}.nii.gz"
        path.write_bytes(nifti_bytes(array, volume.affine))


def nifti_bytes(array: np.ndarray, affine: np.ndarray) -> bytes:
    """A .nii.gz of a 3D array and its (4, 4) voxel-to-RAS+-mm affine.

    The same input gives the same bytes, whenever and under whatever name it is written.
    """
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    packed = io.BytesIO()
    # nibabel's own writer would store the time and the file's name in the gzip header
    with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=packed, mtime=0) as stream:
        stream.write(image.to_bytes())
    return packed.getvalue()


def _write_pictures(folder: Path, case: PhantomCase, size: int) -> None:
    for label, name, picture in make_slices(case, size):
        (folder / label).mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / label / f"{name}.jpg", quality=92)
