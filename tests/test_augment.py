"""Augmentation of whole batches: the same as one sample at a time, and never an image apart from its mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers_bundles import scripts
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import (
    AdjustContrast,
    Affine,
    Flip,
    GaussianSmooth,
    ScaleIntensity,
    ShiftIntensity,
)

augment, ops = scripts("unetr3d", "augment"), scripts("unetr3d", "batch_ops")
SIZES = {2: (18, 23), 3: (14, 17, 11)}
BOTH = pytest.mark.parametrize("axes", SIZES)


def batch(axes: int, samples: int = 3, channels: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(samples, channels, *SIZES[axes], generator=torch.Generator().manual_seed(seed))


def masks(axes: int, samples: int = 3, regions: int = 2) -> torch.Tensor:
    return (batch(axes, samples, regions, seed=1) > 0.5).to(torch.uint8)


def worst(found: torch.Tensor, wanted: list[torch.Tensor]) -> float:
    return max(float((a - torch.as_tensor(b)).abs().max()) for a, b in zip(found, wanted, strict=True))


EVERY = {
    "Affine": {"rotation": 0.4, "scaling": 0.2},
    "Flip": {"axes": [0, 1]},
    "Blur": {"sigma": [0.3, 1.5]},
    "LowResolution": {"factor": [1.0, 3.0]},
    "ScaleIntensity": {"factor": 0.3},
    "ShiftIntensity": {"offset": 0.3},
    "Contrast": {"factor": [0.7, 1.3]},
    "Gamma": {"gamma": [0.7, 1.5]},
    "Noise": {"std": 0.3},
    "BiasField": {"strength": 0.3},
    "ModalityDropout": {},
    "Transplant": {"margin": [0, 1]},
}


def make(name: str, prob: float):
    return getattr(augment, name)(prob=prob, **EVERY[name])


# Each function against the MONAI transform of one sample. Where a bound is 0 the numbers are equal to the last bit.


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@BOTH
def test_affine_is_monais(axes, mode):
    images = batch(axes)
    angles = torch.tensor([[0.2, -0.1, 0.3], [0.0, 0.5, 0.0], [-0.35, 0.1, 0.2]])[:, : 3 if axes == 3 else 1]
    factors = torch.tensor([[1.1, 0.9, 1.05], [1.0, 1.0, 1.0], [0.85, 1.15, 1.0]])[:, :axes]
    grid = ops.affine_grid(ops.affine_matrices(angles, factors), images)
    wanted = [
        Affine(rotate_params=a.tolist(), scale_params=f.tolist(), padding_mode="zeros", image_only=True)(i, mode=mode)
        for i, a, f in zip(images, angles, factors, strict=True)
    ]
    found = ops.sample(images, grid, mode)
    if mode == "bilinear":
        assert worst(found, wanted) < 2e-5
    else:  # a voxel halfway between two may go either way
        assert np.mean([(a != torch.as_tensor(b)).float().mean() for a, b in zip(found, wanted, strict=True)]) < 1e-3


def test_a_single_sample_shared_out_among_threads_is_the_same():
    image = batch(3, samples=1)
    grid = ops.affine_grid(ops.affine_matrices(torch.tensor([[0.2, -0.1, 0.3]]), torch.full((1, 3), 0.9)), image)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):  # its first axis has 14 voxels: 3 do not share them evenly
            torch.set_num_threads(threads)
            found.append([ops.sample(image, grid, mode) for mode in ("bilinear", "nearest")])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@BOTH
def test_flip_is_monais(axes):
    images, dims = batch(axes), [[2], [], [2, 3]]
    wanted = [Flip([d - 2 for d in own])(image) if own else image for image, own in zip(images, dims, strict=True)]
    assert worst(ops.flip(images.clone(), dims), wanted) == 0


@BOTH
def test_blur_is_monais(axes):
    images = batch(axes)
    sigmas = torch.tensor([[0.3, 0.7, 1.0], [0.5, 0.5, 0.5], [2.0, 6.0, 0.1]])[:, :axes]  # wider than the image, too
    wanted = [GaussianSmooth(s.tolist(), approx="erf")(i) for i, s in zip(images, sigmas, strict=True)]
    assert worst(ops.blur(images, sigmas), wanted) < 2e-6


@BOTH
def test_low_resolution_is_torchs_interpolation_down_and_up(axes):
    images, factors = batch(axes), torch.tensor([1.0, 1.7, 3.0])
    mode = "trilinear" if axes == 3 else "bilinear"
    wanted = []
    for image, factor in zip(images, factors, strict=True):
        small = [max(1, round(n / float(factor))) for n in image.shape[1:]]
        down = torch.nn.functional.interpolate(image[None], small, mode="nearest-exact")
        wanted.append(torch.nn.functional.interpolate(down, image.shape[1:], mode=mode)[0])
    assert worst(ops.low_resolution(images, factors), wanted) < 1e-5


@BOTH
def test_gamma_is_monais(axes):
    images, powers = batch(axes), torch.tensor([0.7, 1.0, 1.5])
    wanted = [AdjustContrast(float(p), retain_stats=True)(i) for i, p in zip(images, powers, strict=True)]
    assert worst(ops.gamma_transform(images, powers), wanted) < 1e-5


@BOTH
def test_contrast_keeps_the_mean_of_each_channel_and_stretches_its_deviation(axes):
    images, factors = batch(axes), torch.rand(3, 4) + 0.5
    dims = tuple(range(2, images.ndim))
    found = ops.contrast(images, factors)
    assert torch.allclose(found.mean(dims), images.mean(dims), atol=1e-6)
    assert torch.allclose(found.std(dims), images.std(dims) * factors, atol=1e-5)


def in_the_draws_of(name: str, images: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, list]:
    """What the transform makes of all samples, and the numbers that it draws for them."""
    torch.manual_seed(seed)
    found = make(name, 1.0)(images.clone(), masks(images.ndim - 2))[0]
    torch.manual_seed(seed)
    torch.rand(len(images))  # who is due
    shape = (len(images), images.shape[1])
    drawn = torch.rand(shape) * 2 - 1 if name != "Noise" else torch.rand(len(images))
    return found, drawn.tolist()


@BOTH
def test_scale_and_shift_are_monais_channel_by_channel(axes):
    images = batch(axes)
    for name, reference in (("ScaleIntensity", ScaleIntensity), ("ShiftIntensity", ShiftIntensity)):
        found, drawn = in_the_draws_of(name, images)
        for sample, before, numbers in zip(found, images, drawn, strict=True):
            for channel, value, number in zip(sample, before, numbers, strict=True):
                how = {"minv": None, "maxv": None, "factor": 0.3 * number} if reference is ScaleIntensity else {}
                how = how or {"offset": 0.3 * number}
                assert torch.allclose(channel, torch.as_tensor(reference(**how)(value)), atol=1e-6)


@BOTH
def test_noise_has_the_deviation_that_was_drawn(axes):
    images = torch.zeros(3, 4, *[s * 3 for s in SIZES[axes]])
    found, drawn = in_the_draws_of("Noise", images)
    for sample, share in zip(found, drawn, strict=True):
        assert float(sample.std()) == pytest.approx(0.3 * share, rel=0.1)
        assert abs(float(sample.mean())) < 0.05


# Samples, seeds, probabilities


@pytest.mark.parametrize("name", [n for n in EVERY if n not in ("Noise", "Transplant")])
@BOTH
def test_a_batch_is_changed_as_its_samples_one_by_one(name, axes):
    """The draws of a batch are made at once: with one sample at a time they are handed over one after the other."""
    images, labels = batch(axes), masks(axes)
    transform = make(name, 1.0)
    torch.manual_seed(3)
    wanted = transform(images.clone(), labels.clone())
    rolled = torch.roll(images, 1, 0), torch.roll(labels, 1, 0)
    torch.manual_seed(3)
    found = transform(rolled[0].clone(), rolled[1].clone())
    alone = torch.allclose(found[0], wanted[0], atol=1e-6)
    assert not alone  # what is drawn belongs to the place in the batch,
    torch.manual_seed(3)
    same = images[:1].expand(3, *images.shape[1:]).clone(), labels[:1].expand(3, *labels.shape[1:]).clone()
    repeated = transform(*same)
    assert torch.allclose(repeated[0][0], wanted[0][0], atol=1e-6)  # and not to what else is in it
    assert torch.equal(repeated[1][0], wanted[1][0])


@pytest.mark.parametrize("name", EVERY)
@BOTH
def test_who_is_not_drawn_is_left_to_the_last_bit_and_others_at_the_promised_rate(name, axes):
    torch.manual_seed(0)
    transform, changed, draws = make(name, 0.3), 0, 60
    for _ in range(draws):
        images, labels = batch(axes, 4), masks(axes, 4)
        found, _ = transform(images.clone(), labels)
        changed += sum(not torch.equal(a, b) for a, b in zip(found, images, strict=True))
    axes_flipped = len(EVERY["Flip"]["axes"])
    expected = 1 - 0.7**axes_flipped if name == "Flip" else 0.3
    spread = 4 * (expected * (1 - expected) / (4 * draws)) ** 0.5
    assert changed / (4 * draws) == pytest.approx(expected, abs=spread)


@pytest.mark.parametrize("name", EVERY)
def test_probability_0_changes_nothing_and_1_all(name):
    images, labels = batch(3), masks(3)
    found, marked = make(name, 0.0)(images.clone(), labels.clone())
    assert torch.equal(found, images) and torch.equal(marked, labels)
    found, _ = make(name, 1.0)(images.clone(), labels.clone())
    assert not any(torch.equal(a, b) for a, b in zip(found, images, strict=True))


def everything(prob: float = 1.0):
    return augment.Augmentation([make(name, prob) for name in EVERY])


@BOTH
def test_one_seed_gives_one_result_in_the_shape_and_type_that_came(axes):
    images, labels = batch(axes), masks(axes)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(everything(0.5)(images.clone(), labels.clone()))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][0], results[2][0])
    for image, label in results:
        assert image.shape == images.shape and image.dtype == torch.float32
        assert label.shape == labels.shape and label.dtype == torch.uint8


def test_a_dropped_contrast_is_one_of_all_in_turn():
    torch.manual_seed(0)
    drop, seen = augment.ModalityDropout(prob=1.0), []
    for _ in range(100):
        found, _ = drop(torch.ones(2, 4, 3, 3, 3), masks(3, 2))
        assert sorted(found[0].mean(dim=(1, 2, 3)).tolist()) == [0, 1, 1, 1]
        seen += [int((sample[:, 0, 0, 0] == 0).nonzero()) for sample in found]
    assert {min(seen), max(seen)} == {0, 3} and min(seen.count(c) for c in range(4)) > 25


@BOTH
def test_a_bias_field_is_smooth_and_leaves_what_lies_outside_the_head(axes):
    images = torch.full((2, 4, *SIZES[axes]), 0.5)
    images[:, :, :3] = 0
    field = torch.zeros(2, 4, *[3] * axes)
    field[0, 1] = torch.linspace(-0.2, 0.2, 3).view(3, *[1] * (axes - 1))
    found = ops.bias_field(images, field, brightness=3.0)
    assert torch.equal(found[1], images[1]) and torch.equal(found[0, [0, 2, 3]], images[0, [0, 2, 3]])
    assert not found[0, 1, :3].any()
    along = found[0, 1, 3:].flatten(1)[:, 0]
    wanted = 0.5 + 3.5 * torch.linspace(-0.2, 0.2, SIZES[axes][0])[3:]  # as bright as the field says, black 3 below 0
    assert torch.allclose(along, wanted, atol=1e-5)


@BOTH
def test_a_bias_field_is_linear_between_its_points_along_each_axis(axes):
    field = torch.rand(2, 4, *range(2, 2 + axes))
    found = ops.bias_field(torch.ones(2, 4, *SIZES[axes]), field, brightness=0.0) - 1
    mode = {2: "bilinear", 3: "trilinear"}[axes]
    wanted = torch.nn.functional.interpolate(field, SIZES[axes], mode=mode, align_corners=True)
    assert torch.allclose(found, wanted, atol=1e-6)


def lone(place: int, value: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A sample of one value, with a square mask of 3 x 3 pixels at (place, place)."""
    label = torch.zeros(1, 1, 20, 20, dtype=torch.uint8)
    label[..., place - 1 : place + 2, place - 1 : place + 2] = 1
    return torch.full((1, 2, 20, 20), value), label


