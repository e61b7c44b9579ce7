"""Every layout that `inspect` reads, as a tiny folder, and which scans are found in it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers_volumes import SHAPE, odd_copies, plain_affine, scan, store, tumour, write_case

from autoconf.data.brats import MODALITIES, CaseError
from autoconf.data.layouts import LAYOUTS, find_scans
from autoconf.data.scans import LayoutScans, modality_of
from autoconf.errors import AutoconfError
from autoconf.inspect import inspect


def only(root: Path, layout: str = "auto") -> LayoutScans:
    (found,) = find_scans(str(root), layout)
    return found


def four(modality_order: tuple[str, ...] = MODALITIES, seed: int = 0) -> np.ndarray:
    """The four modalities on a last axis."""
    return np.stack([scan(MODALITIES.index(contrast), seed) for contrast in modality_order], axis=-1)


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


# --- the layouts ------------------------------------------------------------------------------


def decathlon(root: Path) -> None:
    """Two labelled scans and one without a mask."""
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    order = ("flair", "t1", "t1c", "t2")
    for number in (1, 2):
        nibabel.save(
            nibabel.Nifti1Image(four(order, number), plain_affine()), root / f"imagesTr/BRATS_00{number}.nii.gz"
        )
        store(tumour((1, 2, 3)), root / f"labelsTr/BRATS_00{number}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(four(order, 9), plain_affine()), root / "imagesTs/BRATS_009.nii.gz")
    names = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}
    listed = [{"image": f"./imagesTr/BRATS_00{n}.nii.gz", "label": f"./labelsTr/BRATS_00{n}.nii.gz"} for n in (1, 2)]
    content = {"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}, "labels": names}
    write_json(root / "dataset.json", content | {"training": listed, "test": ["./imagesTs/BRATS_009.nii.gz"]})


def nnunet(root: Path) -> None:
    """Two labelled scans, a labelled one for testing, and folds."""
    for folder in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (root / folder).mkdir(parents=True)
    for part, case in (("Tr", "case_1"), ("Tr", "case_2"), ("Ts", "case_3")):
        for channel in range(4):
            store(scan(channel), root / f"images{part}/{case}_{channel:04d}.nii.gz")
        store(tumour((1, 2, 3)), root / f"labels{part}/{case}.nii.gz")
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}
    names = {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}
    write_json(root / "dataset.json", {"channel_names": names, "labels": labels, "file_ending": ".nii.gz"})
    splits = [{"train": ["case_2"], "val": ["case_1"]}, {"train": ["case_1"], "val": ["case_2"]}]
    write_json(root / "splits_final.json", splits)


def bids(root: Path) -> None:
    """sub-01 raw with two sessions; sub-02 raw, and processed with a mask below derivatives."""
    names = ("T1w", "ce-gadolinium_T1w", "T2w", "FLAIR")
    for stem in ("sub-01/ses-a/anat/sub-01_ses-a", "sub-01/ses-b/anat/sub-01_ses-b", "sub-02/anat/sub-02"):
        (root / stem).parent.mkdir(parents=True)
        for contrast, name in enumerate(names):
            store(scan(contrast), root / f"{stem}_{name}.nii.gz")
    home = root / "derivatives/prep/sub-02/anat"
    home.mkdir(parents=True)
    for contrast, name in enumerate(names):
        entity, _, suffix = name.rpartition("_")
        between = f"_{entity}" if entity else ""
        store(scan(contrast), home / f"sub-02{between}_space-SRI_desc-preproc_{suffix}.nii.gz")
    store(tumour((1,)), home / "sub-02_space-SRI_label-tumor_mask.nii.gz")
    store(tumour((1,)), home / "sub-02_space-SRI_desc-brain_mask.nii.gz")


def npy(root: Path) -> None:
    """Arrays of three and of four channels, masks as numbers and one-hot."""
    for folder in ("train/images", "train/masks", "val/images", "val/masks"):
        (root / folder).mkdir(parents=True)
    np.save(root / "train/images/image_0.npy", four().astype(np.float32))
    np.save(root / "train/masks/mask_0.npy", tumour((1, 2, 3)))
    np.save(root / "val/images/image_0.npy", four(("flair", "t1c", "t2")).astype(np.float32))
    np.save(root / "val/masks/mask_0.npy", np.eye(4, dtype=np.uint8)[tumour((1, 2, 3))])


def test_decathlon(tmp_path: Path) -> None:
    decathlon(tmp_path)
    found = only(tmp_path)
    assert found.layout == "decathlon"
    assert [scan.case for scan in found.scans] == ["BRATS_001", "BRATS_002", "BRATS_009"]
    assert found.scans[0].image == (str(tmp_path / "imagesTr/BRATS_001.nii.gz"),) * 4
    assert found.scans[0].channels == (1, 2, 3, 0)
    assert found.scans[0].label == str(tmp_path / "labelsTr/BRATS_001.nii.gz") and found.scans[2].label is None
    assert found.regions == {"wt": [1, 2, 3], "tc": [2, 3], "et": [3]}


def test_nnunet(tmp_path: Path) -> None:
    nnunet(tmp_path)
    found = only(tmp_path)
    assert found.layout == "nnunet"
    assert [(scan.case, scan.side) for scan in found.scans] == [("case_1", ""), ("case_2", ""), ("case_3", "testing")]
    assert [Path(path).name for path in found.scans[0].image] == [f"case_1_{n:04d}.nii.gz" for n in range(4)]
    assert found.regions == {"wt": [1, 2, 3], "tc": [2, 3], "et": [3]}
    assert found.folds == {"case_1": 0, "case_2": 1}


def test_nnunet_channels_are_found_by_their_names(tmp_path: Path) -> None:
    nnunet(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    write_json(tmp_path / "dataset.json", content | {"channel_names": {"0": "FLAIR", "1": "T1 post", "2": "T2w"}})
    image = only(tmp_path).scans[0].image
    assert image[0] is None and [Path(path).name[-11:-7] for path in image[1:]] == ["0001", "0002", "0000"]


@pytest.mark.parametrize(("images", "label"), [(".nii.gz", ".nii"), (".nii", ".nii.gz"), (".nii.gz", ".mha")])
def test_an_nnunet_label_is_found_with_another_extension_than_the_images(
    tmp_path: Path, images: str, label: str
) -> None:
    nnunet(tmp_path)
    for path in (tmp_path / "imagesTr").iterdir():
        path.rename(str(path).replace(".nii.gz", images))
    (tmp_path / "labelsTr/case_1.nii.gz").rename(tmp_path / f"labelsTr/case_1{label}")
    first = only(tmp_path).scans[0]
    assert first.label == str(tmp_path / f"labelsTr/case_1{label}") and None not in first.image
    assert first.convert == (label == ".mha")


def test_of_two_files_with_one_name_the_file_ending_decides_else_they_are_refused(tmp_path: Path) -> None:
    nnunet(tmp_path)
    (tmp_path / "labelsTr/case_1.nii").touch()
    assert only(tmp_path).scans[0].label == str(tmp_path / "labelsTr/case_1.nii.gz")
    content = json.loads((tmp_path / "dataset.json").read_text())
    write_json(tmp_path / "dataset.json", content | {"file_ending": None})
    with pytest.raises(AutoconfError, match="case_1.nii and case_1.nii.gz are the same image. Remove one"):
        find_scans(str(tmp_path))


def test_bids(tmp_path: Path) -> None:
    bids(tmp_path)
    found = only(tmp_path)
    assert found.layout == "bids"
    assert [(scan.case, scan.patient) for scan in found.scans] == [
        ("sub-01_ses-a", "sub-01"),
        ("sub-01_ses-b", "sub-01"),
        ("sub-02", "sub-02"),
    ]
    assert [Path(path).name for path in found.scans[0].image] == [
        f"sub-01_ses-a_{name}.nii.gz" for name in ("T1w", "ce-gadolinium_T1w", "T2w", "FLAIR")
    ]
    assert found.scans[0].label is None
    processed = found.scans[2]
    assert all("/derivatives/prep/" in path for path in processed.files)
    assert processed.label.endswith("label-tumor_mask.nii.gz")


def test_npy(tmp_path: Path) -> None:
    npy(tmp_path)
    found = only(tmp_path)
    assert found.layout == "npy" and "no native BraTS" in found.notes[0]
    assert [(scan.case, scan.side) for scan in found.scans] == [("train_0", "training"), ("val_0", "validation")]
    assert found.scans[0].channels == (0, 1, 2, 3) and found.scans[0].missing == ()
    assert found.scans[1].missing == ("t1",) and found.scans[1].channels[1:] == (1, 2, 0)
    assert found.scans[1].label == str(tmp_path / "val/masks/mask_0.npy")


@pytest.mark.parametrize("nested", ["HGG", "LGG/deep"])
def test_brats_before_2023(tmp_path: Path, nested: str) -> None:
    write_case(tmp_path / nested, "Brats18_2013_2_1")
    (found,) = only(tmp_path).scans
    assert (found.case, found.patient, found.family) == ("Brats18_2013_2_1", "Brats18_2013_2", "brats2018-2021")


@pytest.mark.parametrize("challenge", ["GLI", "MET", "MEN", "PED", "SSA"])
def test_brats_from_2023(tmp_path: Path, challenge: str) -> None:
    write_case(tmp_path, f"BraTS-{challenge}-00004-000", naming="-")
    (found,) = only(tmp_path).scans
    assert (found.patient, found.family) == (f"BraTS-{challenge}-00004", f"brats-{challenge.lower()}")


def as_metaimages(home: Path, *ends: str) -> None:
    """Rename files of a case, as far as finding goes: what they hold is still NIfTI."""
    for path in home.iterdir():
        if path.name.removesuffix(".nii.gz").endswith(ends):
            path.rename(str(path).replace(".nii.gz", ".mha"))


@pytest.mark.parametrize("naming", ["_", "-"])
def test_metaimages_in_brats_names_are_found_and_must_be_converted(tmp_path: Path, naming: str) -> None:
    as_metaimages(write_case(tmp_path, "a", naming), "")
    write_case(tmp_path, "b", naming)
    first, second = only(tmp_path).scans
    assert [Path(path).suffix for path in first.files] == [".mha"] * 5 and first.missing == ()
    assert (first.convert, second.convert) == (True, False)


def test_one_metaimage_among_a_cases_files_is_enough_to_convert_it(tmp_path: Path) -> None:
    as_metaimages(write_case(tmp_path, "a"), "_seg")
    assert only(tmp_path).scans[0].convert


def test_a_metaimage_beside_the_same_nifti_is_refused(tmp_path: Path) -> None:
    home = write_case(tmp_path, "a")
    (home / "a_t1.mha").touch()
    with pytest.raises(CaseError, match="a_t1.mha and a_t1.nii.gz are the same image"):
        find_scans(str(tmp_path))


def test_an_unknown_challenge_leaves_the_values_to_decide(tmp_path: Path) -> None:
    write_case(tmp_path, "BraTS-XYZ-00004-000", naming="-")
    write_case(tmp_path, "hospital7", naming="-")
    assert [scan.family for scan in only(tmp_path).scans] == ["", ""]


# --- which one it is --------------------------------------------------------------------------


def test_a_bids_flair_is_no_incomplete_brats_case(tmp_path: Path) -> None:
    bids(tmp_path)
    assert any(scan.case == "sub-02" for scan in only(tmp_path, "brats").scans)  # by name alone it would be one
    assert [found.layout for found in find_scans(str(tmp_path))] == ["bids"]


def test_two_layouts_side_by_side_are_both_found(tmp_path: Path) -> None:
    nnunet(tmp_path)
    write_case(tmp_path / "more", "BraTS2021_00006")
    assert [found.layout for found in find_scans(str(tmp_path))] == ["nnunet", "brats"]
    assert only(tmp_path, "brats").scans[0].case == "BraTS2021_00006"


def test_an_unknown_layout_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(AutoconfError, match="nnunet") as refused:
        find_scans(str(tmp_path), "nn-unet")
    assert all(layout in str(refused.value) for layout in LAYOUTS)


def test_a_layout_that_is_not_there_is_refused_by_its_own_names(tmp_path: Path) -> None:
    with pytest.raises(
        AutoconfError, match=r"holds nothing of the layout bids: sub-<patient>.*Leave --layout out"
    ) as no:
        inspect(str(tmp_path), str(tmp_path / "out"), layout="bids")
    assert "_t1ce" not in str(no.value)


def test_nothing_is_found_in_an_empty_folder(tmp_path: Path) -> None:
    assert find_scans(str(tmp_path)) == []
    write_json(tmp_path / "dataset.json", {"about": "something else"})
    assert find_scans(str(tmp_path)) == []


# --- broken descriptions ----------------------------------------------------------------------


def test_a_decathlon_folder_without_a_test_list_is_read(tmp_path: Path) -> None:
    decathlon(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    write_json(tmp_path / "dataset.json", content | {"test": None})
    assert [scan.case for scan in only(tmp_path).scans] == ["BRATS_001", "BRATS_002"]


def test_two_label_values_of_one_name_are_both_kept(tmp_path: Path) -> None:
    decathlon(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    write_json(tmp_path / "dataset.json", content | {"labels": {"0": "background", "1": "tumour", "2": "tumour"}})
    assert only(tmp_path).regions["wt"] == [1, 2]


def test_the_list_of_nnunet_1_names_no_files_of_the_decathlon(tmp_path: Path) -> None:
    nnunet(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    listed = [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in ("case_1",)]
    for training in (listed, [], None):
        write_json(tmp_path / "dataset.json", content | {"training": training})
        assert only(tmp_path).layout == "nnunet"


@pytest.mark.parametrize(
    ("layout", "name"), [(decathlon, "dataset.json"), (nnunet, "dataset.json"), (nnunet, "splits_final.json")]
)
def test_whatever_stands_in_a_description_it_is_read_or_refused_in_one_line(tmp_path: Path, layout, name: str) -> None:
    layout(tmp_path)
    for odd in odd_copies(json.loads((tmp_path / name).read_text())):
        write_json(tmp_path / name, odd)
        try:
            find_scans(str(tmp_path))
        except AutoconfError as refused:
            assert str(refused).startswith(str(tmp_path)) and "\n" not in str(refused)


def test_an_array_of_another_form_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "image_1.npy", np.zeros(SHAPE))
    with pytest.raises(AutoconfError, match="10x12x8, not height x width"):
        find_scans(str(tmp_path))


def test_two_arrays_of_one_name_are_two_cases_in_two_folders(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "image_0.npy", four())
    assert [scan.case for scan in only(tmp_path).scans] == ["a_0", "b_0"]


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_two_arrays_of_one_case_are_refused(tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "image_0.npy", four())
    (tmp_path / "images").mkdir()
    np.save(tmp_path / f"{kind}_0.npy", four())
    np.save(tmp_path / f"images/{kind}_0.npy", four())
    with pytest.raises(AutoconfError, match=f"images/{kind}_0.npy are both the {kind} of case '0'. Rename one"):
        find_scans(str(tmp_path))


def test_an_array_mask_without_an_image_is_listed(tmp_path: Path) -> None:
    np.save(tmp_path / "image_0.npy", four())
    np.save(tmp_path / "mask_0.npy", tumour())
    np.save(tmp_path / "mask_7.npy", tumour())
    found = only(tmp_path)
    assert [scan.case for scan in found.scans] == ["0"]
    assert [(problem.kind, problem.case) for problem in found.problems] == [("orphan-mask", "7")]


# --- names of modalities -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contrast", "names"),
    [
        ("t1", ("T1", "T1w", "t1n", "T1-weighted", "t1_pre")),
        ("t1c", ("T1ce", "t1c", "T1gd", "T1 post", "T1w-ce", "t1_gd")),
        ("t2", ("T2", "T2w", "T2-weighted")),
        ("flair", ("FLAIR", "t2f", "T2-FLAIR", "T2 flair")),
        (None, ("CT", "ADC", "", "T1rho", "DWI")),
    ],
)
def test_people_name_contrasts_in_many_ways(contrast: str | None, names: tuple[str, ...]) -> None:
    assert [modality_of(name) for name in names] == [contrast] * len(names)
