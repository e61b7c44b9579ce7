"""The rules of a plan as pure functions: nnU-Net's decisions on synthetic fingerprints, and properties of the patch."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from autoconf.bundle.overrides import Choice
from autoconf.errors import AutoconfError
from autoconf.plan import rules
from autoconf.plan.patch import SLACK, coverage, fit_patch, legal_patches, min_side

brains = st.tuples(*[st.integers(20, 260)] * 3)
jitters = st.tuples(*[st.integers(-3, 3)] * 3)
steps = st.sampled_from([16, 32])
budgets = st.floats(2e8, 1e11)
patches = st.tuples(*[st.integers(2, 12).map(lambda tokens: 16 * tokens)] * 3)
spacings = st.lists(st.tuples(*[st.floats(0.3, 8)] * 3), min_size=1, max_size=20)
shapes = st.tuples(*[st.integers(5, 400)] * 3)


def need(patch: tuple[int, ...]) -> float:
    """Bytes that the bundle's UNETR keeps for one crop, by the formula that test_plan_memory.py checks."""
    voxels = math.prod(patch)
    return 1108.55 * voxels + 1152 * (voxels / 4096) ** 2


def fitted(brain, step: int, budget: float):
    """The patch, or None if none fits."""
    try:
        return fit_patch(brain, step, lambda patch: need(patch) <= budget)[0]
    except AutoconfError:
        return None


# Spacing and normalisation, as nnU-Net decides them

