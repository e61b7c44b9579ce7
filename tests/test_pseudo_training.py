"""Training on pseudo-masks: a soft mask is a target between 0 and 1, and what nobody knows counts for nothing."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from helpers_bundles import UNETR3D, run_bundle, scripts
from monai.losses import DiceFocalLoss

datalist = scripts("unetr3d", "datalist")
transforms = scripts("unetr3d", "transforms")
losses = scripts("unetr3d", "losses")
cache = scripts("unetr3d", "cache")
SOFT, STEPS, IGNORED = transforms.SOFT, transforms.STEPS, transforms.IGNORED


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_for_sure_labels_it_is_the_loss_of_train_yaml(weight):
    torch.manual_seed(0)
    logits, target = torch.randn(2, 1, 6, 5, 4), (torch.rand(2, 1, 6, 5, 4) > 0.7).float()
    plain = DiceFocalLoss(gamma=0.0, sigmoid=True, batch=True, lambda_dice=weight, lambda_focal=1 - weight)
    assert losses.MaskedDiceBCE(weight)(logits, target).item() == pytest.approx(plain(logits, target).item(), abs=1e-5)


def test_what_nobody_knows_changes_neither_loss_nor_gradient():
    torch.manual_seed(0)
    target = (torch.rand(1, 1, 8, 8, 8) > 0.7).float()
    target[..., :3] = IGNORED
    first = torch.randn(1, 1, 8, 8, 8, requires_grad=True)
    changed = first.detach().clone()
    changed[..., :3] += 9
    loss = losses.MaskedDiceBCE(0.5)
    assert loss(first, target).item() == loss(changed, target).item()
    loss(first, target).backward()
    assert not first.grad[..., :3].any() and first.grad[..., 3:].all()
    everything = torch.full_like(target, IGNORED)
    assert torch.isfinite(loss(first, everything)) and loss(first, everything) < 1e-3


def test_a_consensus_is_a_target_between_0_and_1():
    codes = torch.tensor([0.0, 1, SOFT + STEPS * 0.25, SOFT + STEPS, IGNORED])
    target, known = losses.decoded(codes)
    assert target.tolist() == [0, 1, 0.25, 1, 0] and known.tolist() == [1, 1, 1, 1, 0]
    logits = torch.linspace(-6, 6, 241)
    entropy = [losses.MaskedDiceBCE(0.0)(x.reshape(1, 1, 1), codes[2].reshape(1, 1, 1)) for x in logits]
    assert torch.sigmoid(logits[int(torch.stack(entropy).argmin())]) == pytest.approx(0.25, abs=0.01)


def test_three_masks_become_one_that_keeps_what_they_say():
    soft = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0, 0.4]).reshape(1, 6, 1, 1)
    ignore = torch.tensor([0.0, 0, 0, 0, 0, 1]).reshape(1, 6, 1, 1)
    codes = transforms.coded(torch.cat([soft > 0.5, soft, ignore]))
    assert codes.dtype == torch.uint8 and codes.shape == (1, 6, 1, 1)
    target, known = losses.decoded(codes.float())
    assert target.flatten()[:5].tolist() == pytest.approx(soft.flatten()[:5].tolist(), abs=0.003)
    assert known.flatten().tolist() == [1, 1, 1, 1, 1, 0]
    assert cache.is_tumour(codes.numpy()).ravel().tolist() == [False, False, True, True, True, False]


@pytest.fixture(scope="module")
def with_pseudo(volumes, tmp_path_factory) -> Path:
    """The phantoms' datalist; two training cases became unlabelled ones with pseudo-masks, one of a test patient."""
    home = tmp_path_factory.mktemp("with_pseudo")
    content = json.loads(volumes.datalist.read_text())
    moved = [content["training"].pop(next(i for i, t in enumerate(content["training"]) if t["fold"])) for _ in range(2)]
    content["unlabelled"] = []
    for item, side in zip(moved, (None, "testing"), strict=True):
        image = nibabel.load(volumes.folder / item["label"])
        hard = np.asarray(image.dataobj) > 0
        files = {}
        for key, mask in (("label", hard), ("soft", 0.9 * hard), ("ignore", np.roll(hard, 2, 0) & ~hard)):
            files[key] = str(home / f"{item['case']}_{key}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(mask.astype(np.float32), image.affine), files[key])
        pseudo = {"case": item["case"], "image": item["image"], "regions": {"wt": [1]}, "pseudo": True}
        content["unlabelled"].append(pseudo | files | ({"side": side} if side else {}))
    content["unlabelled"].append({"case": "bare", "image": moved[0]["image"]})
    (home / "datalist.json").write_text(json.dumps(content))
    return home / "datalist.json"


def test_pseudo_masks_are_trained_on_only_if_asked_for_and_never_of_a_test_patient(with_pseudo):
    content = json.loads(with_pseudo.read_text())
    plain, more = (datalist.training_items(str(with_pseudo), pseudo=pseudo) for pseudo in (False, True))
    assert more[: len(plain)] == plain
    (added,) = more[len(plain) :]
    first = content["unlabelled"][0]
    assert added["case"] == first["case"] and added["pseudo"] is True
    assert added["label"] == [first[key] for key in ("label", "soft", "ignore")]
    held_out = {item["case"] for item in datalist.validation_items(str(with_pseudo))}
    assert not held_out & {item["case"] for item in content["unlabelled"]}
    with pytest.raises(SystemExit, match="pseudo-masks know the whole tumour only"):
        datalist.training_items(str(with_pseudo), regions="wt,tc", pseudo=True)


def test_a_datalist_without_pseudo_masks_is_refused(volumes):
    with pytest.raises(SystemExit, match="none of its unlabelled cases has a pseudo-mask"):
        datalist.training_items(str(volumes.datalist), pseudo=True)


def test_a_training_learns_from_them(with_pseudo, small, tmp_path):
    run_bundle(
        *(UNETR3D, "training", ["train.yaml", "pseudo_training.yaml", small], "--datalist", with_pseudo),
        *("--output_dir", tmp_path / "run", "--cache_dir", tmp_path / "cache"),
    )
    assert (tmp_path / "run" / "model.pt").is_file()
    labels = [np.load(path) for path in (tmp_path / "cache").rglob("label.npy")]
    assert sum(IGNORED in np.unique(label) for label in labels) == 1
