"""bfloat16 is compared before it is trusted: a wrong layer is named, and float32 takes its place."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from helpers_bundles import PSEUDO2D, TINY, UNETR3D, as_scripts, run_bundle, scripts, write_yaml
from helpers_distributed import ranks
from helpers_faults import as_fault, believing, faulty_copy, plant, target_of
from monai.inferers import SimpleInferer
from monai.losses import DiceLoss
from monai.networks.nets import UNETR, DynUNet, SegResNet, UNet
from torch import nn

from autoconf.doctor import examine
from autoconf.doctor.catalogue import CHECKS
from autoconf.doctor.checks import FAIL, PASS, Subject

arithmetic, speed, verdicts = (scripts("unetr3d", name) for name in ("arithmetic", "speed", "verdicts"))
NETWORKS = {
    "unetr": lambda: UNETR(4, 1, (32, 32, 32), **{key.removeprefix("network_def::"): v for key, v in TINY.items()}),
    "segresnet": lambda: SegResNet(3, 8, 4, 1, dropout_prob=0.2),
    "dynunet": lambda: DynUNet(3, 4, 1, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[8, 8, 16, 16], deep_supervision=True),
    "unet": lambda: UNet(2, 1, 1, (8, 16, 32), (2, 2), num_res_units=2, norm="batch", dropout=0.1),
}
AMX = pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="this processor has no AMX")


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return speed.ready(NETWORKS[name](), "cpu")


def image_of(network: nn.Module) -> torch.Tensor:
    torch.manual_seed(1)
    flat = isinstance(network, UNet)
    return torch.randn(2, 1, 64, 64) if flat else torch.randn(1, 4, 32, 32, 32)


def target(image: torch.Tensor) -> torch.Tensor:
    return (image[:, :1] > 1).float()


def loss(found, wanted: torch.Tensor) -> torch.Tensor:
    """Of a deeply supervised network, of its first output."""
    found = found[0] if isinstance(found, (tuple, list)) else found
    return DiceLoss(sigmoid=True)(found[:, 0] if found.ndim > wanted.ndim else found, wanted)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Verdicts of this test alone."""
    monkeypatch.setenv("GLIOBUNDLE_CACHE", str(tmp_path / "verdicts"))
    return tmp_path / "verdicts"


@pytest.fixture
def ours(monkeypatch, cache):
    return believing(scripts("unetr3d", "inferers"), monkeypatch)


# The comparison


@pytest.mark.parametrize("name", NETWORKS)
def test_right_kernels_are_trusted_and_are_as_far_off_as_rounding_explains(name):
    network = made(name)
    image = image_of(network)
    answer = arithmetic.judge_answer(network, image)
    gradient = arithmetic.judge_gradients(network, image, target(image), loss)
    for verdict in (answer, gradient):
        assert verdict.trusted and verdict.judged, verdict
    assert 0.3 < answer.error / (answer.bound / arithmetic.FACTOR) < 2
    assert 0 < gradient.error < gradient.bound < arithmetic.MOST_GRADIENT


