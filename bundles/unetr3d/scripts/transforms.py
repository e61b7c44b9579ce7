"""The few transforms that MONAI lacks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.data import MetaTensor
from monai.networks.layers import GaussianFilter
from monai.transforms import MapTransform, RandomizableTransform, map_binary_to_indices

from .datalist import region_names


def nonzero(image: torch.Tensor) -> torch.Tensor:
    """Mark the head in a skull-stripped image, whose background is exactly 0. Any shape."""
    return image != 0


class PickContrastsd(MapTransform):
    """Bring the channels of an image into the network's order; a contrast that is not there becomes zeros.

    Takes (C, H, W, D) and the item's `channels`: for each contrast of the network its place among the C, or -1. The
    key is used up. Items without it (from MONAI Label) are left as they are.
    """

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        d = dict(data)
        channels = d.pop("channels", None)
        for key in self.key_iterator(d):
            if channels is not None and list(channels) != list(range(d[key].shape[0])):
                image = d[key].as_tensor()
                picked = [image[c] if c >= 0 else torch.zeros_like(image[0]) for c in channels]
                d[key] = MetaTensor(torch.stack(picked), meta=d[key].meta)
        return d


class Regionsd(MapTransform):
    """Turn a mask of label values into one binary channel per region.

    Takes (1, H, W, D) and the item's `values`: for each region the label values that belong to it. The key is used
    up. Items without it get one channel, whole tumour: all that is above 0.
    """

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        d = dict(data)
        values = d.pop("values", None)
        for key in self.key_iterator(d):
            mask = d[key].as_tensor()
            regions = [mask > 0] if values is None else [torch.isin(mask, torch.tensor(v).to(mask)) for v in values]
            d[key] = MetaTensor(torch.cat(regions).float(), meta=d[key].meta)
        return d


class TumourIndicesd(MapTransform):
    """Find where crops can be centred: `<key>_fg_indices` in the first region, `<key>_bg_indices` in the head.

    Takes (R, H, W, D) and the image under `image_key`. MONAI's `FgBgToIndicesd` takes the first of several channels
    for the background; here it is the whole tumour.
    """

    def __init__(self, keys: str, image_key: str) -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[f"{key}_fg_indices"], d[f"{key}_bg_indices"] = map_binary_to_indices(d[key][:1], d[self.image_key])
        return d


class RegionsToLabelsd(MapTransform):
    """Turn binary channels, one per region, into one mask of label values as BraTS 2023 writes them.

    Takes (R, H, W, D); regions: their names. One region: 0 and 1. Several: 2 oedema (whole tumour alone), 1 core, 3
    enhancing, so that any program that reads BraTS reads the mask; the inner region wins.
    """

    VALUES = {"wt": 2, "tc": 1, "et": 3}

    def __init__(self, keys: str, regions: str | Sequence[str]) -> None:
        super().__init__(keys)
        names = region_names(regions)
        self.values = [1] if len(names) == 1 else [self.VALUES[name] for name in names]

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            regions = d[key].as_tensor()
            mask = torch.zeros_like(regions[:1])
            for channel, value in enumerate(self.values):  # from the outer region to the inner
                mask[0][regions[channel] > 0] = value
            d[key] = MetaTensor(mask, meta=d[key].meta)
        return d


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
