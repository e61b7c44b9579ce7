"""Gradients of several batches: added, clipped once, stepped on together."""

from __future__ import annotations

import pytest
import torch
from helpers_bundles import NAMES, scripts
from monai.data import DataLoader
from monai.engines import SupervisedTrainer


def trained_weight(bundle: str, slopes: list[float], accumulation_steps: int) -> float:
    """One weight, from 0, after an epoch of batches whose losses have these slopes; rate 1, clipped to a norm of 1."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    items = [{"image": torch.ones(1), "label": torch.tensor([slope])} for slope in slopes]
    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(items, batch_size=1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=lambda prediction, slope: (slope * prediction).sum(),
        train_handlers=[scripts(bundle, "handlers").ClipGradients(1.0)],
        accumulation_steps=accumulation_steps,
    ).run()
    return float(network.weight)


@pytest.mark.parametrize("bundle", NAMES)
@pytest.mark.parametrize(
    ("slopes", "steps", "expected"),
    [
        ([10.0, -10.0], 2, 0.0),  # they cancel; clipped one by one the second would win
        ([10.0, -10.0], 1, 0.0),  # a step to -1 and one back
        ([0.2, 0.4], 2, -0.3),  # the mean, too short to clip
        ([10.0, 10.0], 2, -1.0),
        ([10.0, -10.0, 10.0], 2, -1.0),  # the last batch of an epoch is stepped on alone, and clipped
        ([0.4, 0.4, 0.4], 2, -0.6),
    ],
)
def test_added_gradients_are_clipped_once(bundle, slopes, steps, expected):
    assert trained_weight(bundle, slopes, steps) == pytest.approx(expected, abs=1e-5)
