"""The few transforms that MONAI lacks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from .datalist import region_names

SOFT, STEPS, IGNORED = 2, 200, 255  # codes of a consensus in a uint8 mask: SOFT + STEPS * probability, or nobody knows


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
                d[key] = MetaTensor(torch.stack(picked), meta=d[key].meta, applied_operations=d[key].applied_operations)
        return d


class Regionsd(MapTransform):
    """Turn a mask of label values into one binary channel per region.

    Takes (1, H, W, D) and the item's `values`: for each region the label values that belong to it. The key is used
    up. Items without it get one channel, whole tumour: all that is above 0. Returns (R, H, W, D) uint8, 0 and 1.
    A pseudo-mask, whose item has `pseudo`, is (3, H, W, D), hard, soft and ignore, and becomes one channel of codes,
    which nothing on its way to the loss mixes: SOFT + STEPS * probability, or IGNORED (`scripts.losses` reads them).
    """

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        d = dict(data)
        values, pseudo = d.pop("values", None), d.pop("pseudo", False)
        for key in self.key_iterator(d):
            mask = d[key].as_tensor()
            if pseudo:
                d[key] = MetaTensor(coded(mask), meta=d[key].meta, applied_operations=d[key].applied_operations)
                continue
            regions = [mask > 0] if values is None else [_is_any_of(mask, of_region) for of_region in values]
            marked = torch.cat(regions).to(torch.uint8)
            d[key] = MetaTensor(marked, meta=d[key].meta, applied_operations=d[key].applied_operations)
        return d


def coded(masks: torch.Tensor) -> torch.Tensor:
    """Hard, soft and ignore, (3, H, W, D) -> (1, H, W, D) uint8 codes; a soft 0 is 0, as in a true mask."""
    _, soft, ignore = masks.float()
    codes = torch.where(soft > 0, SOFT + torch.round(STEPS * soft.clamp(0, 1)), torch.zeros(()))
    return torch.where(ignore > 0, torch.full((), IGNORED), codes).to(torch.uint8)[None]


def _is_any_of(mask: torch.Tensor, values: Sequence[float]) -> torch.Tensor:
    """Where a mask has one of a few values; `torch.isin` takes several times as long."""
    found = torch.zeros(mask.shape, dtype=torch.bool)
    for value in values:
        found |= mask == value
    return found


class RegionsToLabelsd(MapTransform):
    """Turn binary channels, one per region, into one mask of label values as BraTS 2023 writes them.

    Takes (R, H, W, D); regions: their names. One region: 0 and 1. Several: 2 oedema (whole tumour alone), 1 core, 3
    enhancing, so that any program that reads BraTS reads the mask; the inner region wins. Returns (1, H, W, D) uint8.
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
            mask = torch.zeros(regions[:1].shape, dtype=torch.uint8)
            for region, value in zip(regions, self.values, strict=True):  # from the outer region to the inner
                inside = (region > 0).to(torch.uint8).cpu()
                mask[0] *= 1 - inside  # several times as fast as to fill where a mask says so
                mask[0] += inside * value
            d[key] = MetaTensor(mask, meta=d[key].meta)
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
