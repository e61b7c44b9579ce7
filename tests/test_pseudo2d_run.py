"""The pseudo2d bundle through its real command line: pseudo-label, train, evaluate, mark images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_bundles import PSEUDO2D, run_bundle, scalars, write_yaml
from PIL import Image

from autoconf.score import score


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Path:
    """An override file that pseudo_label.yaml has no use for in full, and that all others take."""
    folder = tmp_path_factory.mktemp("settings")
    return write_yaml(folder / "settings.yaml", {"image_size": 64, "max_epochs": 1, "num_workers": 0, "device": "cpu"})


@pytest.fixture(scope="module")
def trained(slices, pseudo_labelled, settings, tmp_path_factory):
    """The folder of one epoch of training, started from a folder that is not the bundle's, and the process."""
    home = tmp_path_factory.mktemp("trained")
    done = run_bundle(
        *(PSEUDO2D, "training", ["train.yaml", settings], "--datalist", slices.datalist),
        *("--mask_dir", pseudo_labelled / "masks", "--output_dir", "run"),
        *("--train::handlers::7::iteration_log", 1),
        cwd=home,
    )
    return home / "run", done


def images_to_test(slices) -> list[str]:
    return [item["image"] for item in json.loads(slices.datalist.read_text())["testing"]]


def test_training_leaves_a_plain_state_dict_and_shows_its_progress(trained):
    folder, done = trained
    weights = torch.load(folder / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
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


def test_evaluation_scores_each_testing_image(slices, pseudo_labelled, settings, trained, tmp_path):
    run_bundle(
        *(PSEUDO2D, "evaluating", ["evaluate.yaml", settings], "--datalist", slices.datalist),
        *("--mask_dir", pseudo_labelled / "masks", "--checkpoint", trained[0] / "model.pt", "--output_dir", tmp_path),
    )
    scores = {}
    for name in ("dice", "iou"):
        with open(tmp_path / f"{name}_raw.csv", newline="") as stream:
            scores[name] = {row[0]: float(row[1]) for row in list(csv.reader(stream))[1:]}
        assert set(scores[name]) == set(images_to_test(slices))
    for image, dice in scores["dice"].items():
        assert scores["iou"][image] == pytest.approx(dice / (2 - dice), abs=1e-4)
    score(str(tmp_path / "masks"), str(pseudo_labelled / "masks"), str(tmp_path / "scores"), jobs=1)
    with open(tmp_path / "scores" / "scores.csv", newline="") as stream:
        again = {row["case"]: float(row["dice"]) for row in csv.DictReader(stream)}
    assert again == pytest.approx({f"{image}.png": dice for image, dice in scores["dice"].items()}, abs=1e-4)


def test_masks_have_the_size_of_their_images(slices, settings, trained, tmp_path):
    run_bundle(
        *(PSEUDO2D, "inferring", ["inference.yaml", settings], "--datalist", slices.datalist),
        *("--checkpoint", trained[0] / "model.pt", "--output_dir", tmp_path),
    )
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"provenance.json", *(f"{image}.png" for image in images_to_test(slices))}
    for image in images_to_test(slices):
        mask = Image.open(tmp_path / f"{image}.png")
        assert mask.size == Image.open(slices.folder / image).size
        assert mask.mode == "L" and set(np.unique(mask)) <= {0, 255}
