"""The transforms that a zoo-style bundle of this kind needs beside MONAI's own.

unetr3d had the same ones before its cases were prepared once and its batches varied as a whole.
"""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from monai.networks.layers import GaussianFilter
from monai.transforms import MapTransform, RandomizableTransform


def nonzero(image: torch.Tensor) -> torch.Tensor:
    return image != 0


class AntiAliasd(MapTransform):
    """Blur so that resampling to `target_spacing` cannot alias: standard deviation (factor - 1) / 2 voxels."""

    def __init__(self, keys, target_spacing) -> None:  # noqa: ANN001
        super().__init__(keys)
        self.target_spacing = target_spacing

    def __call__(self, data):  # noqa: ANN001, ANN204
        d = dict(data)
        for key in self.key_iterator(d):
            sigma = [max(0.0, (t / float(s) - 1) / 2) for t, s in zip(self.target_spacing, d[key].pixdim, strict=True)]
            if max(sigma) > 0.01:
                blurred = GaussianFilter(3, sigma)(d[key].as_tensor()[None])[0]
                d[key] = MetaTensor(blurred, meta=d[key].meta, applied_operations=d[key].applied_operations)
        return d


class RandDropContrastd(RandomizableTransform, MapTransform):
    """Set one channel to 0 with probability `prob`."""

    def __init__(self, keys, prob: float = 0.1) -> None:  # noqa: ANN001
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data):  # noqa: ANN001, ANN204
        d = dict(data)
        self.randomize(None)
        which = self.R.random()
        if self._do_transform:
            for key in self.key_iterator(d):
                d[key] = d[key].clone()
                d[key][int(which * d[key].shape[0])] = 0
        return d