ONES = [(1.0, 1.0, 1.0)] * 5
THICK = [(1.0, 1.0, 5.0)] * 5
MIXED = [(1.0, 1.0, float(z)) for z in (3, 4, 5, 6, 7, 8, 9, 10)]
TABLE = {  # name: (spacings in mm, voxels of the median brain, nnU-Net's target spacing)
    "as BraTS": (ONES, (140, 171, 136), (1, 1, 1)),
    "thick slices, all alike": (THICK, (200, 200, 30), (1, 1, 5)),
    "thick slices along the first axis": ([s[::-1] for s in THICK], (30, 200, 200), (5, 1, 1)),
    "mixed slices of 3 to 10 mm": (MIXED, (200, 200, 30), (1, 1, 3.7)),  # 10th percentile: 3 + 0.7 x 1
    "mixed slices, but many of them": (MIXED, (200, 200, 100), (1, 1, 6.5)),  # not a third of the voxels: the median
    "mixed slices, exactly a third": (MIXED, (201, 210, 67), (1, 1, 6.5)),  # fewer than a third are asked for
    "exactly three times coarser": ([(1.0, 1.0, 3.0)] * 4 + [(1.0, 1.0, 1.5)], (200, 200, 30), (1, 1, 3)),
    "just over three times": ([(1.0, 1.0, 3.1)] * 10 + [(1.0, 1.0, 2.1)] * 1, (200, 200, 30), (1, 1, 3.1)),
    "coarser than one axis only": ([(1.0, 2.5, float(z)) for z in (2, 6, 7, 8)], (200, 80, 20), (1, 2.5, 6.5)),
    "never finer than the others": ([(1.0, 1.0, z) for z in (0.5, 5.0, 5.0)], (200, 200, 30), (1, 1, 1.4)),
    "clamped to the others": ([(1.0, 1.0, z) for z in (0.5, 0.5, 4.0, 5.0, 5.0)], (200, 200, 30), (1, 1, 1)),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_target_spacing_is_nnunets(name):
    given_spacings, voxels, expected = TABLE[name]
    chosen = rules.target_spacing(np.array(given_spacings), np.array([voxels] * len(given_spacings)))
    assert chosen == pytest.approx(expected, abs=1e-4)


def test_a_target_spacing_has_four_digits():
    assert rules.target_spacing(np.array([[0.123456, 0.5, 0.48828125]]), np.array([[9, 9, 9]])) == (0.1235, 0.5, 0.4883)


@given(spacings, shapes)
def test_each_axis_of_the_spacing_lies_in_the_datas_range(spacings, shape):
    chosen = rules.target_spacing(np.array(spacings), np.array([shape] * len(spacings)))
    low, high = np.min(spacings, axis=0), np.max(spacings, axis=0)
    assert np.all(low - 1e-4 <= chosen) and np.all(chosen <= high + 1e-4)


@given(st.lists(st.tuples(st.tuples(*[st.floats(0.3, 8)] * 3), shapes), min_size=1, max_size=12), st.data())
def test_the_order_of_the_cases_does_not_matter_for_the_spacing(cases, data):
    shuffled = data.draw(st.permutations(cases))
    first, second = (rules.target_spacing(*map(np.array, zip(*order, strict=True))) for order in (cases, shuffled))
    assert first == second


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_a_spacing_that_is_no_length_is_refused(bad):
    with pytest.raises(
        AutoconfError, match="^the fingerprint holds a spacing that is not a positive number. Run inspect"
    ):
        rules.target_spacing(np.array([[1, 1, 1], [1, bad, 1]]), np.full((2, 3), 100))


@pytest.mark.parametrize(
    ("contrast", "kept", "expected"),
    [
        ("flair", 0.36, ("z-score", True)),  # BraTS: the reference plan of 22 cases says the same
        ("t1", 0.7499, ("z-score", True)),
        ("t1", 0.75, ("z-score", False)),
        ("t2", 1.0, ("z-score", False)),
        ("CT", 0.36, ("ct", False)),
    ],
)
def test_the_normalisation_is_nnunets(contrast, kept, expected):
    assert rules.normalisation(contrast, kept) == expected


# Patch


@given(brains, steps)
def test_legal_patches_are_multiples_and_no_larger_than_the_brain(brain, step):
    found = legal_patches(brain, step)
    low = min_side(step)
    assert found and len(set(found)) == len(found)
    assert found[-1] == (low,) * 3 or coverage(found[-1], brain) <= coverage(found[0], brain)
    for patch in found:
        assert all(n % step == 0 and low <= n < max(b, low) + step for n, b in zip(patch, brain, strict=True))
        assert math.prod(patch) <= math.prod(max(b, low) + SLACK * step for b in brain)


def defined_patches(brain: tuple[int, ...], step: int) -> set[tuple[int, ...]]:
    """By the definition, in whole numbers: sides of which each is a scaled one rounded to a step, for one scale.

    A side of p voxels is n of them times a scale s, rounded down or up, if (p - step) / n < s < (p + step) / n; the
    shortest one, to which others are lifted, also for any smaller s.
    """
    low, one = min_side(step), Fraction(1)
    sides = [max(n, low) for n in brain]
    most = math.prod(n + Fraction(step, 5) for n in sides)
    found = set()
    for patch in itertools.product(*[range(low, n + step, step) for n in sides]):
        above = max(Fraction(0) if p == low else Fraction(p - step, n) for p, n in zip(patch, sides, strict=True))
        below = min(Fraction(p + step, n) for p, n in zip(patch, sides, strict=True))
        if above < min(below, one) and math.prod(patch) <= most:
            found.add(patch)
    return found


def shown(patch: tuple[int, ...], brain: tuple[int, ...]) -> Fraction:
    return Fraction(math.prod(map(min, patch, brain)), math.prod(brain))


@given(brains, steps)
def test_legal_patches_are_those_of_the_definition_the_largest_first_then_the_least_stretched(brain, step):
    sides = tuple(max(n, min_side(step)) for n in brain)

    def ratio(patch: tuple[int, ...]) -> Fraction:
        ratios = [Fraction(p, n) for p, n in zip(patch, sides, strict=True)]
        return max(ratios) / min(ratios)

    expected = sorted(defined_patches(brain, step), key=lambda patch: (-shown(patch, sides), ratio(patch), patch))
    assert legal_patches(brain, step) == expected
    assert [coverage(patch, sides) for patch in expected] == [pytest.approx(float(shown(p, sides))) for p in expected]


@given(brains, steps, budgets)
def test_a_patch_fits_and_no_other_that_fits_covers_more(brain, step, budget):
    patch = fitted(brain, step, budget)
    if patch is None:
        assert need((min_side(step),) * 3) > budget
        return
    assert need(patch) <= budget
    fitting = [p for p in legal_patches(brain, step) if need(p) <= budget]
    assert coverage(patch, brain) >= max(coverage(p, brain) for p in fitting) - 1e-6


@given(brains, steps, budgets, st.floats(1, 10))
def test_more_memory_never_gives_a_smaller_patch(brain, step, budget, more):
    less = fitted(brain, step, budget)
    assume(less is not None)
    assert math.prod(fitted(brain, step, budget * more)) >= math.prod(less)


@given(brains, jitters, steps, budgets)
@example((128, 128, 128), (3, 3, 3), 16, 1e11)  # where rounding each side up would jump by three steps
@example((189, 189, 189), (3, 3, 3), 16, 1e11)
@example((94, 94, 94), (3, 3, 3), 32, 1e11)
def test_a_few_voxels_change_the_patch_by_one_step_at_most(brain, jitter, step, budget):
    """One step: a slab of `step` voxels on the patch's largest face."""
    first = fitted(brain, step, budget)
    second = fitted(tuple(b + j for b, j in zip(brain, jitter, strict=True)), step, budget)
    assume(first is not None and second is not None)
    slab = max(step * math.prod(p) // min(p) for p in (first, second))
    assert abs(math.prod(first) - math.prod(second)) <= slab


@given(brains, steps, budgets)
def test_the_patch_is_a_fixed_point(brain, step, budget):
    patch = fitted(brain, step, budget)
    assume(patch is not None)
    assert fitted(patch, step, budget) == patch


@given(brains, steps, budgets, st.permutations(range(3)))
def test_turning_the_head_turns_the_patch_or_one_as_good(brain, step, budget, axes):
    patch = fitted(brain, step, budget)
    assume(patch is not None)
    turned_brain = tuple(brain[a] for a in axes)
    turned = fitted(turned_brain, step, budget)
    assert coverage(turned, turned_brain) == pytest.approx(coverage(patch, brain), rel=1e-6)


def test_a_patch_follows_the_brains_shape():
    assert fitted((140, 175, 138), 16, 1e12) == (144, 176, 128)
    assert fitted((140, 175, 138), 16, need((96, 112, 96))) == (96, 112, 96)
    assert fitted((200, 200, 24), 16, 1e12)[2] == 32  # thick slices: the third side stays at its least
    patch, too_large = fit_patch((140, 175, 138), 16, lambda p: math.prod(p) < 2e6)
    assert math.prod(patch) < 2e6 <= math.prod(too_large)
    assert fit_patch((140, 175, 138), 16, lambda p: True) == ((144, 176, 128), None)


def test_where_nothing_fits_the_smallest_is_named():
    with pytest.raises(
        AutoconfError, match="^not even a patch of 64x64x64 voxels fits. Give more --memory or --time.$"
    ):
        fit_patch((100, 100, 100), 32, lambda patch: False)


@given(brains)
def test_coarsening_shows_enough_of_the_brain_and_no_less_would(brain):
    factor = rules.coarsening(brain, rules.CPU_PATCH_VOXELS)
    shown = rules.CPU_PATCH_VOXELS * factor**3 / math.prod(brain)
    assert shown >= rules.MIN_COVERAGE
    assert factor == 1 or rules.CPU_PATCH_VOXELS * (factor - 1) ** 3 / math.prod(brain) < rules.MIN_COVERAGE


def test_coarsening_stops_at_what_is_just_enough():
    assert [rules.coarsening((100, 100, 100), voxels) for voxels in (250_000, 249_999, 31_250, 31_249)] == [1, 2, 2, 3]


# Batch, windows, cache, schedule

LARGE, SMALL = (100, 100, 100), (70, 70, 70)
CHOICES = {  # what is asked -> the value, its reason, and what else was looked at
    "a batch that the memory bounds": (
        (rules.batch_size, LARGE, 3, 1e9),
        Choice(3, "3 fit the memory"),
    ),
    "a batch that the data bound": (
        (rules.batch_size, LARGE, 20, 80e6),
        Choice(4, "the cap of 5% of the data's voxels allows 4"),
    ),
    "a batch of few data": (
        (rules.batch_size, LARGE, 20, 1e6),
        Choice(2, "the cap of 5% of the data's voxels allows 2"),
    ),
    "the largest batch": (
        (rules.batch_size, LARGE, 20, 1e9),
        Choice(8, "more than 8 gain nothing on few cases"),
    ),
    "steps on a CPU": (
        (rules.accumulation_steps, 1, "cpu"),
        Choice(1, "a CPU's time is better spent on more optimiser steps than on larger ones"),
    ),
    "steps of a batch of two": (
        (rules.accumulation_steps, 2, "cuda"),
        Choice(1, "a batch of 2 is enough for one optimiser step"),
    ),
    "steps of a batch of one": (
        (rules.accumulation_steps, 1, "cuda"),
        Choice(2, "2 x 1 crops: each optimiser step should see at least 2"),
    ),
    "windows on a CPU": (
        (rules.overlap, LARGE, (64, 64, 64), "cpu"),
        Choice(
            0.25,
            "8 windows for the median brain on a CPU",
            ("0.5: 27 windows for the median brain, 3.4 x the time",),
        ),
    ),
    "windows on a GPU": (
        (rules.overlap, LARGE, (64, 64, 64), "cuda"),
        Choice(0.5, "nnU-Net's; 27 windows for the median brain", ("0.25: 8 windows, with more visible seams",)),
    ),
    "windows of which fewer are no fewer": (
        (rules.overlap, SMALL, (64, 64, 80), "cpu"),
        Choice(0.5, "nnU-Net's; 4 windows for the median brain"),
    ),
    "two windows": (
        (rules.overlap, SMALL, (64, 80, 80), "cuda"),
        Choice(0.5, "nnU-Net's; 2 windows for the median brain"),
    ),
    "one window": (
        (rules.overlap, SMALL, (80, 80, 80), "cpu"),
        Choice(0.5, "nnU-Net's; 1 window for the median brain"),
    ),
    "as few modalities as the bundle drops": (
        (rules.modality_dropout, {"t1": 1}, 40, 4, 0.1),
        Choice(0.1, "the bundle's own is enough: 1 of 40 cases lack t1; 1 of 4 dropped crops loses it"),
    ),
    "as many modalities as may be dropped": (
        (rules.modality_dropout, {"t1": 5}, 40, 4, 0.1),
        Choice(0.5, "5 of 40 cases lack t1; 1 of 4 dropped crops loses it"),
    ),
    "more modalities than may be dropped": (
        (rules.modality_dropout, {"t1": 10}, 40, 4, 0.1),
        Choice(
            0.5,
            "10 of 40 cases lack t1; 1 of 4 dropped crops loses it",
            ("1.0: as often as the data lack it, but most crops should keep what their case has",),
        ),
    ),
    "cases that just fit the memory": (
        (rules.cache_rate, 50, 30e6, 3e9),
        Choice(1.0, "50 preprocessed cases of 30.0 MB take 1.5 of 3.0 GB free memory"),
    ),
    "cases that do not fit the memory": (
        (rules.cache_rate, 100, 30e6, 3e9),
        Choice(0.5, "100 preprocessed cases of 30.0 MB are more than half of 3.0 GB", ("1.0: would need 3.0 GB",)),
    ),
    "no memory at all": (
        (rules.cache_rate, 1, 1.0, 0.0),
        Choice(0.0, "1 preprocessed cases of 0.0 MB are more than half of 0.0 GB", ("1.0: would need 0.0 GB",)),
    ),
    "processes on a CPU": (
        (rules.num_workers, "cpu", 8),
        Choice(0, "a CPU's cores are the network's: further processes would take them away"),
    ),
    "processes on a GPU": (
        (rules.num_workers, "cuda", 8),
        Choice(2, "they only cut crops; augmentation runs on the GPU, a batch at a time"),
    ),
    "epochs as the bundle has them": (
        (rules.max_epochs, 100, 5000, None),
        Choice(100, "the bundle's own; 5000 crops an epoch"),
    ),
    "epochs of many cases": (
        (rules.max_epochs, 100, 8000, None),
        Choice(62, "8000 crops an epoch: 500000 in all, nnU-Net's", ("100: 800000 crops",)),
    ),
    "epochs of a time": (
        (rules.max_epochs, 100, 128, 7, "seven fit"),
        Choice(7, "seven fit"),
    ),
    "epochs of a long time": (
        (rules.max_epochs, 100, 8000, 700, "700 fit"),
        Choice(62, "8000 crops an epoch: 500000 in all, nnU-Net's; the time allows 700"),
    ),
    "epochs of more cases than one allows": (
        (rules.max_epochs, 1, 600_000, None),
        Choice(1, "the bundle's own; 600000 crops an epoch"),
    ),
}


@pytest.mark.parametrize("asked", CHOICES)
def test_a_choice_says_what_decided_it(asked):
    (rule, *given_), expected = CHOICES[asked]
    assert rule(*given_) == expected


def test_a_crop_takes_the_time_that_was_measured():
    assert rules.crop_seconds(1e6, "cuda") == pytest.approx(2.5e-3)
    assert rules.crop_seconds(1e6, "cpu") == pytest.approx(2.5e-3 + 0.08)
    assert rules.windows((5, 5, 5), (2, 2, 2), 0.5) == 4**3  # a stride of one voxel


@given(patches, st.integers(1, 50), st.floats(1e5, 1e10))
def test_a_batch_fits_and_keeps_the_caps(patch, fitting, voxels):
    choice = rules.batch_size(patch, fitting, voxels)
    assert 1 <= choice.value <= min(fitting, rules.MAX_BATCH)
    assert choice.value <= 2 or choice.value * math.prod(patch) <= rules.BATCH_SHARE * voxels
    assert choice.reason
    assert rules.batch_size(patch, fitting + 1, voxels).value >= choice.value


@given(st.integers(1, 20))
def test_on_a_gpu_each_optimiser_step_sees_two_crops(batch):
    steps = rules.accumulation_steps(batch, "cuda").value
    assert batch * steps >= rules.MIN_BATCH and (steps == 1 or batch * (steps - 1) < rules.MIN_BATCH)
    assert rules.accumulation_steps(batch, "cpu").value == 1


@given(brains, patches, st.sampled_from([0.25, 0.5]))
def test_windows_are_counted_as_monai_slides_them(brain, patch, overlap):
    from monai.data.utils import dense_patch_slices
    from monai.inferers.utils import _get_scan_interval

    image = [max(b, p) for b, p in zip(brain, patch, strict=True)]  # MONAI pads a small image to one window
    interval = _get_scan_interval(image, patch, 3, (overlap,) * 3)
    assert rules.windows(brain, patch, overlap) == len(dense_patch_slices(image, patch, interval))


def test_a_cpu_takes_fewer_windows_where_that_saves_some():
    assert rules.overlap((140, 140, 140), (64, 64, 64), "cuda").value == 0.5
    choice = rules.overlap((140, 140, 140), (64, 64, 64), "cpu")
    assert choice.value == 0.25 and choice.reason.startswith("27 windows") and "64 windows" in choice.rejected[0]
    assert rules.overlap((70, 70, 70), (64, 64, 64), "cpu").value == 0.5  # two a side in either case


@given(st.integers(1, 5000), st.floats(1e6, 1e8), st.floats(-1e9, 1e12))
def test_the_cache_takes_at_most_half_of_the_free_memory(cases, case_bytes, free):
    rate = rules.cache_rate(cases, case_bytes, free).value
    assert 0 <= rate <= 1
    assert rate == 0 or rate * cases * case_bytes <= rules.CACHE_SHARE * free
    percent_more = (rate + 0.01) * (1 + 1e-9)  # a whole percent may be missed by a rounding error
    assert rate == 1 or percent_more * cases * case_bytes > rules.CACHE_SHARE * max(0, free)


@given(st.integers(1, 5000), st.data())
def test_a_contrast_is_dropped_as_often_as_the_data_lack_it(cases, data):
    """From half of the crops at most, and never less often than the bundle's own."""
    lack = st.dictionaries(st.sampled_from(["t1", "t1c", "t2"]), st.integers(1, cases), min_size=1)
    missing = data.draw(lack)
    p = rules.modality_dropout(missing, cases, 4, 0.1).value
    assert 0.1 <= p <= 0.5
    assert p == 0.5 or all(p / 4 >= number / cases for number in missing.values())


def test_the_dropout_of_contrasts_says_what_it_follows():
    assert rules.modality_dropout({"t1": 1}, 1000, 4, 0.1).value == 0.1  # the bundle's own is enough
    choice = rules.modality_dropout({"t1": 1, "t2": 5}, 50, 4, 0.1)
    assert choice.value == 0.4 and choice.reason == "5 of 50 cases lack t2; 1 of 4 dropped crops loses it"
    assert rules.modality_dropout({"t1": 10}, 50, 4, 0.1).rejected[0].startswith("0.8: ")
    assert rules.modality_dropout({"t1": 10}, 50, 4, 0.7).value == 0.7  # never lowered


def test_workers_leave_a_core_to_the_training():
    assert [rules.num_workers("cuda", cores).value for cores in (1, 2, 8, 64)] == [0, 1, 2, 2]
    assert rules.num_workers("cpu", 64).value == 0


@given(st.floats(1e3, 1e6), st.integers(100, 10000), st.floats(1e-8, 1e-5), st.sampled_from(["cpu", "cuda"]))
def test_the_largest_patch_of_a_time_takes_that_time(seconds, crops, train, device):
    voxels = rules.max_voxels(seconds, crops, train, device)
    assert crops * (voxels * train + rules.crop_seconds(voxels, device)) == pytest.approx(seconds, rel=1e-6)


def test_epochs_are_the_bundles_own_unless_cases_or_time_say_otherwise():
    assert rules.max_epochs(100, 128, None).value == 100
    many = rules.max_epochs(100, 8 * 1000, None)
    assert many.value == 62 and "nnU-Net" in many.reason and many.rejected[0].startswith("100: 800000 crops")
    assert rules.max_epochs(100, 128, 7, "seven fit").value == 7
    assert rules.max_epochs(100, 128, 700).value == 700  # more time, a longer schedule
    assert rules.max_epochs(100, 8000, 700, "x").value == 62
