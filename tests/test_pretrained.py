"""Weights to begin with: what fits is loaded and named, learns at a rate of its own, and may stay frozen at first."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from helpers_bundles import NAMES, PSEUDO2D, UNETR3D, assert_refused, run_bundle, scripts
from ignite.engine import Engine
from monai.networks.nets import UNETR, MaskedAutoEncoderViT

MAE_MAP = [["blocks.12.", "vit.norm."], ["blocks.", "vit.blocks."], ["patch_embedding.", "vit.patch_embedding."]]
MAE_MAP += [["", ""]]


def network() -> torch.nn.ModuleDict:
    """An `encoder` of 6 weights and a `head` of 3, all 0."""
    made = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 1)})
    for weight in made.parameters():
        torch.nn.init.zeros_(weight)
    return made


def stored(folder: Path, weights: object) -> str:
    torch.save(weights, folder / "weights.pt")
    return str(folder / "weights.pt")


def encoder_weights(prefix: str = "encoder.", dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {f"{prefix}weight": torch.full((2, 2), 0.5, dtype=dtype), f"{prefix}bias": torch.ones(2, dtype=dtype)}


@pytest.mark.parametrize("bundle", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_any_precision_are_loaded_by_a_key_map_and_a_line_says_which(bundle, dtype, tmp_path, capsys):
    load, made = scripts(bundle, "pretrained").load, network()
    weights = encoder_weights("old.", dtype) | {"head.weight": torch.ones(3, 2), "mask": torch.ones(1)}
    weights |= {"decoder.0": torch.ones(1), "decoder.1": torch.ones(1)}
    path = stored(tmp_path, weights)
    assert load(made, path, [["old.", "encoder."], ["", ""]]) == {"encoder.weight", "encoder.bias"}
    assert torch.equal(made["encoder"].weight, torch.full((2, 2), 0.5)) and made["encoder"].bias.sum() == 2
    assert made["head"].weight.sum() == 0
    assert capsys.readouterr().err == (
        "training: loaded 2 of 4 tensors, 67% of the weights; of another shape: head.weight; "
        f"not in the file: head.bias; in the file only: mask, decoder (2) (from {path})\n"
    )


def refusal(bundle: str, path: str, **more: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        scripts(bundle, "pretrained").load(network(), path, **more)
    message = str(stopped.value.code)
    assert message.startswith(f"{bundle}: ") and path in message and "\n" not in message
    return message


@pytest.mark.parametrize("bundle", NAMES)
def test_what_cannot_be_loaded_is_refused_in_one_line(bundle, tmp_path):
    assert "is not there" in refusal(bundle, str(tmp_path / "none.pt"))
    (tmp_path / "text.pt").write_text("no weights")
    assert "holds no weights" in refusal(bundle, str(tmp_path / "text.pt"))
    assert "holds no weights" in refusal(bundle, stored(tmp_path, torch.nn.Linear(1, 1)))  # code, not tensors
    for content in ({"epoch": 3, "network": encoder_weights()}, [torch.ones(1)], {}, torch.ones(2)):
        assert "no plain state dict" in refusal(bundle, stored(tmp_path, content))
    weights = encoder_weights() | {"head.bias": torch.tensor([float("nan")])}
    assert "no numbers (in 'head.bias')" in refusal(bundle, stored(tmp_path, weights))
    assert "nothing in" in refusal(bundle, stored(tmp_path, encoder_weights("other.")))
    path = stored(tmp_path, encoder_weights())
    assert "begins with 'vit'" in refusal(bundle, path, encoder="vit")


def test_the_weights_of_a_training_may_lie_below_model(tmp_path):
    part = scripts("unetr3d", "pretrained").load(network(), stored(tmp_path, {"model": encoder_weights()}))
    assert part == {"encoder.weight", "encoder.bias"}


def test_every_weight_of_a_masked_autoencoders_vit_goes_to_a_unetr(tmp_path, capsys):
    sizes = {"in_channels": 4, "img_size": 32, "hidden_size": 16, "mlp_dim": 32, "num_heads": 2}
    light = {"decoder_hidden_size": 12, "decoder_mlp_dim": 16, "decoder_num_layers": 1, "decoder_num_heads": 2}
    torch.manual_seed(0)
    mae = MaskedAutoEncoderViT(**sizes, **light, patch_size=16, num_layers=12, pos_embed_type="learnable")
    unetr = UNETR(**sizes, out_channels=1, feature_size=4)
    path = stored(tmp_path, mae.state_dict())
    part = scripts("unetr3d", "pretrained").load(unetr, path, MAE_MAP, patch_size=[32] * 3, encoder="vit")
    assert part == {name for name in unetr.state_dict() if name.startswith("vit.")}
    assert torch.equal(unetr.vit.blocks[11].mlp.linear1.weight, mae.blocks[11].mlp.linear1.weight)
    image, unetr, mae = torch.randn(1, 4, 32, 32, 32), unetr.eval(), mae.eval()
    with torch.no_grad():  # they compute the same, when the autoencoder is asked without its token and its mask
        assert torch.allclose(unetr.vit(image)[0], mae.blocks(mae.patch_embedding(image)), atol=1e-5)
    assert "in the file only: cls_token, mask_tokens, decoder_pos_embedding" in capsys.readouterr().err


# Positions


def positions(*grid: int) -> torch.Tensor:
    """(1, tokens, 2): each token's first and last coordinate, as a share of the axis, at its centre."""
    axes = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in grid), indexing="ij")
    return torch.stack([axes[0].flatten(), axes[-1].flatten()], dim=1)[None]


