"""`run pseudo_labelling` of volumes: what it leaves on disk, what it touches in a datalist, and what it refuses."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers_bundles import UNETR3D, assert_refused, run_bundle, scripts, write_yaml
from helpers_volumes import real_data, store, tilted_affine

from autoconf.phantom import phantom

unlabelled = scripts("unetr3d", "unlabelled")
pseudo_label = scripts("unetr3d", "pseudo_label")
readers = scripts("unetr3d", "readers")
transforms = scripts("unetr3d", "transforms")


@pytest.fixture(scope="module")
def partly(tmp_path_factory) -> Path:
    """A datalist of four phantom heads of 48 voxels: one for training, one for testing, two unlabelled.

    The second unlabelled one is of the test patient. The first is stored slice-first, right to left and tilted.
    """
    home = tmp_path_factory.mktemp("partly")
    phantom(str(home / "data"), cases=4, size=48, seed=3)
    names = sorted(path.name for path in (home / "data").iterdir() if path.is_dir())
    items = []
    for name in names:
        image = [f"{name}/{name}-{end}.nii.gz" for end in ("t1n", "t1c", "t2w", "t2f")]
        items.append({"case": name, "patient": name, "image": image, "label": f"{name}/{name}-seg.nii.gz"})
    train, test, free, kin = items
    for path in [*free["image"], free["label"]]:
        affine = tilted_affine()
        affine[:3, :3] *= 180 / 48 / np.array([1, 1, 3])
        store(np.asarray(nibabel.load(home / "data" / path).dataobj), home / "data" / path, affine)
    content = {"kind": "volumes", "dataset_dir": str(home / "data"), "modalities": ["t1", "t1c", "t2", "flair"]}
    content |= {"regions": {"wt": [1, 2, 3], "tc": [1, 3]}, "training": [train | {"fold": 1}], "testing": [test]}
    bare = [{key: item[key] for key in ("case", "patient", "image")} for item in (free, kin)]
    content["unlabelled"] = [bare[0], bare[1] | {"side": "testing"}]
    (home / "datalist.json").write_text(json.dumps(content))
    return home / "datalist.json"


def label(*words: object, expect: int = 0):
    return run_bundle(
        *(UNETR3D, "pseudo_labelling", ["pseudo_label.yaml"], *words, "--target_spacing", "[4.0,4.0,4.0]"),
        expect=expect,
    )


@pytest.fixture(scope="module")
def labelled(partly, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("labelled")
    label("--datalist", partly, "--output_dir", out)
    return out


def truth_of(partly: Path, case: str) -> np.ndarray:
    return np.asarray(nibabel.load(partly.parent / "data" / case / f"{case}-seg.nii.gz").dataobj) > 0


def test_the_unlabelled_cases_get_masks_on_their_own_grid(partly, labelled):
    before, after = (json.loads(path.read_text()) for path in (partly, labelled / "datalist.json"))
    assert after["training"] == before["training"] and after["testing"] == before["testing"]
    free, kin = after["unlabelled"]
    assert kin == before["unlabelled"][1]  # of a test patient: not touched
    source = nibabel.load(partly.parent / "data" / free["image"][0])
    arrays = {}
    for key in ("label", "soft", "ignore"):
        image = nibabel.load(free[key])
        assert image.shape == source.shape and np.allclose(image.affine, source.affine, atol=1e-4)
        assert image.get_data_dtype() == np.uint8
        arrays[key] = np.asarray(image.dataobj)
    assert set(np.unique(arrays["label"])) == {0, 1} and set(np.unique(arrays["ignore"])) <= {0, 1}
    assert 0 <= arrays["soft"].min() < 0.1 < 0.9 < arrays["soft"].max() <= 1
    mask, truth = arrays["label"] > 0, truth_of(partly, free["case"])
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.6  # mirrored or shifted it would be near 0
    assert free["regions"] == {"wt": [1]} and free["pseudo"] is True
    files = {path.name for path in labelled.iterdir()}
    case = free["case"]
    masks = {f"{case}.nii.gz", f"{case}_soft.nii.gz", f"{case}_ignore.nii.gz"}
    assert files == masks | {"pseudo_labels.csv", "datalist.json"}


def test_what_is_written_is_what_a_pre_training_reads(labelled):
    (item,) = unlabelled.pseudo_items(str(labelled / "datalist.json"), fold=0)
    target = transforms.Targetsd("label")(readers.LoadNiftid("label")(item))["label"].numpy()
    hard, soft, ignored = target
    assert target.shape[0] == 3 and hard.any() and ignored.any() and set(np.unique(ignored)) == {0, 1}
    assert soft.max() > 230 and soft[hard > 0].mean() > 2 * 255 * soft[hard == 0].mean() / 255
    assert "targets" in item and item["case"] in item["label"][0]


def test_the_audit_has_a_row_for_each_function_and_the_fused_mask(labelled):
    with open(labelled / "pseudo_labels.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    who = ["multi_otsu", "hysteresis", "sauvola", "asymmetry", "enhancement", "walker", "fused"]
    assert [row["who"] for row in rows] == who
    assert 0 < float(rows[-1]["share"]) < 0.5 and float(rows[-1]["coverage"]) > 0.8


def test_a_second_run_does_not_overwrite_the_first(partly, labelled):
    done = label("--datalist", partly, "--output_dir", labelled, expect=1)
    assert_refused(done, "unetr3d", "pseudo_labels.csv is there already", "another --output_dir")


def test_functions_can_be_left_out_and_added_and_the_fusion_chosen(partly, tmp_path):
    mine = write_yaml(
        tmp_path / "mine.yaml",
        {
            "+labelers": {
                "bright_t2": {"_target_": "scripts.labelers.hysteresis", "_mode_": "callable", "contrast": "t2"}
            },
            "fusion::_target_": "scripts.fusion.majority",
            "labelers::sauvola::_disabled_": True,
        },
    )
    run_bundle(
        *(
            UNETR3D,
            "pseudo_labelling",
            ["pseudo_label.yaml", mine],
            "--datalist",
            partly,
            "--output_dir",
            tmp_path / "o",
        ),
        *("--target_spacing", "[4.0,4.0,4.0]", "--labelers::asymmetry::_disabled_", "True", "--num_workers", 0),
    )
    rows = list(csv.DictReader((tmp_path / "o" / "pseudo_labels.csv").read_text().splitlines()))
    assert [r["who"] for r in rows] == ["multi_otsu", "hysteresis", "enhancement", "bright_t2", "walker", "fused"]


def test_a_true_label_is_never_replaced(tmp_path):
    files = {"label": "mask.nii.gz", "soft": "s", "ignore": "i"}
    true = {"case": "a", "image": ["x"], "label": "true.nii.gz"}
    assert pseudo_label.with_masks(true, files) == true
    assert pseudo_label.with_masks({"case": "a"}, None) == {"case": "a"}  # nothing was found
    assert pseudo_label.with_masks({"case": "a"}, files)["label"] == "mask.nii.gz"


def test_testing_is_labelled_only_on_purpose(partly):
    cases = {s: [i["case"] for i in unlabelled.unlabelled_items(str(partly), "", s)] for s in ("unlabelled", "testing")}
    content = json.loads(partly.read_text())
    assert cases["unlabelled"] == [content["unlabelled"][0]["case"]]
    assert cases["testing"] == [content["testing"][0]["case"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to label"),
        (("--datalist", "DATALIST", "--section", "all"), "It must be unlabelled, training or testing"),
        (("--datalist", "DATALIST", "--labeler", "x"), "no key 'labeler'"),
    ],
)
def test_bad_input_gets_one_line(words, said, partly, tmp_path):
    words = [partly if word == "DATALIST" else word for word in words]
    assert_refused(label(*words, "--output_dir", tmp_path / "out", expect=1), "unetr3d", said)


def test_a_list_without_unlabelled_cases_is_refused(partly, tmp_path):
    content = json.loads(partly.read_text()) | {"unlabelled": []}
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit, match="its 'unlabelled' list has no case to label"):
        unlabelled.unlabelled_items(str(tmp_path / "datalist.json"))


@pytest.mark.skipif(not real_data("brats"), reason="no real cases: set SEG_DATA")
def test_a_real_case_is_labelled_well_and_in_seconds(tmp_path):
    case = Path(real_data("brats")) / "brats21" / "BraTS2021_00006"
    if not case.is_dir():
        pytest.skip(f"{case} is not there")
    begun = time.perf_counter()
    run_bundle(UNETR3D, "pseudo_labelling", ["pseudo_label.yaml"], "--dataset_dir", case, "--output_dir", tmp_path)
    assert time.perf_counter() - begun < 120  # 10 s and the start of MONAI, on a machine that others use as well
    mask = np.asarray(nibabel.load(tmp_path / f"{case.name}.nii.gz").dataobj) > 0
    truth = np.asarray(nibabel.load(case / f"{case.name}_seg.nii.gz").dataobj) > 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.85
