"""Counted memory against a formula and against real tensors, and the machine as it is read and timed."""

from __future__ import annotations

import json
import os

import pytest
import torch
from helpers_bundles import PSEUDO2D, UNETR3D
from test_plan_rules import need

from autoconf.arguments import parse_memory, parse_time
from autoconf.bundle.settings import read_bundle
from autoconf.errors import AutoconfError
from autoconf.plan.machine import free_memory, measure_speed, read_machine
from autoconf.plan.memory import CUDA, StepMemory, build_network, correction, count_step, kept_bytes, network_step

BUNDLE = read_bundle(str(UNETR3D))
NETWORKS = sorted(path.stem for path in (UNETR3D / "configs" / "networks").glob("*.yaml"))


@pytest.mark.parametrize("patch", [(32, 32, 32), (64, 80, 64), (128, 128, 128), (192, 192, 144)])
def test_a_unetr_keeps_what_the_formula_says(patch):
    """Attention: 12 layers x 8 heads x 3 arrays (softmax, dropout's noise, their product) x 4 bytes a token pair."""
    step = count_step(BUNDLE.configs, 4, patch)
    assert step.per_sample == pytest.approx(need(patch), rel=1e-3)
    assert step.weights == pytest.approx(4 * 16_805_000, rel=0.02)
    assert step.gradients == step.weights and step.optimiser == 2 * step.weights
    assert step.total(3) == step.fixed + 3 * step.per_sample


@pytest.mark.parametrize("network", NETWORKS)
def test_the_count_without_memory_agrees_with_real_tensors(network):
    """benchmarks/memory.py does the same for three larger patches."""
    bundle = read_bundle(str(UNETR3D), network)
    patch = (64, 64, 64) if network == "swin_unetr" else (32, 48, 32)
    real = kept_bytes(build_network(bundle.configs, patch, "cpu"), (1, 4, *patch), "cpu")
    assert count_step(bundle.configs, 4, patch).per_sample == pytest.approx(real, rel=0.02)


def test_a_step_is_a_sum_of_its_parts():
    step = StepMemory(weights=1, gradients=2, optimiser=7, per_sample=3)
    assert step.fixed == 10 and step.total(4) == 22
    of = correction("cuda")
    assert step.total(4, "cuda") == 10 + of.workspace + 12 * of.activations
    assert step.each("cuda") == pytest.approx(3 * of.activations)


RESULTS = UNETR3D.parents[1] / "docs" / "evidence" / "results"
ON_GPU = json.loads((RESULTS / "memory_cuda.json").read_text())["rows"]


@pytest.mark.parametrize("row", ON_GPU, ids=lambda row: f"{row['network']}-{row['patch'][1]}")
def test_a_gpus_memory_is_predicted_within_three_percent(row):
    weights = row["fixed"] // 4
    step = StepMemory(weights, weights, 2 * weights, row["per_sample"], row["network"])
    assert step.total(1, "cuda") == pytest.approx(row["real"], rel=0.03)


def test_a_network_that_was_not_measured_takes_the_most_and_says_so():
    assert set(CUDA) == set(NETWORKS)
    unknown = correction("cuda", "another")
    assert "not measured" in unknown.source
    assert unknown.activations >= max(c.activations for c in CUDA.values())
    assert unknown.workspace >= max(c.workspace for c in CUDA.values())
    assert count_step(BUNDLE.configs, 4, (32, 32, 32)).network == "unetr"


def test_a_network_that_takes_no_patch_is_refused_in_its_own_words():
    with pytest.raises(AutoconfError, match="does not take a patch of 40x40x40"):
        count_step(BUNDLE.configs, 4, (40, 40, 40))
    with pytest.raises(AutoconfError, match="no patch suits this network"):
        network_step(BUNDLE.configs, 5)  # a channel too many


def test_a_2d_network_has_a_step_too():
    bundle = read_bundle(str(PSEUDO2D))
    assert network_step(bundle.configs, bundle.channels, axes=2) == 16


# The machine

AMOUNTS = [("8GB", 8e9), ("24GiB", 24 * 2**30), ("512 MB", 512e6), ("1.5gb", 1.5e9), ("2TB", 2e12), ("4KiB", 4096)]


@pytest.mark.parametrize(("text", "amount"), AMOUNTS)
def test_memory_is_read_with_its_unit(text, amount):
    assert parse_memory(text) == amount


@pytest.mark.parametrize("text", ["8", "GB", "", "8 G", "-8GB", "0GB", "8GBs", "eight GB"])
def test_an_amount_without_sense_is_refused(text):
    with pytest.raises(AutoconfError, match="8GB or 24GiB"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90min", 5400), ("90 m", 5400), ("1.5d", 129600), ("30S", 30)]
)
def test_a_time_is_read_with_its_unit(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["2", "h", "", "-2h", "0h", "two hours"])
def test_a_time_without_sense_is_refused(text):
    with pytest.raises(AutoconfError, match="2h, 90min or 1.5d"):
        parse_time(text)


def test_auto_reads_the_memory_that_is_there():
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < free_memory() <= there
    machine = read_machine("cpu", "auto")
    assert machine.memory == machine.ram == pytest.approx(free_memory(), rel=0.2)
    assert 1 <= machine.cores <= os.cpu_count()
    assert read_machine("cuda", "24GB").memory == 24e9


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_device_that_is_not_there_is_neither_read_nor_timed():
    with pytest.raises(AutoconfError, match="no CUDA device is here to read"):
        read_machine("cuda", "auto")
    with pytest.raises(AutoconfError, match="no CUDA device is here"):
        measure_speed(BUNDLE, (32, 32, 32), "cuda")


def test_a_step_is_timed_on_this_machine():
    speed = measure_speed(BUNDLE, (32, 32, 32), "cpu")
    assert speed.forward > 0 and speed.train > 0  # which is longer a busy machine decides
    assert "a step of 32x32x32 took" in speed.measured and "on this cpu" in speed.measured


@pytest.mark.long
def test_a_step_is_timed_in_float32_if_the_bundle_is_set_so():
    assert "in float32" in measure_speed(BUNDLE, (32, 32, 32), "cpu", amp=False).measured