@pytest.mark.parametrize("kind", ["WrongForward", "NotANumber"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_wrong_layer_is_named(name, kind):
    network = plant(made(name), kind)
    verdict = arithmetic.judge_answer(network, image_of(network))
    assert not verdict.trusted and verdict.layer == target_of(network)
    assert not verdict.error <= verdict.bound and not verdict.layer_error <= verdict.layer_bound
    assert verdict.float32_error < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_a_layer_that_is_wrong_in_its_gradient_alone_is_named(name):
    network = plant(made(name), "WrongBackward")
    image = image_of(network)
    assert arithmetic.judge_answer(network, image).trusted
    verdict = arithmetic.judge_gradients(network, image, target(image), loss)
    assert not verdict.trusted and verdict.layer == target_of(network)


@pytest.mark.parametrize("where", [0, -1])
def test_a_wrong_gradient_is_found_where_few_weights_see_it(where):
    """The first layer's wrong gradient changes no other layer's: it must show in its own."""
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    as_fault(network[where], "WrongBackward")
    image = torch.randn(2, 1, 32, 32)
    assert not arithmetic.judge_gradients(network, image, target(image), loss).trusted


def test_what_a_block_computes_between_its_layers_is_compared_too():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            between = self.first(inputs)
            return self.second(between.roll(1, -1) if torch.is_autocast_enabled("cpu") else between)

    network = nn.Sequential(nn.Linear(8, 8), Block(), nn.Linear(8, 8))
    assert arithmetic.judge_answer(network, torch.randn(4, 8)).layer == "1"


def test_an_empty_window_proves_nothing_so_that_noise_is_answered_instead():
    network = plant(made("segresnet"), "WrongForward")
    assert not arithmetic.judge_answer(network, torch.zeros(1, 4, 32, 32, 32)).trusted


def test_weights_that_are_not_finite_are_no_fault_of_the_arithmetic():
    network = made("unet")
    next(network.parameters()).data.fill_(torch.nan)
    verdict = arithmetic.judge_answer(network, image_of(network))
    assert verdict.trusted and not verdict.judged


def test_a_window_that_is_not_finite_does_not_hide_a_fault():
    network = plant(made("segresnet"), "WrongForward")
    image = image_of(network)
    image[0, 0, 0, 0, 0] = torch.inf
    assert not arithmetic.judge_answer(network, image).trusted


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_drawn_and_nothing_of_the_network_changes(name):
    network = made(name).train()
    before = copy.deepcopy(network.state_dict())
    image = image_of(network)
    state = torch.get_rng_state()
    arithmetic.judge_answer(network, image)
    arithmetic.judge_gradients(network, image, target(image), loss)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert network.training and all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(2, 3, 3, padding=1),
        nn.Conv3d(2, 3, (5, 3, 2), stride=(2, 1, 3), padding=(2, 1, 0)),
        nn.Conv3d(2, 3, 3, dilation=2),
        nn.Conv3d(2, 2, 3, groups=2),
        nn.Conv2d(2, 3, 4, stride=3, padding=2, bias=False),
    ],
)
def test_a_convolution_in_slabs_is_that_convolution(layer, monkeypatch):
    copies = scripts("unetr3d", "network_copies")
    monkeypatch.setattr(copies, "COLUMNS", 20_000)  # several slabs
    image = torch.randn(2, 2, *[13] * (layer.weight.ndim - 2))
    ours = copies.exact_copy(layer)
    assert type(ours) is not type(layer) and torch.allclose(ours(image), layer(image), atol=1e-5)


def test_a_compiled_network_is_compared_as_a_whole(ours):
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(inputs).relu())

    network = Small()

    def compiler(graph, example):
        return lambda *inputs: tuple(part.flip(-1) for part in graph(*inputs))

    network.compile(backend=compiler)
    verdict = arithmetic.judge_answer(network, torch.randn(1, 1, 16, 16))
    assert not verdict.trusted and verdict.layer == "" and verdict.error > 0.5
    assert network.training


# What an inferer makes of it


@pytest.mark.parametrize("kind", ["WrongForward", "NotANumber"])
def test_an_inferer_says_so_in_one_line_and_goes_on_in_float32(ours, kind, capsys):
    network = plant(made("segresnet"), kind).eval()
    image = image_of(network)
    inferer = ours.MixedPrecision(SimpleInferer())
    with torch.no_grad():
        found = [inferer(image, network) for _ in range(2)]
        assert torch.equal(found[0], network(image)) and torch.equal(found[1], found[0])
    (line,) = capsys.readouterr().err.splitlines()
    layer = re.escape(target_of(network))
    assert re.search(f"bfloat16 is wrong on this device: layer {layer} is (inf|[0-9.]+) off, .* answer is", line)
    assert "float32 from here on" in line and inferer.report()["used"] == "float32"


def test_a_function_in_a_networks_place_is_computed_in_float32(ours):
    inferer = ours.MixedPrecision(SimpleInferer())
    layer = nn.Conv2d(1, 2, 3)
    assert torch.equal(inferer(torch.ones(1, 1, 8, 8), lambda image: layer(image)), layer(torch.ones(1, 1, 8, 8)))
    assert inferer.report()["used"] == "float32"


