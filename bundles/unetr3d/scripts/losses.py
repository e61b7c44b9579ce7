"""A loss for networks that answer at several levels while they train."""

from __future__ import annotations

import torch


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
