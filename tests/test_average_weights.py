"""The moving average of the weights: what is validated and kept, while training goes on from its own weights."""

from __future__ import annotations

import pytest
import torch
from helpers_bundles import NAMES, scripts
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer

SLOPES = [1.0, 2.0, -1.0, 0.5, 3.0, 1.0]


def train(bundle: str, decay: float, accumulation_steps: int = 1, broken: bool = False) -> dict[str, list[float]]:
    """One weight, from 0, two epochs of SLOPES at rate 1; returns the weights of each step, validation and the end."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    items = [{"image": torch.ones(1), "label": torch.tensor([slope])} for slope in SLOPES]
    seen: dict[str, list[float]] = {"step": [], "validated": [], "end": []}

    def validate(engine):
        seen["validated"].append(float(network.weight.detach()))
        if broken:
            raise ValueError("validation failed")

    device = torch.device("cpu")
    validator = SupervisedEvaluator(device=device, val_data_loader=DataLoader(items[:1]), network=network)
    validator.add_event_handler(Events.ITERATION_COMPLETED, validate)
    trainer = SupervisedTrainer(
        device=device,
        max_epochs=2,
        train_data_loader=DataLoader(items, batch_size=1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=lambda prediction, slope: (slope * prediction).sum(),
        train_handlers=[scripts(bundle, "handlers").AverageWeights(decay, validator)],
        accumulation_steps=accumulation_steps,
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda _: seen["step"].append(float(network.weight.detach())))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: validator.run())
    try:
        trainer.run()
    except ValueError as error:
        assert str(error) == "validation failed" and broken
    seen["end"].append(float(network.weight.detach()))
    return seen


def averages(decay: float, weights: list[float]) -> list[float]:
    found, average = [], 0.0
    for step, weight in enumerate(weights, start=1):
        kept = min(decay, (1 + step) / (10 + step))
        average = kept * average + (1 - kept) * weight
        found.append(average)
    return found


@pytest.mark.parametrize("bundle", NAMES)
@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_average_is_validated_and_kept_and_training_goes_on_without_it(bundle, decay):
    plain, averaged = train(bundle, 0.0), train(bundle, decay)
    assert averaged["step"] == plain["step"]  # to the last bit
    wanted = averages(decay, plain["step"])
    assert averaged["validated"] == pytest.approx([wanted[5], wanted[11]], abs=1e-5)
    assert averaged["end"] == pytest.approx([wanted[11]], abs=1e-5)
    assert plain["validated"] == [plain["step"][5], plain["step"][11]] and plain["end"] == plain["step"][-1:]


@pytest.mark.parametrize("bundle", NAMES)
def test_added_batches_are_one_step(bundle):
    found = train(bundle, 0.9, accumulation_steps=3)
    stepped = [weight for place, weight in enumerate(found["step"]) if place % 3 == 2]
    assert found["validated"][0] == pytest.approx(averages(0.9, stepped)[1], abs=1e-5)


@pytest.mark.parametrize("bundle", NAMES)
def test_a_validation_that_fails_gives_the_weights_back(bundle):
    found = train(bundle, 0.9, broken=True)
    assert found["end"] == [found["step"][-1]]


@pytest.mark.parametrize("bundle", NAMES)
def test_weights_under_two_names_are_exchanged_once(bundle):
    """MONAI's DynUNet lists each of its blocks a second time, below `skip_layers`."""
    network = torch.nn.ModuleDict({"block": torch.nn.Linear(1, 1, bias=False)})
    network["skip"] = network["block"]
    torch.nn.init.constant_(network["block"].weight, 3.0)
    trainer, validator = Engine(lambda *_: None), Engine(lambda *_: None)
    trainer.network = network
    scripts(bundle, "handlers").AverageWeights(0.9, validator).attach(trainer)
    trainer.fire_event(Events.STARTED)
    torch.nn.init.constant_(network["block"].weight, 5.0)
    validator.fire_event(Events.STARTED)
    assert network["block"].weight.item() == 3.0
    validator.fire_event(Events.COMPLETED)
    assert network["block"].weight.item() == 5.0
