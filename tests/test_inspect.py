"""`autoconf inspect`: which files make a case, what is measured, what is refused."""

import ast
import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_volumes import (
    BRAIN_SHAPE,
    REPO,
    SHAPE,
    SPACING,
    TUMOUR_VOXELS,
    assert_refused,
    autoconf,
    plain_affine,
    real_data,
    scan,
    store,
    tilted_affine,
    tumour,
    write_case,
    write_cases,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from autoconf.data import brats
from autoconf.data.brats import CaseError, find_cases, nothing_found, patient_of, require_complete, scheme_of
from autoconf.data.counts import Intensities, count
from autoconf.data.images import find_images
from autoconf.errors import AutoconfError
from autoconf.inspect import inspect


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


def items_of(datalist: dict) -> list[dict]:
    return datalist["training"] + datalist["testing"]


# --- finding cases ----------------------------------------------------------------------------


def test_both_naming_schemes_are_found_in_one_nested_tree(tmp_path: Path) -> None:
    write_case(tmp_path / "HGG", "Brats18_2013_2_1")
    write_case(tmp_path / "LGG" / "deep" / "er", "BraTS20_Training_001", extension=".nii")
    write_case(tmp_path / "2023", "BraTS-GLI-00000-000", naming="-")
    cases = find_cases(str(tmp_path))
    assert [case.case for case in cases] == ["BraTS-GLI-00000-000", "BraTS20_Training_001", "Brats18_2013_2_1"]
    assert [case.patient for case in cases] == ["BraTS-GLI-00000", "BraTS20_Training_001", "Brats18_2013_2"]
    assert [scheme_of(case) for case in cases] == ["BraTS 2023+", "BraTS 2018-2021", "BraTS 2018-2021"]
    assert [Path(path).name for path in cases[0].image] == [
        f"BraTS-GLI-00000-000{end}.nii.gz" for end in ("-t1n", "-t1c", "-t2w", "-t2f")
    ]
    assert [Path(path).name for path in cases[1].image] == [
        f"BraTS20_Training_001{end}.nii" for end in ("_t1", "_t1ce", "_t2", "_flair")
    ]
    assert all(Path(path).is_file() for case in cases for path in (*case.image, case.label))


def test_one_case_folder_is_a_root_too(tmp_path: Path) -> None:
    home = write_case(tmp_path, "BraTS2021_00006")
    assert [case.case for case in find_cases(str(home))] == ["BraTS2021_00006"]


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("BraTS-GLI-00000-000", "BraTS-GLI-00000"),
        ("BraTS-GLI-00000-101", "BraTS-GLI-00000"),
        ("BraTS-MEN-RT-0003-1", "BraTS-MEN-RT-0003"),
        ("BraTS2021_00006", "BraTS2021_00006"),
        ("Brats18_CBICA_ABM_1", "Brats18_CBICA_ABM"),
        ("Brats18_2013_2_1", "Brats18_2013_2"),
        ("Brats18_2013_21_1", "Brats18_2013_21"),
        ("BraTS19_CBICA_AAB_1", "BraTS19_CBICA_AAB"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("somebody", "somebody"),
    ],
)
def test_patient_of(case: str, patient: str) -> None:
    assert patient_of(case) == patient


def test_hidden_files_and_archives_rubbish_are_ignored(tmp_path: Path) -> None:
    home = write_case(tmp_path, "BraTS2021_00006")
    shutil.copytree(home, tmp_path / "__MACOSX" / home.name)
    shutil.copytree(home, tmp_path / ".trash" / home.name)
    (home / "._BraTS2021_00006_t1.nii.gz").write_bytes(b"rubbish")
    assert len(find_cases(str(tmp_path))) == 1


def test_links_are_followed_once_even_in_a_circle(tmp_path: Path) -> None:
    write_case(tmp_path / "elsewhere", "BraTS2021_00006")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "root")
    assert [case.case for case in find_cases(str(tmp_path / "root"))] == ["BraTS2021_00006"]


def test_the_same_case_in_two_folders_is_an_error_that_names_both(tmp_path: Path) -> None:
    write_case(tmp_path / "a", "BraTS2021_00006")
    write_case(tmp_path / "b", "BraTS2021_00006")
    with pytest.raises(CaseError, match=r"BraTS2021_00006.*/a/.*/b/"):
        find_cases(str(tmp_path))


