"""What the transforms of augment.py compute: pure functions of batches (N, C, ...) and of sampled numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.networks.layers import gaussian_1d
from monai.transforms.utils import create_rotate, create_scale

TRUNCATED = 4.0  # standard deviations, where MONAI's Gaussian ends
Batch = tuple[torch.Tensor, torch.Tensor]


def apply_to(batch: torch.Tensor, which: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Change some samples of a batch: all of them together, or none if `which` is empty. Overwrites the batch."""
    if len(which) == 0:
        return batch
    if len(which) == len(batch):
        return change(batch)
    which = on_device_of(which, batch)
    batch[which] = change(batch[which])
    return batch


def affine_matrices(angles: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """(N, axes, axes): rotate, then scale, as MONAI has it. angles: (N, 3) or (N, 1) radians; factors: (N, axes).

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
    return torch.nn.functional.affine_grid(on_device_of(theta, like), list(size), align_corners=False)


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
        matrix = on_device_of(matrix, batch)
        if axis == len(matrices) - 1:
            batch = batch.reshape(shape[0], -1, shape[-1]) @ matrix.transpose(1, 2)
        else:
            batch = matrix[:, None] @ batch.reshape(shape[0], -1, shape[axis + 2], shape[axis + 3 :].numel())
    return batch.reshape(shape)


def contrast(batch: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """mean + factor * (value - mean) per channel of (N, C, ...); factors (N, C)."""
    mean = batch.mean(dim=tuple(range(2, batch.ndim)), keepdim=True)
    return torch.lerp(mean, batch, per_channel(factors, batch))


def gamma_transform(batch: torch.Tensor, powers: torch.Tensor) -> torch.Tensor:
    """Each sample of (N, C, ...) to the power (N,) between its least and greatest value, mean and deviation kept."""
    flat, powers = batch.flatten(1), on_device_of(powers, batch)[:, None]
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
    return torch.addcmul(batch, noise, on_device_of(deviations, batch).view(-1, *[1] * (batch.ndim - 1)))


def per_channel(numbers: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """(N, C) to (N, C, 1, ...) on the device of the batch."""
    return on_device_of(numbers, batch).view(*numbers.shape, *[1] * (batch.ndim - 2))


def on_device_of(numbers: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    return numbers.to(batch.device, non_blocking=True)


def bias_field(batch: torch.Tensor, field: torch.Tensor, brightness: float) -> torch.Tensor:
    """(N, C, ...) brightened by a smooth field (N, C, few, ...), 0 for no change. Voxels of 0 in all channels stay."""
    smooth = on_device_of(field, batch)
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
