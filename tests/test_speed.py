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
        one.eval()  # no dropout
        found = one(inputs)
        found.square().mean().backward()
        outputs.append(found)
    assert torch.allclose(*outputs, atol=2e-5)
    for a, b in zip(plain.parameters(), ready.parameters(), strict=True):
        assert a.grad is None and b.grad is None or torch.allclose(a.grad, b.grad, atol=2e-5)


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
