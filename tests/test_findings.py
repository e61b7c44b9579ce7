"""Findings about a data set as a whole: one with one fault has that finding, and no other. bad/ has those of a file."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from bad.table import ROWS
from helpers_volumes import scan, store, tilted_affine, tumour, write_case
from test_layouts import npy

from autoconf.data.problems import KINDS
from autoconf.inspect import inspect

CUBES = np.eye(4)  # voxels of 1 mm, RAS+
FAULTY = "BraTS2021_00002"
ENDS = ("t1", "t1ce", "t2", "flair", "seg")
FAULTS: dict[str, tuple[Callable[[Path], None], dict]] = {}  # kind -> (writes a data set, options of inspect)


def sound(root: Path, count: int = 4) -> None:
    for number in range(count):
        write_case(root, f"BraTS2021_{number:05d}", affine=CUBES, seed=number)


def fault(kind: str, **options: object) -> Callable:
    """Register what puts the fault of a kind into a folder."""

    def register(write: Callable[[Path], None]) -> Callable[[Path], None]:
        FAULTS[kind] = (write, options)
        return write

    return register


@fault("missing-modality", missing="drop")
@fault("zero-filled", missing="zero")
def incomplete(root: Path) -> None:
    sound(root)
    (root / FAULTY / f"{FAULTY}_t2.nii.gz").unlink()


@fault("alike")
def exported_again(root: Path) -> None:
    """The same head with other intensities and some noise; blocks of several voxels, as real heads have."""
    for number in range(4):
        head = np.random.default_rng(number % 3).normal(100, 30, (40, 44, 36))
        head[:4] = 0
        noise = np.random.default_rng(number + 10)
        for index, end in enumerate(ENDS[:4]):
            again = (1 + 0.2 * number) * head * (head > 0) + (head > 0) * noise.normal(index, 2, head.shape)
            home = root / f"BraTS2021_{number:05d}"
            home.mkdir(parents=True, exist_ok=True)
            store(again.astype(np.int16), home / f"{home.name}_{end}.nii.gz", CUBES)
        mask = np.zeros(head.shape, np.uint8)
        mask[10:14, 10:14, 10:14] = 2
        store(mask * (head > 0), home / f"{home.name}_seg.nii.gz", CUBES)


@fault("swapped")
def t1_named_t2(root: Path) -> None:
    """T2 shows tissue the other way round than T1, and FLAIR the tumour brightest."""
    for number in range(10):
        rng = np.random.default_rng(number)
        tissue = rng.normal(0, 1, (32, 32, 24))
        lesion = np.zeros(tissue.shape, bool)
        lesion[8:20, 8:20, 6:16] = True
        t2 = 2 * lesion - tissue
        modalities = [tissue, tissue + 0.5 * lesion, t2, 0.2 * t2 + 3 * lesion]
        if number == 2:
            modalities[0], modalities[2] = modalities[2], modalities[0]
        home = root / f"BraTS2021_{number:05d}"
        home.mkdir(parents=True)
        for end, contrast in zip(ENDS, modalities, strict=False):
            voxels = 1000 + 100 * (contrast + rng.normal(0, 0.3, tissue.shape))
            store(voxels.astype(np.int16), home / f"{home.name}_{end}.nii.gz", CUBES)
        store(lesion.astype(np.uint8) * 2, home / f"{home.name}_seg.nii.gz", CUBES)


@fault("two-sides")
def a_patient_in_both(root: Path) -> None:
    where = (("train", "0-000"), ("train", "1-000"), ("val", "2-000"), ("test", "0-001"))
    for number, (folder, case) in enumerate(where):
        write_case(root / folder, f"BraTS-GLI-0000{case}", "-", affine=CUBES, seed=number)


@fault("unlabelled-kin")
def a_later_scan_of_who_tests(root: Path) -> None:
    for number, folder in enumerate(("train", "train", "val", "test")):
        write_case(root / folder, f"BraTS-GLI-0000{number}-000", "-", affine=CUBES, seed=number)
    write_case(root / "more", "BraTS-GLI-00003-001", "-", affine=CUBES, with_mask=False, seed=7)


@fault("anisotropic")
def thick_slices(root: Path) -> None:
    sound(root)
    write_case(root, "BraTS2021_00007", affine=np.diag([1.0, 1.0, 3.0, 1.0]), seed=7)


@fault("orientation")
def slices_first(root: Path) -> None:
    sound(root)
    turned = tilted_affine()
    turned[:3, 0] /= 3  # cubes here too
    home = root / "BraTS2021_00007"
    home.mkdir()
    for index, end in enumerate(ENDS):
        array = tumour() if end == "seg" else scan(index, 7)
        stored = np.ascontiguousarray(array[::-1].transpose(2, 0, 1))
        nibabel.save(nibabel.Nifti1Image(stored, turned), home / f"{home.name}_{end}.nii.gz")


@fault("misnamed-mask")
def as_it_was_published(root: Path) -> None:
    sound(root)
    (root / FAULTY / f"{FAULTY}_seg.nii.gz").rename(root / FAULTY / "W39_1998.09.19_Segm.nii.gz")


@fault("orphan-mask")
def a_picture_is_lost(root: Path) -> None:
    from PIL import Image

    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(5):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8)).save(root / f"images/{number}.png")
        mask = np.eye(20, dtype=np.uint8) * 255
        Image.fromarray(mask).save(root / f"masks/{number}.png")
    (root / "images/4.png").unlink()


@fault("layout")
def the_npy_recipe(root: Path) -> None:
    npy(root)
    (root / "val/images/image_0.npy").unlink()
    (root / "val/masks/mask_0.npy").unlink()
    for number in (1, 2):
        voxels = np.stack([scan(contrast, number) for contrast in range(4)], -1)
        np.save(root / f"train/images/image_{number}.npy", voxels)
        np.save(root / f"train/masks/mask_{number}.npy", tumour((1, 2, 3)))


def findings(root: Path, out: Path, options: dict) -> list[tuple[str, str]]:
    """(severity, kind) of each row of problems.csv, after a look at its form."""
    inspect(str(root), str(out), **options)
    with open(out / "problems.csv", newline="") as stream:
        _, *rows = csv.reader(stream)
    for _, _, _, finding in rows:
        assert finding.endswith((".", "?")) and "\n" not in finding
    return [(row[0], row[1]) for row in rows]


def test_there_is_a_fault_for_every_kind() -> None:
    """Of a file, a mask or a copy it is a row of bad/."""
    ends = [row.ends[0].expected for row, ways in ROWS if "inspect" in ways and row.ends[0]]
    of_rows = {found for end in ends for found in (end.get("kind"), end.get("warns")) if found}
    assert FAULTS.keys() | of_rows == KINDS.keys() and not FAULTS.keys() & of_rows


def test_a_sound_data_set_has_no_findings(tmp_path: Path) -> None:
    sound(tmp_path / "data")
    assert findings(tmp_path / "data", tmp_path / "out", {}) == []


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_has_its_finding_and_no_other(tmp_path: Path, kind: str) -> None:
    write, options = FAULTS[kind]
    write(tmp_path / "data")
    severity, _ = KINDS[kind]
    assert findings(tmp_path / "data", tmp_path / "out", options) == [(severity, kind)]
