"""Read the NIfTI files of a scan side by side, cropped to the head, voxels as they are stored; nifti.py reads one."""

from __future__ import annotations

import functools
import sys
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import ensure_tuple

from .errors import ROOT, refuse
from .nifti import Unreadable, read_nifti, voxels
from .siblings import whole_item

Box = tuple[slice, ...]


class LoadNiftid(MapTransform, InvertibleTransform):
    """Read scans from NIfTI files, or only the box around the head: all that is not 0 in any contrast.

    Takes a path per key, or a list of paths that become the channels of one image; a file of four axes holds one
    channel after the other. crop_to: the image around whose head all keys are cropped; none: they stay whole.
    Returns (C, H, W, D) with the affine of the first file; integers stay integers. The inverse gives back the rest of
    the scan, as zeros.

    An item with the key `image_path` comes from MONAI Label, with one file of the scan: its other modalities are looked
    for beside it (`scripts.siblings`). One bad file must not stop a server: what is wrong is raised, not
    refused: Alone or Unreadable.

    As MONAI's `LoadImaged(ensure_channel_first=True)` and `CropForegroundd`, at a quarter of their time: most of a
    skull-stripped scan is never moved to where torch wants it. Keeps no state, so that threads may share it (MONAI's
    reader mixes up their files). Stops the run with one line on a bad file.
    """

    def __init__(self, keys: str | Sequence[str], crop_to: str | None = None) -> None:
        super().__init__(keys)
        self.crop_to = crop_to

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        served = "image_path" in data and "image" in self.keys  # MONAI Label adds that key
        d = whole_item(data) if served else dict(data)
        try:
            found = {key: _read(ensure_tuple(d[key])) for key in self.key_iterator(d)}
        except Unreadable as error:
            if served:
                raise
            refuse(str(error))
        box = None
        if self.crop_to is not None:
            source = found[self.crop_to]
            _say_if_flat(d[self.crop_to], source.channels)
            box = head(source.channels)
            for scan in found.values():
                _same_shape([source.path, scan.path], [source.channels[0], scan.channels[0]])
        for key, scan in found.items():
            d[key] = self._image(scan, box or whole(scan.channels[0].shape))
        return d

    def _image(self, scan: Scan, box: Box) -> MetaTensor:
        shape, affine = scan.channels[0].shape, scan.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
        meta = {"filename_or_obj": str(scan.path), "affine": torch.from_numpy(affine), "original_affine": scan.affine}
        meta |= {"spatial_shape": np.asarray(shape), "space": "RAS"}
        image = MetaTensor(torch.from_numpy(_stacked([channel[box] for channel in scan.channels])), meta=meta)
        if self.crop_to is not None:
            pads = [[side.start, length - side.stop] for side, length in zip(box, shape, strict=True)]
            self.push_transform(image, orig_size=shape, extra_info={"pads": pads, "affine": scan.affine.tolist()})
        return image

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d) if self.crop_to is not None else ():
            info = self.pop_transform(d[key])["extra_info"]
            around = [int(width) for sides in reversed(info["pads"]) for width in sides]
            whole = torch.nn.functional.pad(d[key].as_tensor(), around)
            d[key] = MetaTensor(whole, meta=d[key].meta, applied_operations=d[key].applied_operations)
            d[key].affine = torch.tensor([[float(v) for v in row] for row in info["affine"]], dtype=torch.float64)
        return d


def head(channels: Sequence[np.ndarray]) -> Box:
    """The smallest box that holds all voxels of (H, W, D) that are not 0 in every channel; of an empty scan, all."""
    marks = [channel if channel.dtype.kind in "iu" else channel != 0 for channel in channels]
    marked = functools.reduce(np.bitwise_or, marks).T  # D, W, H: as they lie in memory
    deep = np.bitwise_or.reduce(marked.reshape(len(marked), -1), axis=1)
    plane = np.bitwise_or.reduce(marked, axis=0)
    profiles = [np.flatnonzero(profile) for profile in (plane.any(axis=0), plane.any(axis=1), deep)]
    if len(profiles[2]) == 0:
        return whole(channels[0].shape)
    return tuple(slice(int(places[0]), int(places[-1]) + 1) for places in profiles)


def whole(shape: Sequence[int]) -> Box:
    return tuple(slice(0, length) for length in shape)


class Scan(NamedTuple):
    """path and affine of the first file; channels: (H, W, D) each, H fastest in memory."""

    path: str | PathLike
    affine: np.ndarray
    channels: list[np.ndarray]


def _read(paths: Sequence[str | PathLike]) -> Scan:
    with ThreadPoolExecutor(len(paths)) as pool:
        images = list(pool.map(read_nifti, paths))
    _same_shape(paths, images)
    channels = [voxels(path, image) for path, image in zip(paths, images, strict=True)]
    if channels[0].ndim == 4:
        channels = [array[..., c] for array in channels for c in range(array.shape[3])]
    if channels[0].ndim != 3:
        refuse(f"{paths[0]} has {channels[0].ndim} axes. A scan has three, or four with one channel after the other.")
    return Scan(paths[0], np.asarray(images[0].affine, np.float64), channels)


def _say_if_flat(paths: str | PathLike | Sequence[str | PathLike], channels: Sequence[np.ndarray]) -> None:
    """Say on stderr which modalities show nothing: the network sees the same as if they were missing."""
    named = ensure_tuple(paths)
    for place, channel in enumerate(channels):
        if channel.min() == channel.max():
            path = named[place if len(named) == len(channels) else 0]
            said = f"{path} holds one value everywhere; it counts as a missing contrast. Look at it."
            print(f"{ROOT.name}: {said}", file=sys.stderr)


def _same_shape(paths: Sequence[str | PathLike], images: Sequence[Any]) -> None:
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            refuse(f"{path} has shape {image.shape} but {paths[0]} has {images[0].shape}. Bring both onto one grid.")


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """(H, W, D) side by side: (C, H, W, D), whose voxels lie in memory as in the files, H fastest."""
    stacked = np.empty((len(arrays), *arrays[0].shape[::-1]), np.result_type(*arrays))
    for to, array in zip(stacked, arrays, strict=True):
        to[...] = array.T
    return stacked.transpose(0, 3, 2, 1)