def test_force_computes_in_bfloat16_whatever_it_answers(ours, capsys):
    network = plant(made("segresnet"), "WrongForward").eval()
    image = image_of(network)
    inferer = ours.MixedPrecision(SimpleInferer(), "force")
    with torch.no_grad():
        assert not torch.allclose(inferer(image, network), network(image), atol=0.1)
    assert capsys.readouterr().err == "" and inferer.report() == {
        "used": "bfloat16",
        "why": "amp is force: not checked",
    }


def test_a_right_network_runs_in_bfloat16_and_the_report_says_what_was_measured(ours, capsys):
    network = made("segresnet").eval()
    inferer = ours.MixedPrecision(SimpleInferer())
    assert inferer.report() == {}
    with torch.no_grad():
        assert not torch.equal(inferer(image_of(network), network), network(image_of(network)))
    assert capsys.readouterr().err == ""
    assert inferer.report()["used"] == "bfloat16" and "compared with float32" in inferer.report()["why"]


def test_a_later_run_pays_nothing(ours, cache, monkeypatch, capsys):
    network = plant(made("segresnet"), "WrongForward").eval()
    image = image_of(network)
    with torch.no_grad():
        first = ours.MixedPrecision(SimpleInferer())(image, network)
        monkeypatch.setattr(ours, "judge_answer", lambda *_: pytest.fail("it was judged before"))
        assert torch.equal(ours.MixedPrecision(SimpleInferer())(image, copy.deepcopy(network)), first)
    assert len(list(cache.iterdir())) == 1 and len(capsys.readouterr().err.splitlines()) == 2  # each run says it


def test_a_verdict_holds_for_what_it_was_found_with(cache, monkeypatch):
    network, other = made("segresnet"), speed.ready(SegResNet(3, 8, 4, 2), "cpu")
    image = image_of(network)
    facts = [verdicts.facts(network, image, "answer")]
    facts += [verdicts.facts(network, image[..., :16], "answer"), verdicts.facts(network, image, "gradient of x")]
    facts += [verdicts.facts(other, image, "answer")]
    facts += [verdicts.facts(NETWORKS["segresnet"](), image, "answer")]  # not arranged: other kernels
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    facts += [verdicts.facts(network, image, "answer")]
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    facts += [verdicts.facts(network, image, "answer")]
    torch.set_num_threads(threads)
    assert len({verdicts.path_of(one) for one in facts}) == len(facts)
    next(network.parameters()).data.add_(1)
    assert verdicts.facts(network, image, "answer") == facts[0]  # other weights, the same kernels
    verdicts.write(facts[0], arithmetic.Verdict(False, layer="x"))
    assert verdicts.read(facts[0]) == arithmetic.Verdict(False, layer="x") and verdicts.read(facts[1]) is None


@pytest.mark.parametrize(
    "broken", ["", "{", '{"verdict": {"trusted": true}}', '{"verdict": {"x": 1}, "facts": {}}', "[]"]
)
def test_a_broken_verdict_is_found_anew(ours, cache, broken):
    network = made("segresnet").eval()
    facts = verdicts.facts(network, image_of(network), "answer")
    cache.mkdir(parents=True)
    verdicts.path_of(facts).write_text(broken)
    ours.MixedPrecision(SimpleInferer())(image_of(network), network)
    assert json.loads(verdicts.path_of(facts).read_text())["verdict"]["judged"]


def test_without_a_place_for_verdicts_everything_works(ours, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GLIOBUNDLE_CACHE", str(tmp_path / "file"))
    network = made("segresnet").eval()
    assert ours.MixedPrecision(SimpleInferer())(image_of(network), network).isfinite().all()


def test_a_network_that_cannot_be_copied_is_computed_in_float32_with_a_line(ours, capsys):
    class Alone(nn.Conv2d):
        def __deepcopy__(self, memo):
            raise TypeError("there can be only one")

    network = Alone(1, 1, 3)
    image = torch.randn(1, 1, 8, 8)
    assert torch.equal(ours.MixedPrecision(SimpleInferer())(image, network), network(image))
    assert "could not be checked (TypeError: there can be only one)" in capsys.readouterr().err


def test_where_float32_is_wrong_as_well_nothing_is_computed(ours, monkeypatch):
    class Wrong(nn.Conv2d):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs).flip(-1)

    monkeypatch.setitem(speed.PLAIN, Wrong, nn.Conv2d)  # as if it were one of speed.py's

    with pytest.raises(SystemExit, match="unetr3d: float32 itself is wrong on this device"):
        ours.MixedPrecision(SimpleInferer())(torch.randn(1, 1, 8, 8), Wrong(1, 4, 3))


