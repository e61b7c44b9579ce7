"""The verb `plan`: the whole choice, the override file, and the command line as a user meets it."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers_bundles import PSEUDO2D, UNETR3D, read_yaml
from helpers_volumes import assert_refused, autoconf, forked, odd_copies
from hypothesis import given, settings
from hypothesis import strategies as st

from autoconf.bundle.overrides import Choice, parse, render
from autoconf.bundle.settings import check_override, parse_set, read_bundle
from autoconf.data.datalist import Case, Datalist
from autoconf.errors import AutoconfError
from autoconf.plan import _read_fingerprint, count_cases, rules, show_plan
from autoconf.plan.choose import TIME_SHARE, USABLE, Cases, Limit, _clock, _voxels, choose, task
from autoconf.plan.images import choose_2d, image_size
from autoconf.plan.machine import Machine, Speed
from autoconf.plan.memory import StepMemory, count_step

BUNDLE = read_bundle(str(UNETR3D))
TWO_D = read_bundle(str(PSEUDO2D))
CPU = Machine("cpu", 8e9, 8e9, 2)
GPU = Machine("cuda", 8e9, 64e9, 8)
BRAIN = [140, 175, 138]


def fingerprint(cases: int = 20, **row) -> dict:
    """Cases as BraTS has them."""
    case = {"spacing": [1.0, 1.0, 1.0], "shape": [240, 240, 155], "brain_shape": BRAIN} | row
    return {"kind": "volumes", "modalities": dict.fromkeys(("t1", "t1c", "t2", "flair"), {}), "cases": [case] * cases}


CASES = Cases(14, 3)


def chosen(machine: Machine, fixed: dict | None = None, data: dict | None = None, bundle=BUNDLE, cases=CASES, **limits):
    return choose(task(data or fingerprint(), bundle, machine, cases, **limits), fixed or {})


def values(*args, **kwargs) -> dict:
    return {key: choice.value for key, choice in chosen(*args, **kwargs).items()}


# --set

WORDS = ("learning_rate=3e-4", "patch_size=[64, 64, 64]", "amp=false", "output_dir=run", "dice_weight=1")
READ = {"learning_rate": 3e-4, "patch_size": [64, 64, 64], "amp": False, "output_dir": "run", "dice_weight": 1}


def test_a_value_set_by_hand_is_read_as_yaml():
    assert parse_set(BUNDLE, WORDS) == READ


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("patch_sise=[64,64,64]", "has no 'patch_sise' to override. Did you mean 'patch_size'?"),
        ("zzz=1", "It has: datalist, dataset_dir"),
        ("max_epochs", "Write --set max_epochs=VALUE"),
        ("network_def::hidden_size=96", "only whole keys can be set here"),
        ("network_deff::hidden_size=96", "has no 'network_deff::hidden_size'"),
        ("patch_size=[32,", "is no YAML"),
        ("max_epochs=many", "'many' is no value of that kind"),
        ("max_epochs=1.5", "1.5 is no value of that kind"),
        ("max_epochs=true", "True is no value of that kind"),
        ("amp=1", "1 is no value of that kind"),
        ("patch_size=64", "64 is no value of that kind"),
        ("patch_size=[64,64]", "has 3 values; [64, 64] has 2"),
        ("learning_rate=fast", "'fast' is no value of that kind"),
        ("learning_rate=-3e-4", "It must be a number above 0"),
        ("batch_size=-1", "It must be a whole number of at least 1"),
        ("max_epochs=0", "It must be a whole number of at least 1"),
        ("dice_weight=7", "It must be a number from 0 to 1"),
        ("network_name=segresnet", "Choose it with --network segresnet"),
        ("modality_dropout=2", "It must be a number from 0 to 1"),
        ("overlap=1.0", "It must be a number from 0 to below 1"),
        ("dropout=1.0", "It must be a number from 0 to below 1"),
        ("num_workers=-1", "It must be a whole number of at least 0"),
        ("target_spacing=[0,0,0]", "It must be three numbers above 0, mm"),
        ("target_spacing=[.nan,1,1]", "It must be three numbers above 0, mm"),
        ("learning_rate=.inf", "It must be a number above 0"),
        ("weight_decay=.inf", "It must be a number of at least 0"),
        ("patch_size=[.inf,32,32]", "It must be three multiples of 16"),
        ('patch_size=["a","b","c"]', "It must be three multiples of 16"),
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


def test_a_cpu_plan_sees_a_brain_of_1_mm_at_2_mm():
    plan = values(CPU)
    assert plan["target_spacing"] == [2.0, 2.0, 2.0] and plan["patch_size"] == [64, 80, 64]
    assert plan["batch_size"] == plan["accumulation_steps"] == 1 and plan["num_workers"] == 0
    assert plan["normalize_nonzero"] is True  # the box holds 38 % of a scan


def test_a_gpu_plan_keeps_1_mm_and_fills_the_memory():
    plan = values(GPU)
    assert plan["target_spacing"] == [1.0, 1.0, 1.0] and plan["num_workers"] == 2
    step = count_step(BUNDLE.configs, 4, tuple(plan["patch_size"]))
    assert 0.7 * GPU.memory < step.total(plan["batch_size"], "cuda") <= GPU.memory


@pytest.mark.parametrize("network", ["unetr", pytest.param("swin_unetr", marks=pytest.mark.long)])
def test_more_memory_never_gives_a_smaller_patch_as_it_is_counted(network):
    """With the real count, where test_plan_rules.py has a formula; Swin's windows do not grow evenly."""
    bundle = read_bundle(str(UNETR3D), network)
    machines = [dataclasses.replace(GPU, memory=1e9 * gigabytes) for gigabytes in (4, 6, 8, 12, 16, 24)]
    volumes = [math.prod(values(machine, bundle=bundle)["patch_size"]) for machine in machines]
    assert volumes == sorted(volumes) and volumes[0] < volumes[-1]