def test_positions_are_moved_to_another_grid_of_tokens():
    """Coordinates stay coordinates, but at the edges, where there is nothing to interpolate from."""
    moved = scripts("unetr3d", "pretrained").resampled(positions(4, 2, 6), (4, 2, 6), (8, 2, 3))
    assert moved.shape == (1, 48, 2)
    inner = slice(1, -1)
    got, wanted = moved.reshape(8, 2, 3, 2)[inner], positions(8, 2, 3).reshape(8, 2, 3, 2)[inner]
    assert torch.allclose(got, wanted, atol=1e-6)
    same = positions(2, 3, 4)
    assert scripts("unetr3d", "pretrained").resampled(same, (2, 3, 4), (2, 3, 4)) is same


class Positioned(torch.nn.Module):
    """Something with a table of positions, and a weight."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.position_embeddings = torch.nn.Parameter(torch.zeros(1, tokens, 2))
        self.weight = torch.nn.Parameter(torch.zeros(1))


def load_positions(folder: Path, grid: tuple[int, ...], patch: list[int], given: tuple[int, ...] = ()) -> torch.Tensor:
    made = Positioned(torch.tensor(patch).div(16).prod().int().item())
    path = stored(folder, {"position_embeddings": positions(*grid), "weight": torch.ones(1)})
    scripts("unetr3d", "pretrained").load(made, path, patch_size=patch, pretrained_patch_size=given)
    return made.position_embeddings.detach()


def test_the_grid_of_a_file_is_the_networks_own_or_a_cube_or_given(tmp_path, capsys):
    assert torch.equal(load_positions(tmp_path, (2, 2, 3), [32, 32, 48]), positions(2, 2, 3))
    assert "resampled" not in capsys.readouterr().err
    moved = load_positions(tmp_path, (2, 2, 2), [32, 32, 48])
    assert moved.shape == (1, 12, 2)
    assert "; positions resampled from 2x2x2 to 2x2x3 tokens" in capsys.readouterr().err
    swapped = load_positions(tmp_path, (3, 2, 2), [32, 32, 48], (48, 32, 32))
    assert not torch.equal(swapped, positions(3, 2, 2)) and swapped[0, 0, 0] < swapped[0, -1, 0]
    assert "from 3x2x2 to 2x2x3" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="12 positions, no cube.*--pretrained_patch_size"):
        load_positions(tmp_path, (3, 2, 2), [32, 32, 32])
    with pytest.raises(SystemExit, match=r"12 positions, no patch of \[32, 32, 32\]"):
        load_positions(tmp_path, (3, 2, 2), [32, 32, 32], (32, 32, 32))


# Rates


@pytest.mark.parametrize("bundle", NAMES)
def test_the_pretrained_part_learns_at_a_share_of_the_rate_and_the_first_group_at_all_of_it(bundle):
    pretrained, made = scripts(bundle, "pretrained"), network()
    part = frozenset({"encoder.weight", "encoder.bias"})
    optimizer = torch.optim.AdamW(pretrained.groups(made, part, 1e-2, 0.1), lr=1e-2, weight_decay=0.0, fused=True)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-2, 1e-3])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    sum(weight.sum() for weight in made.parameters()).backward()
    optimizer.step()  # Adam's first step has the length of the rate
    assert made["head"].weight[0, 0].item() == pytest.approx(-5e-3, rel=1e-3)
    assert made["encoder"].weight[0, 0].item() == pytest.approx(-5e-4, rel=1e-3)
    assert schedule.get_last_lr() == pytest.approx([5e-3, 5e-4])


def test_a_network_that_was_loaded_whole_has_an_empty_first_group():
    made = network()
    part = frozenset(dict(made.named_parameters()))
    optimizer = torch.optim.AdamW(scripts("pseudo2d", "pretrained").groups(made, part, 1.0, 0.1), lr=1.0, fused=True)
    sum(weight.sum() for weight in made.parameters()).backward()
    optimizer.step()
    assert made["head"].weight[0, 0].item() == pytest.approx(-0.1, rel=1e-3)


# Freezing


def moved_after(bundle: str, epochs: int) -> list[tuple[bool, bool]]:
    """(encoder moved, head moved) in each of three epochs of one step, with weight decay."""
    pretrained, made = scripts(bundle, "pretrained"), network()
    torch.nn.init.ones_(made["encoder"].weight)
    torch.nn.init.ones_(made["head"].weight)
    part = frozenset({"encoder.weight", "encoder.bias"})
    optimizer = torch.optim.AdamW(pretrained.groups(made, part, 0.1, 0.1), lr=0.1, weight_decay=0.1)
    found = []

    def step(engine, batch):
        before = [weight.detach().clone() for weight in made.parameters()]
        optimizer.zero_grad(set_to_none=False)  # as MONAI's trainer does
        made["head"](made["encoder"](torch.ones(1, 2))).sum().backward()
        optimizer.step()
        moved = [not torch.equal(old, new) for old, new in zip(before, made.parameters(), strict=True)]
        found.append((moved[0], moved[2]))

    engine = Engine(step)
    pretrained.Freeze(made, part, epochs).attach(engine)
    engine.run([0], max_epochs=3)
    return found


@pytest.mark.parametrize("bundle", NAMES)
def test_the_pretrained_part_is_frozen_for_some_epochs_and_not_decayed(bundle):
    assert moved_after(bundle, 2) == [(False, True), (False, True), (True, True)]
    assert moved_after(bundle, 0) == [(True, True)] * 3


def test_to_freeze_all_weights_is_refused():
    made = network()
    every = frozenset(dict(made.named_parameters()))
    scripts("unetr3d", "pretrained").Freeze(made, every, 0)
    with pytest.raises(SystemExit, match="nothing would learn.*--encoder"):
        scripts("unetr3d", "pretrained").Freeze(made, every, 1)


# Through the command line


@pytest.fixture(scope="module")
def pretrained(volumes, small, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("pretrained")
    run_bundle(UNETR3D, "training", ["train.yaml", small], "--datalist", volumes.datalist, "--output_dir", out)
    return out / "model.pt"


def finetune(volumes, small, out: Path, weights: Path, *words: object, expect: int = 0):
    return run_bundle(
        *(UNETR3D, "training", ["train.yaml", "finetune.yaml", small]),
        *("--datalist", volumes.datalist, "--output_dir", out, "--pretrained", weights, *words),
        expect=expect,
    )


def same(one: dict, other: dict, prefix: str) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one if name.startswith(prefix))


def test_a_fine_tuning_that_was_stopped_ends_with_the_same_weights(volumes, small, pretrained, tmp_path):
    """Frozen in the first of three epochs of three steps, stopped after the first, or not at all."""
    words = ("--freeze_epochs", 1, "--dropout", 0.1, "--learning_rate", 0.001, "--lr_scheduler::t_total", 9)
    done = finetune(volumes, small, tmp_path / "whole", pretrained, *words, "--max_epochs", 3)
    assert "training: loaded 193 of 193 tensors, 100% of the weights (from" in done.stderr
    whole = torch.load(tmp_path / "whole" / "model_final.pt", weights_only=True)
    finetune(volumes, small, tmp_path / "parts", pretrained, *words, "--max_epochs", 1)
    first = torch.load(tmp_path / "parts" / "model_final.pt", weights_only=True)
    began = torch.load(pretrained, weights_only=True)
    assert same(first, began, "vit.") and not same(first, began, "out.") and not same(whole, began, "vit.")
    finetune(volumes, small, tmp_path / "parts", pretrained, *words, "--max_epochs", 3, "--resume", True)
    assert same(torch.load(tmp_path / "parts" / "model_final.pt", weights_only=True), whole, "")


def test_a_head_of_other_regions_and_a_patch_of_another_size_are_no_obstacle(volumes, small, pretrained, tmp_path):
    done = finetune(volumes, small, tmp_path, pretrained, "--regions", "wt,tc,et", "--patch_size", "[32,32,48]")
    assert "training: loaded 191 of 193 tensors" in done.stderr and "; of another shape: out (2) (from" in done.stderr
    assert "positions resampled from 2x2x2 to 2x2x3 tokens" in done.stderr


def test_fine_tuning_without_weights_is_refused(volumes, small, tmp_path):
    done = finetune(volumes, small, tmp_path / "out", tmp_path / "none.pt", expect=1)
    assert_refused(done, "unetr3d", "pretrained is", "none.pt", "It must be a file that exists")


@pytest.mark.long
def test_images_begin_with_weights_of_other_images(slices, pseudo_labelled, tmp_path):
    common = ("--datalist", slices.datalist, "--mask_dir", pseudo_labelled / "masks", "--image_size", 64)
    common += ("--max_epochs", 1)
    run_bundle(PSEUDO2D, "training", ["train.yaml"], *common, "--output_dir", tmp_path / "first")
    weights = tmp_path / "first" / "model.pt"
    done = run_bundle(
        *(PSEUDO2D, "training", ["train.yaml", "finetune.yaml"], *common),
        *("--pretrained", weights, "--output_dir", tmp_path / "second"),
    )
    assert "tensors, 100% of the weights (from" in done.stderr
    losses = []
    for name in ("first", "second"):
        (row,) = csv.DictReader((tmp_path / name / "progress.csv").read_text().splitlines())
        losses.append(float(row["loss"]))
    assert losses[1] < losses[0]
