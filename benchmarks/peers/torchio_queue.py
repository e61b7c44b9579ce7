"""TorchIO's queue of patches, with its own transforms, on the cases as unetr3d prepares them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Dataset

NAME, PACKAGE = "TorchIO", "torchio"


def batches(cases: Dataset, patch_size: Sequence[int], batch_size: int) -> Iterator:
    """(image, label) batches without end. cases: prepared ones, whose volumes are read from their files."""
    import torchio as tio

    from scripts.cache import load  # the bundle's, on the path

    subjects = []
    for folder in cases.folders:
        arrays = load(folder)
        image = tio.ScalarImage(tensor=torch.from_numpy(arrays["image"].astype("float32")))
        subjects.append(tio.Subject(image=image, label=tio.LabelMap(tensor=torch.from_numpy(arrays["label"].copy()))))
    vary = tio.Compose(
        [
            tio.CropOrPad([max(n, side) for n, side in zip(patch_size, subjects[0].spatial_shape, strict=True)]),
            tio.RandomAffine(scales=0.15, degrees=20, p=0.5, default_pad_value=0),
            tio.RandomFlip(axes=(0, 1, 2), flip_probability=0.5),
            tio.RandomBlur(std=(0.3, 1.0), p=0.15),
            tio.RandomGamma(log_gamma=0.3, p=0.3),
            tio.RandomNoise(std=(0, 0.15), p=0.2),
        ]
    )
    sampler = tio.LabelSampler(tuple(patch_size), label_name="label", label_probabilities={0: 1, 1: 2})
    queue = tio.Queue(tio.SubjectsDataset(subjects, transform=vary), 16, 8, sampler, num_workers=0, verbose=False)
    loader_class = getattr(tio, "SubjectsLoader", torch.utils.data.DataLoader)
    while True:
        for batch in loader_class(queue, batch_size=batch_size):
            yield batch["image"][tio.DATA], batch["label"][tio.DATA].float()
