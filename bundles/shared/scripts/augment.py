"""Vary a whole batch of images and masks at once, on the device where it lies.

MONAI's random transforms take one sample at a time, with its metadata, on a CPU. Here each transform first *decides*:
it draws for which samples of the batch it is due, and with which numbers, from torch's CPU generator (so one seed
repeats a run on any device, and a GPU is never waited for). Then a pure function *does* it to the samples that were
drawn. What is not drawn costs nothing.

Images are (B, C, H, W) or (B, C, H, W, D) float32, masks (B, R, ...) of any type; both come back in the shape and type
they had. The tensors that are handed in may be overwritten. Masks take part in what moves voxels, by their nearest
voxel, so they never hold a new value. What each transform computes follows the MONAI transform that it names, to which
tests/test_augment.py compares it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.networks.layers import gaussian_1d
from monai.transforms.utils import create_rotate, create_scale

from .errors import refuse

TRUNCATED = 4.0  # standard deviations, where MONAI's Gaussian ends
Batch = tuple[torch.Tensor, torch.Tensor]


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
    """Turn and stretch about the centre; what comes from outside is 0. As `RandAffined(padding_mode="zeros")`.

    rotation: radians, the largest angle about each axis (in 2D, in the plane); scaling: largest change of each axis's
    length, as a share.
    """

    def __init__(self, prob: float, rotation: float = 0.0, scaling: float = 0.0) -> None:
        self.prob = _share("prob", prob)
        self.rotation = _not_below("rotation", rotation, 0)
        self.scaling = _share("scaling", scaling)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = due(len(image), self.prob)
        if len(which) == 0:
            return image, label
        axes = image.ndim - 2
        angles = spread(len(which), 3 if axes == 3 else 1, within=self.rotation)
        factors = 1 + spread(len(which), axes, within=self.scaling)
        grid = affine_grid(affine_matrices(angles, factors), image)
        image = apply_to(image, which, lambda samples: sample(samples, grid, "bilinear"))
        return image, apply_to(label, which, lambda samples: sample(samples, grid, "nearest"))


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
        return flip(image, dims), flip(label, dims)


# What changes resolution


class Blur:
    """Blur by a Gaussian, its width drawn for each sample and axis. As `RandGaussianSmoothd`.

    sigma: smallest and largest standard deviation, voxels.
    """

    def __init__(self, prob: float, sigma: Sequence[float]) -> None:
        self.prob = _share("prob", prob)
        self.sigma = _range("sigma", sigma, 0)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = due(len(image), self.prob)
        sigmas = between(len(which), image.ndim - 2, limits=self.sigma)
        return apply_to(image, which, lambda samples: blur(samples, sigmas)), label


class LowResolution:
    """As if scanned with larger voxels: keep every n-th voxel along all axes, and interpolate what is between.

    factor: smallest and largest n, a number of at least 1, drawn for each sample. After nnU-Net's
    `SimulateLowResolutionTransform`, with linear interpolation.
    """

    def __init__(self, prob: float, factor: Sequence[float]) -> None:
        self.prob = _share("prob", prob)
        self.factor = _range("factor", factor, 1)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = due(len(image), self.prob)
        factors = between(len(which), limits=self.factor)
        return apply_to(image, which, lambda samples: low_resolution(samples, factors)), label


# What changes intensities


class ScaleIntensity:
    """Multiply each channel by 1 + U(-factor, factor). As `RandScaleIntensityd(channel_wise=True)`."""

    def __init__(self, prob: float, factor: float) -> None:
        self.prob = _share("prob", prob)
        self.factor = _not_below("factor", factor, 0)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = due(len(image), self.prob)
        factors = 1 + spread(len(which), image.shape[1], within=self.factor)
        return apply_to(image, which, lambda samples: samples * _per_channel(factors, samples)), label


class ShiftIntensity:
    """Add U(-offset, offset) to each channel. As `RandShiftIntensityd(channel_wise=True)`."""

    def __init__(self, prob: float, offset: float) -> None:
        self.prob = _share("prob", prob)
        self.offset = _not_below("offset", offset, 0)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = due(len(image), self.prob)
        offsets = spread(len(which), image.shape[1], within=self.offset)
        return apply_to(image, which, lambda samples: samples + _per_channel(offsets, samples)), label


class Contrast:
    """Move each channel's values away from its mean, or towards it. As nnU-Net's `ContrastTransform`.

    factor: smallest and largest factor of the distance, drawn for each sample and channel.
    """

    def __init__(self, prob: float, factor: Sequence[float]) -> None:
        self.prob = _share("prob", prob)
        self.factor = _range("factor", factor, 0)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = due(len(image), self.prob)
        factors = between(len(which), image.shape[1], limits=self.factor)
        return apply_to(image, which, lambda samples: contrast(samples, factors)), label


class Gamma:
    """Bend the intensities of a sample by a power, keeping its mean and deviation.

    gamma: smallest and largest power. As `RandAdjustContrastd(retain_stats=True)`.
    """

    def __init__(self, prob: float, gamma: Sequence[float]) -> None:
        self.prob = _share("prob", prob)
        self.gamma = _range("gamma", gamma, 0)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = due(len(image), self.prob)
        powers = between(len(which), limits=self.gamma)
        return apply_to(image, which, lambda samples: bend(samples, powers)), label


class Noise:
    """Add Gaussian noise of a standard deviation U(0, std), drawn for each sample. As `RandGaussianNoised`."""

    def __init__(self, prob: float, std: float) -> None:
        self.prob = _share("prob", prob)
        self.std = _not_below("std", std, 0)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = due(len(image), self.prob)
        deviations = between(len(which), limits=(0.0, self.std))
        return apply_to(image, which, lambda samples: add_noise(samples, deviations)), label


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
        which = due(len(image), self.prob)
        points = [self.POINTS] * (image.ndim - 2)
        field = spread(len(which), image.shape[1], *points, within=self.strength)
        return apply_to(image, which, lambda samples: uneven(samples, field, self.BRIGHTNESS)), label


class ModalityDropout:
    """Set one channel to 0, its mean after z-scoring, so that the network does not learn to lean on one MR contrast."""

    def __init__(self, prob: float) -> None:
        self.prob = _share("prob", prob)

    def __call__(self, image: torch.Tensor, label: torch.Tensor) -> Batch:
        which = due(len(image), self.prob)
        channels = torch.randint(image.shape[1], (len(which),))
        if len(which):
            image[_on(which, image), _on(channels, image)] = 0
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
        which = due(count, self.prob)
        donors = (which + torch.randint(1, max(2, count), (len(which),))) % count
        shapes = torch.randint(count, (len(which),))
        margin = int(between(1, limits=self.margin).round())
        if count == 1 or len(which) == 0:
            return image, label
        part = widen(label[_on(shapes, label), :1].float(), margin)
        return transplant(image, label, _on(which, image), _on(donors, image), part)


# Deciding


def due(samples: int, prob: float) -> torch.Tensor:
    """The indices of those samples of a batch that a transform of this probability is due for."""
    return (torch.rand(samples) < prob).nonzero().flatten()


def spread(*shape: int, within: float) -> torch.Tensor:
    """Uniform numbers from -within to within."""
    return (torch.rand(shape) * 2 - 1) * within


def between(*shape: int, limits: Sequence[float]) -> torch.Tensor:
    """Uniform numbers between two limits."""
    low, high = limits
    return low + torch.rand(shape) * (high - low)


# Doing


def apply_to(batch: torch.Tensor, which: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Change some samples of a batch: all of them together, or none if `which` is empty. Overwrites the batch."""
    if len(which) == 0:
        return batch
    if len(which) == len(batch):
        return change(batch)
    which = _on(which, batch)
    batch[which] = change(batch[which])
    return batch


