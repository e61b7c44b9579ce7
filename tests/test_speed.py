"""A network that was arranged for its device computes the same, with the same weights under the same names."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers_bundles import NAMES, scripts
from monai.networks.nets import UNETR, DynUNet, SegResNet, UNet
from torch import nn

BUNDLE = pytest.fixture(params=NAMES)(lambda request: scripts(request.param, "speed"))
speed = BUNDLE


def networks() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    torch.manual_seed(0)
    volume, image = torch.randn(2, 4, 32, 32, 32), torch.randn(2, 1, 32, 32)
    affine = ("instance", {"affine": True})
    return {
        "unetr": (UNETR(4, 1, (32, 32, 32), 4, 16, 32, 2, norm_name="instance", res_block=True), volume),
        "segresnet": (SegResNet(3, 8, 4, 1), volume),
        "dynunet": (
            DynUNet(3, 4, 1, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 8, 8], norm_name=affine, res_block=True),
            volume,
        ),
        "unet": (UNet(2, 1, 1, (4, 8), (2,), num_res_units=2), image),
    }


@pytest.mark.parametrize("name", networks())
def test_output_gradients_and_names_are_the_same(speed, name):
    network, inputs = networks()[name]
    plain = copy.deepcopy(network)
    ready = speed.ready(network, "cpu")
    assert ready is network and list(ready.state_dict()) == list(plain.state_dict())
    outputs = []
    for one in (plain, ready):
        one.double().eval()  # no dropout; and no activation so near 0 that rounding decides about its gradient
        found = one(inputs.double())
        found.square().mean().backward()
        outputs.append(found)
    assert torch.allclose(*outputs, atol=1e-10)
    for a, b in zip(plain.parameters(), ready.parameters(), strict=True):
        assert a.grad is None and b.grad is None or torch.allclose(a.grad, b.grad, atol=1e-10)


def test_something_was_exchanged_in_a_unetr(speed):
    network = speed.ready(networks()["unetr"][0], "cpu")
    kinds = {type(module) for module in network.modules()}
    assert {speed.Pointwise3d, speed.ChannelNorm3d} <= kinds and nn.InstanceNorm3d not in kinds


@pytest.mark.parametrize(
    ("settings", "is_exchanged"),
    [
        ({}, True),
        ({"bias": False}, True),
        ({"kernel_size": 3, "padding": 1}, False),
        ({"stride": 2}, False),
        ({"padding": 1}, False),
        ({"groups": 2}, False),
        ({"padding": "same"}, False),
    ],
)
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Conv3d])
def test_only_plain_convolutions_of_single_voxels_are_products(speed, kind, settings, is_exchanged):
    torch.manual_seed(0)
    layer = kind(4, 6, **({"kernel_size": 1} | settings))
    inputs = torch.randn(2, 4, *[6] * (2 if kind is nn.Conv2d else 3))
    wanted = layer(inputs)
    speed.ready(layer, "cpu")
    assert (type(layer) is not kind) == is_exchanged
    assert torch.allclose(layer(inputs), wanted, atol=1e-5)


PATCHES = [({}, True), ({"bias": False}, True), ({"kernel_size": (4, 3), "stride": (4, 3)}, True)]
PATCHES += [({"kernel_size": 2, "stride": 2}, False), ({"stride": 2}, False), ({"kernel_size": 5}, False)]
PATCHES += [({"padding": 1}, False), ({"dilation": 2}, False), ({"groups": 2}, False)]


@pytest.mark.parametrize(("settings", "is_exchanged"), PATCHES)
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Conv3d])
def test_patch_embeddings_are_products_with_the_same_answer_and_gradients(speed, kind, settings, is_exchanged):
    torch.manual_seed(0)
    axes = 2 if kind is nn.Conv2d else 3
    whole = {key: (*value, 4)[:axes] if isinstance(value, tuple) else value for key, value in settings.items()}
    layer = kind(4, 6, **({"kernel_size": 4, "stride": 4} | whole))
    ready = speed.ready(copy.deepcopy(layer), "cpu")
    assert (type(ready) in speed.PATCHWISE.values()) == is_exchanged
    image = torch.randn(2, 4, *(14, 12, 13)[:axes])  # the last voxels of some axes fill no patch
    images = [image.clone().requires_grad_() for _ in range(2)]
    answers = [one(image) for one, image in zip((layer, ready), images, strict=True)]
    for answer in answers:
        answer.square().sum().backward()
    assert torch.allclose(*answers, atol=1e-5) and torch.allclose(images[0].grad, images[1].grad, atol=1e-4)
    assert torch.allclose(layer.weight.grad, ready.weight.grad, atol=1e-3)


LONG = [(nn.Conv2d, {"kernel_size": 5, "stride": 3}), (nn.Conv3d, {"kernel_size": 8, "padding": 4})]
LONG += [(kind, {"kernel_size": 4, "stride": 4}) for kind in (nn.ConvTranspose2d, nn.ConvTranspose3d)]


@pytest.mark.parametrize("amx", [True, False])
@pytest.mark.parametrize(("kind", "settings"), LONG)
def test_other_long_convolutions_compute_in_float32_on_processors_with_amx(speed, kind, settings, amx, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    torch.manual_seed(0)
    layer = kind(4, 8, **settings)
    image = torch.randn(1, 4, *[16] * (layer.weight.ndim - 2))
    wanted = layer(image)
    speed.ready(layer, "cpu")
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(image)
    assert (found.dtype == torch.float32) == amx and (not amx or torch.equal(found, wanted))
    assert (speed.plain_class(type(layer)) is kind) and (type(layer) is not kind) == amx


def test_short_convolutions_stay_as_they_are_on_processors_with_amx(speed, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    for layer in (nn.Conv3d(4, 8, 3, 2), nn.Conv2d(4, 8, 7), nn.ConvTranspose3d(8, 4, 2, 2)):
        assert type(speed.ready(layer, "cpu")) in (nn.Conv3d, nn.Conv2d, nn.ConvTranspose3d)


def test_a_norm_with_running_statistics_is_left_alone(speed):
    layer = speed.ready(nn.InstanceNorm3d(2, track_running_stats=True), "cpu")
    assert type(layer) is nn.InstanceNorm3d


def test_under_autocast_types_are_what_they_were(speed):
    plain = nn.Sequential(nn.Conv3d(2, 4, 3), nn.InstanceNorm3d(4, affine=True), nn.Conv3d(4, 1, 1))
    ready = speed.ready(copy.deepcopy(plain), "cpu")
    types: list[list] = [[], []]
    for network, seen in zip((plain, ready), types, strict=True):
        for module in network:
            module.register_forward_hook(lambda module, args, output, seen=seen: seen.append(output.dtype))
        with torch.autocast("cpu", torch.bfloat16):
            network(torch.randn(1, 2, 5, 5, 5))
    assert types[0] == types[1]


def test_it_can_be_copied_saved_and_traced(speed, tmp_path):
    network, inputs = networks()["unetr"]
    network = speed.ready(network, "cpu").eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    plain = networks()["unetr"][0].eval()
    plain.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    with torch.no_grad():
        wanted = network(inputs)
        assert torch.allclose(plain(inputs), wanted, atol=2e-5)
        assert torch.equal(copy.deepcopy(network)(inputs), wanted)
        assert torch.allclose(torch.jit.trace(network, inputs)(inputs), wanted, atol=1e-6)


def test_a_seed_repeats_a_run(speed):
    drawn = []
    for seed, deterministic in ((3, False), (3, True), (4, False)):
        speed.seed_all(seed, deterministic)
        drawn.append(torch.rand(4))
    torch.use_deterministic_algorithms(False)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.backends.cudnn.benchmark and not torch.backends.cudnn.deterministic
