"""TorchIO's queue of patches, with its own transforms, on the cases as unetr3d prepares them.

Whole volumes are varied, and then cut: VOLUMES_PATCHES patches from each. The transforms that both
have are set as ours are. TorchIO has none for brightness, and none that drops a contrast; its own bias field and low
resolution, which compute something else than ours, are left out. Everything runs in this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from .nnunet import volumes

NAME, PACKAGE = "TorchIO", "torchio"
QUEUE, VOLUMES_PATCHES = 16, 8  # patches in the queue, and of each volume: as crops_per_case


def batches(cases: Dataset, patch_size: Sequence[int], batch_size: int) -> Iterator:
    """(image (B, 4, *patch_size) float32, label (B, 1, *patch_size) float32) without end.

    cases: prepared ones; their volumes are held in memory, the fastest that TorchIO can have.
    """
    import torchio as tio

    vary = tio.Compose(
        [
            tio.RandomAffine(scales=0.2, degrees=28.6, p=0.7, default_pad_value=0),
            tio.RandomFlip(axes=(0, 1, 2), flip_probability=0.5),
            tio.RandomBlur(std=(0.3, 1.2), p=0.2),
            tio.RandomGamma(log_gamma=0.47, p=0.4),
            tio.RandomNoise(std=(0, 0.3), p=0.3),
        ]
    )
    subjects = [subject(cases, number, patch_size) for number in range(len(cases))]
    sampler = tio.LabelSampler(tuple(patch_size), label_name="label", label_probabilities={0: 1, 1: 1})
    data = tio.SubjectsDataset(subjects, transform=vary)
    queue = tio.Queue(data, QUEUE, VOLUMES_PATCHES, sampler, num_workers=0, verbose=False)
    while True:
        for batch in tio.SubjectsLoader(queue, batch_size=batch_size):
            yield batch["image"][tio.DATA], batch["label"][tio.DATA].float()


def subject(cases: Dataset, number: int, patch_size: Sequence[int]) -> object:
    """A case as TorchIO's Subject, surrounded by zeros where it is smaller than a patch."""
    import torchio as tio

    image, label = volumes(cases, number)
    missing = [max(0, wanted - side) for wanted, side in zip(patch_size, image.shape[1:], strict=True)]
    margins = [(0, 0), *((n // 2, n - n // 2) for n in missing)]
    image, label = (torch.from_numpy(np.pad(array, margins)) for array in (image, label[:1]))
    return tio.Subject(image=tio.ScalarImage(tensor=image), label=tio.LabelMap(tensor=label))
