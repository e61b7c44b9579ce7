"""Losses that MONAI lacks: for networks that answer at several levels, and for masks that are not sure."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss


class EveryHead(torch.nn.Module):
    """Apply a loss to each head of a deeply supervised network, and to a plain output as it is.

    loss: takes (B, C, ...) prediction and target. DynUNet stacks its heads, all at full size, the finest first:
    (B, heads, C, ...), one axis more than the target. Head i weighs 1 / 2**i, and the weights add up to one, so that
    a learning rate means the same with and without deep supervision.
    Source: Isensee et al., Nat. Methods 18, 203-211 (2021).
    """

    def __init__(self, loss: torch.nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if prediction.ndim == target.ndim:
            return self.loss(prediction, target)
        heads = prediction.unbind(dim=1)
        weights = [0.5**level for level in range(len(heads))]
        losses = [weight * self.loss(head, target) for weight, head in zip(weights, heads, strict=True)]
        return torch.stack(losses).sum() / sum(weights)


class Masked(torch.nn.Module):
    """dice_weight * Dice + (1 - dice_weight) * BCE with probabilities as targets, blind where the target is ignored.

    Takes the logits (B, 1, ...), and targets (B, 3, ...) as `scripts.transforms.Targetsd` makes them: mask, probability
    in 255ths, 1 where ignored. An ignored voxel counts in neither term. With a mask that is sure everywhere it is the
    loss of train.yaml; with a probability the Dice is the one that is least where the network says that very
    probability (Wang et al., Dice Semimetric Losses, MICCAI 2023, arXiv 2303.16296), as the plain one is not.
    """

    def __init__(self, dice_weight: float = 0.5) -> None:
        super().__init__()
        self.dice_weight = dice_weight
        self.dice = DiceLoss(batch=True, soft_label=True)  # over the batch, as train.yaml's

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        soft, seen = target[:, 1:2] / 255, 1 - target[:, 2:3]
        dice = self.dice(torch.sigmoid(prediction) * seen, soft * seen)
        bce = torch.nn.functional.binary_cross_entropy_with_logits(prediction, soft, reduction="none")
        bce = (bce * seen).sum() / seen.sum().clamp(min=1)
        return self.dice_weight * dice + (1 - self.dice_weight) * bce
