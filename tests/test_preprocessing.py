"""What is done once to each scan, beside the MONAI transforms that it replaces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers_bundles import scripts
from monai.data import MetaTensor
from monai.networks.layers import GaussianFilter
from monai.transforms import Compose, CropForegroundd, Invertd, NormalizeIntensityd, Orientationd, Spacingd
from torch.overrides import TorchFunctionMode

preprocessing = scripts("unetr3d", "preprocessing")


def turned(spacing: tuple[float, ...]) -> np.ndarray:
    """Voxels of that size, the first axis flipped, the head turned by 20 degrees, off the origin."""
    turn = np.radians(20)
    affine = np.eye(4)
    affine[:3, :3] = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    affine[:3, :3] = affine[:3, :3] @ np.diag([-spacing[0], *spacing[1:]])
    affine[:3, 3] = (12.5, -30, 7)
    return affine


def image(shape=(14, 17, 11), spacing=(1.0, 1.0, 1.0), channels: int = 2, affine=None) -> MetaTensor:
    values = torch.randn(channels, *shape, generator=torch.Generator().manual_seed(0))
    affine = turned(spacing) if affine is None else affine
    return MetaTensor(values, affine=torch.as_tensor(affine))


def by_monai(before: MetaTensor, target: tuple[float, ...], mode: str = "bilinear") -> MetaTensor:
    """Blurred as far as an axis becomes coarser, then interpolated."""
    sigma = [max(0.0, (t / float(s) - 1) / 2) for t, s in zip(target, before.pixdim, strict=True)]
    if mode == "bilinear" and max(sigma) > preprocessing.NO_BLUR:
        blurred = GaussianFilter(3, sigma)(before.as_tensor()[None])[0]
        before = MetaTensor(blurred, meta=before.meta, applied_operations=before.applied_operations)
    return Spacingd("image", pixdim=target, mode=mode, dtype=np.float32)({"image": before})["image"]


def ours(before: MetaTensor, target: tuple[float, ...], mode: str = "bilinear") -> MetaTensor:
    return preprocessing.Resampled("image", target, mode)({"image": before})["image"]


GRIDS = [
    ((14, 17, 11), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0)),
    ((14, 17, 11), (1.0, 1.0, 3.0), (1.0, 1.0, 1.0)),
    ((13, 9, 6), (0.9, 1.1, 5.0), (2.0, 0.7, 1.5)),
    ((30, 4, 2), (1.0, 1.0, 1.0), (3.7, 1.3, 1.0)),
    ((9, 1, 5), (1.0, 2.0, 1.0), (1.5, 1.0, 4.0)),
]


@pytest.mark.parametrize(("shape", "spacing", "target"), GRIDS)
def test_resampling_is_a_blur_and_monais_spacing(shape, spacing, target):
    before = image(shape, spacing)
    copy = before.clone()
    wanted, found = by_monai(before, target), ours(before, target)
    assert found.shape == wanted.shape and float((found - wanted).abs().max()) < 5e-5
    assert torch.allclose(found.affine, wanted.affine, atol=1e-6)
    assert torch.equal(before.as_tensor(), copy.as_tensor())  # what came in is not touched


def test_a_mask_is_resampled_by_its_nearest_voxel():
    before = MetaTensor((image() > 0.3).to(torch.uint8) * 3, affine=torch.as_tensor(turned((1.0, 1.0, 1.0))))
    for target in ((2.0, 2.0, 2.0), (0.7, 1.3, 1.0)):
        found = ours(before, target, "nearest")
        assert set(found.unique().tolist()) <= {0, 3} and found.dtype == torch.uint8
        wanted = by_monai(MetaTensor(before.float(), affine=before.affine), target, "nearest")
        assert float((found.float() != wanted).float().mean()) < 0.2  # halfway between two voxels rounding decides
    exact = ours(before, (1.0, 1.0, 0.5), "nearest")  # places that are a quarter apart: no tie but at the middle
    assert torch.equal(exact[..., ::2].as_tensor(), before.as_tensor())


class OneDevice(TorchFunctionMode):
    """A GPU's rule, on any machine: no product and no selection of tensors that lie on two devices."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        names = ("matmul", "__matmul__", "__rmatmul__", "index_select")
        devices = {a.device for a in args if isinstance(a, torch.Tensor)}
        assert getattr(function, "__name__", "") not in names or len(devices) == 1, f"{function}: {devices}"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_what_a_gpu_predicted_goes_back_on_the_gpu(mode):
    """The `meta` device stands for it: like a GPU's, its tensors are none of the CPU's."""
    resample = preprocessing.Resampled("image", (2.0, 1.5, 0.8), mode)
    ready = resample({"image": image()})["image"]
    answer = MetaTensor(ready.as_tensor().to("meta"), meta=ready.meta, applied_operations=ready.applied_operations)
    with OneDevice():
        back = resample.inverse({"image": answer})["image"]
    assert back.device.type == "meta" and back.shape == image().shape


