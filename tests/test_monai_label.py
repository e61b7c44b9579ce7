"""What MONAI Label does with a bundle, without MONAI Label: one file per scan goes in, a mask on its grid comes out.

As `monailabel/tasks/infer/bundle.py` (0.8.5) does it: it takes the parts of inference.yaml by name, calls each
transform by itself, drops SaveImaged, and adds keys of its own to the item. `make test-label` asks the real server.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from helpers_bundles import BUNDLES, NAMES, PSEUDO2D, REPO, UNETR3D, as_scripts, run_bundle, scripts
from helpers_volumes import SHAPE, TUMOUR_VOXELS, autoconf, scan, store, tilted_affine, tumour, write_case
from monai.bundle import ConfigParser
from monai.transforms import SaveImaged
from PIL import Image

siblings = scripts("unetr3d", "siblings")
readers = scripts("unetr3d", "readers")
cache = scripts("unetr3d", "cache")
SMALL = {
    **{"patch_size": [16, 16, 16], "target_spacing": [1.0, 1.0, 1.0], "device": "cpu"},
    **{"network_def::feature_size": 2, "network_def::hidden_size": 12, "network_def::mlp_dim": 12},
    "network_def::num_heads": 2,
}


def datastore(home: Path, case: str = "Case+1 a", affine: np.ndarray | None = None, top: str = "flair") -> Path:
    """A scan as `autoconf layout` lays it out; returns the file that MONAI Label hands over."""
    (home / "modalities").mkdir(parents=True)
    for contrast, end in enumerate(("_t1", "_t1ce", "_t2", "_flair")):
        store(scan(contrast), home / ("" if end == f"_{top}" else "modalities") / f"{case}{end}.nii.gz", affine)
    return home / f"{case}_{top}.nii.gz"


def handed(image: Path) -> dict[str, str]:
    """What MONAI Label hands over."""
    return {"image": str(image), "image_path": str(image)}


def parser_of(bundle: Path, overrides: dict[str, Any]) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.yaml")
    parser.config["bundle_root"] = str(bundle)
    for key, value in overrides.items():
        parser[key] = value
    return parser


def infer_as_monai_label(bundle: Path, overrides: dict[str, Any], image: Path, weights: Path) -> dict[str, Any]:
    """The item after the last transform, before it is written."""
    with as_scripts(bundle.name):
        parser = parser_of(bundle, overrides)
        network = parser.get_parsed_content("network_def")
        network.load_state_dict(torch.load(weights))
        network.eval()
        item = {
            "device": "cpu",
            "model": bundle.name,
            "image": str(image),
            "image_path": str(image),
            "description": "x",
        }
        item |= {"model_filename": ["model.pt"], "logging": "INFO"}
        for transform in parser.get_parsed_content("preprocessing").transforms:
            item = transform(item)
        with torch.no_grad():
            item["pred"] = parser.get_parsed_content("inferer")(item["image"][None], network)[0]
        for transform in parser.get_parsed_content("postprocessing").transforms:
            if not isinstance(transform, SaveImaged):
                item = transform(item)
        return item


def random_weights(bundle: Path, overrides: dict[str, Any], path: Path) -> Path:
    with as_scripts(bundle.name):
        torch.manual_seed(3)
        torch.save(parser_of(bundle, overrides).get_parsed_content("network_def").state_dict(), path)
    return path


def test_a_mask_lies_on_its_scans_grid_and_is_that_of_run_inferring(tmp_path):
    """Of a plain scan, and of one that is stored slice-first, mirrored and tilted."""
    images = [
        datastore(tmp_path / "plain", "Case+1 a"),
        datastore(tmp_path / "a tilted one", "Case+2 b", affine=tilted_affine()),
    ]
    weights = random_weights(UNETR3D, SMALL, tmp_path / "model.pt")
    words = [word for key, value in SMALL.items() for word in (f"--{key}", str(value).replace(" ", ""))]
    run_bundle(
        *(UNETR3D, "inferring", ["inference.yaml"], "--dataset_dir", _as_cases(images, tmp_path / "cases")),
        *("--checkpoint", weights, "--output_dir", tmp_path / "masks", *words),
    )
    for image in images:
        item = infer_as_monai_label(UNETR3D, SMALL, image, weights)
        saved = nibabel.load(tmp_path / "masks" / image.name.replace("_flair", ""))
        mask = item["pred"]
        assert mask.dtype == torch.uint8  # MONAI Label writes no bool and no int64
        assert mask.shape == (1, *saved.shape)  # or Restored would resize it
        assert torch.unique(mask).tolist() == [0, 1]
        assert np.array_equal(np.asarray(mask[0]), np.asarray(saved.dataobj))
        assert np.allclose(item["image"].meta["original_affine"], nibabel.load(image).affine)  # which it writes


def _as_cases(images: list[Path], to: Path) -> Path:
    """All files side by side."""
    to.mkdir()
    for image in images:
        for path in image.parent.rglob("*.nii.gz"):
            shutil.copy(path, to)
    return to


def test_a_pictures_mask_has_its_size(tmp_path):
    picture = np.zeros((40, 24), np.uint8)
    picture[5:9, 3:20] = 200
    Image.fromarray(picture).save(tmp_path / "a.png")
    small = {"image_size": 32, "device": "cpu", "network_def::channels": [4, 4, 4, 4, 4]}
    weights = random_weights(PSEUDO2D, small, tmp_path / "model.pt")
    item = infer_as_monai_label(PSEUDO2D, small, tmp_path / "a.png", weights)
    assert item["pred"].shape == (1, 40, 24)
    assert item["pred"].dtype == torch.uint8
    assert set(os.listdir(tmp_path)) == {"a.png", "model.pt"}  # no mask is written beside


@pytest.mark.parametrize("bundle", NAMES)
def test_label_1_is_what_is_marked_and_the_parts_have_the_names_that_are_asked_for(bundle):
    metadata = json.loads((BUNDLES / bundle / "configs" / "metadata.json").read_text())["network_data_format"]
    assert next(iter(metadata["inputs"])) == "image"  # the first one is taken
    assert next(iter(metadata["outputs"])) == "pred"
    channels = metadata["outputs"]["pred"]["channel_def"]
    assert list(channels) == ["0", "1"]
    assert channels["0"] == "background"  # else the tumour would be label 0
    parser = ConfigParser()
    parser.read_config(BUNDLES / bundle / "configs" / "inference.yaml")
    assert {"preprocessing", "inferer", "postprocessing", "network_def", "network", "device"} <= set(parser.config)
    parser.read_config(BUNDLES / bundle / "configs" / "train.yaml")
    for key in ("train#trainer#max_epochs", "train#dataset#data", "validate#dataset#data", "train#handlers", "run"):
        assert parser[key]
    assert all(isinstance(handler, dict) for handler in parser["train#handlers"])


@pytest.mark.parametrize("top", ["t1", "t1ce", "t2", "flair"])
def test_any_contrast_leads_to_all_four_in_the_networks_order(tmp_path, top):
    image = datastore(tmp_path, top=top)
    found = readers.LoadNiftid("image")(handed(image))
    assert found["case"] == "Case+1 a"
    assert np.array_equal(found["image"].numpy(), np.stack([scan(contrast) for contrast in range(4)]))
    assert found["image_path"] == str(image)


def test_a_raw_case_folder_works_too(tmp_path):
    home = write_case(tmp_path, "BraTS-GLI-00001-000", naming="-")
    case, files = siblings.siblings(str(home / "BraTS-GLI-00001-000-t2f.nii.gz"))
    assert case == "BraTS-GLI-00001-000"
    assert files == [str(home / f"BraTS-GLI-00001-000{end}.nii.gz") for end in ("-t1n", "-t1c", "-t2w", "-t2f")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Case_flair.nii.gz", "no t1 image of this scan"),
        ("tmpab12.nii.gz", "not named as one contrast"),
    ],
)
def test_a_lone_file_is_an_error_of_one_line_and_no_end_of_the_process(tmp_path, name, said):
    store(scan(3), tmp_path / name)
    with pytest.raises(siblings.Alone, match=said) as error:
        readers.LoadNiftid("image", crop_to="image")(handed(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_an_error_to_a_server_and_refused_elsewhere(tmp_path):
    image = datastore(tmp_path)
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(readers.Unreadable, match="damaged"):
        readers.LoadNiftid("image")(handed(image))
    with pytest.raises(SystemExit, match="damaged"):
        readers.LoadNiftid("image")({"image": [str(image)]})


def test_a_training_takes_monai_labels_items_as_those_of_a_datalist(tmp_path):
    image = datastore(tmp_path / "store")
    store(tumour(), tmp_path / "label.nii.gz")
    with as_scripts("unetr3d"):
        parser = ConfigParser()
        parser.read_config(UNETR3D / "configs" / "train.yaml")
        parser["target_spacing"] = [1.0, 1.0, 1.0]
        prepare = parser.get_parsed_content("train#preprocessing")
        _, files = siblings.siblings(str(image))
        one = {"image": str(image), "label": str(tmp_path / "label.nii.gz")}
        other = {"image": files, "label": str(tmp_path / "label.nii.gz"), "case": "Case+1 a"}
        cases = [cache.PreprocessedCases([item], prepare, str(tmp_path / "cache"))[0] for item in (one, other)]
    assert cases[0]["case"] == cases[1]["case"] == "Case+1 a"
    assert torch.equal(cases[0]["image"], cases[1]["image"])
    assert int(cases[0]["label"].sum()) == TUMOUR_VOXELS * 3  # 3 mm slices became 1 mm
    with pytest.raises(SystemExit, match="no t1 image"):
        shutil.rmtree(tmp_path / "store" / "modalities")
        cache.PreprocessedCases([one], prepare, str(tmp_path / "cache"))


def test_prepared_cases_lie_in_the_output_where_there_is_no_datalist(tmp_path):
    assert cache.folder("", "", str(tmp_path / "out")) == str(tmp_path / "out" / "preprocessed")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"])
def test_the_server_lists_all_that_a_bundle_reads(tmp_path, ending):
    (tmp_path / f"one{ending}").write_text("")
    program = "import sys, pathlib, start; start.check_studies(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-B", "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=REPO / "label", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- autoconf layout --------------------------------------------------------------------------


def test_layout_makes_a_datastore_that_a_bundle_reads(tmp_path):
    write_case(tmp_path / "data", "BraTS-GLI-00001-000", naming="-")
    write_case(tmp_path / "data", "BraTS2021_00002", with_mask=False)
    (tmp_path / "data" / "BraTS2021_00003").mkdir()
    shutil.copy(
        tmp_path / "data" / "BraTS2021_00002" / "BraTS2021_00002_t2.nii.gz",
        tmp_path / "data" / "BraTS2021_00003" / "BraTS2021_00003_t2.nii.gz",
    )
    done = autoconf("layout", tmp_path / "data", "--out", tmp_path / "my store", "--labels")
    assert done.returncode == 0, done.stderr
    assert "left out BraTS2021_00003: no t1 and no t1c and no flair" in done.stdout
    store_ = tmp_path / "my store"
    files = {str(path.relative_to(store_)) for path in store_.rglob("*.nii.gz")}
    both = ("BraTS-GLI-00001-000", "BraTS2021_00002")
    wanted = {f"{case}_flair.nii.gz" for case in both}
    wanted |= {f"modalities/{case}_{name}.nii.gz" for case in both for name in ("t1", "t1ce", "t2")}
    assert files == wanted | {"labels/final/BraTS-GLI-00001-000_flair.nii.gz"}
    found = readers.LoadNiftid("image")(handed(store_ / "BraTS-GLI-00001-000_flair.nii.gz"))["image"]
    assert np.array_equal(found.numpy(), np.stack([scan(contrast) for contrast in range(4)]))
    label = np.asarray(nibabel.load(store_ / "labels/final/BraTS-GLI-00001-000_flair.nii.gz").dataobj)
    assert label.shape == SHAPE
    assert np.array_equal(label, tumour() > 0)


def test_layout_splits_files_of_four_channels(tmp_path):
    from test_layouts import decathlon

    (tmp_path / "data").mkdir()
    decathlon(tmp_path / "data")
    done = autoconf("layout", tmp_path / "data", "--out", tmp_path / "store", "--labels")
    assert done.returncode == 0, done.stderr
    image = tmp_path / "store" / "BRATS_002_flair.nii.gz"
    found = readers.LoadNiftid("image")(handed(image))["image"]
    assert np.array_equal(found.numpy(), np.stack([scan(contrast, 2) for contrast in range(4)]))


def test_layout_links_on_demand_but_never_a_label(tmp_path):
    home = write_case(tmp_path / "data", "BraTS2021_00001")
    assert autoconf("layout", tmp_path / "data", "--out", tmp_path / "s", "--link", "--labels").returncode == 0
    top = tmp_path / "s" / "BraTS2021_00001_flair.nii.gz"
    assert top.samefile(home / "BraTS2021_00001_flair.nii.gz")
    label = tmp_path / "s" / "labels" / "final" / "BraTS2021_00001_flair.nii.gz"
    assert not label.samefile(home / "BraTS2021_00001_seg.nii.gz")


def test_layout_refuses_what_would_lose_labels_and_leaves_nothing(tmp_path):
    from helpers_volumes import assert_refused

    home = write_case(tmp_path / "data", "BraTS2021_00001")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine").write_text("x")
    assert_refused(autoconf("layout", tmp_path / "data", "--out", tmp_path / "s"), "is not empty")
    assert_refused(autoconf("layout", tmp_path / "data", "--out", tmp_path / "data" / "s"), "inside the data folder")
    (tmp_path / "none").mkdir()
    assert_refused(autoconf("layout", tmp_path / "none", "--out", tmp_path / "t"), "no cases found")
    (home / "BraTS2021_00001_t2.nii.gz").write_bytes(b"no scan")
    assert_refused(autoconf("layout", tmp_path / "data", "--out", tmp_path / "t"), "BraTS2021_00001_t2.nii.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "none", "s"]