def test_a_transplanted_part_brings_its_mask_and_a_soft_seam():
    (a, a_mask), (b, b_mask) = lone(5, 0.0), lone(14, 1.0)
    images, labels = torch.cat([a, b]), torch.cat([a_mask, b_mask])
    part = ops.widen(b_mask.float(), 2)  # 7 x 7 around (14, 14)
    assert part.sum() == 49
    only = torch.tensor([0])
    image, label = ops.transplant(images.clone(), labels.clone(), only, torch.tensor([1]), part)
    assert torch.equal(image[1], images[1]) and torch.equal(label[1], labels[1])
    assert torch.equal(label[0], a_mask[0] | b_mask[0])  # its own tumour, which the part left alone, and the donor's
    assert (image[0, :, 12:17, 12:17] == 1).all() and (image[0, :, :9] == 0).all()
    assert 0 < image[0, 0, 11, 14] < 1  # the part's own edge
    # the shape of its own tumour, filled by a donor that has none there: the tumour is gone
    image, label = ops.transplant(images.clone(), labels.clone(), only, torch.tensor([1]), a_mask.float())
    assert not label[0].any() and image[0, 0, 5, 5] == 1


def test_nothing_is_transplanted_without_another_sample_or_a_tumour():
    transform = augment.Transplant(prob=1.0)
    image, label = lone(5, 1.0)
    for images, labels in ((image, label), (torch.cat([image, image * 2]), torch.zeros(2, 1, 20, 20))):
        found = transform(images.clone(), labels.clone())
        assert torch.equal(found[0], images) and torch.equal(found[1], labels)


