"""What a viewer asks of a server, by MONAI Label's own client, over loopback."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests
import torch
from helpers_label import Server, run_inferring, start, wait_for_training
from PIL import Image

SCAN = "BraTS-GLI-00000-000_flair"


def served(server: Server, model: str, image: str, to: Path) -> np.ndarray:
    """The mask that the server sends, and saves to a file."""
    file, about = server.client.infer(model, image, {})
    shutil.move(file, to)
    assert set(about["label_names"].values()) == {1}
    return np.asarray(nibabel.load(to).dataobj if to.name.endswith(".nii.gz") else Image.open(to))


def made_by(server: Server, model: str, image: str) -> dict:
    """How the mask was made, as the server says beside it."""
    file, about = server.client.infer(model, image, {})
    Path(file).unlink()
    return about["provenance"]


def inferred(server: Server, model: str, tmp_path: Path) -> np.ndarray:
    """The same by `run inferring`, with the weights that the server has now."""
    images = tmp_path / "images"
    if model == "unetr3d":
        images.mkdir()
        for path in (server.studies, server.studies / "modalities"):
            for file in path.glob(SCAN.removesuffix("_flair") + "_*"):
                shutil.copy(file, images)
    else:
        images.mkdir()
        shutil.copy(server.studies / "picture3.jpg", images)
    run_inferring(server.bundles / model, images, tmp_path / "masks", server.bundle(model) / "models" / "model.pt")
    (mask,) = (path for path in (tmp_path / "masks").rglob("*") if path.name.endswith((".nii.gz", ".png")))
    return np.asarray(nibabel.load(mask).dataobj if model == "unetr3d" else Image.open(mask))


def test_info_names_both_models_and_the_tumour_is_label_1(server):
    info = server.client.info()
    assert set(info["models"]) == set(info["trainers"]) == {"unetr3d", "pseudo2d"}
    assert info["models"]["unetr3d"]["labels"] == {"tumour": 1}
    assert info["models"]["unetr3d"]["dimension"] == 3
    assert info["models"]["pseudo2d"]["dimension"] == 2
    assert {"entropy_unetr3d", "entropy_pseudo2d", "first", "random"} == set(info["strategies"])


def test_a_mask_lies_on_its_scans_grid_and_is_that_of_run_inferring(server, tmp_path):
    mask = served(server, "unetr3d", SCAN, tmp_path / "served.nii.gz")
    scan = nibabel.load(server.studies / f"{SCAN}.nii.gz")
    assert mask.shape == scan.shape
    assert np.allclose(nibabel.load(tmp_path / "served.nii.gz").affine, scan.affine, atol=1e-4)
    assert set(np.unique(mask)) == {0, 1}
    assert np.array_equal(mask, inferred(server, "unetr3d", tmp_path))


def test_a_pictures_mask_is_that_of_run_inferring(server, tmp_path):
    mask = served(server, "pseudo2d", "picture3", tmp_path / "served.png")
    picture = Image.open(server.studies / "picture3.jpg")
    assert mask.shape == (picture.height, picture.width)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    assert np.array_equal(mask, inferred(server, "pseudo2d", tmp_path) > 0)


def test_beside_a_mask_the_server_says_how_it_was_made_as_run_inferring_does(server, tmp_path):
    """Also of an image whose T2 is empty."""
    for model, image in (("unetr3d", SCAN), ("pseudo2d", "picture3")):
        made = made_by(server, model, image)
        home = tmp_path / model
        home.mkdir()
        inferred(server, model, home)
        account = json.loads((home / "masks" / "provenance.json").read_text())
        ((run,), (mask,)) = account["runs"], account["masks"].values()
        assert made.keys() - {"modalities"} == run.keys()
        assert [key for key in run if made[key] != run[key]] in ([], ["date"])
        assert made.get("modalities") == mask.get("modalities")
        weights = (server.bundle(model) / "models" / "model.pt").read_bytes()
        assert made["weights"] == [{"file": "model.pt", "sha256": hashlib.sha256(weights).hexdigest()}]
    assert made_by(server, "unetr3d", SCAN)["modalities"] == ["t1", "t1c", "t2", "flair"]
    file = server.studies / "modalities" / f"{SCAN.removesuffix('_flair')}_t2.nii.gz"
    content = file.read_bytes()
    scan = nibabel.load(file)
    try:
        nibabel.save(nibabel.Nifti1Image(np.zeros(scan.shape, np.int16), scan.affine), file)
        assert made_by(server, "unetr3d", SCAN)["modalities"] == ["t1", "t1c", "flair"]
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize(
    ("model", "image", "said"),
    [
        ("unetr3d", "picture0", "this model reads: it takes NIfTI"),
        ("pseudo2d", SCAN, "this model reads: it takes pictures"),
        ("unetr3d", "nobody", "no such image in the datastore"),
    ],
)
def test_an_image_that_a_model_cannot_read_gets_one_line(server, model, image, said):
    answer = requests.post(f"{server.url}/infer/{model}", params={"image": image}, timeout=600)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


def test_a_lone_file_gets_one_line_and_the_server_lives(server):
    with open(server.studies / f"{SCAN}.nii.gz", "rb") as file:
        answer = requests.post(f"{server.url}/infer/unetr3d", files={"file": (f"{SCAN}.nii.gz", file)}, timeout=600)
    assert answer.status_code == 400
    assert "the other three cannot be found" in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]
    assert server.client.info()["name"] == "gliobundle"


def test_a_damaged_scan_gets_one_line_and_the_server_lives(server, tmp_path):
    file = server.studies / "modalities" / "BraTS-GLI-00003-000_t2.nii.gz"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    try:
        image = "BraTS-GLI-00003-000_flair"
        answer = requests.post(f"{server.url}/infer/unetr3d", params={"image": image}, timeout=600)
    finally:
        file.write_bytes(content)
    assert answer.status_code == 400
    assert "_t2.nii.gz is cut short or damaged" in answer.json()["detail"]
    assert server.client.info()["name"] == "gliobundle"


def test_the_image_that_the_model_is_least_sure_of_comes_first(server):
    for model, beginning in (("unetr3d", "BraTS"), ("pseudo2d", "picture")):
        answer = requests.post(f"{server.url}/scoring/entropy_{model}", params={"run_sync": True}, timeout=600)
        assert answer.json()["failed"] == 0, answer.text
        objects = server.client.datastore()["objects"]
        scores = {
            name: found["image"]["info"][f"entropy_{model}"]
            for name, found in objects.items()
            if name.startswith(beginning) and "final" not in found["labels"]
        }
        assert scores
        assert all(0 < score < 1 for score in scores.values())
        first = server.client.next_sample(f"entropy_{model}", {})
        assert first["id"] == max(scores, key=lambda name: scores[name])
        again = requests.post(f"{server.url}/scoring/entropy_{model}", params={"run_sync": True}, timeout=600)
        assert again.json()["scored"] == 0  # the weights are the same


def test_three_labels_train_new_weights_which_are_served_and_the_shipped_ones_kept(server, tmp_path):
    for number in range(3):
        case = f"BraTS-GLI-0000{number}-000"
        mask = server.studies.parent / "volumes" / case / f"{case}-seg.nii.gz"
        server.client.save_label(f"{case}_flair", str(mask), tag="final")
    assert server.client.datastore()["objects"][SCAN]["labels"].keys() == {"final"}
    for model in ("unetr3d", "pseudo2d"):
        weights = server.bundle(model) / "models"
        shipped = (server.bundles / model / "models" / "model.pt").read_bytes()
        assert (weights / "model.pt").read_bytes() == shipped
        # Three epochs, of a step each: the schedule's first step has a learning rate of 0.
        server.client.train_start(model, {"max_epochs": 3, "device": "cpu", "learning_rate": 1.0e-2})
        task = wait_for_training(server.client)
        assert task["status"] == "DONE", "\n".join(task["details"])
        assert (weights / "model.pt").read_bytes() != shipped
        assert (weights / "model_shipped.pt").read_bytes() == shipped
        assert (server.bundles / model / "models" / "model.pt").read_bytes() == shipped
        before, after = (torch.load(weights / name) for name in ("model_shipped.pt", "model.pt"))
        assert before.keys() == after.keys()
        assert any(not torch.equal(before[name], after[name]) for name in before)

        image, name = (SCAN, "served.nii.gz") if model == "unetr3d" else ("picture3", "served.png")
        home = tmp_path / model
        home.mkdir()
        time.sleep(0.1)
        mask = served(server, model, image, home / name)
        assert np.array_equal(mask > 0, inferred(server, model, home) > 0)


def test_start_refuses_in_one_line(server, tmp_path):
    bundle, studies = server.bundles / "unetr3d", server.studies
    port = server.url.rsplit(":", 1)[1]
    empty = tmp_path / "without"
    shutil.copytree(bundle, empty, ignore=shutil.ignore_patterns("models"))
    nested = server.studies.parent / "volumes"
    for words, said in (
        (["--port", port, bundle, studies], f"cannot listen on port {port} (Address already in use). Choose another"),
        ([empty, studies], "has no weights: models/model.pt is not there"),
        ([tmp_path, studies], "is no bundle: it has no configs/inference.yaml"),
        ([bundle, nested], "python -m autoconf layout"),
        ([bundle, tmp_path / "nowhere"], "no such folder"),
        ([bundle, bundle, studies], "two bundles have the same name"),
    ):
        done = start(*words)
        assert done.returncode == 1
        assert done.stderr.startswith("start: ") and len(done.stderr.splitlines()) == 1, done.stderr
        assert said in done.stderr


@pytest.mark.promise("Security", "The server listens to this machine alone, and answers no foreign page")
def test_the_server_listens_to_this_machine_alone_and_answers_no_foreign_page(server):
    import psutil

    port = int(server.url.rsplit(":", 1)[1])
    listening = {c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port}
    assert listening == {"127.0.0.1"}
    answer = requests.get(f"{server.url}/info/", headers={"Origin": "https://example.org"}, timeout=600)
    assert "access-control-allow-origin" not in answer.headers
