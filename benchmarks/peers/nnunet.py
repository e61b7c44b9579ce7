"""nnU-Net's own data loader and its default 3D augmentation, on the cases as unetr3d prepares them.

What differs from a training of nnU-Net: the cases are ours; every second crop is on tumour, as ours are (nnU-Net: every
third); everything runs in this process, and nothing is downsampled for deep supervision. Its augmentation is
another, richer one than ours: this compares what two complete recipes cost.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

NAME, PACKAGE = "nnU-Net", "nnunetv2"
TURN = (-np.pi / 6, np.pi / 6)  # radians; with SCALES what nnUNetTrainer takes for a patch whose sides are alike
SCALES = (0.85, 1.25)
ON_TUMOUR = 1 / 2
PLACES = 10_000  # tumour voxels that a case remembers, as nnU-Net's preprocessing has it


def batches(cases: Dataset, patch_size: Sequence[int], batch_size: int) -> Iterator:
    """(image (B, 4, *patch_size) float32, label (B, 1, *patch_size) float32) without end, made in this process."""
    with contextlib.redirect_stdout(io.StringIO()):  # it says which of its environment variables are not set
        from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
        from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
        from nnunetv2.utilities.label_handling.label_handling import LabelManager

    final = np.array(patch_size)
    larger = get_patch_size(final, TURN, TURN, TURN, SCALES)  # so that turning does not bring in zeros from outside
    vary = nnUNetTrainer.get_training_transforms(final, TURN, None, (0, 1, 2), False, use_mask_for_norm=[True] * 4)
    labels = LabelManager({"background": 0, "tumour": 1}, None)
    with tempfile.TemporaryDirectory() as folder:
        save(cases, nnUNetDatasetBlosc2, Path(folder), patch_size)
        data = nnUNetDatasetBlosc2(folder)
        loader = nnUNetDataLoader(
            data, batch_size, larger, final, labels, ON_TUMOUR, probabilistic_oversampling=True, transforms=vary
        )
        while True:
            batch = next(loader)
            yield batch["data"], batch["target"].float()


def save(cases: Dataset, form: type, folder: Path, patch_size: Sequence[int]) -> None:
    """Write our prepared cases as nnU-Net's preprocessing leaves them: compressed, in blocks that fit the patch."""
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params

    random = np.random.default_rng(0)
    for number in range(len(cases)):
        image, mask = volumes(cases, number)
        seg = np.where((image != 0).any(axis=0, keepdims=True), mask[:1], -1).astype(np.int8)  # -1: outside the head
        tumour = np.argwhere(seg == 1)
        kept = tumour[random.permutation(len(tumour))[:PLACES]]
        blocks, chunks = comp_blosc2_params(image.shape, tuple(patch_size), image.itemsize)
        path = str(folder / f"case_{number:05d}")
        form.save_case(image, seg, {"class_locations": {1: kept}}, path, chunks=chunks, blocks=blocks)


def volumes(cases: Dataset, number: int) -> tuple[np.ndarray, np.ndarray]:
    """image (4, H, W, D) float32 and label (R, H, W, D) uint8 of a prepared case, whole."""
    from scripts.cache import load  # the bundle's, on the path

    arrays = load(cases.folders[number])
    return arrays["image"].astype(np.float32), np.array(arrays["label"])
