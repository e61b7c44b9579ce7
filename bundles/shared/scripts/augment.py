"""Augment a whole batch of images and masks at once, on the device where it lies.

MONAI's random transforms take one sample at a time, with its metadata, on a CPU. Here each transform first *decides*:
it samples which images of the batch it applies to, and with which numbers, from torch's CPU generator (so one seed
repeats a run on any device, and a GPU is never waited for). Then a pure function of batch_ops.py *does* it to those
images. Others cost nothing.

Images are (B, C, H, W) or (B, C, H, W, D) float32, masks (B, R, ...) of any type; both come back in the shape and type
they had. The tensors that are handed in may be overwritten. Masks take part in what moves voxels, by their nearest
voxel, so they never hold a new value. What each transform computes follows the MONAI transform that it names, to which
tests/test_augment.py compares it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from . import batch_ops as ops
from .batch_ops import Batch
from .errors import refuse


class Augmentation:
    """Apply transforms of this module one after the other to (image, label).

    strength: a factor for the probability of each, which ends at 1; 0 leaves every batch as it is.
    """

    def __init__(
        self, transforms: Sequence[Callable[[torch.Tensor, torch.Tensor], Batch]], strength: float = 1.0
    ) -> None:
        self.transforms = list(transforms)
        for transform in self.transforms:
            transform.prob = min(1.0, transform.prob * strength)  # type: ignore[attr-defined]

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        for transform in self.transforms:
            image, label = transform(image, label)
        return image, label


# What moves voxels


class Affine:
    """Rotate and scale about the centre; what comes from outside is 0. As `RandAffined(padding_mode="zeros")`.

    rotation: radians, the largest angle about each axis (in 2D, in the plane); scaling: largest change of each axis's
    length, as a share.
    """

    def __init__(self, prob: float, rotation: float = 0.0, scaling: float = 0.0) -> None:
        self.prob = _share("prob", prob)
        self.rotation = _not_below("rotation", rotation, 0)
        self.scaling = _share("scaling", scaling)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = ops.due(len(image), self.prob)
        if len(which) == 0:
            return image, label
        axes = image.ndim - 2
        angles = ops.spread(len(which), 3 if axes == 3 else 1, within=self.rotation)
        factors = 1 + ops.spread(len(which), axes, within=self.scaling)
        grid = ops.affine_grid(ops.affine_matrices(angles, factors), image)
        image = ops.apply_to(image, which, lambda samples: ops.sample(samples, grid, "bilinear"))
        return image, ops.apply_to(label, which, lambda samples: ops.sample(samples, grid, "nearest"))


class Flip:
    """Mirror each of `axes` (0: the first spatial one) by itself. As `RandFlipd` for each axis."""

    def __init__(self, prob: float, axes: Sequence[int]) -> None:
        self.prob = _share("prob", prob)
        self.axes = list(axes)
        if len(set(self.axes)) != len(self.axes) or not set(self.axes) <= {0, 1, 2}:
            refuse(f"axes of Flip is {axes!r}. It must list different ones of 0, 1 and 2.")

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        flips = torch.rand(len(image), len(self.axes)) < self.prob
        dims = [[axis + 2 for axis, is_due in zip(self.axes, row, strict=True) if is_due] for row in flips.tolist()]
        return ops.flip(image, dims), ops.flip(label, dims)


# What changes resolution


class Blur:
    """Blur by a Gaussian, its width sampled for each sample and axis. As `RandGaussianSmoothd`.

    sigma: smallest and largest standard deviation, voxels.
    """

    def __init__(self, prob: float, sigma: Sequence[float]) -> None:
        self.prob = _share("prob", prob)
        self.sigma = _range("sigma", sigma, 0)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = ops.due(len(image), self.prob)
        sigmas = ops.between(len(which), image.ndim - 2, limits=self.sigma)
        return ops.apply_to(image, which, lambda samples: ops.blur(samples, sigmas)), label


class LowResolution:
    """As if scanned with larger voxels: keep every n-th voxel along all axes, and interpolate what is between.

    factor: smallest and largest n, a number of at least 1, drawn for each sample. After nnU-Net's
    `SimulateLowResolutionTransform`, with linear interpolation.
    """

    def __init__(self, prob: float, factor: Sequence[float]) -> None:
        self.prob = _share("prob", prob)
        self.factor = _range("factor", factor, 1)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = ops.due(len(image), self.prob)
        factors = ops.between(len(which), limits=self.factor)
        return ops.apply_to(image, which, lambda samples: ops.low_resolution(samples, factors)), label


# What changes intensities


class ScaleIntensity:
    """Multiply each channel by 1 + U(-factor, factor). As `RandScaleIntensityd(channel_wise=True)`."""

    def __init__(self, prob: float, factor: float) -> None:
        self.prob = _share("prob", prob)
        self.factor = _not_below("factor", factor, 0)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = ops.due(len(image), self.prob)
        factors = 1 + ops.spread(len(which), image.shape[1], within=self.factor)
        return ops.apply_to(image, which, lambda samples: samples * ops.per_channel(factors, samples)), label


class ShiftIntensity:
    """Add U(-offset, offset) to each channel. As `RandShiftIntensityd(channel_wise=True)`."""

    def __init__(self, prob: float, offset: float) -> None:
        self.prob = _share("prob", prob)
        self.offset = _not_below("offset", offset, 0)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = ops.due(len(image), self.prob)
        offsets = ops.spread(len(which), image.shape[1], within=self.offset)
        return ops.apply_to(image, which, lambda samples: samples + ops.per_channel(offsets, samples)), label


class Contrast:
    """Move each channel's values away from its mean, or towards it. As nnU-Net's `ContrastTransform`.

    factor: smallest and largest factor of the distance, drawn for each sample and channel.
    """

    def __init__(self, prob: float, factor: Sequence[float]) -> None:
        self.prob = _share("prob", prob)
        self.factor = _range("factor", factor, 0)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = ops.due(len(image), self.prob)
        factors = ops.between(len(which), image.shape[1], limits=self.factor)
        return ops.apply_to(image, which, lambda samples: ops.contrast(samples, factors)), label


class Gamma:
    """Gamma transform: the intensities of a sample to a power, keeping its mean and deviation.

    gamma: smallest and largest power. As `RandAdjustContrastd(retain_stats=True)`.
    """

    def __init__(self, prob: float, gamma: Sequence[float]) -> None:
        self.prob = _share("prob", prob)
        self.gamma = _range("gamma", gamma, 0)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = ops.due(len(image), self.prob)
        powers = ops.between(len(which), limits=self.gamma)
        return ops.apply_to(image, which, lambda samples: ops.gamma_transform(samples, powers)), label


class Noise:
    """Add Gaussian noise of a standard deviation U(0, std), drawn for each sample. As `RandGaussianNoised`."""

    def __init__(self, prob: float, std: float) -> None:
        self.prob = _share("prob", prob)
        self.std = _not_below("std", std, 0)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = ops.due(len(image), self.prob)
        deviations = ops.between(len(which), limits=(0.0, self.std))
        return ops.apply_to(image, which, lambda samples: ops.add_noise(samples, deviations)), label


class BiasField:
    """Make one side of the scan brighter than the other, each channel in its own way, as coils and tissue do.

    strength: largest change of a voxel's brightness, as a share of it. The field is smooth: linear between `POINTS`
    random values along each axis. After `RandBiasFieldd`, whose field is a polynomial; here for z-scored images, whose
    brightness before z-scoring is taken as `BRIGHTNESS` standard deviations above black.
    """

    POINTS = 3
    BRIGHTNESS = 3.0

    def __init__(self, prob: float, strength: float) -> None:
        self.prob = _share("prob", prob)
        self.strength = _share("strength", strength)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = ops.due(len(image), self.prob)
        points = [self.POINTS] * (image.ndim - 2)
        field = ops.spread(len(which), image.shape[1], *points, within=self.strength)
        return ops.apply_to(image, which, lambda samples: ops.bias_field(samples, field, self.BRIGHTNESS)), label


class ModalityDropout:
    """Set one channel to 0, its mean after z-scoring, so that the network does not learn to depend on one modality."""

    def __init__(self, prob: float) -> None:
        self.prob = _share("prob", prob)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = ops.due(len(image), self.prob)
        channels = torch.randint(image.shape[1], (len(which),))
        if len(which):
            image[ops.on_device_of(which, image), ops.on_device_of(channels, image)] = 0
        return image, label


# What mixes samples


class Transplant:
    """Replace a part of a sample by what another sample of the batch has there, mask and image.

    The part has the shape of a tumour of any sample, and `margin` (smallest and largest, drawn for each batch) voxels
    more. So tumours come to brains that never had them, and others are taken out, while the seam, which is blended over
    a voxel, says nothing of what lies within. Does nothing to a batch of one, or where the drawn sample has no tumour.
    Sources: CutMix (Yun et al. 2019), CarveMix (Zhang et al. 2021), which paste a tumour in its own shape only.
    """

    def __init__(self, prob: float, margin: Sequence[int] = (0, 4)) -> None:
        self.prob = _share("prob", prob)
        self.margin = _range("margin", margin, 0)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        count = len(image)
        which = ops.due(count, self.prob)
        donors = (which + torch.randint(1, max(2, count), (len(which),))) % count
        shapes = torch.randint(count, (len(which),))
        margin = int(ops.between(1, limits=self.margin).round())
        if count == 1 or len(which) == 0:
            return image, label
        part = ops.widen(label[ops.on_device_of(shapes, label), :1].float(), margin)
        return ops.transplant(image, label, ops.on_device_of(which, image), ops.on_device_of(donors, image), part)


# Settings


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        refuse(f"{name} of an augmentation is {value!r}. It must be a number from 0 to 1.")
    return float(value)


def _not_below(name: str, value: float, least: float) -> float:
    if not value >= least:
        refuse(f"{name} of an augmentation is {value!r}. It must be a number of at least {least}.")
    return float(value)


def _range(name: str, value: Sequence[float], least: float) -> tuple[float, float]:
    if isinstance(value, (int, float)) or len(value) != 2 or not least <= value[0] <= value[1]:
        refuse(f"{name} of an augmentation is {value!r}. It must be two numbers of at least {least}, the lower first.")
    return float(value[0]), float(value[1])
