"""Several networks as one: the mean of their probabilities, unmoved by mirrors, and refused where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers_bundles import PSEUDO2D, UNETR3D, assert_refused, run_bundle, scripts, write_yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SlidingWindowInferer
from torch import nn

ensemble = scripts("unetr3d", "ensemble")
NETWORKS = {2: nn.Conv2d, 3: nn.Conv3d}


def network(dims: int, seed: int, scale: float = 1.0) -> nn.Module:
    """A convolution that looks different in a mirror. scale: how sure it is of itself."""
    torch.manual_seed(seed)
    made = NETWORKS[dims](2, 1, 3, padding=1).eval()
    with torch.no_grad():
        made.weight.mul_(scale)
    return made


def windows(dims: int) -> SlidingWindowInferer:
    """Windows that do not divide the image evenly, so that they differ between an image and its mirror image."""
    return SlidingWindowInferer(roi_size=(5,) * dims, sw_batch_size=16, overlap=0.4, mode="gaussian")


def picture(dims: int, seed: int) -> torch.Tensor:
    return torch.randn(1, 2, *(9, 7, 8)[:dims], generator=torch.Generator().manual_seed(seed))


def mean_of(networks: list[nn.Module], image: torch.Tensor, tta: bool = False) -> torch.Tensor:
    inferer = ensemble.MeanProbability(windows(image.ndim - 2), tta)
    with torch.no_grad():
        return torch.sigmoid(inferer(image, nn.ModuleList(networks)))


def alone(one: nn.Module, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.sigmoid(windows(image.ndim - 2)(image, one))


@settings(max_examples=12)
@given(st.sampled_from([2, 3]), st.integers(0, 10**6), st.sampled_from([1.0, 30.0]))
def test_one_network_is_itself(dims, seed, scale):
    one, image = network(dims, seed, scale), picture(dims, seed)
    found, wanted = mean_of([one], image), alone(one, image)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5)
    assert ((found >= 0.5) == (wanted >= 0.5))[(wanted - 0.5).abs() > 1e-6].all()


@settings(max_examples=12)
@given(st.sampled_from([2, 3]), st.integers(0, 10**6), st.sampled_from([1.0, 30.0]))
def test_of_two_it_is_the_mean_of_what_each_says_of_the_whole_image(dims, seed, scale):
    """Also where the windows of one network contradict each other, as sure networks do."""
    one, other, image = network(dims, seed, scale), network(dims, seed + 1, scale), picture(dims, seed)
    wanted = (alone(one, image) + alone(other, image)) / 2
    assert torch.allclose(mean_of([one, other], image), wanted, rtol=0, atol=1e-5)


@settings(max_examples=8)
@given(st.sampled_from([2, 3]), st.integers(0, 10**6), st.data())
def test_tta_of_a_flipped_image_gives_the_flipped_answer(dims, seed, data):
    networks, image = [network(dims, seed), network(dims, seed + 1)], picture(dims, seed)
    axes = data.draw(st.sampled_from(ensemble.flips_of(image.ndim)[1:]))
    found = mean_of(networks, torch.flip(image, axes), tta=True)
    assert torch.allclose(found, torch.flip(mean_of(networks, image, tta=True), axes), rtol=0, atol=1e-5)
    plain = mean_of(networks, torch.flip(image, axes)) - torch.flip(mean_of(networks, image), axes)
    assert plain.abs().max() > 1e-3  # the networks alone do see a difference


def test_there_are_eight_mirror_images_of_a_volume_and_four_of_a_slice():
    assert ensemble.flips_of(5) == [(), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)]
    assert ensemble.flips_of(4) == [(), (2,), (3,), (2, 3)]


def test_twice_it_gives_the_same_bits():
    networks, image = [network(3, 1), network(3, 2)], picture(3, 3)
    assert torch.equal(mean_of(networks, image, tta=True), mean_of(networks, image, tta=True))


def test_each_checkpoint_has_a_network_of_its_own_and_the_definition_stays_as_it_was(tmp_path):
    paths = []
    for seed in (1, 2):
        paths.append(str(tmp_path / f"{seed}.pt"))
        torch.save(network(3, seed).state_dict(), paths[-1])
    definition = network(3, 0)
    before = definition.weight.clone()
    members = ensemble.load_all(definition, paths, "cpu")
    assert [torch.equal(member.weight, network(3, seed).weight) for seed, member in enumerate(members, 1)] == [True] * 2
    assert torch.equal(definition.weight, before)


# Refusals, by the real command line


@pytest.fixture(scope="module")
def scans(volumes) -> Path:
    return volumes.folder


def segment(scans, small, out: Path, *words: object, folds: dict | None = None) -> object:
    files = ["inference.yaml", "ensemble.yaml", small]
    if folds is not None:
        files.append(write_yaml(out / "folds.yaml", folds))
    return run_bundle(
        *(UNETR3D, "inferring", files, "--dataset_dir", scans, "--output_dir", out / "masks", *words), expect=1
    )


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    """The weights of another network."""
    path = tmp_path_factory.mktemp("foreign") / "model.pt"
    torch.save(network(3, 0).state_dict(), path)
    return path


def test_weights_of_another_network_and_a_mistyped_key_are_one_line(scans, small, foreign, tmp_path):
    done = segment(scans, small, tmp_path, folds={"checkpoints": [str(foreign)]})
    assert_refused(done, "unetr3d", f"{foreign} does not fit the network", "plan.yaml")
    done = segment(scans, small, tmp_path, folds={"chekpoints": [str(foreign)]})
    assert_refused(done, "unetr3d", "no key 'chekpoints'", "Did you mean 'checkpoints'?")
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize(
    ("checkpoints", "tta", "words", "said"),
    [
        ([], False, [], r"checkpoints is \[\].*folds.yaml of autoconf crossval"),
        ("FOREIGN", False, [], "must be a list of files"),
        (["FOREIGN", "gone.pt"], False, [], "checkpoints names 'gone.pt', which is no file"),
        (["FOREIGN", 3], False, [], "checkpoints names 3, which is no file"),
        (["FOREIGN"], "yes", [], "tta is 'yes'. It must be True or False"),
        (["FOREIGN", "FOREIGN"], False, ["--checkpoint", "FOREIGN"], "are both given"),
    ],
)
def test_what_cannot_be_an_ensemble_is_refused(foreign, monkeypatch, checkpoints, tta, words, said):
    """The files that are named by a word here are that file."""
    named = str(foreign) if checkpoints == "FOREIGN" else [str(foreign) if c == "FOREIGN" else c for c in checkpoints]
    config = str(UNETR3D / "configs" / "inference.yaml")
    monkeypatch.setattr("sys.argv", ["bundle", "run", "inferring", "--config_file", config, *words])
    with pytest.raises(SystemExit, match=said):
        ensemble.check_ensemble(str(foreign), named, tta)


def test_checkpoint_alone_is_an_ensemble_of_one(foreign, monkeypatch):
    config = str(UNETR3D / "configs" / "inference.yaml")
    monkeypatch.setattr("sys.argv", ["bundle", "run", "--config_file", config, "--checkpoint", str(foreign)])
    ensemble.check_ensemble(str(foreign), [str(foreign)], True)


def test_pseudo2d_refuses_alike(slices, foreign, tmp_path):
    done = run_bundle(
        *(PSEUDO2D, "inferring", ["inference.yaml", "ensemble.yaml"], "--checkpoints", f"['{foreign}']"),
        *("--dataset_dir", slices.folder, "--output_dir", tmp_path / "masks"),
        expect=1,
    )
    assert_refused(done, "pseudo2d", f"{foreign} does not fit the network")
