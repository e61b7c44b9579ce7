"""Hand a batch to the network: move it to its device, to float32, and vary it there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Augmentation = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class PrepareBatch:
    """For `prepare_batch` of MONAI's trainers and evaluators.

    Takes {"image": (B, C, ...), "label": (B, R, ...)} in the types they are stored in (float16 and uint8: a quarter of
    the bytes to move), returns both as float32 on the device. augmentation: varies the whole batch there.
    """

    def __init__(self, augmentation: Augmentation | None = None) -> None:
        self.augmentation = augmentation

    def __call__(
        self, batchdata: dict[str, Any], device: torch.device, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        image, label = (
            batchdata[key].to(device, non_blocking=non_blocking, **kwargs).float() for key in ("image", "label")
        )
        if self.augmentation is not None:
            image, label = self.augmentation(image, label)
        return image, label
