"""The small parts that MONAI lacks: transforms, mixed precision, gradient clipping, sampling for several processes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from helpers_bundles import NAMES, scripts
from hypothesis import given
from hypothesis import strategies as st
from monai.data import DataLoader, MetaTensor
from monai.engines import SupervisedTrainer
from monai.inferers import SimpleInferer, SlidingWindowInferer

transforms = scripts("unetr3d", "transforms")
distributed = scripts("unetr3d", "distributed")


def image(spacing: tuple[float, float, float], channels: int = 2) -> MetaTensor:
    values = torch.randn(channels, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    return MetaTensor(values, affine=torch.diag(torch.tensor([*spacing, 1.0])))


# Transforms


def test_a_result_is_named_after_its_case_if_there_is_one():
    pred = MetaTensor(torch.ones(1, 2, 2, 2), meta={"filename_or_obj": "a/b_t1.nii.gz"})
    rename = transforms.NameByCased("pred")
    assert rename({"pred": pred.clone()})["pred"].meta["filename_or_obj"] == "a/b_t1.nii.gz"
    assert rename({"pred": pred, "case": "b"})["pred"].meta["filename_or_obj"] == "b.nii.gz"


# Mixed precision


@pytest.fixture(params=NAMES)
def inferers(request, monkeypatch):
    """The module of each bundle, believing that bfloat16 is fast here."""
    module = scripts(request.param, "inferers")
    monkeypatch.setattr(module, "bf16_is_fast", lambda device: True)
    return module


@pytest.mark.parametrize("inner", [SimpleInferer(), SlidingWindowInferer((16, 16), overlap=0.5, mode="gaussian")])
def test_mixed_precision_returns_float32_near_the_full_result(inferers, inner):
    torch.manual_seed(0)
    first, last = torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.Conv2d(8, 1, 3, padding=1)
    network = torch.nn.Sequential(first, torch.nn.ReLU(), last)
    seen: list[torch.dtype] = []
    first.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    inputs = torch.randn(1, 1, 24, 24)
    mixed = inferers.MixedPrecision(inner)(inputs, network)
    assert seen[-1] == torch.bfloat16  # before it: copies of the network, which were compared
    full = inferers.MixedPrecision(inner, False)(inputs, network)
    assert seen[-1] == torch.float32
    assert mixed.dtype == full.dtype == torch.float32
    assert (mixed - full).abs().max() < 2e-2


def test_without_fast_bfloat16_nothing_changes(inferers, monkeypatch):
    monkeypatch.setattr(inferers, "bf16_is_fast", lambda device: False)
    network = torch.nn.Conv2d(1, 1, 3)
    inputs = torch.randn(1, 1, 8, 8)
    assert torch.equal(inferers.MixedPrecision(SimpleInferer())(inputs, network), network(inputs))


# Gradient clipping


def steep_step(bundle: str, max_norm: float) -> float:
    """The length of a step of plain gradient descent at rate 1 from a steep loss, in MONAI's own trainer."""
    torch.manual_seed(0)
    network = torch.nn.Linear(4, 1)
    before = [p.detach().clone() for p in network.parameters()]
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader([{"image": torch.ones(4), "label": torch.zeros(1)}], batch_size=1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=lambda pred, label: 1000 * ((pred - label) ** 2 + pred).sum(),
        train_handlers=[scripts(bundle, "handlers").ClipGradients(max_norm)],
    )
    trainer.run()
    return float(
        torch.cat([(p - b).flatten() for p, b in zip(network.parameters(), before, strict=True)]).norm().detach()
    )


@pytest.mark.parametrize("bundle", NAMES)
def test_a_steep_step_is_cut_to_the_norm_and_none_at_infinity(bundle):
    assert steep_step(bundle, 1.0) == pytest.approx(1.0, abs=1e-3)
    assert steep_step(bundle, 0.1) == pytest.approx(0.1, abs=1e-3)
    assert steep_step(bundle, float("inf")) > 100


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_norm_is_that_of_all_gradients_as_torch_has_it(order):
    gradients = [torch.randn(6, 3, 5, 5).to(memory_format=order), torch.randn(7), torch.randn(2, 3)]
    norm = scripts("unetr3d", "handlers").total_norm
    assert norm(gradients) == pytest.approx(float(torch.nn.utils.get_total_norm(gradients)), rel=1e-6)
    assert norm([*gradients, torch.tensor([torch.nan])]).isnan() and norm([torch.tensor([torch.inf])]).isinf()


# Several processes

shares = st.tuples(st.integers(1, 12), st.integers(1, 5), st.integers(1, 6), st.integers(0, 9))