@pytest.mark.parametrize("machine", [CPU, GPU])
def test_a_plan_is_a_fixed_point_when_its_own_shape_is_fed_back(machine):
    plan = values(machine)
    own = fingerprint(spacing=plan["target_spacing"], brain_shape=plan["patch_size"])
    again = values(machine, data=own)
    assert {key: again[key] for key in ("target_spacing", "patch_size")} == {
        key: plan[key] for key in ("target_spacing", "patch_size")
    }


@pytest.mark.parametrize("machine", [CPU, GPU])
def test_each_choice_fixed_by_hand_leaves_the_others_as_they_were(machine):
    plan = values(machine, cases=LACKING)
    for fixed in (plan, *({key: value} for key, value in plan.items())):
        assert values(machine, fixed, cases=LACKING) == plan


def test_thick_slices_keep_their_thin_ones():
    cases = [fingerprint(1, spacing=[1.0, 1.0, float(z)], brain_shape=[150, 180, 28])["cases"][0] for z in range(3, 11)]
    plan = chosen(GPU, data={"kind": "volumes", "cases": cases})
    assert plan["target_spacing"].value == [1.0, 1.0, 3.7]
    assert "10th percentile" in plan["target_spacing"].reason
    assert plan["target_spacing"].rejected == ("1.0x1.0x6.5 mm: the plain median",)


def test_scans_that_fill_their_box_are_normalised_as_a_whole():
    assert values(CPU, data=fingerprint(shape=BRAIN))["normalize_nonzero"] is False
    with pytest.raises(AutoconfError, match="contrast 'ct' has units"):
        chosen(CPU, data=fingerprint() | {"modalities": {"ct": {}}})


def test_what_is_set_by_hand_stays_and_the_rest_follows_it():
    plan = values(GPU, {"patch_size": [64, 64, 64], "seed": 7, "crops_per_case": 2})
    assert plan["patch_size"] == [64, 64, 64] and plan["seed"] == 7 and plan["batch_size"] == 8
    assert "28 crops an epoch" in chosen(GPU, {"crops_per_case": 2})["max_epochs"].reason
    with pytest.raises(AutoconfError, match="192x192x192 needs .* GB for one crop"):
        chosen(dataclasses.replace(GPU, memory=1e9), {"patch_size": [192, 192, 192]})


