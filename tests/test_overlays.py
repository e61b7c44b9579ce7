"""The picture of validation images that training draws after each epoch."""

import numpy as np
import pytest
import torch
from helpers_bundles import NAMES, scripts
from ignite.engine import Engine


@pytest.mark.parametrize("bundle", NAMES)
def test_a_head_is_shown_with_its_nose_up_and_its_right_side_left(bundle: str) -> None:
    image, label = torch.zeros(4, 10, 12, 8), torch.zeros(1, 10, 12, 8)
    image[3, 8, 11, 5] = 7  # right, front
    label[0, 1, 2, 5] = 1  # left, back
    shown = scripts(bundle, "overlays").pick(image, label, torch.zeros_like(label), "a")
    assert shown.image.shape == (12, 10)
    assert np.argwhere(shown.image).tolist() == [[0, 1]] and np.argwhere(shown.truth).tolist() == [[9, 8]]
    assert not shown.pred.any()


def test_without_truth_the_slice_with_most_prediction_is_shown() -> None:
    pred = torch.zeros(1, 4, 4, 6)
    pred[0, :2, :2, 1] = pred[0, :3, :3, 4] = 1
    shown = scripts("unetr3d", "overlays").pick(torch.zeros(4, 4, 4, 6), torch.zeros_like(pred), pred, "a")
    assert shown.pred.sum() == 9


def test_an_image_is_shown_as_it_is() -> None:
    image, label = torch.rand(1, 5, 7), torch.zeros(1, 5, 7)
    label[0, 1, 2] = 1
    shown = scripts("pseudo2d", "overlays").pick(image, label, label, "a")
    assert np.array_equal(shown.image, image[0].numpy()) and np.argwhere(shown.truth).tolist() == [[1, 2]]


@pytest.mark.parametrize("bundle", NAMES)
def test_each_validation_draws_its_own_first_cases(bundle: str, tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def validate(engine: Engine, batch: list[dict]) -> list[dict]:
        mask = torch.zeros(1, 8, 8)
        mask[0, 2:5, 2:5] = 1
        return [{"image": torch.rand(1, 8, 8), "label": mask, "pred": mask} for _ in batch]

    overlays = scripts(bundle, "overlays").Overlays(str(tmp_path), str(tmp_path / "tensorboard"), cases=4)
    engine = Engine(validate)
    overlays.attach(engine)
    engine.run([[{"case": f"{number}-{n}"} for n in range(3)] for number in range(3)], max_epochs=2)
    assert [one.case for one in overlays.shown] == ["0-0", "0-1", "0-2", "1-0"]
    assert (tmp_path / "overlays.png").read_bytes().startswith(b"\x89PNG")
    logged = EventAccumulator(str(tmp_path / "tensorboard"))
    logged.Reload()
    assert [event.step for event in logged.Images("validation")] == [1, 2]