@given(shares)
def test_processes_draw_equally_often_and_each_case_as_often_as_asked(drawn):
    cases, repeats, processes, seed = drawn
    samplers = [distributed.RepeatingSampler(range(cases), repeats, rank, processes, seed) for rank in range(processes)]
    parts = [list(sampler) for sampler in samplers]
    assert {len(part) for part in parts} == {len(sampler) for sampler in samplers} == {-(-cases * repeats // processes)}
    counts = Counter(case for part in parts for case in part)
    assert set(counts) == set(range(cases)) and min(counts.values()) >= repeats
    assert sum(counts.values()) - cases * repeats < processes


def test_each_epoch_has_an_order_of_its_own_that_the_seed_repeats():
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        sampler = distributed.RepeatingSampler(range(20), 1, 0, 1, seed)
        sampler.epoch = epoch
        return tuple(sampler)

    epochs = [order(0, epoch) for epoch in (1, 2, 3)]
    assert [order(0, epoch) for epoch in (1, 2, 3)] == epochs
    assert len(set(epochs)) == 3
    assert order(1, 1) != epochs[0]


def test_a_run_without_torchrun_is_told_of_it(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(SystemExit, match="needs torchrun"):
        distributed.start()


# Names of rows


@pytest.mark.parametrize("bundle", NAMES)
def test_scores_are_listed_by_case(bundle):
    rows = scripts(bundle, "handlers").case_names([{"case": "a", "image": np.zeros(1)}, {"case": "b"}])
    assert rows == [{"filename_or_obj": "a"}, {"filename_or_obj": "b"}]


# Modalities and regions


def volume(*channels: float) -> MetaTensor:
    """(C, 2, 2, 2), every channel of one value, with an affine to be kept."""
    return MetaTensor(
        torch.tensor(channels).view(-1, 1, 1, 1).repeat(1, 2, 2, 2), affine=torch.diag(torch.tensor([2.0, 2, 2, 1]))
    )


def test_contrasts_are_sorted_and_a_missing_one_is_zero():
    picked = transforms.SelectModalitiesd("image")({"image": volume(30, 0, 10), "channels": [1, 2, -1, 0]})
    assert picked["image"][:, 0, 0, 0].tolist() == [0, 10, 0, 30]
    assert "channels" not in picked and (picked["image"].affine == volume(1).affine).all()
    untouched = transforms.SelectModalitiesd("image")({"image": volume(1, 2, 3, 4)})
    assert untouched["image"][:, 0, 0, 0].tolist() == [1, 2, 3, 4]


def test_label_values_become_regions_and_regions_become_label_values():
    mask = MetaTensor(torch.tensor([0.0, 1, 2, 3, 4, 0, 0, 0]).view(1, 2, 2, 2))
    made = transforms.Regionsd("label")({"label": mask, "values": [[1, 2, 3], [1, 3], [3]]})
    assert made["label"].flatten(1).tolist() == [
        [0, 1, 1, 1, 0, 0, 0, 0],
        [0, 1, 0, 1, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0, 0],
    ]
    assert "values" not in made and made["label"].dtype == torch.uint8
    back = transforms.RegionsToLabelsd("label", "wt,tc,et")({"label": made["label"]})
    assert back["label"].flatten().tolist() == [0, 1, 2, 3, 0, 0, 0, 0]


def test_without_values_all_labels_are_tumour_and_one_region_is_0_and_1():
    mask = MetaTensor(torch.tensor([0.0, 1, 2, 4, 0, 0, 0, 0]).view(1, 2, 2, 2))
    made = transforms.Regionsd("label")({"label": mask})
    assert made["label"].flatten().tolist() == [0, 1, 1, 1, 0, 0, 0, 0]
    assert transforms.RegionsToLabelsd("label", "wt")(made)["label"].flatten().tolist() == [0, 1, 1, 1, 0, 0, 0, 0]


def test_picking_contrasts_keeps_the_way_back():
    """A scan without one of its modalities must still return to its own grid."""
    image = MetaTensor(torch.ones(1, 2, 2, 2))
    image.push_applied_operation({"class": "Test"})
    picked = transforms.SelectModalitiesd("image")({"image": image, "channels": [-1, 0]})["image"]
    assert picked.shape[0] == 2 and picked.applied_operations == [{"class": "Test"}]


def dropped(mask: torch.Tensor, smallest: float, spacing: tuple[float, ...] = (1, 1, 2)) -> torch.Tensor:
    affine = torch.diag(torch.tensor([-spacing[0], spacing[1], spacing[2], 1.0]))
    return transforms.DropSmalld("pred", smallest)({"pred": MetaTensor(mask.clone(), affine=affine)})["pred"]


def islands() -> torch.Tensor:
    """Two regions; objects of the outer one: 4 x 4 x 4, 2 x 2 x 2 and, touching that by an edge alone, 1 voxel."""
    mask = torch.zeros(2, 12, 12, 12, dtype=torch.uint8)
    mask[0, 1:5, 1:5, 1:5] = 1
    mask[0, 7:9, 7:9, 7:9] = 1
    mask[0, 9, 9, 8] = 1
    mask[1, 7, 7, 7] = mask[1, 2, 2, 2] = 1
    return mask


@pytest.mark.parametrize(("smallest", "left"), [(0, 73), (2, 73), (2.1, 72), (16, 72), (16.1, 64), (1000, 64)])
def test_small_objects_are_dropped_by_their_volume_but_never_the_largest(smallest, left):
    mask = islands()
    found = dropped(mask, smallest)
    assert int(found[0].sum()) == left and found.dtype == torch.uint8 and found.shape == mask.shape
    assert int(found[1].sum()) == (2 if left >= 72 else 1)  # inner regions go with the object around them
    assert not ((found == 1) & (mask == 0)).any()


def test_an_empty_mask_stays_empty():
    assert not dropped(torch.zeros(1, 3, 3, 3, dtype=torch.uint8), 5).any()