def test_a_patch_that_fits_once_is_trained_twice_a_step():
    large = count_step(BUNDLE.configs, 4, (160, 160, 160))
    plan = values(dataclasses.replace(GPU, memory=1.5 * large.total(1, "cuda")), {"patch_size": [160, 160, 160]})
    assert plan["batch_size"] == 1 and plan["accumulation_steps"] == 2


def test_too_little_memory_is_refused():
    with pytest.raises(AutoconfError, match="Give more --memory"):
        chosen(dataclasses.replace(GPU, memory=1e8))


def just_enough(step: StepMemory, batch: int, device: str) -> Machine:
    """A machine that such a step fits, with a thousand bytes to spare."""
    return Machine(device, (step.total(batch, device) + 1000) / USABLE, 64e9, 8)


def test_a_batch_of_crops_is_all_that_fits_and_says_what_one_more_would_need():
    step = count_step(BUNDLE.configs, 4, (64, 64, 64))
    given = {"fixed": {"patch_size": [64, 64, 64]}, "data": fingerprint(200)}
    choice = chosen(just_enough(step, 3, "cuda"), **given)["batch_size"]
    more, own, each = step.total(4, "cuda") / USABLE / 1e9, step.total(0, "cuda") / 1e9, step.each("cuda") / 1e9
    assert choice.value == 3 and choice.rejected == (f"4: would need {more:.1f} GB",)
    said = f"3 fit the memory; {own:.1f} GB for weights, gradients and optimiser and {each:.1f} GB a crop, bfloat16 and"
    assert choice.reason.startswith(said)
    plenty = chosen(just_enough(step, 30, "cuda"), **given)["batch_size"]
    assert (plenty.value, plenty.rejected) == (rules.MAX_BATCH, ())  # more memory would change nothing
    for device in ("cpu", "cuda"):
        enough = just_enough(step, 1, device)
        assert chosen(enough, **given)["batch_size"].value == 1
        needed = f"64x64x64 needs {step.total(1, device) / USABLE / 1e9:.1f} GB for one crop. Give more --memory"
        with pytest.raises(AutoconfError, match=re.escape(needed)):
            chosen(dataclasses.replace(enough, memory=enough.memory - 2000 / USABLE), **given)


def test_a_batch_is_at_most_a_twentieth_of_the_data_at_the_target_spacing():
    cases = fingerprint(30, spacing=[1.0, 1.0, 2.0])
    voxels = 30 * math.prod(BRAIN) * 2 / 2**3  # 1 x 1 x 2 mm brought to 2 x 2 x 2
    choice = chosen(dataclasses.replace(GPU, memory=80e9), FIXED, cases)["batch_size"]
    assert choice.value == int(voxels / 20 / 64**3) == 4 and "the cap of 5%" in choice.reason


@pytest.mark.parametrize(("device", "crops"), [("cpu", 1), ("cuda", 2)])
def test_a_patch_is_the_largest_of_which_a_step_fits(device, crops):
    """On a GPU of two crops. What the next better one would need is said."""
    spacing = {"target_spacing": [3.0, 3.0, 3.0]}
    step = count_step(BUNDLE.configs, 4, (48, 64, 48))
    machine = just_enough(step, crops, device)
    choice = chosen(machine, spacing)["patch_size"]
    assert choice.value == [48, 64, 48] and choice.reason.startswith(
        "covers 100% of the median brain of 47x59x46 voxels"
    )
    less = chosen(dataclasses.replace(machine, memory=machine.memory - 2000 / USABLE), spacing)["patch_size"]
    assert math.prod(less.value) < 48 * 64 * 48 and less.reason.endswith("no better one fits")
    needed = step.total(crops, device) / USABLE / 1e9
    assert less.rejected == (f"48x64x48: would need {needed:.1f} GB for {crops} crop{'s' * (crops == 2)}",)


def test_a_brain_is_counted_in_whole_voxels_but_for_what_rounding_adds():
    assert _voxels(np.array([100.0004, 100.1, 99.9]), np.array([1.0, 1.0, 1.0])) == (100, 101, 100)