def test_the_donor_is_always_another_sample():
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 2, 20, 20).clone()
    labels = torch.ones(4, 1, 20, 20)
    for seed in range(20):
        torch.manual_seed(seed)
        found, _ = augment.Transplant(prob=1.0)(images.clone(), labels.clone())
        assert not any(float(found[i, 0, 10, 10]) == i for i in range(4))


# Image and mask


@given(st.integers(0, 10**6), st.sampled_from([2, 3]), st.sampled_from([torch.uint8, torch.float32]))
def test_a_mask_gets_no_new_value(seed, axes, dtype):
    torch.manual_seed(seed)
    labels = (masks(axes, 2) * 3).to(dtype)
    _, found = everything()(batch(axes, 2), labels)
    assert set(found.unique().tolist()) <= {0, 3} and found.dtype == dtype


@given(st.integers(0, 10**6), st.sampled_from([2, 3]))
def test_image_and_mask_stay_together(seed, axes):
    """A blob off the centre: what is bright in the image is where the mask is, to half a voxel, nested regions too."""
    side = 32
    places = torch.stack(torch.meshgrid(*[torch.arange(side) - side / 2] * axes, indexing="ij"))
    centre = torch.tensor([4.0, -5.0, 3.0][:axes]).view(-1, *[1] * axes)
    distance = ((places - centre) ** 2).sum(0).sqrt()
    image = (5 - distance).clamp(0, 1)[None, None]  # soft edge at the mask's own
    label = torch.stack([distance < 4.5, distance < 2.5]).float()[None]
    torch.manual_seed(seed)
    move = augment.Augmentation([augment.Affine(1.0, 0.35, 0.15), augment.Flip(0.5, list(range(axes)))])
    moved, marked = move(image, label)
    middle = [(places * part).flatten(1).sum(1) / part.sum() for part in (moved[0, 0], marked[0, 0])]
    assert float((middle[0] - middle[1]).abs().max()) < 0.5
    assert float(marked[0, 0].sum()) > 20 and bool((marked[0, 1] <= marked[0, 0]).all())


# Settings


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("Flip", {"prob": 1.5, "axes": [0]}, "prob of an augmentation is 1.5"),
        ("Flip", {"prob": 0.5, "axes": [0, 0]}, "axes of Flip"),
        ("Flip", {"prob": 0.5, "axes": [3]}, "axes of Flip"),
        ("Blur", {"prob": 0.5, "sigma": [1.0, 0.3]}, "two numbers"),
        ("Blur", {"prob": 0.5, "sigma": 1.0}, "two numbers"),
        ("LowResolution", {"prob": 0.5, "factor": [0.5, 2.0]}, "at least 1"),
        ("Affine", {"prob": 0.5, "rotation": -1.0}, "rotation of an augmentation is -1.0"),
        ("Affine", {"prob": 0.5, "scaling": 1.2}, "scaling"),
        ("Noise", {"prob": float("nan"), "std": 0.1}, "prob"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_one_line(name, settings, said):
    with pytest.raises(SystemExit, match=said) as refused:
        getattr(augment, name)(**settings)
    assert "\n" not in str(refused.value)
