"""Cut training crops out of preprocessed cases, without metadata: plain arrays in, plain tensors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .cache import KEYS, tumour_indices

TRIES = 200  # to find a voxel of the head outside the tumour, which is every third or so


class TumourCrop:
    """A crop centred on a random voxel: of the tumour `pos` times of `pos + neg`, else of the head outside of it.

    patch_size: voxels per axis. A crop does not reach over the volume's edge where the volume is large enough; a
    smaller volume is surrounded by zeros. As MONAI's `RandCropByPosNegLabeld`: its head is where any contrast is above
    0 (brighter than the mean). A case without tumour gives crops of the head only.
    """

    def __init__(self, patch_size: Sequence[int], pos: float, neg: float) -> None:
        self.patch_size = tuple(patch_size)
        self.share = pos / (pos + neg)

    def __call__(self, case: Mapping[str, Any]) -> dict[str, Any]:
        tumour = case["tumour"] if "tumour" in case else tumour_indices(np.asarray(case["label"]))
        shape = case["label"].shape[1:]
        if len(tumour) and float(torch.rand(())) < self.share:
            centre = np.unravel_index(int(tumour[_draw(len(tumour))]), shape)
        else:
            centre = _in_head(case["image"], outside=case["label"])
        return cut(case, centre, self.patch_size)


class CentreCrop:
    """The middle of each case, surrounded by zeros where it is smaller than `patch_size` voxels."""

    def __init__(self, patch_size: Sequence[int]) -> None:
        self.patch_size = tuple(patch_size)

    def __call__(self, case: Mapping[str, Any]) -> dict[str, Any]:
        return cut(case, [side // 2 for side in case["image"].shape[1:]], self.patch_size)


class HeadCrop:
    """A crop centred on a random voxel of the head, of a case with or without a label; else as a `TumourCrop`."""

    def __init__(self, patch_size: Sequence[int]) -> None:
        self.patch_size = tuple(patch_size)

    def __call__(self, case: Mapping[str, Any]) -> dict[str, Any]:
        return cut(case, _in_head(case["image"]), self.patch_size)


def cut(case: Mapping[str, Any], centre: Sequence[int], size: Sequence[int]) -> dict[str, Any]:
    """image (C, *size) and label (R, *size) around a voxel, in the type they are stored in, and the case's name.

    Without a label where the case has none.
    """
    starts, sides = [], case["image"].shape[1:]
    for at, wanted, side in zip(centre, size, sides, strict=True):
        inside = min(max(int(at) - wanted // 2, 0), side - wanted)
        starts.append(inside if side >= wanted else -((wanted - side) // 2))
    from_ = tuple(slice(max(0, s), min(side, s + n)) for s, n, side in zip(starts, size, sides, strict=True))
    to = tuple(slice(f.start - s, f.stop - s) for f, s in zip(from_, starts, strict=True))
    found: dict[str, Any] = {"case": case["case"]} if "case" in case else {}
    for key in (key for key in KEYS if key in case):
        values = np.asarray(case[key][(slice(None), *from_)])
        out = np.zeros((len(values), *size), values.dtype)
        out[(slice(None), *to)] = values
        found[key] = torch.from_numpy(out)
    return found


def _draw(count: int) -> int:
    """A number below `count`, from torch's generator, which `draws.py` seeds for each crop."""
    return int(torch.randint(count, ()))


def _in_head(image: Any, outside: Any = None) -> Sequence[int]:
    """A random voxel of the head of (C, H, W, D), none of a tumour (R, H, W, D); any voxel if `TRIES` find none."""
    for _ in range(TRIES):
        at = tuple(_draw(side) for side in image.shape[1:])
        if (outside is None or not outside[(0, *at)]) and bool((image[(slice(None), *at)] > 0).any()):
            break
    return at