def test_the_same_spacing_changes_nothing():
    before = image(spacing=(1.0, 1.2, 3.0))
    assert torch.equal(ours(before, (1.0, 1.2, 3.0)).as_tensor(), before.as_tensor())


@pytest.mark.parametrize(("shape", "spacing", "target"), GRIDS)
def test_the_way_back_is_monais(shape, spacing, target):
    """Through Invertd, as inference goes it: crop, turn, resample, and back to the scan's own grid."""
    scan = image(shape, spacing, channels=1)
    scan[:, :1] = 0
    back = []
    for resample in (
        preprocessing.Resampled("image", target),
        Spacingd("image", pixdim=target, mode="bilinear", dtype=np.float32),
    ):
        crop = CropForegroundd("image", source_key="image", select_fn=lambda x: x != 0)
        way = Compose([crop, Orientationd("image", axcodes="RAS", labels=None), resample])
        ready = way({"image": scan.clone()})
        answer = torch.rand(ready["image"].shape, generator=torch.Generator().manual_seed(1))
        ready["pred"] = MetaTensor(
            answer, meta=ready["image"].meta, applied_operations=ready["image"].applied_operations
        )
        inverse = Invertd("pred", transform=way, orig_keys="image", nearest_interp=False, to_tensor=True)
        back.append(inverse(ready)["pred"])
    found, wanted = back
    assert found.shape == wanted.shape == scan.shape
    assert torch.allclose(found.affine, scan.affine, atol=1e-6)
    assert float((found - wanted).abs().max()) < 5e-5


@pytest.mark.parametrize("nonzero", [True, False])
@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.float32])
def test_z_scoring_is_monais(nonzero, dtype):
    values = (torch.rand(3, 9, 8, 7, generator=torch.Generator().manual_seed(0)) * 200).to(dtype)
    values[:, :3] = 0
    values[1] = 0  # a contrast that is not there
    before = MetaTensor(values, affine=torch.eye(4))
    found = preprocessing.ZScored("image", nonzero=nonzero)({"image": before})["image"]
    monais = NormalizeIntensityd("image", nonzero=nonzero, channel_wise=True)
    wanted = monais({"image": MetaTensor(values.float(), affine=torch.eye(4))})["image"]
    assert float((found - wanted).abs().max()) < 1e-4 and found.dtype == torch.float32
    assert torch.equal(before.as_tensor(), values)


@pytest.mark.parametrize("value", [7, 0.1, 1000.3, -0.37])
@pytest.mark.parametrize("nonzero", [True, False])
def test_a_channel_of_one_value_is_only_moved(value, nonzero):
    """Rounding of the mean is no contrast; the faintest real one is."""
    before = MetaTensor(torch.full((1, 60, 50, 40), value), affine=torch.eye(4))
    scored = preprocessing.ZScored("image", nonzero=nonzero)
    assert float(scored({"image": before})["image"].abs().max()) < 1e-4 * max(1, abs(value))
    faint = before.float()
    faint[:, ::2] *= 1.001
    assert float(scored({"image": faint})["image"].std()) == pytest.approx(1, abs=1e-3)


def test_history_and_affine_outlive_z_scoring():
    before = image()
    before.push_applied_operation({"class": "Test"})
    after = preprocessing.ZScored("image")({"image": before})["image"]
    assert after.applied_operations == before.applied_operations and torch.equal(after.affine, before.affine)