def affine_matrices(angles: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """(N, axes, axes): turn, then stretch, as MONAI has it. angles: (N, 3) or (N, 1) radians; factors: (N, axes).

    A voxel of the result at x from the centre comes from `matrix @ x`.
    """
    axes = factors.shape[1]
    composed = [
        create_rotate(axes, angle) @ create_scale(axes, factor)
        for angle, factor in zip(angles.tolist(), factors.tolist(), strict=True)
    ]
    return torch.stack([torch.as_tensor(matrix)[:axes, :axes] for matrix in composed]).float()


def affine_grid(matrices: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Where each voxel of the result comes from: (N, ..., axes) in the units of `grid_sample(align_corners=False)`."""
    shape = torch.tensor(like.shape[2:], dtype=torch.float32)
    scaled = matrices * shape[None, None, :] / shape[None, :, None]  # from voxels to halves of each axis
    theta = scaled.flip(1, 2)  # grid_sample counts the axes from the last one
    theta = torch.cat([theta, torch.zeros(len(theta), len(shape), 1)], dim=2)
    size = (len(matrices), 1, *like.shape[2:])
    return torch.nn.functional.affine_grid(_on(theta, like), list(size), align_corners=False)


def sample(batch: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    """Values of (N, C, ...) at a grid; 0 outside. Keeps the type."""
    parts = torch.get_num_threads() if batch.is_cpu and len(batch) == 1 else 1
    if parts > 1 and grid.shape[1] % parts == 0:  # torch shares samples out among threads, but never a single one
        values = batch.float().expand(parts, *batch.shape[1:])
        found = _sampled(values, grid.reshape(parts, -1, *grid.shape[2:]), mode)
        return torch.cat(found.unbind(0), dim=1)[None].to(batch.dtype)
    return _sampled(batch.float(), grid, mode).to(batch.dtype)


def _sampled(values: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    return torch.nn.functional.grid_sample(values, grid, mode=mode, padding_mode="zeros", align_corners=False)


def flip(batch: torch.Tensor, dims: Sequence[Sequence[int]]) -> torch.Tensor:
    """Mirror each sample of (B, C, ...) along its own list of dimensions of the batch (2: the first spatial one)."""
    if len(batch) == 1:
        return batch.flip(dims[0]) if dims[0] else batch
    for place, own in enumerate(dims):
        if own:
            batch[place] = batch[place].flip([dim - 1 for dim in own])
    return batch


def blur(batch: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Gaussian of sigmas (N, axes) voxels; 0 beyond the edge."""
    return multiply_along(batch, [blur_matrices(n, sigmas[:, axis]) for axis, n in enumerate(batch.shape[2:])])


def blur_matrices(length: int, sigmas: torch.Tensor) -> torch.Tensor:
    """(N, length, length): the weight of each voxel of an axis in each blurred one."""
    apart = (torch.arange(length)[:, None] - torch.arange(length)).abs()
    rows = torch.zeros(len(sigmas), length)
    for row, sigma in zip(rows, sigmas, strict=True):
        half = gaussian_1d(sigma, TRUNCATED)
        half = half[len(half) // 2 :][:length]
        row[: len(half)] = half
    return rows[:, apart]


def low_resolution(batch: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Every n-th voxel along all axes, n of factors (N,), linearly interpolated."""
    matrices = [torch.stack([coarse_matrix(n, float(f)) for f in factors]) for n in batch.shape[2:]]
    return multiply_along(batch, matrices)


def coarse_matrix(length: int, factor: float) -> torch.Tensor:
    """(length, length): take the nearest voxel at each of `length / factor` places, then interpolate between them."""
    coarse = max(1, round(length / factor))
    taken = ((torch.arange(coarse) + 0.5) * length / coarse).floor().long()  # nearest-exact
    at = ((torch.arange(length) + 0.5) * coarse / length - 0.5).clamp(0, coarse - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=coarse - 1)
    weights, rows = torch.zeros(length, length), torch.arange(length)
    weights.index_put_((rows, taken[low]), 1 - (at - low), accumulate=True)
    weights.index_put_((rows, taken[high]), at - low, accumulate=True)
    return weights


def multiply_along(batch: torch.Tensor, matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """Apply an (N, n, n) matrix along each spatial axis of (N, C, ...). A product is faster than a convolution."""
    shape = batch.shape
    for axis, matrix in enumerate(matrices):
        matrix = _on(matrix, batch)
        if axis == len(matrices) - 1:
            batch = batch.reshape(shape[0], -1, shape[-1]) @ matrix.transpose(1, 2)
        else:
            batch = matrix[:, None] @ batch.reshape(shape[0], -1, shape[axis + 2], shape[axis + 3 :].numel())
    return batch.reshape(shape)


def contrast(batch: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """mean + factor * (value - mean) per channel of (N, C, ...); factors (N, C)."""
    mean = batch.mean(dim=tuple(range(2, batch.ndim)), keepdim=True)
    return torch.lerp(mean, batch, _per_channel(factors, batch))


def bend(batch: torch.Tensor, powers: torch.Tensor) -> torch.Tensor:
    """Each sample of (N, C, ...) to the power (N,) between its least and greatest value, mean and deviation kept."""
    flat, powers = batch.flatten(1), _on(powers, batch)[:, None]
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    bent = ((flat - low) / (high - low + 1e-7)).pow_(powers).mul_(high - low).add_(low)
    mean = flat.mean(1, keepdim=True)
    bent -= bent.mean(1, keepdim=True)
    deviation = torch.linalg.vector_norm(flat - mean, dim=1, keepdim=True)  # not `std`, which takes 40 times as long
    bent_deviation = torch.linalg.vector_norm(bent, dim=1, keepdim=True)
    return bent.mul_(deviation / (bent_deviation + 1e-8)).add_(mean).view_as(batch)


def add_noise(batch: torch.Tensor, deviations: torch.Tensor) -> torch.Tensor:
    """Gaussian noise of deviations (N,), drawn on the device of the batch."""
    noise = torch.randn(batch.shape, device=batch.device)
    return torch.addcmul(batch, noise, _on(deviations, batch).view(-1, *[1] * (batch.ndim - 1)))


def _per_channel(numbers: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """(N, C) to (N, C, 1, ...) on the device of the batch."""
    return _on(numbers, batch).view(*numbers.shape, *[1] * (batch.ndim - 2))


def _on(numbers: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    return numbers.to(batch.device, non_blocking=True)


def uneven(batch: torch.Tensor, field: torch.Tensor, brightness: float) -> torch.Tensor:
    """(N, C, ...) brightened by a smooth field (N, C, few, ...), 0 for no change. Voxels of 0 in all channels stay."""
    smooth = _on(field, batch)
    for length in batch.shape[2:]:  # as `interpolate` does it, in a tenth of the time
        between = torch.eye(smooth.shape[2], device=batch.device)[None]
        weights = torch.nn.functional.interpolate(between, length, mode="linear", align_corners=True)[0]
        smooth = torch.tensordot(smooth, weights, dims=([2], [0]))
    head = batch.abs().amax(dim=1, keepdim=True) > 0
    return batch + (batch + brightness) * smooth * head


def widen(part: torch.Tensor, margin: int) -> torch.Tensor:
    """A mask (N, 1, ...) of 0 and 1, `margin` voxels wider along each axis."""
    pool = torch.nn.functional.max_pool3d if part.ndim == 5 else torch.nn.functional.max_pool2d
    return pool(part, 2 * margin + 1, stride=1, padding=margin)


def transplant(
    image: torch.Tensor, label: torch.Tensor, which: torch.Tensor, donors: torch.Tensor, part: torch.Tensor
) -> Batch:
    """Samples `which` with the part (N, 1, ...) of 0 and 1 taken from samples `donors`; the image's seam is blended."""
    pool = torch.nn.functional.avg_pool3d if part.ndim == 5 else torch.nn.functional.avg_pool2d
    weight = pool(part, 3, stride=1, padding=1)
    mixed = torch.lerp(image[which], image[donors], weight)
    marked = torch.where(part > 0, label[donors], label[which])
    image[which], label[which] = mixed, marked
    return image, label


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
