"""The few transforms that MONAI lacks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.data import MetaTensor
from monai.networks.layers import GaussianFilter
from monai.transforms import MapTransform, RandomizableTransform


def nonzero(image: torch.Tensor) -> torch.Tensor:
    """Mark the head in a skull-stripped image, whose background is exactly 0. Any shape."""
    return image != 0


class AntiAliasd(MapTransform):
    """Blur an image just enough that resampling it to `target_spacing` cannot alias.

    Takes (C, H, W, D) with an affine, before `Spacingd`. MONAI interpolates between neighbours
    only: from 1 mm to 2 mm it would keep every second voxel and its full noise.
    target_spacing: mm per axis, in the axis order of the array. An axis that is not made coarser is left alone.
    Standard deviation: (factor - 1) / 2 voxels, as `skimage.transform.rescale` has it.
    """

    def __init__(self, keys: Sequence[str], target_spacing: Sequence[float], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.target_spacing = tuple(float(s) for s in target_spacing)

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            sigma = [max(0.0, (t / float(s) - 1) / 2) for t, s in zip(self.target_spacing, d[key].pixdim, strict=True)]
            if max(sigma) > 0.01:
                blurred = GaussianFilter(3, sigma)(d[key].as_tensor()[None])[0]
                d[key] = MetaTensor(blurred, meta=d[key].meta, applied_operations=d[key].applied_operations)
        return d


class RandDropContrastd(RandomizableTransform, MapTransform):
    """Set one contrast of (C, H, W, D) to 0, its mean after z-scoring, with probability `prob`.

    So the network learns not to lean on one contrast alone, and bears a missing one.
    """

    def __init__(self, keys: Sequence[str], prob: float = 0.1, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        self.randomize(None)
        which = self.R.random()
        if self._do_transform:
            for key in self.key_iterator(d):
                d[key] = d[key].clone()
                d[key][int(which * d[key].shape[0])] = 0
        return d


class NameByCased(MapTransform):
    """Name the file that `SaveImaged` will write after the item's `case`.

    MONAI names a result after the first file it read, here one contrast of four. Items without
    a `case` (from MONAI Label) keep that name.
    """

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            if "case" in d:
                d[key].meta["filename_or_obj"] = f"{d['case']}.nii.gz"
        return d