def test_the_rest_of_a_plan_follows_the_device():
    large = {"fixed": {"patch_size": [64, 64, 64], "target_spacing": [1.0, 1.0, 1.0]}}
    assert [chosen(machine, **large)["overlap"].value for machine in (CPU, GPU)] == [0.25, 0.5]
    assert chosen(CPU)["network_name"] == Choice("unetr", "of train.yaml: patch and batch are counted for it alone")


@pytest.mark.parametrize(
    ("seconds", "said"), [(1, "1 min"), (60, "1 min"), (61, "2 min"), (3600, "1 h 00 min"), (9001, "2 h 31 min")]
)
def test_times_are_said_in_hours_and_minutes(seconds, said):
    assert _clock(seconds) == said


@pytest.mark.parametrize("key", ["patch_size", "target_spacing"])
def test_an_alternative_that_was_rejected_says_why(key):
    choice = chosen(CPU)[key]
    said, alternative = {
        "patch_size": (
            "covers 77% of the median brain of 70x88x69 voxels; multiples of 16; no better one fits",
            "64x80x80: is more than a CPU trains in good time",
        ),
        "target_spacing": (
            "2 x the median of 20 cases: a finer patch that shows enough is more than a CPU trains in good time",
            "1.0x1.0x1.0 mm: a patch of 327680 voxels would show 10% of the brain; "
            "25% are needed for context (nnU-Net)",
        ),
    }[key]
    assert choice == Choice(choice.value, said, (alternative,))


def test_thick_slices_are_named_as_the_reason_of_a_spacing():
    said = "median of 20 cases; axis 2 has thick slices: their 10th percentile, not to blur the thin ones (nnU-Net)"
    thick = {"spacing": [1.0, 1.0, 4.0], "brain_shape": [140, 175, 35]}
    assert chosen(GPU, data=fingerprint(**thick))["target_spacing"].reason == said


brains = st.tuples(*[st.integers(20, 260)] * 3)


