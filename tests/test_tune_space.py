"""A space, and what a search is begun with: whatever no trial could use is refused in one line, before any runs."""

from __future__ import annotations

import json
import shutil

import pytest
from helpers_bundles import PSEUDO2D, UNETR3D, write_yaml
from hypothesis import given
from hypothesis import strategies as st

from autoconf.bundle.settings import read_bundle
from autoconf.errors import AutoconfError
from autoconf.experiments.tune import tune
from autoconf.experiments.tune.space import Param, read_space
from autoconf.experiments.tune.study import grid_point

RATE = {"low": 1e-4, "high": 1e-2, "log": True}


def space_of(tmp_path, keys, **more):
    path = write_yaml(tmp_path / "space.yaml", {"max_epochs": 2, "keys": keys} | more)
    return read_space(str(path), read_bundle(str(UNETR3D)), staged="stages" in more)


@pytest.mark.parametrize("bundle", [UNETR3D, PSEUDO2D], ids=lambda path: path.name)
def test_the_bundles_own_spaces_can_be_used(bundle):
    for path in sorted((bundle / "configs").glob("tuning*.yaml")):
        for staged in (False, True):
            assert read_space(str(path), read_bundle(str(bundle)), staged).params


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"learning_rat": RATE}, "has no 'learning_rat' to tune. Did you mean 'learning_rate'?"),
        ({"network_def::hidden": {"values": [1]}}, "Did you mean 'hidden_size'?"),
        ({"network_def::_target_": {"values": [1]}}, "no value of that kind"),
        ({"optimizer": {"values": [1]}}, "is a part of the bundle"),
        ({"learning_rate": {"low": 1e-2, "high": 1e-4}}, "is an empty range"),
        ({"learning_rate": {"low": 1e-3, "high": 1e-3}}, "is an empty range"),
        ({"learning_rate": {"low": 0, "high": 1e-3, "log": True}}, "with true, low above 0"),
        ({"learning_rate": {"low": -1.0, "high": 1e-3}}, "must be a number above 0"),
        ({"learning_rate": {"low": "small", "high": 1e-3}}, "low is 'small'. It must be a number"),
        ({"learning_rate": {"low": 1e-4}}, "high is None"),
        ({"learning_rate": {"min": 1e-4, "max": 1e-3}}, "Write {low: A, high: B, log: true}"),
        ({"learning_rate": {"values": []}}, "has no values"),
        ({"learning_rate": {"values": [1e-3, "fast"]}}, "no value of that kind"),
        ({"learning_rate": {"values": [1e-3, 1e-3]}}, "has a value twice"),
        ({"learning_rate": 1e-3}, "Write {low: A, high: B, log: true}"),
        ({"dice_weight": {"low": 0.5, "high": 1.5}}, "must be a number from 0 to 1"),
        ({"crops_per_case": {"low": 1.5, "high": 4}}, "is a whole number in the bundle"),
        ({"amp": {"values": [True, 1]}}, "no value of that kind"),
        ({"dropout": {"low": 0.0, "high": 0.3, "step": 0.5}}, "step is 0.5"),
        ({"datalist": {"values": ["a.json"]}}, "names data"),
        ({"fold": {"values": [0, 1]}}, "is the same for all trials"),
        ({"seed": {"values": [0, 1]}}, "is the same for all trials"),
        ({"max_epochs": {"values": [1, 2]}}, "set max_epochs above the keys"),
        ({"validate::inferer": {"values": [1]}}, "what makes trials comparable"),
        ({"target_spacing": {"values": [[1.0, 1.0, 1.0]]}}, "changes what is scored"),
        ({}, "has no `keys:` to tune"),
        ([1], "has no `keys:` to tune"),
    ],
    ids=str,
)
def test_a_space_that_no_trial_could_use_is_refused(tmp_path, keys, said):
    with pytest.raises(AutoconfError) as refused:
        space_of(tmp_path, keys)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"max_epochs": 0}, "max_epochs is 0"),
        ({"max_epochs": "many"}, "max_epochs is 'many'"),
        ({"learning_rate": 1}, "A bundle's key goes below `keys`"),
        ({"stages": ["learning_rate"]}, "Write a list of lists"),
        ({"stages": [["learning_rate"], ["dropout"]]}, "must name each of the keys once"),
        ({"stages": [["learning_rate"], ["learning_rate"]]}, "must name each of the keys once"),
    ],
    ids=str,
)
def test_a_file_around_it_that_is_wrong_is_refused(tmp_path, more, said):
    with pytest.raises(AutoconfError) as refused:
        space_of(tmp_path, {"learning_rate": RATE}, **more)
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["keys: [", "\xff", "{}", "- a"])
def test_a_file_that_is_no_space_is_refused(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(AutoconfError):
        read_space(str(path), read_bundle(str(UNETR3D)))
    with pytest.raises(AutoconfError, match="is not there"):
        read_space(str(tmp_path / "other.yaml"), read_bundle(str(UNETR3D)))


def test_a_key_inside_a_part_and_a_number_written_as_yaml_reads_it_as_text_are_taken(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "max_epochs: 2\nkeys:\n  learning_rate: {low: 1e-4, high: 1e-3}\n  network_def::mlp_dim: {values: [64, 128]}\n"
    )
    rate, width = read_space(str(path), read_bundle(str(UNETR3D))).params
    assert (rate.low, rate.high) == (1e-4, 1e-3) and width.values == (64, 128)


def test_without_stages_of_its_own_the_learning_rate_comes_first(tmp_path):
    keys = {"weight_decay": {"low": 0.0, "high": 0.1}, "dice_weight": {"values": [0.3, 0.5]}, "learning_rate": RATE}
    path = write_yaml(tmp_path / "space.yaml", {"max_epochs": 2, "keys": keys})
    space = read_space(str(path), read_bundle(str(UNETR3D)), staged=True)
    assert [[param.key for param in stage] for stage in space.stages] == [
        ["learning_rate"],
        ["dice_weight"],
        ["weight_decay"],
    ]


PARAMS = [
    Param("a", values=(0.3, 0.5, 0.7)),
    Param("b", values=("x", [1, 2])),
    Param("c", low=1e-4, high=1e-2, log=True),
    Param("d", low=1, high=9, step=2, whole=True),
    Param("e", low=0.0, high=0.3),
]


@pytest.mark.parametrize("param", PARAMS, ids=lambda param: param.key)
@given(seed=st.integers(0, 10_000))
def test_whatever_is_drawn_lies_in_the_space(param, seed):
    from optuna import create_study
    from optuna.samplers import RandomSampler

    drawn = create_study(sampler=RandomSampler(seed)).ask({param.key: param.distribution()}).params[param.key]
    value = param.decode(drawn)
    assert param.encode(value) is not None
    assert param.decode(param.encode(value)) == value


@pytest.mark.parametrize("value", [0.4, "y", None, True, 20, 0.0005])
def test_what_is_not_in_the_space_is_told_apart(value):
    inside = [param.key for param in PARAMS if param.encode(value) is not None]
    assert inside == {0.0005: ["c", "e"]}.get(value, [])


@pytest.mark.parametrize(
    ("param", "value", "at_end"),
    [
        (Param("c", low=1e-4, high=1e-2, log=True), 1.1e-4, True),
        (Param("c", low=1e-4, high=1e-2, log=True), 3e-4, False),
        (Param("c", low=1e-4, high=1e-2, log=True), 9.9e-3, True),
        (Param("e", low=0.0, high=0.3), 0.05, False),
        (Param("a", values=(0.3, 0.5, 0.7)), 0.7, True),
        (Param("a", values=(0.3, 0.5, 0.7)), 0.5, False),
        (Param("a", values=(0.3, 0.5)), 0.3, False),  # of two values each is an end
        (Param("b", values=("x", "y", "z")), "x", False),
    ],
    ids=str,
)
def test_a_best_value_at_an_end_of_its_range_is_told(param, value, at_end):
    assert param.at_its_end(value) is at_end


def test_a_grid_visits_every_point_once():
    params = (Param("a", values=(1, 2, 3)), Param("b", values=("x", "y")))
    assert len({tuple(sorted(grid_point(params, index).items())) for index in range(6)}) == 6
    assert grid_point(params, 1) == {"a": 0, "b": 1}


# Before anything runs


@pytest.fixture
def work(volumes, tmp_path):
    """What inspect wrote, in a folder of its own."""
    shutil.copytree(volumes.work, tmp_path / "work")
    return tmp_path / "work"


def begun(work, **words):
    """The message with which a search is refused; nothing may have been made by then."""
    with pytest.raises(AutoconfError) as refused:
        tune(**{"work": str(work), "bundle": str(UNETR3D), "out": str(work.parent / "tuned.yaml")} | words)
    assert not (work / "tune").exists() and not (work.parent / "tuned.yaml").exists()
    return str(refused.value)


def test_a_test_case_in_the_training_list_stops_the_search(work):
    content = json.loads((work / "datalist.json").read_text())
    content["training"].append(content["testing"][0] | {"fold": 1})
    (work / "datalist.json").write_text(json.dumps(content))
    assert "is in its training and its testing list" in begun(work)


def test_another_scan_of_a_test_patient_in_the_training_list_stops_the_search(work):
    content = json.loads((work / "datalist.json").read_text())
    content["training"][0]["patient"] = content["testing"][0]["patient"] = "one and the same"
    (work / "datalist.json").write_text(json.dumps(content))
    assert "is in its training and its testing list" in begun(work)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"sampler": "bayes"}, "--sampler is 'bayes'"),
        ({"sampler": "grid"}, "a grid needs values, but learning_rate"),
        ({"trials": 0}, "--trials is 0"),
        ({"seeds": -1}, "--seeds is -1"),
        ({"jobs": 0}, "--jobs is 0"),
        ({"timeout": "soon"}, "is 'soon'"),
        ({"preset": "studies"}, "has no configs/tuning_studies.yaml"),
        ({"preset": "study", "space": "space.yaml"}, "Give one of them"),
        ({"plan": "nowhere.yaml"}, "nowhere.yaml"),
        ({"set": ("learning_rat=1",)}, "has no 'learning_rat'"),
        ({"set": ("fold=7",)}, "fold 7 needs cases"),
        ({"bundle": str(PSEUDO2D)}, "holds volumes"),
        ({"bundle": "."}, "is no bundle"),
        ({"network": "unet"}, "has no network 'unet'"),
        ({"out": "."}, ". is a folder. Give --out a file, such as ./tuned.yaml"),
        ({"jobs": 0}, "--jobs is 0. It must be at least 1."),
        ({"cluster": "here"}, "--cluster is 'here'. Write it as tcp://HOST:PORT"),
        ({"slurm": "gpu"}, "write it as KEY=VALUE"),
        ({"slurm": "queue=gpu", "cluster": "tcp://a:1"}, "--cluster and --slurm both say where to run"),
    ],
    ids=str,
)
def test_bad_words_are_refused_before_anything_is_made(work, words, said):
    assert said in begun(work, **words)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "volumes"}'])
def test_a_datalist_that_is_none_is_refused(work, text):
    (work / "datalist.json").write_text(text)
    assert "datalist.json" in begun(work)
