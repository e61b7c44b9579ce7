"""Crops of preprocessed cases: where their centres lie, and what surrounds a small volume."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from helpers_bundles import scripts
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import Compose, RandSpatialCropd, SpatialCropd, SpatialPadd

crops = scripts("unetr3d", "crops")
SHAPE = (9, 11, 7)


def case(shape=SHAPE, tumour=((2, 3, 4), (2, 3, 5), (6, 8, 1)), regions: int = 1) -> dict:
    """Each voxel holds a number of its own; the head is one half of the volume, where they are above 0."""
    image = np.arange(1, np.prod(shape) + 1, dtype=np.float16).reshape(shape)
    image[shape[0] // 2 + 2 :] *= -1  # darker than the mean: no centre of a crop
    label = np.zeros((regions, *shape), np.uint8)
    for place in tumour:
        label[(0, *place)] = 1
    return {"image": np.stack([image, -np.abs(image)]), "label": label, "case": "a"}


def centres(crop, of: dict, count: int) -> Counter:
    """The voxels that crops of 1 x 1 x 1 hold."""
    return Counter(abs(float(crop(of)["image"][0])) for _ in range(count))


def test_two_crops_of_three_are_centred_on_tumour_each_voxel_as_often():
    torch.manual_seed(0)
    of, count = case(), 1500
    tumour = [abs(float(of["image"][(0, *place)])) for place in np.argwhere(of["label"][0])]
    found = centres(crops.TumourCrop((1, 1, 1), pos=2, neg=1), of, count)
    on_tumour = [found[number] for number in tumour]
    assert sum(on_tumour) / count == pytest.approx(2 / 3, abs=4 * (2 / 9 / count) ** 0.5)
    assert max(on_tumour) - min(on_tumour) < 0.25 * sum(on_tumour)


@pytest.mark.parametrize("tumour", [((2, 3, 4),), ()])
def test_all_other_centres_are_bright_head_without_tumour(tumour):
    torch.manual_seed(0)
    of = case(tumour=tumour)
    crop = crops.TumourCrop((1, 1, 1), pos=0 if tumour else 5, neg=1)  # without tumour, pos has nothing to choose
    seen = [crop(of) for _ in range(400)]
    assert all(float(one["image"][0]) > 0 and not one["label"].any() for one in seen)
    assert len({float(one["image"][0]) for one in seen}) > 150


def test_of_several_regions_the_first_decides():
    torch.manual_seed(0)
    of = case(regions=3)
    of["label"][2] = 1
    crop = crops.TumourCrop((1, 1, 1), pos=1, neg=0)
    assert all(crop(of)["label"][0].all() for _ in range(50))


def test_indices_that_were_kept_are_used():
    of = case() | {"tumour": np.array([0], np.int32)}
    assert float(crops.TumourCrop((1, 1, 1), pos=1, neg=0)(of)["image"][0]) == 1


@given(st.tuples(*[st.integers(0, n - 1) for n in SHAPE]), st.tuples(*[st.integers(1, n + 4) for n in SHAPE]))
def test_a_crop_stays_inside_or_is_padded_as_monai_pads(centre, size):
    of = case()
    found = crops.cut(of, centre, size)
    inside = [min(max(c - n // 2, 0), max(0, side - n)) for c, n, side in zip(centre, size, SHAPE, strict=True)]
    ends = [s + min(n, side) for s, n, side in zip(inside, size, SHAPE, strict=True)]
    both = ["image", "label"]
    way = Compose([SpatialCropd(both, roi_start=inside, roi_end=ends), SpatialPadd(both, spatial_size=size)])
    wanted = way({key: torch.from_numpy(of[key].astype(np.float32)) for key in both})
    for key in both:
        assert found[key].dtype == torch.from_numpy(of[key]).dtype
        assert torch.equal(found[key].float(), wanted[key].as_tensor())
    assert found["case"] == "a"


def test_a_centre_crop_is_the_middle():
    found = crops.CentreCrop((3, 3, 3))(case())["image"]
    wanted = RandSpatialCropd("image", (3, 3, 3), random_center=False, random_size=False)(
        {"image": torch.from_numpy(case()["image"].astype(np.float32))}
    )["image"]
    assert torch.equal(found.float(), wanted.as_tensor())


def test_one_seed_gives_the_same_crops_and_workers_differ():
    crop, of = crops.TumourCrop((3, 3, 3), pos=2, neg=1), case()

    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.stack([crop(of)["image"] for _ in range(8)])

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    loader = torch.utils.data.DataLoader(Drawn(crop), batch_size=8, num_workers=2)
    first, second = list(loader)
    assert not torch.equal(first, second)


class Drawn(torch.utils.data.Dataset):
    def __init__(self, crop) -> None:
        self.crop = crop

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.crop(case())["image"]


def test_a_case_without_a_label_gives_crops_of_its_head_and_its_middle():
    torch.manual_seed(0)
    of = case()
    del of["label"]
    found = centres(crops.HeadCrop((1, 1, 1)), of, 3000)
    head = np.abs(of["image"][0][of["image"][0] > 0])
    assert set(found) == {float(number) for number in head}
    assert set(crops.CentreCrop((3, 3, 3))(of)) == {"image", "case"}
    assert crops.CentreCrop((1, 1, 1))(of)["image"][0].item() == of["image"][0, 4, 5, 3]
