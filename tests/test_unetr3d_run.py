"""The unetr3d bundle through its real command line: train, evaluate, segment, refuse."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from helpers_bundles import (
    TINY,
    UNETR3D,
    assert_refused,
    copy_bundle,
    cut_short,
    run_bundle,
    scalars,
    without,
    write_yaml,
)
from scipy import ndimage


@pytest.fixture(scope="module")
def trained(volumes, small, tmp_path_factory):
    """The folder of one epoch of training, started from a folder that is not the bundle's, and the process."""
    home = tmp_path_factory.mktemp("trained")
    done = run_bundle(
        *(UNETR3D, "training", ["train.yaml", small]),
        *("--datalist", volumes.datalist, "--output_dir", "run"),
        *("--train::handlers::7::iteration_log", 1),
        cwd=home,
    )
    return home / "run", done


@pytest.fixture(scope="module")
def evaluated(volumes, small, trained, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("evaluated")
    run_bundle(
        *(UNETR3D, "evaluating", ["evaluate.yaml", small]),
        *("--datalist", volumes.datalist, "--checkpoint", trained[0] / "model.pt", "--output_dir", out),
    )
    return out


@pytest.fixture(scope="module")
def predicted(volumes, small, trained, tmp_path_factory) -> Path:
    """Masks and probabilities of the datalist's testing cases, by the plain `run`."""
    out = tmp_path_factory.mktemp("predicted")
    run_bundle(
        *(UNETR3D, "", ["inference.yaml", small], "--save_probability", True),
        *("--datalist", volumes.datalist, "--checkpoint", trained[0] / "model.pt", "--output_dir", out),
    )
    return out


def cases_to_test(volumes) -> list[str]:
    return [item["case"] for item in json.loads(volumes.datalist.read_text())["testing"]]


# Training


def test_training_leaves_plain_state_dicts(trained):
    for name in ("model.pt", "model_final.pt"):
        weights = torch.load(trained[0] / name, weights_only=True)
        assert all(isinstance(value, torch.Tensor) for value in weights.values())
        assert "vit.patch_embedding.position_embeddings" in weights


def test_training_shows_its_progress_and_logs_to_tensorboard(trained):
    folder, done = trained
    assert any(line.startswith("training: epoch 1/1  loss ") for line in done.stderr.splitlines())
    logged = scalars(folder / "tensorboard")
    assert len(logged["train_loss"]) >= 2 and len(logged["val_dice"]) == 1
    (row,) = csv.DictReader((folder / "progress.csv").read_text().splitlines())
    assert float(row["loss"]) == pytest.approx(sum(logged["train_loss"]) / len(logged["train_loss"]), abs=1e-4)
    said = f"loss {float(row['loss']):.4f}  validation Dice {float(row['validation_dice']):.4f} "
    assert said in done.stderr
    assert "training" in json.loads((folder / "run.json").read_text())["command"]
    assert (folder / "progress.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "overlays.png").read_bytes().startswith(b"\x89PNG")
    assert "CRITICAL" not in done.stderr


def test_the_studys_preset_trains_and_its_command_line_wins(volumes, tmp_path):
    done = run_bundle(
        *(UNETR3D, "training", ["train.yaml", "study.yaml"], "--datalist", volumes.datalist),
        *("--output_dir", tmp_path, "--patch_size", "[32,32,32]", "--target_spacing", "[5.0,5.0,5.0]"),
        *("--max_epochs", 1, "--num_workers", 0),
    )
    assert "training: epoch 1/1 " in done.stderr
    assert (tmp_path / "model.pt").is_file()


# Evaluation


def rows(path: Path) -> dict[str, float]:
    """case -> score of a *_raw.csv."""
    with open(path, newline="") as stream:
        table = list(csv.reader(stream))[1:]
    return {name: float(value) for name, value, *_ in table}


def test_evaluation_scores_each_testing_case_on_the_scans_own_grid(volumes, evaluated):
    assert set(rows(evaluated / "dice_raw.csv")) == set(cases_to_test(volumes))
    for case, score in rows(evaluated / "dice_raw.csv").items():
        mask = np.asarray(nibabel.load(evaluated / f"{case}.nii.gz").dataobj) > 0
        truth = np.asarray(nibabel.load(volumes.folder / case / f"{case}-seg.nii.gz").dataobj) > 0
        assert score == pytest.approx(2 * (mask & truth).sum() / (mask.sum() + truth.sum()), abs=1e-5)


def test_evaluation_on_top_of_training_gives_the_same_scores(volumes, small, trained, evaluated, tmp_path):
    run_bundle(
        *(UNETR3D, "evaluating", ["train.yaml", "evaluate.yaml", small]),
        *("--datalist", volumes.datalist, "--checkpoint", trained[0] / "model.pt", "--output_dir", tmp_path),
    )
    assert rows(tmp_path / "dice_raw.csv") == rows(evaluated / "dice_raw.csv")


# Inference


def test_masks_lie_on_the_scans_own_grid(volumes, predicted):
    for case in cases_to_test(volumes):
        scan = nibabel.load(volumes.folder / case / f"{case}-t1n.nii.gz")
        mask = nibabel.load(predicted / f"{case}.nii.gz")
        assert mask.shape == scan.shape
        assert np.allclose(mask.affine, scan.affine, atol=1e-5)
        assert mask.get_data_dtype() == np.uint8
        assert set(np.unique(mask.dataobj)) <= {0, 1}


def test_a_probability_is_written_on_request_and_agrees_with_the_mask(volumes, predicted):
    for case in cases_to_test(volumes):
        image = nibabel.load(predicted / f"{case}_probability.nii.gz")
        probability = np.asarray(image.dataobj)
        assert image.get_data_dtype() == np.float32 and 0 <= probability.min() < probability.max() <= 1
        mask = np.asarray(nibabel.load(predicted / f"{case}.nii.gz").dataobj) > 0
        objects, _ = ndimage.label(probability >= 0.5)
        voxels = np.bincount(objects.ravel())[1:]
        kept = 1 + np.flatnonzero((voxels * abs(np.linalg.det(image.affine[:3, :3])) >= 500) | (voxels == voxels.max()))
        assert np.array_equal(np.isin(objects, kept), mask)  # without what is smaller than `min_component_mm3`


def test_a_folder_of_cases_needs_no_truth_and_gives_the_same_bytes(volumes, small, trained, predicted, tmp_path):
    """Also: from the bundle's own folder, with a relative config path."""
    case = cases_to_test(volumes)[0]
    shutil.copytree(volumes.folder / case, tmp_path / "scans" / case, ignore=shutil.ignore_patterns("*-seg*"))
    run_bundle(
        *(UNETR3D, "inferring", ["configs/inference.yaml", small], "--dataset_dir", tmp_path / "scans"),
        *("--checkpoint", trained[0] / "model.pt", "--output_dir", tmp_path / "out", "--save_probability", True),
        cwd=UNETR3D,
    )
    masks = {f"{case}.nii.gz", f"{case}_probability.nii.gz"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*masks, "provenance.json"}
    for name in masks:
        assert (tmp_path / "out" / name).read_bytes() == (predicted / name).read_bytes()


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "autoconf":
            raise ImportError("autoconf is blocked in this test")

sys.meta_path.insert(0, Blocked())
"""


def test_a_bundle_that_was_handed_out_runs_elsewhere_without_autoconf(volumes, small, trained, predicted, tmp_path):
    copy_bundle(UNETR3D, tmp_path / "moved", "models")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCKED)
    env = {"PYTHONPATH": str(tmp_path / "site")}
    refused = subprocess.run(
        [sys.executable, "-c", "import autoconf"], env=os.environ | env, capture_output=True, text=True
    )
    assert "autoconf is blocked in this test" in refused.stderr
    run_bundle(  # without --save_probability no probability is written
        *(tmp_path / "moved", "inferring", ["inference.yaml", small], "--datalist", volumes.datalist),
        *("--checkpoint", trained[0] / "model.pt", "--output_dir", tmp_path / "out"),
        cwd=tmp_path,
        env=env,
    )
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert "provenance.json" in written and written.pop("provenance.json")
    assert written == {f"{case}.nii.gz": (predicted / f"{case}.nii.gz").read_bytes() for case in cases_to_test(volumes)}


def test_a_bundle_that_was_copied_by_hand_says_how_to_make_a_whole_copy(volumes, small, tmp_path):
    for folder in ("configs", "scripts"):
        shutil.copytree(UNETR3D / folder, tmp_path / "mine" / folder)
    done = run_bundle(
        *(tmp_path / "mine", "training", ["train.yaml", small], "--datalist", volumes.datalist),
        *("--output_dir", tmp_path / "run"),
        expect=1,
    )
    assert_refused(done, "mine", "is not whole", "autoconf pack BUNDLE --out FOLDER")
    assert not (tmp_path / "run").exists()


# Geometry

TURN = np.radians(12)
ROTATION = np.array([[np.cos(TURN), -np.sin(TURN), 0], [np.sin(TURN), np.cos(TURN), 0], [0, 0, 1]])
TILT = np.array([[1, 0, 0], [0, np.cos(TURN), -np.sin(TURN)], [0, np.sin(TURN), np.cos(TURN)]])
SPACING = np.diag([1.0, 1.2, 3.0])  # mm, RAS+


def write_scan(folder: Path, case: str, oblique: bool) -> np.ndarray:
    """Write a case whose FLAIR is bright in an off-centre box; returns the box on the stored grid.

    RAS+ it has 24 x 28 x 10 voxels of 1 x 1.2 x 3 mm. Oblique: stored slice-first and right-to-left, the head
    turned about two axes.
    """
    brain, box = np.zeros((24, 28, 10), np.int16), np.zeros((24, 28, 10), bool)
    brain[2:23, 1:26, 1:9] = 1
    box[4:11, 15:24, 5:8] = True
    values = [brain * np.random.default_rng(i).integers(100, 200, brain.shape) for i in range(4)]
    values[3][box] = 1000
    affine = np.eye(4)
    affine[:3, :3] = SPACING
    arrays = [*values, box]
    if oblique:
        arrays = [array[::-1].transpose(2, 0, 1) for array in arrays]
        to_ras = np.array([[0, -1.0, 0], [0, 0, 1.0], [1.0, 0, 0]])  # stored axes: superior, left, anterior
        affine[:3, :3] = ROTATION @ TILT @ SPACING @ to_ras
        affine[:3, 3] = (20, -30, 5)
    (folder / case).mkdir(parents=True)
    for array, end in zip(arrays[:4], ("t1n", "t1c", "t2w", "t2f"), strict=True):
        image = nibabel.Nifti1Image(np.ascontiguousarray(array).astype(np.int16), affine)
        nibabel.save(image, folder / case / f"{case}-{end}.nii.gz")
    return arrays[4]


def test_the_mask_covers_the_tumour_however_the_scan_is_stored(tmp_path):
    """The network is a threshold on FLAIR: its mask must be the bright box, on the grid of each file."""
    boxes = {case: write_scan(tmp_path / "scans", case, case == "oblique") for case in ("oblique", "plain")}
    weights = {"weight": torch.tensor([0.0, 0, 0, 5]).reshape(1, 4, 1, 1, 1), "bias": torch.tensor([-10.0])}
    torch.save(weights, tmp_path / "model.pt")
    override = write_yaml(
        tmp_path / "override.yaml",
        {
            "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 4, "out_channels": 1, "kernel_size": 1},
            "patch_size": [16, 16, 16],
            "target_spacing": [1.0, 1.0, 1.5],
        },
    )
    run_bundle(
        *(UNETR3D, "inferring", ["inference.yaml", override], "--dataset_dir", tmp_path / "scans"),
        *("--checkpoint", tmp_path / "model.pt", "--output_dir", tmp_path / "out"),
    )
    for case, box in boxes.items():
        image = nibabel.load(tmp_path / "out" / f"{case}.nii.gz")
        scan = nibabel.load(tmp_path / "scans" / case / f"{case}-t2f.nii.gz")
        mask = np.asarray(image.dataobj) > 0
        assert image.shape == scan.shape and np.allclose(image.affine, scan.affine, atol=1e-5)
        assert 2 * (mask & box).sum() / (mask.sum() + box.sum()) > 0.8


# Refusals


def refused_training(volumes, small, out: Path, *words: object, files: tuple[Path, ...] = ()):
    """The process of a training that must end with status 1, and without weights."""
    done = run_bundle(
        *(UNETR3D, "training", ["train.yaml", small, *files]),
        *("--datalist", volumes.datalist, "--output_dir", out, *words),
        expect=1,
    )
    assert not list(out.rglob("*.pt"))
    return done


def test_a_mistyped_key_on_the_command_line_is_refused(volumes, small, tmp_path):
    done = refused_training(volumes, small, tmp_path / "out", "--max_epoch", 5)
    assert_refused(done, "unetr3d", "'max_epoch'", "Did you mean 'max_epochs'?")
    assert not (tmp_path / "out").exists()


def test_a_scan_that_is_cut_short_is_refused(volumes, small, tmp_path):
    shutil.copytree(volumes.folder, tmp_path / "data")
    broken = sorted((tmp_path / "data").rglob("*-t2f.nii.gz"))[0]
    cut_short(broken, 0.6)
    done = refused_training(volumes, small, tmp_path / "out", "--dataset_dir", tmp_path / "data")
    assert_refused(done, "unetr3d", str(broken), "cut short", "Copy or download it again")


# Regions


def test_three_regions_from_training_to_a_mask_of_brats_labels(volumes, small, tmp_path):
    """Also the overlay of another network, and the command line's own spelling of a list."""
    own = without(small, tmp_path / "own.yaml", *TINY)  # which are a UNETR's
    files = [UNETR3D / "configs" / "networks" / "segresnet.yaml", own]
    regions = ("--regions", "wt,tc,et", "--datalist", volumes.datalist)
    run_bundle(UNETR3D, "training", ["train.yaml", *files], *regions, "--output_dir", tmp_path / "run")
    weights = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert next(reversed(weights.values())).shape[0] == 3  # the bias of the last layer: a channel each
    use = ("--checkpoint", tmp_path / "run" / "model.pt")
    run_bundle(UNETR3D, "evaluating", ["evaluate.yaml", *files], *regions, *use, "--output_dir", tmp_path / "scores")
    run_bundle(UNETR3D, "inferring", ["inference.yaml", *files], *regions, *use, "--output_dir", tmp_path / "masks")
    with open(tmp_path / "scores" / "dice_raw.csv", newline="") as stream:
        table = list(csv.reader(stream))
    assert len(table[0]) == 5 and {row[0] for row in table[1:]} == set(cases_to_test(volumes))
    for case in cases_to_test(volumes):
        masks = [np.asarray(nibabel.load(tmp_path / d / f"{case}.nii.gz").dataobj) for d in ("scores", "masks")]
        assert masks[0].dtype == np.uint8 and masks[0].ndim == 3 and set(np.unique(masks[0])) <= {0, 1, 2, 3}
        assert (masks[0] == masks[1]).all()
