"""The few transforms that MONAI lacks."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage

from .datalist import region_names
from .errors import ROOT, refuse


class SelectModalitiesd(MapTransform):
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
    """

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        d = dict(data)
        values = d.pop("values", None)
        for key in self.key_iterator(d):
            mask = d[key].as_tensor()
            _check_labels(d[key])
            regions = [mask > 0] if values is None else [_is_any_of(mask, of_region) for of_region in values]
            if values is not None and not regions[0].any() and mask.any():
                said = f"{d[key].meta.get('filename_or_obj')} holds labels, none of which the datalist calls tumour"
                print(f"{ROOT.name}: {said} ({', '.join(map(str, values[0]))}). Look at it.", file=sys.stderr)
            marked = torch.cat(regions).to(torch.uint8)
            d[key] = MetaTensor(marked, meta=d[key].meta, applied_operations=d[key].applied_operations)
        return d


class Targetsd(MapTransform):
    """Turn a pseudo-mask into what is learned from it, the target of `scripts.losses.Masked`.

    Takes (1 to 3, H, W, D): a mask, and where the item's `targets` says so the channels `soft`, the probability of
    tumour, and `ignore`, not 0 where nobody knows. Returns (3, H, W, D) uint8: the mask as 0 and 1; the probability in
    255ths, of a mask without one 0 and 255; 1 where it is ignored. The key is used up. Items without it, of which the
    truth is known, are made as by `Regionsd`.
    """

    def __init__(self, keys: str | Sequence[str]) -> None:
        super().__init__(keys)
        self.regions = Regionsd(keys)

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        d = dict(data)
        targets = d.pop("targets", None)
        found = {key: d[key].as_tensor() for key in self.key_iterator(d)}
        if targets is None:
            return self.regions(d)
        for key, channels in found.items():
            d[key] = MetaTensor(channels[:1], meta=d[key].meta, applied_operations=d[key].applied_operations)
        d = self.regions(d)
        for key, channels in found.items():
            hard = d[key].as_tensor()
            soft = _in_255ths(channels[targets["soft"]], d[key]) if "soft" in targets else hard[0] * 255
            ignore = channels[targets["ignore"]] != 0 if "ignore" in targets else torch.zeros_like(hard[0])
            target = torch.stack([hard[0], soft, ignore.to(torch.uint8)])
            d[key] = MetaTensor(target, meta=d[key].meta, applied_operations=d[key].applied_operations)
        return d


def _in_255ths(soft: torch.Tensor, of: MetaTensor) -> torch.Tensor:
    if not 0 <= float(soft.min()) <= float(soft.max()) <= 1:
        refuse(f"the soft mask beside {of.meta['filename_or_obj']} is no probability: {soft.min()} to {soft.max()}.")
    return (soft * 255).round().to(torch.uint8)


def _check_labels(mask: MetaTensor) -> None:
    """Refuse a mask that holds fractions or less than 0: no label is that, and its voxels would count as healthy."""
    if mask.dtype == torch.uint8:
        return
    values = mask.as_tensor()
    odd = values[(values < 0) | (values != values.round())] if values.is_floating_point() else values[values < 0]
    if odd.numel():
        refuse(
            f"{mask.meta.get('filename_or_obj')} holds {odd[0].item():g}; a mask holds 0, 1, 2, ... Save it without "
            "interpolation."
        )


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


class DropSmalld(MapTransform):
    """Take objects of the first region that are smaller than `smallest` mm^3 out of all regions, but for the largest.

    Takes (R, H, W, D) with an affine in mm, regions within one another, the outer first; 0 and 1. Objects touch by the
    faces of their voxels. As `RemoveSmallObjectsd(by_measure=True)`, in the box of what is marked alone: a tenth of
    the time; and where nothing is large, the largest object stays.
    """

    def __init__(self, keys: str, smallest: float) -> None:
        super().__init__(keys)
        self.smallest = smallest

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            voxel = abs(float(torch.linalg.det(d[key].affine[:3, :3].double())))
            regions = d[key].as_tensor()
            box = _box(regions[0])
            if box is None:
                continue
            inside = regions[(slice(None), *box)]
            objects, _ = ndimage.label(inside[0].cpu().numpy())
            volumes = np.bincount(objects.ravel()) * voxel
            volumes[0] = 0
            small = (volumes < self.smallest) & (volumes < volumes.max())
            small[0] = False
            inside *= torch.from_numpy(~small[objects]).to(inside)  # a view: what is dropped is dropped in `regions`
        return d


def _box(mask: torch.Tensor) -> tuple[slice, ...] | None:
    """The smallest box around what is not 0 in (H, W, D); None if all is 0."""
    slices = []
    for axis in range(mask.ndim):
        others = [other for other in range(mask.ndim) if other != axis]
        marked = mask.amax(dim=others).nonzero()
        if len(marked) == 0:
            return None
        slices.append(slice(int(marked[0]), int(marked[-1]) + 1))
    return tuple(slices)


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