def test_one_contrast_twice_in_a_folder_is_an_error(tmp_path: Path) -> None:
    home = write_case(tmp_path, "BraTS2021_00006")
    shutil.copy(home / "BraTS2021_00006_t1.nii.gz", home / "BraTS2021_00006_t1.nii")
    with pytest.raises(CaseError, match="same image"):
        find_cases(str(tmp_path))


@pytest.mark.parametrize(("naming", "missing"), [("_", "X_t1ce.nii.gz"), ("-", "X-t1c.nii.gz")])
def test_a_missing_contrast_is_none_and_its_file_name_is_said(tmp_path: Path, naming: str, missing: str) -> None:
    home = write_case(tmp_path, "X", naming=naming)
    (home / missing).unlink()
    (case,) = find_cases(str(tmp_path))
    assert case.image[1] is None and None not in (case.image[0], *case.image[2:])
    with pytest.raises(CaseError, match=f"'X': no t1c image in .*: looked for {missing}"):
        require_complete(case)


def test_nothing_found_says_what_is_there(tmp_path: Path) -> None:
    assert "found no files at all" in nothing_found(str(tmp_path))
    (tmp_path / "notes.txt").touch()
    assert "1 other files, e.g. notes.txt" in nothing_found(str(tmp_path))


def test_the_reader_stands_alone_and_the_bundle_has_the_same() -> None:
    source = Path(brats.__file__)
    for node in ast.walk(ast.parse(source.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
    assert source.read_bytes() == (REPO / "bundles/unetr3d/scripts/brats.py").read_bytes()


# --- measuring --------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", [plain_affine(), tilted_affine()], ids=["plain", "tilted"])
def test_sizes_are_in_ras_order_however_the_file_is_stored(tmp_path: Path, affine: np.ndarray) -> None:
    for number in range(3):
        write_case(tmp_path / "data", f"BraTS2021_{number:05d}", affine=affine, seed=number)
    inspect(str(tmp_path / "data"), str(tmp_path / "out"))
    measured = read(tmp_path / "out", "fingerprint.json")
    row = measured["cases"][0]
    assert (tuple(row["shape"]), tuple(row["spacing"])) == (SHAPE, SPACING)
    assert tuple(row["brain_shape"]) == BRAIN_SHAPE == tuple(measured["median_brain_shape"])
    assert (row["tumour_voxels"], row["labels"]) == (TUMOUR_VOXELS, [0, 1, 2, 4])
    assert row["tumour_ml"] == pytest.approx(TUMOUR_VOXELS * 0.003)
    assert measured["median_spacing"] == [1, 1, 3] and measured["median_brain_mm"] == [6, 8, 15]


def test_a_contrast_of_the_fingerprint_is_that_contrast_of_the_files(tmp_path: Path) -> None:
    inspect(str(write_cases(tmp_path / "data")), str(tmp_path / "out"))
    measured = read(tmp_path / "out", "fingerprint.json")["modalities"]
    assert list(measured) == ["t1", "t1c", "t2", "flair"]
    for contrast, found in enumerate(measured.values()):
        voxels = np.concatenate([scan(contrast, seed).ravel() for seed in range(4)])
        assert found["mean"] == pytest.approx(voxels[voxels > 0].mean(), rel=1e-5)


whole_numbers = arrays.arrays(np.int16, st.integers(1, 50))


@given(st.lists(whole_numbers, min_size=1, max_size=4))
def test_statistics_of_whole_numbers_are_exact(volumes: list[np.ndarray]) -> None:
    intensities = Intensities.none()
    for volume in volumes:
        intensities.brain.add(count(volume))
    voxels, found = np.concatenate(volumes).astype(float), intensities.summary()
    assert found["mean"] == pytest.approx(voxels.mean(), rel=1e-5, abs=1e-9)
    assert found["std"] == pytest.approx(voxels.std(), rel=1e-5, abs=1e-3)
    for name, share in (("median", 0.5), ("p0.5", 0.005), ("p99.5", 0.995)):
        assert found[name] == np.quantile(voxels, share, method="inverted_cdf")


def test_statistics_of_fractions_are_near() -> None:
    voxels = np.random.default_rng(0).normal(0.5, 0.1, 20_000).astype(np.float32)
    intensities = Intensities.none()
    intensities.brain.add(count(voxels[:5000]))
    intensities.brain.add(count(voxels[5000:]))
    found = intensities.summary()
    assert found["mean"] == pytest.approx(voxels.mean(dtype=float), rel=1e-5)
    for name, share in (("median", 0.5), ("p0.5", 0.005), ("p99.5", 0.995)):
        assert found[name] == pytest.approx(np.quantile(voxels, share, method="inverted_cdf"), rel=2e-4)


# --- the datalist -----------------------------------------------------------------------------


def test_the_datalist_leads_to_every_file_once(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "my data", 5)
    write_case(data, "BraTS2021_00009", with_mask=False)
    inspect(str(data), str(tmp_path / "out"))
    datalist = read(tmp_path / "out", "datalist.json")
    assert (datalist["name"], datalist["kind"], datalist["seed"]) == ("my data", "volumes", 0)
    assert datalist["modalities"] == ["t1", "t1c", "t2", "flair"]
    assert datalist["regions"] == {"wt": [1, 2, 4], "tc": [1, 4], "et": [4]}
    assert datalist["labels"]["2"] == "oedema" and datalist["layout"] == "brats"
    root = Path(datalist["dataset_dir"])
    assert root.is_absolute()
    listed = [path for item in items_of(datalist) for path in (*item["image"], item["label"])]
    assert len(set(listed)) == 25 and all((root / path).is_file() for path in listed)
    assert all(item["fold"] in range(5) for item in datalist["training"])
    assert all("fold" not in item for item in datalist["testing"])
    assert [item["case"] for item in datalist["unlabelled"]] == ["BraTS2021_00009"]
    assert read(tmp_path / "out", "fingerprint.json")["cases"][-1]["tumour_ml"] is None


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data")
    for out in ("a", "b"):
        inspect(str(data), str(tmp_path / out))
    for name in ("datalist.json", "fingerprint.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_table_says_what_was_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_cases(tmp_path / "data")
    store(tumour(), data / "W39_1998.09.19_Segm.nii")
    inspect(str(data), str(tmp_path / "out"))
    said = capsys.readouterr().out
    assert "1 volumes that fit no naming scheme" in said and "W39_1998.09.19_Segm.nii" in said
    assert f"next   python -m autoconf plan {tmp_path / 'out'}" in said


def picture(path: Path, grey: int, size: tuple[int, int] = (12, 9)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).save(path)


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    data = tmp_path / "slices"
    for number in range(8):
        picture(data / "Glioma T1C+" / f"{number}.jpeg", 20 * number)
        picture(data / "_NORMAL T2" / "more" / f"{number}.JPG", 20 * number + 9)
    shutil.copy(data / "Glioma T1C+" / "3.jpeg", data / "_NORMAL T2" / "3 again.jpg")
    (data / "_NORMAL T2" / ".hidden.jpg").write_bytes(b"rubbish")
    return data


def test_class_folders_keep_names_and_classes(slices: Path, tmp_path: Path) -> None:
    inspect(str(slices), str(tmp_path / "out"))
    datalist, measured = read(tmp_path / "out", "datalist.json"), read(tmp_path / "out", "fingerprint.json")
    items = {item["case"]: item for item in items_of(datalist)}
    assert datalist["kind"] == measured["kind"] == "images" and len(items) == measured["n_images"] == 17
    assert measured["classes"] == {"Glioma T1C+": 8, "_NORMAL T2": 9}
    assert items["_NORMAL T2/more/3.JPG"]["class"] == "_NORMAL T2"
    assert all((slices / item["image"]).is_file() and "label" not in item for item in items.values())
    assert measured["median_size"] == [9, 12]
    assert (measured["n_duplicates"], measured["n_duplicates_across_classes"]) == (1, 1)


@pytest.mark.parametrize("seed", range(5))
def test_copies_stay_on_one_side(slices: Path, tmp_path: Path, seed: int) -> None:
    inspect(str(slices), str(tmp_path / "out"), seed=seed)
    items = {item["case"]: item for item in items_of(read(tmp_path / "out", "datalist.json"))}
    copy, first = items["_NORMAL T2/3 again.jpg"], items["Glioma T1C+/3.jpeg"]
    assert copy["patient"] == first["patient"] == first["case"]
    assert copy.get("fold") == first.get("fold")


# --- refusing ---------------------------------------------------------------------------------


def problems(out: Path) -> list[tuple[str, str, str, str]]:
    """The rows of problems.csv but for the notes: these tiny cases have thick slices, which is noted."""
    with open(out / "problems.csv", newline="") as stream:
        return [tuple(row) for row in csv.reader(stream) if row[0] != "note"][1:]


def test_a_case_with_an_empty_mask_is_kept_as_unlabelled(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data")
    store(np.zeros(SHAPE, np.uint8), data / "BraTS2021_00002" / "BraTS2021_00002_seg.nii.gz")
    inspect(str(data), str(tmp_path / "out"))
    assert [(row[0], row[1], row[2]) for row in problems(tmp_path / "out")] == [
        ("warning", "empty-mask", "BraTS2021_00002")
    ]
    (kept,) = read(tmp_path / "out", "datalist.json")["unlabelled"]
    assert kept["case"] == "BraTS2021_00002" and "label" not in kept


def test_volumes_and_images_in_one_root_are_refused(slices: Path, tmp_path: Path) -> None:
    write_cases(slices, 1)
    with pytest.raises(AutoconfError, match="several ways: 1 scans as brats .*17 2D images .*--layout brats.classes"):
        inspect(str(slices), str(tmp_path / "out"))


def test_an_image_outside_all_classes_is_refused(slices: Path, tmp_path: Path) -> None:
    picture(slices / "lost.png", 1)
    with pytest.raises(AutoconfError, match="lost.png: lies in no class folder"):
        inspect(str(slices), str(tmp_path / "out"))


def test_a_truncated_image_is_left_out_and_said(slices: Path, tmp_path: Path) -> None:
    path = slices / "Glioma T1C+" / "5.jpeg"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(AutoconfError, match=r"5\.jpeg: not a readable image .*--strict"):
        inspect(str(slices), str(tmp_path / "out"), strict=True)
    assert not (tmp_path / "out").exists()
    inspect(str(slices), str(tmp_path / "out"))
    first, *_ = problems(tmp_path / "out")
    assert first[:3] == ("left out", "unreadable", "Glioma T1C+/5.jpeg") and str(path) in first[3]
    assert "Glioma T1C+/5.jpeg" not in [item["case"] for item in items_of(read(tmp_path / "out", "datalist.json"))]


def test_images_none_of_which_can_be_read_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "1.png").write_bytes(b"404 Not Found")
    said = r"none of the 2 images can be used: .*a/1.png: not a readable image \(of no known format\)"
    with pytest.raises(AutoconfError, match=said):
        inspect(str(tmp_path / "data"), str(tmp_path / "out"))


def test_out_inside_the_data_is_refused(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data", 3)
    with pytest.raises(AutoconfError, match="inside the data folder"):
        inspect(str(data), str(data / "work"))
    assert not (data / "work").exists()


def test_bad_words_are_one_line(tmp_path: Path) -> None:
    assert_refused(autoconf("inspect", "", "--out", tmp_path / "out"), "DATA is empty")
    data = write_cases(tmp_path / "data")
    (tmp_path / "file").touch()
    assert_refused(autoconf("inspect", data, "--out", tmp_path / "file" / "out"), "is a file", "--out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file"]


# --- real data --------------------------------------------------------------------------------


@pytest.mark.skipif(not real_data("brats"), reason="no real BraTS cases in $SEG_DATA or ../shared/data")
def test_real_cases_are_all_found_and_complete() -> None:
    cases = find_cases(real_data("brats"))
    assert len(cases) == len({case.patient for case in cases}) == 22
    assert {scheme_of(case) for case in cases} == {"BraTS 2018-2021", "BraTS 2023+"}
    for case in cases:
        require_complete(case)
        assert case.label


@pytest.mark.skipif(not real_data("mri44"), reason="no real slices in $SEG_DATA or ../shared/data")
def test_real_slices_are_all_found(tmp_path: Path) -> None:
    assert len(find_images(real_data("mri44"))) == 4477
    inspect(real_data("mri44"), str(tmp_path))
    measured = read(tmp_path, "fingerprint.json")
    assert (measured["n_images"], len(measured["classes"]), measured["n_duplicates"]) == (4477, 44, 50)
    assert measured["n_duplicates_across_classes"] == 10
