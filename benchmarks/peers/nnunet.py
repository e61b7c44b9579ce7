"""nnU-Net's augmentation (batchgeneratorsv2, its default for 3D) on crops of the cases as unetr3d prepares them.

Its data loader cuts a larger crop first, so that turning it does not bring in zeros from outside; so does this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

NAME, PACKAGE = "nnU-Net", "nnunetv2"


def batches(cases: Dataset, patch_size: Sequence[int], batch_size: int) -> Iterator:
    """(image, label) batches without end, made in this process."""
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from scripts.cache import load  # the bundle's, on the path
    from scripts.crops import TumourCrop

    turn = (-30 / 360 * 2 * np.pi, 30 / 360 * 2 * np.pi)
    first = get_patch_size(np.array(patch_size), turn, turn, turn, (0.7, 1.4))
    vary = nnUNetTrainer.get_training_transforms(
        np.array(patch_size), turn, None, (0, 1, 2), False, use_mask_for_norm=[True] * 4
    )
    crop = TumourCrop([int(n) for n in first], pos=1, neg=2)
    places = np.random.default_rng(0)
    while True:
        images, labels = [], []
        for _ in range(batch_size):
            drawn = crop(load(cases.folders[places.integers(len(cases))]))
            varied = vary(image=drawn["image"].float(), segmentation=drawn["label"].to(torch.int16))
            images.append(varied["image"])
            labels.append(varied["segmentation"])
        yield torch.stack(images), torch.stack(labels).float()
