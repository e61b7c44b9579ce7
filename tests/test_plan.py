"""The verb `plan`: its rules as properties, its memory count against a formula, its file as a user reads it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers_bundles import PSEUDO2D, UNETR3D, read_yaml
from helpers_volumes import assert_refused, autoconf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from autoconf.errors import AutoconfError
from autoconf.plan import choose, parse_memory, render, rules
from autoconf.plan.bundle import check_override, parse_set, read_bundle
from autoconf.plan.memory import PER_PARAMETER, StepMemory, count_step

BUNDLE = read_bundle(str(UNETR3D))
GIGABYTE = 1e9
PARAMETERS_AT_128 = 16_805_000  # of the bundle's UNETR, about

brains = st.tuples(*[st.integers(20, 260)] * 3)
patches = st.tuples(*[st.integers(2, 12).map(lambda tokens: 16 * tokens)] * 3)
spacings = st.lists(st.tuples(*[st.floats(0.3, 8)] * 3), min_size=1, max_size=20)


def need(patch: tuple[int, ...]) -> float:
    """Bytes that the bundle's UNETR keeps for one sample.

    Attention: 12 layers x 8 heads x 3 arrays (softmax, dropout's noise, their product) x 4 bytes a pair of tokens.
    The rest grows with the voxels. Checked against a process's own memory at 64, 96 and 128 voxels a side: 1 % off.
    """
    voxels = math.prod(patch)
    return 1108.55 * voxels + 12 * 8 * 3 * 4 * (voxels / 4096) ** 2


def fitted(brain, budget: float):
    return rules.fit_patch(brain, lambda patch: need(patch) <= budget)


# Spacing


@given(spacings)
def test_each_axis_of_the_spacing_lies_in_the_datas_range(spacings):
    chosen = rules.target_spacing(np.array(spacings))
    low, high = np.min(spacings, axis=0), np.max(spacings, axis=0)
    assert np.all(low - 1e-4 <= chosen) and np.all(chosen <= high + 1e-4)


@given(spacings, st.randoms(use_true_random=False))
def test_the_order_of_the_cases_does_not_matter_for_the_spacing(spacings, random):
    shuffled = random.sample(spacings, len(spacings))
    assert rules.target_spacing(np.array(spacings)) == rules.target_spacing(np.array(shuffled))


def test_the_spacing_is_the_median():
    assert rules.target_spacing(np.array([[1, 1, 1], [1, 1.2, 2], [1, 3, 3]])) == (1, 1.2, 2)


def test_thick_slices_take_their_10th_percentile():
    thick = np.array([[1.0, 1.0, z] for z in (2, 4, 5, 5, 5, 6, 6, 6, 6, 6, 6)])
    assert rules.target_spacing(thick) == (1, 1, 4)  # the second of eleven; the median would be 6
    assert rules.target_spacing(thick[:, [2, 0, 1]]) == (4, 1, 1)
    assert rules.target_spacing(thick * [1, 2.5, 1]) == (1, 2.5, 6)  # 6 is not 3 times coarser than 2.5


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_a_spacing_that_is_no_length_is_refused(bad):
    with pytest.raises(AutoconfError, match="not a positive number"):
        rules.target_spacing(np.array([[1, 1, 1], [1, bad, 1]]))


# Patch


@given(brains, st.floats(1e8, 1e11), st.floats(1, 10))
def test_more_memory_never_gives_a_smaller_patch(brain, budget, more):
    try:
        less = fitted(brain, budget)[0]
    except AutoconfError:
        assume(False)
    assert all(a <= b for a, b in zip(less, fitted(brain, budget * more)[0], strict=True))


@given(brains, st.floats(1e8, 1e11))
def test_a_patch_is_legal_fits_and_is_no_larger_than_needed(brain, budget):
    try:
        patch, too_large = fitted(brain, budget)
    except AutoconfError:
        assert need((32, 32, 32)) > budget
        return
    assert all(n % 16 == 0 and n >= 32 for n in patch)
    assert need(patch) <= budget
    assert all(n <= max(32, b + 15) for n, b in zip(patch, brain, strict=True))
    assert too_large is None or need(too_large) > budget
    if too_large is None:
        assert all(n >= b for n, b in zip(patch, brain, strict=True))


@given(brains, st.floats(1e8, 1e11), st.permutations(range(3)))
def test_turning_the_head_gives_a_patch_as_large(brain, budget, axes):
    try:
        patch = fitted(brain, budget)[0]
    except AutoconfError:
        assume(False)
    turned = fitted(tuple(brain[a] for a in axes), budget)[0]
    assert abs(math.prod(turned) - math.prod(patch)) <= 16 * max(math.prod(p) / min(p) for p in (patch, turned))


@given(brains)
def test_coarsening_shows_enough_of_the_brain_and_no_less_would(brain):
    factor = rules.coarsening(brain, rules.CPU_PATCH_VOXELS)
    shown = rules.CPU_PATCH_VOXELS * factor**3 / math.prod(brain)
    assert shown >= rules.MIN_COVERAGE
    assert factor == 1 or rules.CPU_PATCH_VOXELS * (factor - 1) ** 3 / math.prod(brain) < rules.MIN_COVERAGE


# Batch


@given(patches, st.integers(1, 50), st.floats(1e5, 1e10))
def test_a_batch_fits_and_keeps_the_caps(patch, fitting, voxels):
    choice = rules.batch_size(patch, fitting, voxels)
    assert 1 <= choice.value <= min(fitting, rules.MAX_BATCH)
    assert choice.value <= 2 or choice.value * math.prod(patch) <= rules.BATCH_SHARE * voxels
    assert choice.reason
    assert rules.batch_size(patch, fitting + 1, voxels).value >= choice.value


# Memory


@pytest.mark.parametrize("patch", [(32, 32, 32), (64, 80, 64), (128, 128, 128), (192, 192, 144)])
def test_a_unetr_keeps_what_the_formula_says(patch):
    step = count_step(BUNDLE.train_config, 4, patch)
    assert step.per_sample == pytest.approx(need(patch), rel=1e-3)
    assert step.fixed == pytest.approx(PARAMETERS_AT_128 * PER_PARAMETER, rel=0.02)
    assert step.total(3) == step.fixed + 3 * step.per_sample


def test_the_count_without_memory_agrees_with_real_tensors():
    parser = ConfigParser()
    parser.read_config(BUNDLE.train_config)
    parser["patch_size"] = [32, 32, 32]
    network = parser.get_parsed_content("network_def").train()
    own = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.randn(1, 4, 32, 32, 32))
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert count_step(BUNDLE.train_config, 4, (32, 32, 32)).per_sample == pytest.approx(real, rel=1e-3)


AMOUNTS = [("8GB", 8e9), ("24GiB", 24 * 2**30), ("512 MB", 512e6), ("1.5gb", 1.5e9), ("2TB", 2e12), ("4KiB", 4096)]


@pytest.mark.parametrize(("text", "amount"), AMOUNTS)
def test_memory_is_read_with_its_unit(text, amount):
    assert parse_memory(text) == amount


@pytest.mark.parametrize("text", ["8", "GB", "", "8 G", "-8GB", "0GB", "8GBs", "eight GB"])
def test_an_amount_without_sense_is_refused(text):
    with pytest.raises(AutoconfError, match="8GB or 24GiB"):
        parse_memory(text)


# --set


def test_a_value_set_by_hand_is_read_as_yaml():
    words = ("learning_rate=3e-4", "patch_size=[64, 64, 64]", "amp=false", "output_dir=run", "dice_weight=1")
    assert parse_set(BUNDLE, words) == {
        "learning_rate": 3e-4,
        "patch_size": [64, 64, 64],
        "amp": False,
        "output_dir": "run",
        "dice_weight": 1,
    }


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("patch_sise=[64,64,64]", "has no 'patch_sise' to override. Did you mean 'patch_size'?"),
        ("zzz=1", "It has: datalist, dataset_dir"),
        ("max_epochs", "Write --set max_epochs=VALUE"),
        ("patch_size=[32,", "is no YAML"),
        ("max_epochs=many", "'many' is no value of that kind"),
        ("max_epochs=1.5", "1.5 is no value of that kind"),
        ("max_epochs=true", "True is no value of that kind"),
        ("amp=1", "1 is no value of that kind"),
        ("patch_size=64", "64 is no value of that kind"),
        ("patch_size=[64,64]", "has 3 values; [64, 64] has 2"),
        ("learning_rate=fast", "'fast' is no value of that kind"),
    ],
)
def test_what_the_bundle_does_not_know_is_refused(word, said):
    with pytest.raises(AutoconfError) as refused:
        parse_set(BUNDLE, (word,))
    assert said in str(refused.value)


def test_every_own_value_of_the_bundle_is_a_legal_override():
    for key, value in BUNDLE.config.items():
        check_override(BUNDLE, key, value)


# The whole choice


def fingerprint() -> dict:
    """Twenty cases as BraTS has them."""
    return {"kind": "volumes", "cases": [{"spacing": [1.0, 1.0, 1.0], "brain_shape": [140, 175, 138]}] * 20}


def values(*args, **kwargs) -> dict:
    return {key: choice.value for key, choice in choose(*args, **kwargs).items()}


def test_a_cpu_plan_sees_a_brain_of_1_mm_at_2_mm():
    chosen = values(fingerprint(), BUNDLE, 8 * GIGABYTE, "cpu", {})
    assert chosen["target_spacing"] == [2.0, 2.0, 2.0]
    assert math.prod(chosen["patch_size"]) <= rules.CPU_PATCH_VOXELS
    assert chosen["batch_size"] == 1 and chosen["num_workers"] == 0


def test_a_gpu_plan_keeps_1_mm_and_fills_the_memory():
    chosen = values(fingerprint(), BUNDLE, 8 * GIGABYTE, "cuda", {})
    assert chosen["target_spacing"] == [1.0, 1.0, 1.0]
    assert "num_workers" not in chosen
    step = count_step(BUNDLE.train_config, 4, tuple(chosen["patch_size"]))
    assert 0.7 * 8 * GIGABYTE < step.total(chosen["batch_size"]) <= 8 * GIGABYTE


def test_what_is_set_by_hand_stays_and_the_rest_follows_it():
    chosen = values(fingerprint(), BUNDLE, 8 * GIGABYTE, "cuda", {"patch_size": [64, 64, 64], "seed": 7})
    assert chosen["patch_size"] == [64, 64, 64] and chosen["seed"] == 7
    assert chosen["batch_size"] == 8
    with pytest.raises(AutoconfError, match="192x192x192 needs .* GB for one crop"):
        choose(fingerprint(), BUNDLE, 1 * GIGABYTE, "cuda", {"patch_size": [192, 192, 192]})


def test_too_little_memory_is_refused():
    with pytest.raises(AutoconfError, match="Give more --memory"):
        choose(fingerprint(), BUNDLE, 0.1 * GIGABYTE, "cuda", {})


@settings(max_examples=10)
@given(st.lists(st.tuples(brains, st.floats(0.5, 2)), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_the_cases_does_not_matter(cases, random):
    rows = [{"spacing": [side] * 3, "brain_shape": list(brain)} for brain, side in cases]
    fixed = {"patch_size": [64, 64, 64]}  # counting the memory of many patches takes seconds
    first, second = (
        values({"kind": "volumes", "cases": order}, BUNDLE, 8 * GIGABYTE, "cuda", fixed)
        for order in (rows, random.sample(rows, len(rows)))
    )
    assert first == second


# The command line


def plan(work: Path, out: Path, *words: object):
    return autoconf("plan", work, "--bundle", UNETR3D, "--device", "cpu", "--out", out, *words)


def test_a_plan_is_plain_yaml_with_a_reason_for_each_key(volumes, tmp_path):
    out = tmp_path / "plan.yaml"
    done = plan(volumes.work, out, "--memory", "4GB", "--set", "max_epochs=8", "--set", "learning_rate=3e-4")
    assert done.returncode == 0, done.stderr
    content = read_yaml(out)
    assert set(content) == {"target_spacing", "patch_size", "batch_size", "max_epochs", "learning_rate", "num_workers"}
    assert content["max_epochs"] == 8 and content["learning_rate"] == 3e-4
    assert content["patch_size"] == [32, 32, 32] and content["target_spacing"] == [5.625] * 3
    first, *lines = out.read_text().splitlines()
    assert first.startswith("# autoconf plan ") and "--set max_epochs=8" in first
    for line in lines:
        key, reason = line.partition(":")[0], line.partition("  # ")[2]
        assert key in content and reason.strip()
        assert key in done.stdout and reason.strip() in done.stdout
    json.dumps(content)  # nothing but numbers, texts and lists
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]


def test_what_cannot_be_planned_is_refused_in_one_line(volumes, slices, tmp_path):
    out = tmp_path / "plan.yaml"
    assert_refused(plan(volumes.work, out, "--set", "patch_sise=[32,32,32]"), "Did you mean 'patch_size'?")
    assert_refused(plan(tmp_path, out), "fingerprint.json is not there", "autoconf inspect")
    assert_refused(plan(slices.work, out), "2D images")
    assert_refused(plan(volumes.work, out, "--memory", "8"), "8GB or 24GiB")
    assert_refused(autoconf("plan", volumes.work, "--bundle", PSEUDO2D, "--out", out), "no patch to plan")
    assert_refused(autoconf("plan", volumes.work, "--bundle", tmp_path, "--out", out), "is no bundle")
    assert not out.exists()


def test_memory_is_a_sum():
    assert StepMemory(fixed=10, per_sample=3).total(4) == 22


def test_a_plan_loads_back_as_it_was_chosen():
    fixed = {"learning_rate": 1e-5, "amp": False, "output_dir": "a: b"}
    choices = choose(fingerprint(), BUNDLE, 8 * GIGABYTE, "cpu", fixed)
    text = render("autoconf plan", choices)
    assert yaml.safe_load(text) == {key: choice.value for key, choice in choices.items()}
