"""Losses: for networks that answer at several levels while they train, and for labels that are not sure."""

from __future__ import annotations

import torch

from .transforms import IGNORED, SOFT, STEPS


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


class MaskedDiceBCE(torch.nn.Module):
    """`dice_weight` * Dice + (1 - `dice_weight`) * binary cross entropy, of what is known.

    Takes (B, C, ...) logits and a target of 0 and 1, or of the codes of a pseudo-mask (`transforms.Regionsd`): where
    nobody knows, a voxel counts in neither part; elsewhere a consensus is a target between 0 and 1. For 0 and 1 it is
    the loss of train.yaml: Dice over the batch, cross entropy over all voxels.
    """

    def __init__(self, dice_weight: float = 0.5, smooth: float = 1e-5) -> None:
        super().__init__()
        self.dice_weight, self.smooth = dice_weight, smooth

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        target, known = decoded(target)
        prediction = prediction.float()
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(prediction, target, reduction="none")
        entropy = (entropy * known).sum() / known.sum().clamp(min=1)
        axes = [axis for axis in range(prediction.ndim) if axis != 1]
        marked, truth = prediction.sigmoid() * known, target * known
        both, total = (marked * truth).sum(axes), marked.sum(axes) + truth.sum(axes)
        dice = 1 - (2 * both + self.smooth) / (total + self.smooth)
        return self.dice_weight * dice.mean() + (1 - self.dice_weight) * entropy


def decoded(target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of `transforms.Regionsd` as float -> the probability of tumour, and 1 where it is known; both float32."""
    target = target.float()
    known = (target != IGNORED).float()
    soft = ((target - SOFT) / STEPS).clamp(0, 1)
    return torch.where(target >= SOFT, soft, target) * known, known
