"""What `inspect` says of a data set, finding by finding; and every layout's datalist, as the bundle reads it."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers_bundles import scripts
from helpers_volumes import (
    SHAPE,
    plain_affine,
    real_data,
    scan,
    store,
    tilted_affine,
    tumour,
    write_case,
    write_cases,
)
from PIL import Image
from test_layouts import bids, decathlon, four, nnunet, npy

from autoconf.data import traits
from autoconf.data.convert import to_nifti
from autoconf.data.images import pair_up
from autoconf.data.scans import Scan
from autoconf.errors import AutoconfError, DataError
from autoconf.inspect import inspect

volume_items = scripts("unetr3d", "datalist")


def run(data: Path, **options: object) -> tuple[dict, list[list[str]]]:
    """The datalist, and the rows of problems.csv without the note that these tiny cases have thick slices."""
    out = data.parent / "out"
    inspect(str(data), str(out), **options)
    with open(out / "problems.csv", newline="") as stream:
        rows = [row for row in list(csv.reader(stream))[1:] if row[1] != "anisotropic"]
    return json.loads((out / "datalist.json").read_text()), rows


def kinds(rows: list[list[str]]) -> list[str]:
    return [row[1] for row in rows]


def everything(datalist: dict) -> list[dict]:
    return datalist["training"] + datalist["testing"] + datalist["unlabelled"]


# --- findings ---------------------------------------------------------------------------------


def test_a_sound_data_set_has_no_findings(tmp_path: Path) -> None:
    assert run(write_cases(tmp_path / "data"))[1] == []


def test_thick_slices_are_noted(tmp_path: Path) -> None:
    inspect(str(write_cases(tmp_path / "data")), str(tmp_path / "out"))
    with open(tmp_path / "out" / "problems.csv", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    assert kinds(rows) == ["anisotropic"] * 4 and "1 x 1 x 3 mm" in rows[0][3]


def test_a_missing_contrast_stops_or_is_left_out_or_filled(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data")
    (data / "BraTS2021_00002" / "BraTS2021_00002_t1ce.nii.gz").unlink()
    with pytest.raises(AutoconfError, match=r"'BraTS2021_00002': no t1c image .*--missing drop .*--missing zero"):
        run(data)
    datalist, rows = run(data, missing="drop")
    assert [row[:3] for row in rows] == [["left out", "missing-modality", "BraTS2021_00002"]]
    assert len(everything(datalist)) == 3
    datalist, rows = run(data, missing="zero")
    assert [row[:3] for row in rows] == [["warning", "zero-filled", "BraTS2021_00002"]]
    (item,) = [item for item in everything(datalist) if item["case"] == "BraTS2021_00002"]
    assert item["image"][1] is None and all(item["image"][place] for place in (0, 2, 3))


def test_a_value_outside_the_scheme_leaves_the_case_out_of_all_numbers(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data")
    store(tumour((1, 2, 9)), data / "BraTS2021_00002" / "BraTS2021_00002_seg.nii.gz")
    _, rows = run(data)
    assert [row[:3] for row in rows] == [["left out", "labels", "BraTS2021_00002"]]
    assert "holds the value 9; brats2018-2021 has 0, 1, 2, 4" in rows[0][3]
    measured = json.loads((tmp_path / "out" / "fingerprint.json").read_text())
    voxels = np.concatenate([scan(0, seed).ravel() for seed in (0, 1, 3)])
    assert measured["n_cases"] == 3
    assert measured["modalities"]["t1"]["mean"] == pytest.approx(voxels[voxels > 0].mean(), rel=1e-5)


def test_a_mask_beside_the_head_is_found(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data")
    mask = np.zeros(SHAPE, np.uint8)
    mask[0:2, 0:3, 1:3] = 2
    store(mask, data / "BraTS2021_00002" / "BraTS2021_00002_seg.nii.gz")
    _, rows = run(data)
    assert [row[:3] for row in rows] == [["left out", "mask-outside-head", "BraTS2021_00002"]]
    assert "100% of it" in rows[0][3]


def test_a_cavity_is_allowed_after_surgery_and_counts_as_no_tumour(tmp_path: Path) -> None:
    for number in range(3):
        home = write_case(tmp_path / "data", f"BraTS-GLI-0000{number}-000", naming="-", seed=number)
        mask = tumour((2, 3, 4))
        store(mask, home / f"{home.name}-seg.nii.gz")
    datalist, rows = run(tmp_path / "data")
    assert rows == [] and datalist["regions"]["wt"] == [1, 2, 3]
    measured = json.loads((tmp_path / "out" / "fingerprint.json").read_text())
    assert measured["cases"][0]["tumour_voxels"] == np.isin(mask, (2, 3)).sum() < (mask > 0).sum()


def test_two_namings_side_by_side_keep_their_own_regions(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data", 3)
    write_case(data, "BraTS-GLI-00009-000", naming="-", seed=9)
    datalist, _ = run(data)
    assert datalist["regions"] == {"wt": [1, 2, 4], "tc": [1, 4], "et": [4]}
    own = {item["case"]: item["regions"] for item in everything(datalist) if "regions" in item}
    assert own == {"BraTS-GLI-00009-000": {"wt": [1, 2, 3], "tc": [1, 3], "et": [3]}}


def test_another_orientation_is_noted_and_read_correctly(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data", 3)
    write_case(data, "BraTS2021_00007", affine=tilted_affine(), seed=7)
    _, rows = run(data)
    assert [row[:3] for row in rows] == [["note", "orientation", "BraTS2021_00007"]]


def test_the_mask_that_was_published_under_another_name_is_found(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data", 3)
    home = write_case(data, "BraTS20_Training_355", with_mask=False, seed=355)
    store(tumour(), home / "W39_1998.09.19_Segm.nii")
    datalist, rows = run(data)
    assert [row[:3] for row in rows] == [["note", "misnamed-mask", "BraTS20_Training_355"]]
    assert datalist["unlabelled"] == []


def test_a_copy_under_another_patients_name_stays_on_its_side(tmp_path: Path) -> None:
    """BraTS editions overlap: 2021 holds cases of 2018 under new names."""
    data = write_cases(tmp_path / "data", 8)
    write_case(data, "BraTS-GLI-00003-000", naming="-", seed=3)
    for seed in range(6):
        datalist, rows = run(data, seed=seed)
        assert [row[:3] for row in rows] == [["warning", "copy", "BraTS2021_00003"]]
        sides = {item["case"]: item.get("fold", "testing") for item in everything(datalist)}
        assert sides["BraTS-GLI-00003-000"] == sides["BraTS2021_00003"]


def test_a_nearly_equal_scan_is_found_and_a_different_one_is_not() -> None:
    rng = np.random.default_rng(0)
    heads = [rng.normal(100, 30, (40, 44, 36)) for _ in range(3)]
    again = heads[0] * 1.7 + rng.normal(0, 3, heads[0].shape) + 5
    box = (slice(0, 40), slice(0, 44), slice(0, 36))
    assert traits.alike([traits.coarse(head, box) for head in [*heads, again]]) == [(0, 3)]


def test_exchanged_contrasts_are_found_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    numbers = []
    for _ in range(12):
        tissue, lesion = rng.normal(0, 1, 4000), np.arange(4000) < 400
        t2 = -tissue + 2 * lesion
        samples = [tissue, tissue + 0.5 * lesion, t2, 0.2 * t2 + 3 * lesion]
        numbers.append(traits.agreement(np.array(samples) + rng.normal(0, 0.3, (4, 4000)), lesion))
    assert traits.swapped(numbers) == []
    numbers[5] = list(traits._exchange(np.array(numbers[5]), 0, 2))
    assert traits.swapped(numbers) == [(5, "t1", "t2")]
    assert traits.swapped(numbers[:6]) == []  # too few to know what is usual


@pytest.mark.skipif(not real_data("brats"), reason="no real BraTS cases in $SEG_DATA or ../shared/data")
def test_real_cases_have_no_findings(tmp_path: Path) -> None:
    inspect(real_data("brats"), str(tmp_path / "out"), jobs=2)
    assert (tmp_path / "out" / "problems.csv").read_text().splitlines() == ["severity,problem,case,finding"]


@pytest.mark.skipif(not real_data("anisotropic"), reason="no real raw patient in $SEG_DATA or ../shared/data")
def test_a_real_patient_with_a_grid_per_contrast_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AutoconfError, match="Co-register both to one grid"):
        inspect(real_data("anisotropic"), str(tmp_path / "out"))


def test_unlabelled_scans_say_where_their_patient_is(tmp_path: Path) -> None:
    """Learning from an unlabelled scan of a test patient, or from a copy of one, would be cheating."""
    data = write_cases(tmp_path / "data", 6)
    for number in range(6):
        write_case(data, f"BraTS-GLI-{number:05d}-000", "-", with_mask=False, seed=number)  # the same heads, renamed
    write_case(data, "BraTS-GLI-00099-000", "-", with_mask=False, seed=99)
    datalist, _ = run(data)
    sides = {item["case"][-5:]: item.get("fold", "testing") for item in datalist["training"] + datalist["testing"]}
    found = {item["case"][10:15]: item.get("side") for item in datalist["unlabelled"]}
    assert found == sides | {"00099": None}


def test_a_folder_without_masks_is_read_for_inference(tmp_path: Path) -> None:
    for case in ("A", "B"):
        write_case(tmp_path / "data", case, with_mask=False, seed=ord(case))
    datalist, rows = run(tmp_path / "data")
    assert kinds(rows) == ["no-masks"] and datalist["training"] == datalist["testing"] == []
    assert [item["case"] for item in datalist["unlabelled"]] == ["A", "B"]


# --- splits that the data bring ---------------------------------------------------------------


def test_split_folders_are_honoured_and_a_leak_in_them_is_said(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder, numbers in (("train", (0, 1)), ("val", (2,)), ("test", (3,))):
        for number in numbers:
            write_case(data / folder, f"BraTS-GLI-0000{number}-000", naming="-", seed=number)
    datalist, rows = run(data)
    assert rows == []
    assert {item["case"]: item.get("fold", "testing") for item in everything(datalist)} == {
        "BraTS-GLI-00000-000": 1,
        "BraTS-GLI-00001-000": 1,
        "BraTS-GLI-00002-000": 0,
        "BraTS-GLI-00003-000": "testing",
    }
    write_case(data / "test", "BraTS-GLI-00000-001", naming="-", seed=8)
    _, rows = run(data)
    assert kinds(rows) == ["two-sides"] and "BraTS-GLI-00000-000 in fold 1" in rows[0][3]


def test_nnunets_folds_are_honoured(tmp_path: Path) -> None:
    nnunet(tmp_path / "data")
    for case in ("case_1", "case_2", "case_3"):  # three patients, not one
        part = "Ts" if case == "case_3" else "Tr"
        for channel in range(4):
            store(scan(channel, int(case[-1])), tmp_path / f"data/images{part}/{case}_{channel:04d}.nii.gz")
    datalist, _ = run(tmp_path / "data")
    sides = {item["case"]: item.get("fold", "testing") for item in everything(datalist)}
    assert sides == {"case_1": 0, "case_2": 1, "case_3": "testing"}


# --- every layout, to what the bundle reads ----------------------------------------------------


def voxels_of(item: dict) -> np.ndarray:
    """The four modalities as the bundle loads and sorts them."""
    loaded = [np.asarray(nibabel.load(path).dataobj) for path in item["image"]]
    stacked = np.moveaxis(loaded[0], -1, 0) if loaded[0].ndim == 4 else np.stack(loaded)
    return np.stack([stacked[c] if c >= 0 else np.zeros_like(stacked[0]) for c in item["channels"]])


def unlabelled(work: Path, case: str) -> dict:
    """One item of the datalist's `unlabelled` or other section, as the bundle's inference would take it."""
    content = json.loads((work / "datalist.json").read_text())
    content["testing"] = [item for item in everything(content) if item["case"] == case]
    (work / "one.json").write_text(json.dumps(content))
    return volume_items.inference_items(str(work / "one.json"))[0]


def test_no_file_that_is_used_is_reported_unused_however_the_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    decathlon(data)
    content = json.loads((data / "dataset.json").read_text())
    for number in (3, 4):  # enough to split
        image, label = f"imagesTr/BRATS_00{number}.nii.gz", f"labelsTr/BRATS_00{number}.nii.gz"
        store(four(("flair", "t1", "t1c", "t2"), number), data / image)
        store(tumour((1, 2, 3)), data / label)
        content["training"].append({"image": image, "label": label})
    (data / "dataset.json").write_text(json.dumps(content))
    for place, name in ((tmp_path, "./data"), (data, ".")):
        monkeypatch.chdir(place)
        inspect(name, str(tmp_path / "out"))
        assert "not used" not in capsys.readouterr().out
    store(scan(0), data / "stranger.nii.gz")
    inspect(".", str(tmp_path / "out"))
    assert "1 volumes that fit no naming scheme, e.g. ./stranger.nii.gz" in capsys.readouterr().out


def test_decathlon_reaches_the_bundle_in_the_right_order(tmp_path: Path) -> None:
    data = tmp_path / "data"
    decathlon(data)
    content = json.loads((data / "dataset.json").read_text())
    for number in (3, 4):  # enough to split
        image = nibabel.Nifti1Image(four(("flair", "t1", "t1c", "t2"), number), plain_affine())
        nibabel.save(image, data / f"imagesTr/BRATS_00{number}.nii.gz")
        store(tumour((1, 2, 3)), data / f"labelsTr/BRATS_00{number}.nii.gz")
        content["training"].append({k: v.replace("001", f"00{number}") for k, v in content["training"][0].items()})
    (data / "dataset.json").write_text(json.dumps(content))
    datalist, rows = run(data)
    assert {"copy", "alike"}.isdisjoint(kinds(rows))
    assert datalist["modalities"] == ["flair", "t1", "t1c", "t2"] and datalist["regions"]["et"] == [3]
    assert [item["case"] for item in datalist["unlabelled"]] == ["BRATS_009"]
    found = voxels_of(unlabelled(tmp_path / "out", "BRATS_009"))
    assert all((found[contrast] == scan(contrast, 9)).all() for contrast in range(4))


def test_npy_is_converted_with_a_warning_and_a_missing_contrast_becomes_zeros(tmp_path: Path) -> None:
    data = tmp_path / "data"
    npy(data)
    four = np.stack([scan(contrast, 7) for contrast in range(4)], -1)
    for number in (1, 2):
        np.save(data / f"train/images/image_{number}.npy", (four * number).astype(np.float32))
        np.save(data / f"train/masks/mask_{number}.npy", np.eye(4, dtype=np.uint8)[tumour((1, 2, 3))])
    with pytest.raises(AutoconfError, match="'val_0': no t1 image"):
        run(data)
    datalist, rows = run(data, missing="zero")
    assert {"layout", "zero-filled"} <= set(kinds(rows))
    assert {item["case"] for item in everything(datalist)} == {"train_0", "train_1", "train_2", "val_0"}
    found = voxels_of(unlabelled(tmp_path / "out", "val_0"))
    assert not found[0].any() and all((found[c] == scan(c)).all() for c in (1, 2, 3))
    (mask,) = (tmp_path / "out" / "converted" / "train_1").glob("*-seg.nii.gz")
    assert (np.asarray(nibabel.load(mask).dataobj) == tumour((1, 2, 3))).all()


def test_arrays_are_converted_once_and_those_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    data, made = tmp_path / "data", tmp_path / "out" / "converted"
    for number in range(4):
        data.mkdir(exist_ok=True)
        np.save(data / f"image_{number}.npy", np.stack([scan(contrast, number) for contrast in range(4)], -1))
        np.save(data / f"mask_{number}.npy", tumour((1, 2, 3)))
    run(data)
    (made / "mine").mkdir()
    times = {path: path.stat().st_mtime_ns for path in made.rglob("*.nii.gz")}
    assert len(times) == 4 * 5
    np.save(data / "image_2.npy", np.stack([scan(contrast, 12) for contrast in range(4)], -1))
    for kind in ("image", "mask"):
        (data / f"{kind}_3.npy").unlink()
    run(data)
    now = {path: path.stat().st_mtime_ns for path in made.rglob("*.nii.gz")}
    assert now.keys() == {path for path in times if path.parent.name != "3"}
    assert {path.parent.name for path in now if now[path] != times[path]} == {"2"}
    assert (np.asarray(nibabel.load(made / "2" / "2-t1n.nii.gz").dataobj) == scan(0, 12)).all()
    assert (made / "mine").is_dir()  # not ours to remove


def test_a_broken_array_is_left_out_and_strict_stops_at_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(3):
        np.save(data / f"image_{number}.npy", np.stack([scan(contrast, number) for contrast in range(4)], -1))
        np.save(data / f"mask_{number}.npy", tumour((1, 2, 3)))
    (data / "image_3.npy").touch()
    (data / "image_4.npy").write_bytes((data / "image_0.npy").read_bytes())
    (data / "mask_4.npy").write_bytes(b"PK\x05\x06".ljust(22, b"\x00"))  # an .npz archive
    with pytest.raises(AutoconfError, match=r"image_3.npy: not a readable array .*--strict"):
        run(data, strict=True)
    datalist, rows = run(data)
    assert [row[:3] for row in rows if row[0] == "left out"] == [["left out", "unreadable", case] for case in "34"]
    assert {item["case"] for item in everything(datalist)} == {"0", "1", "2"}
    assert "3 of 5, of" in capsys.readouterr().out


def test_bids_reaches_the_bundle(tmp_path: Path) -> None:
    bids(tmp_path / "data")
    with pytest.raises(AutoconfError, match=r"1 patient\(s\) with a mask cannot be split"):
        run(tmp_path / "data")


def test_too_few_cases_are_told_together_with_why_others_were_left_out(tmp_path: Path) -> None:
    for number in range(3):
        write_case(tmp_path / "data", f"BraTS-GLI-{number:05d}-000", "-", seed=number)
    mask = tmp_path / "data/BraTS-GLI-00000-000/BraTS-GLI-00000-000-seg.nii.gz"
    store(tumour((1, 2, 9)), mask)
    with pytest.raises(AutoconfError, match=r"2 patient\(s\).* 1 case\(s\) were left out.*-00000-000.*the value 9"):
        run(tmp_path / "data")


@pytest.mark.parametrize("write", [nnunet, decathlon])
def test_the_folder_above_a_data_set_is_told_where_it_lies(write, tmp_path: Path) -> None:
    write(tmp_path / "data/raw/Dataset001")
    with pytest.raises(AutoconfError, match=r"data/raw/Dataset001 holds a dataset.json: give that folder") as refused:
        run(tmp_path / "data")
    assert "\n" not in str(refused.value)


def test_a_metaimage_keeps_its_place_in_the_world(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed: reading .mha needs it")
    store(scan(0), tmp_path / "t1.nii.gz", tilted_affine())
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "t1.nii.gz")), str(tmp_path / "t1.mha"))
    path = str(tmp_path / "t1.mha")
    made = to_nifti(Scan("a", "a", (path, None, None, None), convert=True), str(tmp_path / "out"))
    one, two = nibabel.load(tmp_path / "t1.nii.gz"), nibabel.load(made.image[0])
    assert np.allclose(one.affine, two.affine, atol=1e-4)
    assert (np.asarray(one.dataobj) == np.asarray(two.dataobj)).all()


def test_a_flat_metaimage_is_no_scan(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed: reading .mha needs it")
    path = str(tmp_path / "t1.mha")
    sitk.WriteImage(sitk.GetImageFromArray(scan(0)[0]), path)
    with pytest.raises(DataError, match=r"t1.mha: has 2 axes, not three") as error:
        to_nifti(Scan("a", "a", (path, None, None, None), convert=True), str(tmp_path / "out"))
    assert error.value.kind == "not-3d"


def test_brats_cases_of_metaimages_reach_the_bundle(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed: reading .mha needs it")
    data = write_cases(tmp_path / "data", 3)
    for path in sorted(data.glob("*/*"))[:-1]:  # one file stays NIfTI
        sitk.WriteImage(sitk.ReadImage(str(path)), str(path).replace(".nii.gz", ".mha"))
        path.unlink()
    datalist, rows = run(data)
    assert rows == [] and datalist["regions"] == {"wt": [1, 2, 4], "tc": [1, 4], "et": [4]}
    for number in range(3):
        found = voxels_of(unlabelled(tmp_path / "out", f"BraTS2021_{number:05d}"))
        assert all((found[contrast] == scan(contrast, number)).all() for contrast in range(4))


def test_metaimages_without_simpleitk_are_refused_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    data = write_cases(tmp_path / "data", 3)
    for path in data.glob("*/*_t1.nii.gz"):
        path.rename(str(path).replace(".nii.gz", ".mha"))
    with pytest.raises(AutoconfError, match=r"_t1.mha: .* pip install SimpleITK"):
        run(data)


def test_a_folder_of_incomplete_cases_is_refused_with_their_number(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data", 5)
    for path in data.glob("*/*_t2.nii.gz"):
        path.unlink()
    with pytest.raises(AutoconfError, match="none of the 5 cases can be used: no t2 image"):
        inspect(str(data), str(tmp_path / "out"), missing="drop")


# --- 2D images with masks ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "pairs"),
    [
        (["images/1.png", "masks/1.png", "images/2.png"], {"images/1.png": "masks/1.png"}),
        (["a/images/1.jpg", "a/masks/1_mask.png"], {"a/images/1.jpg": "a/masks/1_mask.png"}),
        (["p/x_1.tif", "p/x_1_mask.tif", "p/x_2.tif"], {"p/x_1.tif": "p/x_1_mask.tif"}),
        (["1.png", "masks/1.png"], {"1.png": "masks/1.png"}),
        (["glioma/1.png", "meningioma/1.png"], {}),
    ],
)
def test_images_find_their_masks(paths: list[str], pairs: dict[str, str]) -> None:
    assert pair_up(sorted(paths)) == pairs


def test_image_mask_pairs_reach_the_2d_bundle(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in ("images", "masks"):
        (data / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 255, (20, 30), dtype=np.uint8)).save(data / f"images/{number}.png")
        mask = np.zeros((20, 30), np.uint8)
        mask[5 : 8 + number, 5:9] = 255
        Image.fromarray(mask).save(data / f"masks/{number}.png")
    Image.fromarray(rng.integers(0, 255, (20, 30), dtype=np.uint8)).save(data / "images/unlabelled.png")
    datalist, rows = run(data)
    assert rows == [] and datalist["layout"] == "pairs"
    assert [item["case"] for item in datalist["unlabelled"]] == ["images/unlabelled.png"]
    items = scripts("pseudo2d", "images").training_items(str(tmp_path / "out" / "datalist.json"), "", "")
    assert items and all(os.path.basename(item["label"]) == os.path.basename(item["image"]) for item in items)


@pytest.mark.parametrize(
    ("mask", "kind"),
    [(np.eye(20, 31) * 255, "grid"), (np.arange(600).reshape(20, 30) % 7, "not-labels")],
)
def test_an_image_whose_mask_is_none_is_left_out(tmp_path: Path, mask: np.ndarray, kind: str) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for number in range(5):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 255, (20, 30), np.uint8)).save(tmp_path / f"data/images/{number}.png")
        good = np.eye(20, 30) * 255
        Image.fromarray((mask if number == 2 else good).astype(np.uint8)).save(tmp_path / f"data/masks/{number}.png")
    datalist, rows = run(tmp_path / "data")
    assert [row[:3] for row in rows] == [["left out", kind, "images/2.png"]]
    assert len(everything(datalist)) == 4


def test_a_few_pictures_beside_the_scans_do_no_harm(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data")
    Image.new("L", (9, 9)).save(data / "screenshot.png")
    assert len(everything(run(data)[0])) == 4


# --- what reviewers of other people's folders have seen ----------------------------------------


def pictures(root: Path, *paths: str) -> None:
    rng = np.random.default_rng(len(paths))
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8)).save(root / path)


def test_a_split_tree_of_class_folders_is_honoured(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for group in ("glioma", "healthy"):
        pictures(data, *[f"Training/{group}/{n}.png" for n in range(4)], *[f"Testing/{group}/{n}.png" for n in (8, 9)])
    datalist, _ = run(data)
    assert {item["class"] for item in everything(datalist)} == {"glioma", "healthy"}
    assert {item["case"].split("/")[0] for item in datalist["testing"]} == {"Testing"}
    assert {item["case"].split("/")[0] for item in datalist["training"]} == {"Training"}


def test_a_mask_without_an_image_is_no_image(tmp_path: Path) -> None:
    data = tmp_path / "data"
    pictures(data, *[f"images/{n}.png" for n in range(4)])
    for name in ("0", "1", "2", "3", "99"):
        (data / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.eye(20, dtype=np.uint8) * 255).save(data / f"masks/{name}.png")
    datalist, rows = run(data)
    assert [row[:3] for row in rows] == [["warning", "orphan-mask", "masks/99.png"]]
    assert len(everything(datalist)) == 4


def test_a_folder_beside_the_split_does_not_undo_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder, numbers in (("train", range(4)), ("test", (7,)), ("more", (8,))):
        for number in numbers:
            write_case(data / folder, f"BraTS-GLI-0000{number}-000", naming="-", seed=number)
    datalist, _ = run(data)
    assert [item["case"] for item in datalist["testing"]] == ["BraTS-GLI-00007-000"]


def test_one_nnunet_split_keeps_its_training_cases_in_training(tmp_path: Path) -> None:
    data = tmp_path / "data"
    nnunet(data)
    for case, seed in (("case_1", 1), ("case_2", 2), ("case_3", 3)):
        for channel in range(4):
            store(scan(channel, seed), data / f"images{'Ts' if seed == 3 else 'Tr'}/{case}_{channel:04d}.nii.gz")
    (data / "splits_final.json").write_text(json.dumps([{"train": ["case_2"], "val": ["case_1"]}]))
    datalist, _ = run(data)
    assert {item["case"]: item["fold"] for item in datalist["training"]} == {"case_1": 0, "case_2": 1}
    (data / "splits_final.json").write_text(json.dumps([{"train": [], "val": ["case_1"]}] * 2))
    with pytest.raises(AutoconfError, match="validates in two splits"):
        run(data)


def test_values_that_a_dataset_json_does_not_name_are_found(tmp_path: Path) -> None:
    data = tmp_path / "data"
    nnunet(data)
    store(tumour((1, 7)), data / "labelsTr" / "case_2.nii.gz")
    with pytest.raises(AutoconfError, match="holds the value 7"):
        run(data, strict=True)


def test_a_lone_mask_in_a_shared_folder_belongs_to_nobody(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data", 3)
    for case in ("A", "B"):
        home = write_case(tmp_path / "one", case, with_mask=False, seed=ord(case))
        for path in home.iterdir():
            path.rename(data / path.name)
    store(tumour(), data / "W39_Segm.nii")
    assert [item["case"] for item in run(data)[0]["unlabelled"]] == ["A", "B"]


def test_an_array_mask_with_one_channel_is_that_mask_and_text_is_none(tmp_path: Path) -> None:
    np.save(tmp_path / "image_1.npy", np.stack([scan(c) for c in range(4)], -1))
    np.save(tmp_path / "mask_1.npy", tumour()[..., None])
    image, mask = str(tmp_path / "image_1.npy"), str(tmp_path / "mask_1.npy")
    made = to_nifti(Scan("a", "a", (image,) * 4, mask, (0, 1, 2, 3), convert=True), str(tmp_path / "out"))
    assert (np.asarray(nibabel.load(made.label).dataobj) == tumour()).all()
    np.save(tmp_path / "mask_1.npy", np.array(["a", "b"]))
    with pytest.raises(AutoconfError, match="Save it as int16 or float32"):
        to_nifti(Scan("a", "a", (image,) * 4, mask, (0, 1, 2, 3), convert=True), str(tmp_path / "out"))
