"""The masked autoencoder: what it hides, what it is asked for, and how its weights reach a UNETR."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_bundles import UNETR3D, assert_refused, read_yaml, run_bundle, scripts, without
from ignite.engine import Engine
from monai.networks.blocks.patchembedding import PatchEmbeddingBlock

mae = scripts("unetr3d", "mae")
SIZES = {"in_channels": 4, "img_size": [8, 12, 8], "patch_size": 4, "hidden_size": 12, "mlp_dim": 24, "num_layers": 2}
SIZES |= {"num_heads": 2, "pos_embed_type": "learnable", "decoder_hidden_size": 12, "decoder_mlp_dim": 24}
SIZES |= {"decoder_num_layers": 1, "decoder_num_heads": 2}


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Patches


def test_patches_are_numbered_as_the_networks_tokens():
    """An embedding that takes the mean of the second channel."""
    embedding = PatchEmbeddingBlock(2, (8, 12, 4), 4, 1, 1, "conv", "none")
    torch.nn.init.zeros_(embedding.patch_embeddings.weight)
    torch.nn.init.zeros_(embedding.patch_embeddings.bias)
    torch.nn.init.constant_(embedding.patch_embeddings.weight[:, 1], 1 / 64)
    scan = image(3, 2, 8, 12, 4)
    patches = mae.cut_up(scan, 4)
    assert patches.shape == (3, 6, 128)
    assert torch.allclose(embedding(scan)[..., 0], patches[..., 64:].mean(dim=2), atol=1e-6)


def test_patches_are_put_together_again():
    scan = image(2, 3, 8, 12, 16)
    assert torch.equal(mae.put_together(mae.cut_up(scan, 4), (8, 12, 16), 4), scan)


def test_only_what_was_hidden_is_asked_for_each_patch_by_its_own_measure():
    loss, scan = mae.HiddenPatches(4), image(1, 2, 8, 4, 4)
    truth, hidden = mae.normalised(mae.cut_up(scan, 4)), torch.tensor([[1.0, 0.0]])
    assert loss((truth, hidden), scan) == 0
    wrong = truth.clone()
    wrong[:, 1] += 9  # was shown
    assert loss((wrong, hidden), scan) == 0
    wrong[:, 0] += 3
    assert loss((wrong, hidden), scan).item() == pytest.approx(9)
    scan[..., :4, :, :] = 7 * scan[..., :4, :, :] + 100  # as bright as it may be
    assert loss((truth, hidden), scan).item() == pytest.approx(0, abs=1e-6)


def test_one_contrast_may_be_told_from_another():
    """The measure of a patch is that of all its modalities: a bright one stays brighter than a dark one."""
    scan = torch.cat([torch.zeros(1, 1, 4, 4, 4), torch.ones(1, 1, 4, 4, 4)], dim=1)
    first, second = mae.normalised(mae.cut_up(scan, 4)).chunk(2, dim=2)
    assert torch.allclose(first, torch.tensor(-1.0), atol=1e-4) and torch.allclose(second, torch.tensor(1.0), atol=1e-4)


def test_a_patch_of_nothing_and_a_batch_without_hidden_ones_are_no_division_by_zero():
    scan = torch.zeros(1, 1, 8, 4, 4)
    answer = torch.full((1, 2, 64), 2.0)
    assert mae.HiddenPatches(4)((answer, torch.ones(1, 2)), scan) == 4
    assert mae.HiddenPatches(4)((answer, torch.zeros(1, 2)), scan) == 0


def test_three_patches_of_four_are_hidden_and_the_picture_holds_the_others():
    network = mae.autoencoder(**SIZES, masking_ratio=0.75)
    scan = image(2, 4, 8, 12, 8)
    patches, hidden = network(scan)
    assert patches.shape == (2, 12, 4 * 64) and hidden.sum(dim=1).tolist() == [9, 9]
    truth = mae.normalised(mae.cut_up(scan, 4))
    shown, filled = mae.filled_in((truth, hidden.float()), scan, 4)
    assert torch.allclose(filled, scan, atol=1e-4)
    black = mae.cut_up(shown, 4)
    assert not black[hidden > 0].any() and torch.equal(black[hidden == 0], mae.cut_up(scan, 4)[hidden == 0])


@pytest.mark.parametrize("amp", [False, True])
def test_it_computes_in_bfloat16_and_every_weight_learns(amp):
    network = mae.autoencoder(**SIZES)
    scan = image(2, 4, 8, 12, 8)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        answer = network(scan)
    loss = mae.HiddenPatches(4)(scripts("unetr3d", "inferers").floats(answer), scan)
    assert loss.dtype == torch.float32
    loss.backward()
    still = [name for name, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    assert all("cross_attn" in name for name in still), still  # which MONAI's blocks hold and never use


def test_two_validations_hide_the_same_patches_and_draw_nothing_from_the_training():
    network, ask = mae.autoencoder(**SIZES), mae.SameMasks()
    scan = image(2, 4, 8, 12, 8)
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    first = ask(scan, network)[1]
    assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(ask(scan, network)[1], first) and not torch.equal(network(scan)[1], first)


def test_a_scan_is_its_own_target_however_it_was_varied():
    def mirrored(scan, label):
        assert label.shape == (2, 1, 8, 4, 4)
        return scan.flip(2), label

    scan = image(2, 4, 8, 4, 4).half()
    inputs, target = mae.PrepareImages(mirrored)({"image": scan}, torch.device("cpu"))
    assert inputs.dtype == torch.float32 and torch.equal(inputs, scan.float().flip(2)) and torch.equal(inputs, target)


def test_a_share_that_hides_everything_is_refused():
    mae.check_masking(0.75, [32, 32, 32])
    with pytest.raises(SystemExit, match=r"masking_ratio 0.9 hides all 8 patches of \[32, 32, 32\]"):
        mae.check_masking(0.9, [32, 32, 32])
    with pytest.raises(SystemExit, match="masking_ratio is 1.5. It must be"):
        mae.check_masking(1.5, [32, 32, 32])


def test_the_picture_shows_the_middle_with_the_nose_up(tmp_path):
    engine, scan = Engine(lambda *_: None), torch.zeros(1, 4, 8, 12, 8)
    scan[0, 3, 7, 11, 4] = 5  # right, front
    drawn = mae.Reconstructions(str(tmp_path), patch_size=4)
    drawn.attach(engine)
    hidden = torch.zeros(1, 12)
    engine.state.output = {"pred": (torch.zeros(1, 12, 256), hidden), "image": scan}
    engine.state.batch = {"case": ["a"]}
    drawn._iteration(engine)
    case, (whole, shown, filled) = drawn.shown[0]
    assert case == "a" and np.argwhere(whole).tolist() == [[0, 0]] and whole.shape == (12, 8)
    assert (shown == whole).all() and (filled == whole).all()
    drawn._epoch()
    assert (tmp_path / "reconstruction.png").read_bytes().startswith(b"\x89PNG")


def test_it_is_the_transformer_of_the_bundles_network():
    own = read_yaml(UNETR3D / "configs" / "train.yaml")["network_def"]
    its = read_yaml(UNETR3D / "configs" / "pretrain_mae.yaml")["network_def"]
    for key in ("in_channels", "img_size", "hidden_size", "mlp_dim", "num_heads"):
        assert own[key] == its[key], key


# Through the command line


@pytest.fixture(scope="module")
def small(small, tmp_path_factory) -> Path:
    """The tiny transformer; of a UNETR's convolutions an autoencoder has none."""
    return without(small, tmp_path_factory.mktemp("small") / "small.yaml", "network_def::feature_size")