@settings(max_examples=10)
@given(st.lists(st.tuples(brains, st.floats(0.5, 2)), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_the_cases_does_not_matter(cases, random):
    rows = [{"spacing": [side] * 3, "brain_shape": list(brain)} for brain, side in cases]
    first, second = (
        values(GPU, {"patch_size": [64, 64, 64]}, data={"cases": order})
        for order in (rows, random.sample(rows, len(rows)))
    )
    assert first == second


# Missing modalities


def listed(*cases: Case) -> Datalist:
    return Datalist("d", "volumes", "/", cases, modalities=("t1", "t2", "x"))


LACKING = Cases(14, 3, {"t1c": 1, "t2": 2})


def test_cases_are_counted_by_fold_and_by_the_contrasts_that_they_lack():
    images = [("a", None, "c"), (None, None, "c"), ("4d.nii.gz",)]
    cases = [Case(str(fold), "p", image, fold=fold, stacked=len(image) == 1) for fold, image in enumerate(images)]
    testing = Case("t", "p", (None, "b", "c"), section="testing")
    assert count_cases(listed(*cases, testing), fold=0) == Cases(2, 1, {"t1": 1, "t2": 2})


def test_data_without_a_missing_contrast_leave_its_dropout_to_the_bundle():
    assert "modality_dropout" not in chosen(CPU)


def test_a_missing_contrast_raises_its_dropout():
    choice = chosen(CPU, cases=LACKING)["modality_dropout"]
    assert choice.value == 0.48 and choice.reason.startswith("2 of 17 cases lack t2")


def test_a_bundle_without_that_knob_is_not_given_it():
    config = {key: value for key, value in BUNDLE.config.items() if key != "modality_dropout"}
    assert "modality_dropout" not in chosen(CPU, bundle=dataclasses.replace(BUNDLE, config=config), cases=LACKING)


# A time to train in


def limited(hours: float, machine: Machine = CPU, seconds_per_voxel: float = 1e-6, fixed: dict | None = None):
    """A plan for a machine that takes so long for a voxel of a training step, a third of it for a forward pass."""
    speed = Speed(seconds_per_voxel, seconds_per_voxel / 3, "a step took as long as the test says")
    return chosen(machine, fixed, limit=Limit(hours * 3600, lambda patch: speed))


def test_the_schedule_fits_the_time():
    plan = limited(2)
    voxels, epochs = math.prod(plan["patch_size"].value), plan["max_epochs"].value
    crops = 8 * 14
    assert epochs * crops >= rules.STEPS_WANTED * 0.9  # the patch was chosen so that they fit, validation aside
    each = voxels * 1e-6 + rules.crop_seconds(voxels, "cpu")
    assert epochs * crops * each + 17 * rules.CASE_SECONDS <= TIME_SHARE * 2 * 3600
    assert "a step took as long as the test says" in plan["max_epochs"].reason


def test_less_time_gives_coarser_voxels_or_fewer_epochs_never_more():
    plans = [limited(hours) for hours in (0.25, 0.5, 1, 2, 4, 8, 16, 100)]
    spacings = [plan["target_spacing"].value[0] for plan in plans]
    assert spacings == sorted(spacings, reverse=True) and spacings[0] > spacings[-1] == 1.0
    assert math.prod(plans[0]["patch_size"].value) < math.prod(plans[-1]["patch_size"].value)


def test_a_time_that_fits_no_epoch_is_refused_and_one_that_fits_few_says_so():
    with pytest.raises(AutoconfError, match="one epoch of 112 crops takes .*more than --time"):
        limited(0.001)
    few = limited(0.1)
    assert "of 5000 wanted" in few["max_epochs"].reason


FIXED = {"patch_size": [64, 64, 64], "target_spacing": [2.0, 2.0, 2.0]}


def test_an_epoch_is_its_crops_and_its_share_of_a_validation_and_one_must_fit():
    """14 cases of 8 crops train, 3 validate every other epoch: each in 2 x 2 x 2 windows, at a third of the cost."""
    fixed = FIXED | {"val_interval": 2, "overlap": 0.5, "batch_size": 2}
    voxels = 64**3
    epoch = 14 * 8 * (voxels * 1e-6 + rules.crop_seconds(voxels, "cpu")) + 3 * 8 * voxels * 1e-6 / 3 / 2
    loading = 17 * rules.CASE_SECONDS
    for fitting in (1, 2, 7):
        hours = (fitting * epoch + loading) / TIME_SHARE / 3600
        choice = limited(hours * 1.0001, fixed=fixed)["max_epochs"]
        assert choice.value == fitting and choice.reason.startswith(f"{fitting * 56} steps, of 5000 wanted, fit: ")
        if fitting > 1:
            assert limited(hours * 0.9999, fixed=fixed)["max_epochs"].value == fitting - 1
    enough = limited(hours / 7 * 90, fixed=fixed)["max_epochs"]
    assert " steps fit: " in enough.reason and int(enough.reason.split()[0]) == 56 * enough.value > 5000
    said = f"one epoch of 112 crops takes {_clock((epoch + loading) / TIME_SHARE)}, more than --time. Give more --time"
    with pytest.raises(AutoconfError, match=re.escape(said)):
        limited((epoch + loading) / TIME_SHARE / 3600 * 0.9999, fixed=fixed)


def epochs(machine: Machine = CPU, **fixed) -> int:
    return limited(8, machine, fixed=FIXED | fixed)["max_epochs"].value


def test_rarer_validation_leaves_time_for_more_epochs():
    assert epochs(val_interval=1) < epochs(val_interval=5) < epochs(val_interval=50)


def test_steps_are_those_of_the_optimiser_not_batches():
    fixed = FIXED | {"batch_size": 1}
    one, two = (limited(8, GPU, fixed=fixed | {"accumulation_steps": n})["max_epochs"] for n in (1, 2))
    steps = [int(choice.reason.split()[0]) for choice in (one, two)]
    assert one.value == two.value and steps[0] == 2 * steps[1]


def test_the_schedule_follows_the_speed_of_the_planned_patch():
    """Not that of the first one timed: small patches take longer for each voxel."""
    asked = []

    def speed(patch):
        asked.append(patch)
        return Speed(1e-6, 3e-7, f"a step of {patch}")

    plan = chosen(CPU, limit=Limit(3600, speed))
    assert asked[0] == (64, 64, 64) and asked[-1] == tuple(plan["patch_size"].value)
    assert f"a step of {asked[-1]}" in plan["max_epochs"].reason


def test_the_fold_that_is_set_by_hand_validates(volumes, tmp_path):
    folds = [item["fold"] for item in json.loads(volumes.datalist.read_text())["training"]]
    for fold in (0, 4):
        out = tmp_path / f"{fold}.yaml"
        assert plan(volumes.work, out, "--memory", "4GB", "--set", f"fold={fold}").returncode == 0
        assert f"{8 * (len(folds) - folds.count(fold))} crops" in parse(out.read_text(), "")[1]["max_epochs"].reason


# The file

choices = st.dictionaries(
    st.text("abcdefghij_", min_size=1, max_size=8),
    st.builds(
        Choice,
        st.one_of(
            st.integers(),
            st.booleans(),
            st.floats(allow_nan=False),
            st.text("ab #:'\"-[]{},&*!", max_size=12),
            st.lists(st.integers(), max_size=3),
            st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=3),
        ),
        st.text("ab #:'\"%", min_size=1, max_size=20).map(str.strip).filter(bool),
        st.lists(st.text("ab #:'\"%", min_size=1, max_size=12).map(str.strip).filter(bool), max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=5,
)


@given(choices)
def test_a_plan_is_read_back_with_its_reasons_as_it_was_written(plan):
    text = render(["autoconf plan --set a='# b'", "for cpu"], plan)
    assert yaml.safe_load(text) == {key: choice.value for key, choice in plan.items()}
    assert parse(text, "plan.yaml") == (["autoconf plan --set a='# b'", "for cpu"], plan)


def test_a_file_written_by_hand_is_explained_as_far_as_it_goes(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("seed: 3 # mine\npatch_size:\n- 32\n- 32\n- 32\namp: false\n")
    show_plan(str(tmp_path / "mine.yaml"))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [["seed", "3", "mine"], ["patch_size", "[32,", "32,", "32]"], ["amp", "false"]]


# 2D


def two_d(machine: Machine, size: list[int], images: int = 4477, fixed: dict | None = None) -> dict:
    data = {"kind": "images", "n_images": images, "median_size": size}
    return {key: choice.value for key, choice in choose_2d(data, TWO_D, machine, 3800, fixed or {}).items()}


def test_images_are_planned_by_their_size_and_number():
    assert two_d(GPU, [512, 480]) == {"batch_size": 32, "num_workers": 0, "image_size": 512, "cache_rate": 1.0}
    assert two_d(GPU, [512, 480], images=100)["batch_size"] == 5  # 5 % of them
    assert two_d(CPU, [512, 480])["image_size"] == 224 and two_d(CPU, [512, 480])["batch_size"] == 16
    assert two_d(GPU, [512, 480], fixed={"image_size": 64})["image_size"] == 64
    assert two_d(dataclasses.replace(GPU, ram=8e9), [512, 480])["cache_rate"] == pytest.approx(0.50, abs=0.01)


def test_a_batch_of_images_is_all_that_fits():
    step = count_step(TWO_D.configs, 1, (224, 224))
    size = {"size": [224, 200], "fixed": {"image_size": 224}}
    for device, most in (("cuda", 32), ("cpu", 16)):  # the bundle's batch on a CPU
        for batch in (1, 2, 7):
            assert two_d(just_enough(step, batch, device), **size)["batch_size"] == batch
        assert two_d(just_enough(step, 40, device), **size)["batch_size"] == most
        one = just_enough(step, 1, device)
        with pytest.raises(AutoconfError, match="one image of 224x224 pixels does not fit. Give more --memory"):
            two_d(dataclasses.replace(one, memory=one.memory - 2000 / USABLE), **size)


def test_on_a_cpu_images_are_kept_in_what_the_training_leaves():
    step = count_step(TWO_D.configs, 1, (224, 224))
    needed = 3800 * 8 * 224**2 / rules.CACHE_SHARE
    for device, taken in (("cpu", step.total(16)), ("cuda", 0)):
        machine = dataclasses.replace(GPU, device=device, ram=needed + taken + 1000)
        assert two_d(machine, [224, 224])["cache_rate"] == 1.0
        assert two_d(dataclasses.replace(machine, ram=machine.ram - 2000), [224, 224])["cache_rate"] == 0.99


def test_a_size_of_images_says_why():
    assert image_size([512, 480], 16, "cuda") == Choice(512, "the median image has 512x480 pixels; multiples of 16")
    said = "the study's, as large as a CPU trains in good time; the median image has 448x480 pixels; multiples of 16"
    assert image_size([448, 480], 16, "cpu") == Choice(224, said, ("480: 4.6 x the time on a CPU",))
    assert image_size([224, 224], 16, "cpu").rejected == ()
    data = {"kind": "images", "n_images": 100, "median_size": [64, 64]}
    assert choose_2d(data, TWO_D, CPU, 80, {"image_size": 64})["image_size"] == Choice(64, "set by hand")


@given(st.tuples(st.integers(1, 3000), st.integers(1, 3000)))
def test_an_image_size_is_legal_and_near_the_median(median):
    size = image_size(list(median), 16, "cuda").value
    assert size % 16 == 0 and size >= 32
    assert abs(size - max(median)) <= 8 or size == 32
    assert image_size(list(median), 16, "cpu").value == min(size, 224)


# The command line


def plan(work: Path, out: Path, *words: object):
    return forked("plan", work, "--bundle", UNETR3D, "--device", "cpu", "--out", out, *words)


PLANNED = {
    *("target_spacing", "patch_size", "batch_size", "max_epochs", "learning_rate", "num_workers"),
    *("normalize_nonzero", "accumulation_steps", "overlap", "network_name"),
}


def test_a_plan_is_plain_yaml_with_a_reason_for_each_key(volumes, tmp_path):
    out = tmp_path / "plan.yaml"
    done = plan(volumes.work, out, "--memory", "4GB", "--set", "max_epochs=8", "--set", "learning_rate=3e-4")
    assert done.returncode == 0, done.stderr
    content = read_yaml(out)
    assert set(content) == PLANNED
    assert content["max_epochs"] == 8 and content["learning_rate"] == 3e-4
    assert content["patch_size"] == [32, 32, 32] and content["target_spacing"] == [5.625] * 3
    first, second, *_ = out.read_text().splitlines()
    assert first.startswith("# autoconf plan ") and "--set max_epochs=8" in first
    assert second.startswith("# for cpu with 4.0 GB")
    json.dumps(content)  # nothing but numbers, texts and lists
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]
    explained = autoconf("plan", out, "--show")
    assert explained.returncode == 0 and explained.stdout.split("\n\n")[1].strip() in done.stdout
    for choice in parse(out.read_text(), "plan.yaml")[1].values():
        assert choice.reason and choice.reason in explained.stdout


def test_a_plan_names_its_network_and_what_to_run(volumes, tmp_path):
    done = plan(volumes.work, tmp_path / "plan.yaml", "--network", "segresnet", "--memory", "4GB")
    assert done.returncode == 0, done.stderr
    assert "--network segresnet" in (tmp_path / "plan.yaml").read_text().splitlines()[0]
    assert read_yaml(tmp_path / "plan.yaml")["network_name"] == "segresnet"
    assert f"{UNETR3D}/configs/train.yaml','{UNETR3D}/configs/networks/segresnet.yaml','{tmp_path}" in done.stdout


def test_the_command_that_a_plan_prints_holds_its_paths_whole(volumes, tmp_path):
    work = tmp_path / "my work"
    work.symlink_to(volumes.work)
    done = plan(work, tmp_path / "the plan's.yaml", "--memory", "4GB")
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout.splitlines()[-1])
    assert words[words.index("--datalist") + 1] == str(work / "datalist.json")
    assert ast.literal_eval(words[words.index("--config_file") + 1])[-1] == str(tmp_path / "the plan's.yaml")


def test_a_plan_that_has_no_file_to_go_to_is_refused_before_the_work(volumes, tmp_path):
    assert_refused(plan(volumes.work, tmp_path, "--memory", "4GB"), f"{tmp_path} is a folder", "plan.yaml")
    assert_refused(plan(volumes.work, "", "--memory", "4GB"), "--out is empty")


@pytest.mark.long
def test_a_plan_for_a_time_is_measured_on_the_device(volumes, tmp_path):
    done = plan(volumes.work, tmp_path / "plan.yaml", "--time", "30min", "--memory", "4GB", "--network", "segresnet")
    assert done.returncode == 0, done.stderr
    choices = parse((tmp_path / "plan.yaml").read_text(), "")[1]
    sides = "x".join(map(str, choices["patch_size"].value))
    assert f"a step of {sides} took " in choices["max_epochs"].reason


def test_images_are_planned_by_the_same_verb(slices, tmp_path):
    out = tmp_path / "plan.yaml"
    done = forked("plan", slices.work, "--bundle", PSEUDO2D, "--device", "cpu", "--out", out)
    assert done.returncode == 0, done.stderr
    assert read_yaml(out) == {"batch_size": 16, "num_workers": 0, "image_size": 80, "cache_rate": 1.0}


def test_what_cannot_be_planned_is_refused_in_one_line(volumes, slices, tmp_path):
    out = tmp_path / "plan.yaml"
    assert_refused(plan(volumes.work, out, "--network", "segresnett"), "Did you mean 'segresnet'?")
    assert_refused(plan(tmp_path, out), "fingerprint.json is not there", "autoconf inspect")
    assert_refused(plan(slices.work, out), "2D images")
    assert_refused(plan(volumes.work, out, "--set", "modality_dropout=2"), "It must be a number from 0 to 1")
    assert_refused(plan(volumes.work, out, "--memory", "8"), "8GB or 24GiB")
    assert_refused(plan(volumes.work, out, "--time", "2"), "2h, 90min or 1.5d")
    assert_refused(autoconf("plan", volumes.work, "--bundle", PSEUDO2D, "--out", out), "needs 2D images")
    assert_refused(autoconf("plan", volumes.work, "--bundle", tmp_path, "--out", out), "is no bundle")
    assert not out.exists()


def test_a_key_that_only_looks_merged_is_explained(tmp_path):
    (tmp_path / "x.yaml").write_text("'<<': 3\n")
    show_plan(str(tmp_path / "x.yaml"))


def test_a_fingerprint_of_older_names_is_refused(tmp_path):
    (tmp_path / "fingerprint.json").write_text('{"kind": "volumes", "cases": [], "contrasts": {}}')
    with pytest.raises(AutoconfError, match="fingerprint.json is not what inspect writes .*`modalities` now"):
        _read_fingerprint(str(tmp_path))


def test_a_set_without_training_cases_is_refused():
    with pytest.raises(AutoconfError, match="no training case outside fold 1.*--set fold=N"):
        count_cases(listed(*(Case(name, name, ("x",), fold=1, stacked=True) for name in "ab")), 1)


def test_a_patch_that_the_network_does_not_take_is_refused_with_one_that_it_takes():
    with pytest.raises(AutoconfError, match=r"multiples of 16: give \[96, 96, 112\]"):
        chosen(CPU, {"patch_size": [100, 90, 110]})


def test_whatever_stands_in_a_fingerprint_it_is_planned_for_or_refused(tmp_path) -> None:
    row = {"case": "a", "shape": [24, 24, 16], "brain_shape": [20, 22, 14], "spacing": [1.0, 1.0, 1.0]}
    sound = {"kind": "volumes", "modalities": {"t1": {}}, "cases": [row, row | {"case": "b"}]}
    machine = Machine("cpu", 8e9, 8e9, 2)
    refused = 0
    for odd in odd_copies(sound):
        (tmp_path / "fingerprint.json").write_text(json.dumps(odd))
        try:
            _read_fingerprint(str(tmp_path))
        except AutoconfError as error:
            assert str(error).startswith(f"{tmp_path}/fingerprint.json is not what inspect writes")
            refused += 1
            continue
        task(odd, read_bundle(str(UNETR3D)), machine, Cases(10, 2))
    assert refused > 20