# On a processor with AMX


@AMX
def test_the_real_fault_is_there_without_the_arrangement_and_mended_with_it():
    torch.manual_seed(0)
    small = {key.removeprefix("network_def::"): value for key, value in TINY.items()}
    network = UNETR(4, 1, (32, 32, 64), **small)
    image = torch.randn(1, 4, 32, 32, 64)
    verdict = arithmetic.judge_answer(network, image)
    assert not verdict.trusted and verdict.layer == "vit.patch_embedding.patch_embeddings" and verdict.layer_error > 1
    assert arithmetic.judge_answer(speed.ready(network, "cpu"), image).trusted


# Bundles


@pytest.fixture(scope="module", params=["WrongForward", "WrongBackward"])
def kind(request) -> str:
    return request.param


# For what needs no gradient: masks, and the doctor, which compares answers.
FORWARD = pytest.mark.parametrize("kind", ["WrongForward"], indirect=True)


@pytest.fixture(scope="module")
def volumes_bundle(kind, tmp_path_factory) -> Path:
    return faulty_copy(UNETR3D, tmp_path_factory.mktemp(kind), kind)


@pytest.fixture(scope="module")
def trained(kind, volumes_bundle, volumes, small, tmp_path_factory):
    """A training with that fault: what it said, its folder, and its verdicts' folder."""
    home = tmp_path_factory.mktemp("trained")
    done = run_bundle(
        *(volumes_bundle, "training", ["train.yaml", small], "--datalist", volumes.datalist),
        *("--output_dir", home / "run", "--amp", "True"),
        env={"GLIOBUNDLE_CACHE": str(home)},
    )
    return done, home


def warned(stderr: str) -> list[str]:
    return re.findall(r"warning: bfloat16 is wrong on this device: layer ([\w.]+) is .* network's (\w+) is", stderr)


def test_a_training_notices_either_fault(kind, trained, volumes_bundle):
    done, _ = trained
    layer = "encoder1.layer.conv2.conv"
    assert (layer, "gradient" if kind == "WrongBackward" else "answer") in warned(done.stderr), done.stderr


def test_a_training_on_faulty_arithmetic_is_the_training_in_float32(kind, trained, volumes_bundle, volumes, small):
    _, home = trained
    run_bundle(
        *(volumes_bundle, "training", ["train.yaml", small], "--datalist", volumes.datalist),
        *("--output_dir", home / "float32", "--amp", "False"),
        env={"GLIOBUNDLE_CACHE": str(home)},
    )
    ours, wanted = (torch.load(home / name / "model_final.pt", weights_only=True) for name in ("run", "float32"))
    assert all(torch.equal(ours[key], wanted[key]) for key in wanted)


def test_a_training_whose_verdict_is_known_is_the_same_to_the_bit(trained, volumes_bundle, volumes, small):
    _, home = trained
    run_bundle(
        *(volumes_bundle, "training", ["train.yaml", small], "--datalist", volumes.datalist),
        *("--output_dir", home / "again", "--amp", "True"),
        env={"GLIOBUNDLE_CACHE": str(home)},
    )
    ours, again = (torch.load(home / name / "model_final.pt", weights_only=True) for name in ("run", "again"))
    assert all(torch.equal(ours[key], again[key]) for key in again)


@FORWARD
@pytest.mark.parametrize("run_id", ["inferring", "evaluating"])
def test_segmenting_notices_the_fault_and_writes_the_masks_of_float32(run_id, trained, volumes_bundle, volumes, small):
    _, home = trained
    config = {"inferring": "inference.yaml", "evaluating": "evaluate.yaml"}[run_id]
    for amp in (True, False):
        done = run_bundle(
            *(volumes_bundle, run_id, [config, small], "--datalist", volumes.datalist, "--min_component_mm3", 0),
            *("--checkpoint", home / "run" / "model.pt", "--output_dir", home / f"{run_id}{amp}", "--amp", amp),
            *("--save_probability", True),
            env={"GLIOBUNDLE_CACHE": str(home)},
        )
        assert bool(warned(done.stderr)) is amp
    names = sorted(path.name for path in (home / f"{run_id}True").glob("*.nii.gz"))
    assert len(names) > 1
    for name in names:
        assert (home / f"{run_id}True" / name).read_bytes() == (home / f"{run_id}False" / name).read_bytes()


