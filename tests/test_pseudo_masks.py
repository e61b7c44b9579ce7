"""Training on masks that a program made: probabilities as targets, and voxels that nobody knows."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from helpers_bundles import UNETR3D, run_bundle, scripts
from monai.data import MetaTensor
from monai.losses import DiceFocalLoss

losses, transforms = scripts("unetr3d", "losses"), scripts("unetr3d", "transforms")


def target(soft: torch.Tensor, ignore: torch.Tensor | None = None) -> torch.Tensor:
    """(B, 3, ...) of a probability (B, 1, ...) and what is ignored."""
    ignore = torch.zeros_like(soft) if ignore is None else ignore
    return torch.cat([(soft > 0.5).float(), soft * 255, ignore], dim=1)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dice_weight", [0.0, 0.3, 1.0])
def test_of_a_mask_that_is_sure_it_is_the_loss_of_a_plain_training(dice_weight):
    logits, mask = drawn(2, 1, 5, 6, 4), (drawn(2, 1, 5, 6, 4, seed=1) > 0.5).float()
    plain = DiceFocalLoss(gamma=0.0, sigmoid=True, batch=True, lambda_dice=dice_weight, lambda_focal=1 - dice_weight)
    assert losses.Masked(dice_weight)(logits, target(mask)).item() == pytest.approx(
        plain(logits, mask).item(), abs=1e-5
    )


@pytest.mark.parametrize("dice_weight", [0.0, 1.0])
def test_an_ignored_voxel_counts_in_neither_term(dice_weight):
    loss, mask = losses.Masked(dice_weight), (drawn(2, 1, 4, 4, 4, seed=1) > 0).float()
    ignore = (drawn(2, 1, 4, 4, 4, seed=2) > 0).float()
    logits = drawn(2, 1, 4, 4, 4).requires_grad_()
    found = loss(logits, target(mask, ignore))
    found.backward()
    assert not logits.grad[ignore > 0].any() and logits.grad[ignore == 0].all()
    other_mask, other = torch.where(ignore > 0, 1 - mask, mask), logits.detach() + 9 * ignore
    assert loss(other, target(other_mask, ignore)).item() == pytest.approx(found.item(), abs=1e-6)


def test_where_all_is_ignored_there_is_no_loss():
    logits = drawn(1, 1, 4, 4, 4).requires_grad_()
    found = losses.Masked()(logits, target(torch.ones(1, 1, 4, 4, 4), torch.ones(1, 1, 4, 4, 4)))
    found.backward()
    assert found.item() == pytest.approx(0, abs=1e-6) and not logits.grad.any()


@pytest.mark.parametrize("dice_weight", [0.0, 0.5, 1.0])
def test_nothing_is_better_than_to_say_the_probability_itself(dice_weight):
    """The plain Dice would rather have 0 and 1."""
    soft = torch.rand(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0)) * 0.98 + 0.01
    loss, itself = losses.Masked(dice_weight), torch.logit(soft)
    best = loss(itself, target(soft))
    for other in (itself * 20, itself * 0.5, itself + 0.3, itself - 0.3):
        assert loss(other, target(soft)) > best


# Targets


def mask_of(*channels: list[float]) -> MetaTensor:
    """(C, 4, 1, 1), four voxels in a row."""
    return MetaTensor(torch.tensor(channels)[..., None, None], meta={"filename_or_obj": "a.nii.gz"})


def made(channels: MetaTensor, **item: object) -> list[list[int]]:
    found = transforms.Targetsd("label")({"label": channels, **item})
    assert set(found) == {"label"} and found["label"].dtype == torch.uint8
    return found["label"][..., 0, 0].tolist()


def test_a_target_is_mask_probability_and_what_is_ignored():
    soft, ignore = [0.0, 0.2, 1.0, 0.5], [0.0, 1.0, 0.0, 2.0]
    hard = [0.0, 0.0, 1.0, 4.0]
    assert made(mask_of(hard), targets={}) == [[0, 0, 1, 1], [0, 0, 255, 255], [0, 0, 0, 0]]
    both = mask_of(hard, soft, ignore)
    assert made(both, targets={"soft": 1, "ignore": 2}) == [[0, 0, 1, 1], [0, 51, 255, 128], [0, 1, 0, 1]]
    assert made(mask_of(hard, ignore), targets={"ignore": 1})[1:] == [[0, 0, 255, 255], [0, 1, 0, 1]]
    assert made(mask_of(hard), targets={}, values=[[1]])[0] == [0, 0, 1, 0]


def test_what_is_known_is_made_regions_of():
    assert made(mask_of([0.0, 1.0, 2.0, 4.0]), values=[[1, 2, 4], [1, 4]]) == [[0, 1, 1, 1], [0, 1, 0, 1]]
    assert made(mask_of([0.0, 1.0, 2.0, 4.0])) == [[0, 1, 1, 1]]


def test_a_soft_mask_in_percent_is_refused():
    with pytest.raises(SystemExit, match="a.nii.gz is no probability: 0.0 to 100.0"):
        made(mask_of([0.0] * 4, [0.0, 100.0, 50.0, 1.0]), targets={"soft": 1})


# Through the command line


@pytest.fixture(scope="module")
def marked(volumes, tmp_path_factory) -> Path:
    """A datalist whose unlabelled cases are those of fold 3, with masks, probabilities and ignored voxels, and one of
    the fold that validates, which must not train: its mask is not there."""
    home = tmp_path_factory.mktemp("marked")
    content = json.loads(volumes.datalist.read_text())
    moved = [item for item in content["training"] if item["fold"] == 3]
    content["training"] = [item for item in content["training"] if item["fold"] != 3]
    content["unlabelled"] = []
    for item in moved:
        image = nibabel.load(volumes.folder / item["label"])
        hard = (np.asarray(image.dataobj) > 0).astype(np.float32)
        files = {"label": hard, "soft": hard * 0.9, "ignore": np.zeros_like(hard)}
        files["ignore"][:4] = 1
        for key, values in files.items():
            path = home / f"{item['case']}_{key}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(values, image.affine), path)
            files[key] = str(path)
        content["unlabelled"].append({"case": item["case"], "image": item["image"], **files})
    held = next(item for item in content["training"] if item["fold"] == 0)
    content["unlabelled"].append({**held, "side": 0, "label": "nowhere.nii.gz"})
    (home / "datalist.json").write_text(json.dumps(content))
    return home / "datalist.json"


@pytest.mark.parametrize(("parts", "cases"), [("unlabelled", 2), ("training,unlabelled", 6)])
def test_it_trains_on_pseudo_masks_and_validates_on_the_truth(volumes, marked, small, parts, cases, tmp_path):
    run_bundle(
        *(UNETR3D, "training", ["train.yaml", "pretrain_pseudo.yaml", small], "--datalist", marked),
        *("--output_dir", tmp_path, "--parts", parts),
    )
    assert json.loads((tmp_path / "run.json").read_text())["cases"] == cases
    assert torch.load(tmp_path / "model.pt", weights_only=True)["out.conv.conv.bias"].shape == (1,)
    assert (tmp_path / "overlays.png").exists()