def pretrain(volumes, small, out: Path, *words: object, expect: int = 0):
    return run_bundle(
        *(UNETR3D, "training", ["train.yaml", "pretrain_mae.yaml", small]),
        *("--datalist", volumes.datalist, "--output_dir", out, "--lr_scheduler::t_total", 6, *words),
        expect=expect,
    )


@pytest.fixture(scope="module")
def two_epochs(volumes, small, tmp_path_factory):
    out = tmp_path_factory.mktemp("mae")
    return out, pretrain(volumes, small, out, "--max_epochs", 2)


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "progress.csv").read_text().splitlines()))


def test_less_loss_is_better_and_is_called_so(two_epochs):
    out, done = two_epochs
    losses = [float(row["validation_loss"]) for row in table(out)]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert f"validation loss {losses[1]:.4f} (best {losses[1]:.4f})" in done.stderr and "Dice" not in done.stderr
    best, last = (torch.load(out / name, weights_only=True) for name in ("model.pt", "model_final.pt"))
    assert all(torch.equal(best[name], last[name]) for name in last)
    assert (out / "reconstruction.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "overlays.png").exists()


def test_a_pretraining_that_was_stopped_ends_with_the_same_weights(volumes, small, two_epochs, tmp_path):
    pretrain(volumes, small, tmp_path, "--max_epochs", 1)
    pretrain(volumes, small, tmp_path, "--max_epochs", 2, "--resume", True)
    one, other = (torch.load(out / "model_final.pt", weights_only=True) for out in (tmp_path, two_epochs[0]))
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_fine_tuning_begins_with_the_whole_transformer(volumes, small, two_epochs, tmp_path):
    done = run_bundle(
        *(UNETR3D, "training", ["train.yaml", "finetune.yaml", small], "--datalist", volumes.datalist),
        *("--output_dir", tmp_path, "--pretrained", two_epochs[0] / "model.pt", "--freeze_epochs", 1),
        *("--network_def::feature_size", 8),
    )
    assert "training: loaded 161 of 194 tensors" in done.stderr and "; not in the file: encoder1 (3)" in done.stderr
    assert "; in the file only: cls_token, mask_tokens, " in done.stderr and "another shape" not in done.stderr
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    began = torch.load(two_epochs[0] / "model.pt", weights_only=True)
    assert torch.equal(weights["vit.norm.weight"], began["blocks.12.weight"])  # frozen
    assert torch.equal(weights["vit.blocks.11.attn.qkv.weight"], began["blocks.11.attn.qkv.weight"])


def test_parts_that_are_none_are_refused(volumes, small, tmp_path):
    done = pretrain(volumes, small, tmp_path / "out", "--parts", "training,testing", expect=1)
    assert_refused(done, "unetr3d", "parts is ('training', 'testing')", "training, unlabelled, validation")
