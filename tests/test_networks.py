"""Each network of unetr3d's configs/networks: it plans, trains a step, segments alike, and leaves the process."""

from __future__ import annotations

import csv
import sys

import pytest
import torch
import yaml
from helpers_bundles import UNETR3D, as_scripts, read_yaml, scripts
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss

from autoconf.bundle.settings import read_bundle
from autoconf.plan import plan, show_plan
from autoconf.plan.memory import network_step

NETWORKS = sorted(path.stem for path in (UNETR3D / "configs" / "networks").glob("*.yaml"))


def apart(*slow: str) -> list:
    """All networks, those as long tests."""
    return [pytest.param(name, marks=pytest.mark.long) if name in slow else name for name in NETWORKS]


SLOW_APART, MOST_APART = apart("swin_unetr"), apart("swin_unetr", "dynunet", "mednext")
STEP = {"dynunet": 16, "mednext": 16, "segresnet": 16, "swin_unetr": 32, "unetr": 16}  # voxels
SCRIPT = ("segresnet", "unetr")
TRACE_ONLY = {  # network -> where TorchScript stops, in its own words; its configs say so too
    "dynunet": "Optional\\[List\\[Tensor\\]\\]",  # the heads of deep supervision, kept in a list that may be None
    "mednext": "global_resp_gamma",  # of an option that is off, and therefore missing
    "swin_unetr": "variable number of arguments",  # of gradient checkpointing
}


def parsed(first: str, network: str, values: dict) -> ConfigParser:
    """`--config_file ['FIRST','networks/NETWORK.yaml'] --KEY VALUE ...`"""
    parser = ConfigParser()
    parser.read_config([str(UNETR3D / "configs" / name) for name in (first, f"networks/{network}.yaml")])
    parser.update(values)
    return parser


def network_of(network: str, side: int, first: str = "train.yaml") -> torch.nn.Module:
    torch.manual_seed(0)
    return parsed(first, network, {"patch_size": [side] * 3}).get_parsed_content("network_def")


def test_every_network_is_tested():
    assert sorted(STEP) == NETWORKS == sorted([*SCRIPT, *TRACE_ONLY])


def test_the_default_network_is_that_of_the_bundle():
    own = read_yaml(UNETR3D / "configs" / "train.yaml")
    assert read_yaml(UNETR3D / "configs" / "networks" / "unetr.yaml") == {
        key: own[key] for key in ("network_name", "network_def")
    }


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_is_named_after_its_file(network):
    assert read_yaml(UNETR3D / "configs" / "networks" / f"{network}.yaml")["network_name"] == network


@pytest.mark.parametrize("network", NETWORKS)
def test_the_step_of_its_patches_is_found_by_trying(network):
    bundle = read_bundle(str(UNETR3D), network)
    assert network_step(bundle.configs, bundle.channels) == STEP[network]


@pytest.mark.parametrize("network", MOST_APART)
def test_a_network_plans_trains_a_step_and_segments(network, volumes, tmp_path, monkeypatch, capsys):
    """The planned patch is used as it is; only the schedule is cut short, and one volume of each side is taken."""
    out = tmp_path / "plan.yaml"
    plan(str(volumes.work), str(UNETR3D), network=network, memory="4GB", device="cpu", out=str(out))
    capsys.readouterr()
    show_plan(str(out))
    assert "patch_size" in capsys.readouterr().out
    chosen = yaml.safe_load(out.read_text())
    assert all(side % STEP[network] == 0 for side in chosen["patch_size"])
    monkeypatch.setattr(sys, "argv", ["pytest"])
    run, masks = tmp_path / "run", tmp_path / "masks"
    common = {**chosen, "datalist": str(volumes.datalist), "device": "$torch.device('cpu')"}
    short = {"max_epochs": 1, "crops_per_case": 1, "num_workers": 0, "output_dir": str(run)}
    train = parsed("train.yaml", network, {**common, **short})
    train["train::sampler::num_samples"] = 1
    with as_scripts("unetr3d"):
        train.get_parsed_content("run")
        weights = {"checkpoint": str(run / "model.pt"), "output_dir": str(masks), "num_workers": 0}
        parsed("evaluate.yaml", network, {**common, **weights}).get_parsed_content("run")
        weights["output_dir"] = str(tmp_path / "segmented")
        parsed("inference.yaml", network, {**common, **weights}).get_parsed_content("run")
    with open(masks / "dice_raw.csv", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    assert rows and all(0 <= float(row[1]) <= 1 for row in rows)
    scored, segmented = ({p.name: p.read_bytes() for p in d.glob("*.nii.gz")} for d in (masks, tmp_path / "segmented"))
    assert scored == segmented and len(scored) == len(rows)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # the patch's size is meant to be fixed
@pytest.mark.parametrize("network", SLOW_APART)
def test_a_network_in_use_gives_one_tensor_and_exports(network):
    """Also DynUNet, which gives a stack of heads while it trains."""
    side = max(32, 2 * STEP[network])
    model = network_of(network, side, "inference.yaml").eval()
    image = torch.randn(1, 4, side, side, side)
    with torch.no_grad():
        eager = model(image)
        assert eager.shape == (1, 1, side, side, side)
        if network in SCRIPT:
            exported = torch.jit.script(model)
        else:
            with pytest.raises(Exception, match=TRACE_ONLY[network]):
                torch.jit.script(model)
            exported = torch.jit.trace(model, image, check_trace=False)
        assert torch.allclose(exported(image), eager, atol=1e-4)


# The loss of several heads

EveryHead = scripts("unetr3d", "losses").EveryHead


def test_a_plain_output_has_its_plain_loss():
    torch.manual_seed(0)
    prediction, target = torch.randn(2, 1, 4, 4, 4), torch.rand(2, 1, 4, 4, 4).round()
    loss = DiceCELoss(sigmoid=True)
    assert torch.equal(EveryHead(loss)(prediction, target), loss(prediction, target))


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=5))
def test_heads_weigh_half_of_the_finer_one_and_one_together(values):
    """Each head holds one value everywhere and the loss is that value."""
    heads = torch.tensor(values).reshape(1, -1, 1, 1, 1, 1).expand(1, -1, 1, 2, 2, 2)
    got = EveryHead(lambda prediction, target: prediction.mean())(heads, torch.zeros(1, 1, 2, 2, 2))
    weights = [2.0**-i for i in range(len(values))]
    assert float(got) == pytest.approx(
        sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights), abs=1e-4
    )


def test_deep_supervision_reaches_the_coarse_levels():
    """Every head of a training DynUNet is a full-size map, and each one's own weights get a gradient."""
    model = network_of("dynunet", 32).train()
    output = model(torch.randn(2, 4, 32, 32, 32))
    assert output.shape == (2, 4, 1, 32, 32, 32)
    EveryHead(DiceCELoss(sigmoid=True))(output, torch.ones(2, 1, 32, 32, 32)).backward()
    for head in model.deep_supervision_heads:
        assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in head.parameters())