def test_a_2d_training_notices_either_fault(kind, slices, pseudo_labelled, tmp_path):
    copy_of = faulty_copy(PSEUDO2D, tmp_path, kind)
    done = run_bundle(
        *(copy_of, "training", ["train.yaml"], "--datalist", slices.datalist, "--mask_dir", pseudo_labelled / "masks"),
        *("--output_dir", tmp_path / "run", "--image_size", 64, "--max_epochs", 1, "--device", "cpu"),
        env={"GLIOBUNDLE_CACHE": str(tmp_path)},
    )
    assert warned(done.stderr), done.stderr


def test_of_two_processes_one_of_which_computes_wrongly_both_take_float32(kind, volumes, small, tmp_path):
    copy_of = faulty_copy(UNETR3D, tmp_path, kind, rank=1)
    content = json.loads(volumes.datalist.read_text()) | {"dataset_dir": str(volumes.folder)}
    for place, item in enumerate(content["training"]):
        item["fold"] = place % 2  # several to validate, too
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    configs = [copy_of / "configs" / name for name in ("train.yaml", "multi_gpu_train.yaml")]
    for amp in (True, False):
        run = ranks(
            *(2, [*configs, small], tmp_path / f"log{amp}", "--datalist", tmp_path / "datalist.json", "--amp", amp),
            *("--output_dir", tmp_path / f"run{amp}", "--cache_dir", tmp_path / "preprocessed"),
        )
        assert run.status == 0, run.said
        assert len(warned(run.said)) == amp
    ours, wanted = (torch.load(tmp_path / f"run{amp}" / "model_final.pt", weights_only=True) for amp in (True, False))
    assert all(torch.equal(ours[key], wanted[key]) for key in wanted)


def test_monai_labels_way_notices_it(kind, cache, monkeypatch, capsys):
    """MONAI Label takes `inferer` and a network out of inference.yaml, and calls one with the other."""
    from monai.bundle import ConfigParser

    believing(scripts("unetr3d", "inferers"), monkeypatch)
    with as_scripts("unetr3d"):
        parser = ConfigParser()
        parser.read_config(UNETR3D / "configs" / "inference.yaml")
        for key, value in {"patch_size": [32, 32, 32], "device": "cpu", **TINY}.items():
            parser[key] = value
        network = plant(parser.get_parsed_content("network"), kind).eval()
        with torch.no_grad():
            found = parser.get_parsed_content("inferer")(torch.randn(1, 4, 40, 40, 40), network)
    assert found.isfinite().all()
    assert bool(capsys.readouterr().err) is (kind == "WrongForward")


@FORWARD
def test_the_doctor_fails_by_the_layers_name(volumes_bundle, tmp_path, volumes):
    plan = write_yaml(tmp_path / "plan.yaml", {"patch_size": [32, 32, 32], "target_spacing": [5.0, 5.0, 5.0]})
    paths = {"datalist": str(volumes.datalist), "work": str(volumes.work), "plan": str(plan)}
    subject = Subject(str(tmp_path), bundle=str(volumes_bundle), **paths)
    (result,) = examine(subject, [check for check in CHECKS if check.name == "same answer in every precision"])
    assert result.verdict == FAIL and "layer encoder1.layer.conv2.conv is" in result.measured


def test_the_doctor_passes_fresh_weights_on_right_arithmetic(tmp_path, volumes):
    plan = write_yaml(tmp_path / "plan.yaml", {"patch_size": [32, 32, 32], "target_spacing": [5.0, 5.0, 5.0]})
    paths = {"datalist": str(volumes.datalist), "work": str(volumes.work), "plan": str(plan)}
    subject = Subject(str(tmp_path), bundle=str(UNETR3D), **paths)
    (result,) = examine(subject, [check for check in CHECKS if check.name == "same answer in every precision"])
    assert result.verdict == PASS, result
