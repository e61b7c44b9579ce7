"""The bundles' configs as data: what must be equal is equal, what is named is there, and every knob is honoured."""

from __future__ import annotations

import ast
import inspect
import json
import pydoc
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_bundles import BUNDLES, NAMES, REPO, as_scripts, read_yaml
from monai.bundle import ComponentLocator, ConfigComponent, ConfigParser

CONFIGS = sorted(BUNDLES.glob("*/configs/**/*.yaml"))
NETWORKS = sorted(path.stem for path in BUNDLES.glob("unetr3d/configs/networks/*.yaml"))
ALONE, ON_TRAIN = ("train", "evaluate", "inference"), ("evaluate", "study", "multi_gpu_train", "finetune")
ON_TRAIN += ("multi_gpu_train+finetune", "pretrain_mae", "multi_gpu_train+pretrain_mae", "pretrain_pseudo")
EXPORTS = ("inference+export", *(f"inference+inference_{kind}" for kind in ("torchscript", "onnx")))
RUNS = {  # the files that a user gives to one run
    "pseudo2d": [
        *ALONE,
        "pseudo_label",
        "pseudo_label+labelers",
        "train+evaluate",
        "train+study",
        "train+finetune",
        "evaluate+ensemble",
        "inference+ensemble",
        *EXPORTS,
    ],
    "unetr3d": [
        *ALONE,
        "pseudo_label",
        *(f"train+{name}" for name in ON_TRAIN),
        "evaluate+multi_gpu_evaluate",
        *EXPORTS,
        *(f"{name}+ensemble" for name in ("evaluate", "inference", "inference+networks/segresnet")),
        *(f"{name}+networks/{network}" for name in ALONE for network in NETWORKS),
    ],
}
EVERY_RUN = [(bundle, run) for bundle, runs in RUNS.items() for run in runs]
COMMON_KNOBS = ("datalist", "dataset_dir", "output_dir", "max_epochs", "learning_rate", "batch_size", "num_workers")
COMMON_KNOBS += ("deterministic", "resume", "augmentation_strength", "ema_decay", "compile", "amp")
KNOBS = {
    "pseudo2d": (*COMMON_KNOBS, "seed", "device"),
    "unetr3d": (*COMMON_KNOBS, "seed", "device", "patch_size", "target_spacing", "dice_weight", "cache_dir"),
}


def config(bundle: str, name: str) -> dict[str, Any]:
    return read_yaml(BUNDLES / bundle / "configs" / name)


def short_name(path: Path) -> str:
    return f"{path.parts[-3]}/{path.name}"


def leaves(value: Any) -> Iterator[Any]:
    """Every plain value of nested lists and dicts."""
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield value


def components(value: Any) -> Iterator[dict]:
    """Every dict with a `_target_`."""
    if isinstance(value, (dict, list)):
        if isinstance(value, dict) and "_target_" in value:
            yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from components(inner)


def merged(bundle: str, run: str) -> ConfigParser:
    """The config of a run such as "train+study"."""
    parser = ConfigParser()
    parser.read_config([str(BUNDLES / bundle / "configs" / f"{name}.yaml") for name in run.split("+")])
    return parser


# What both bundles use


@pytest.mark.parametrize("name", ["LICENSE", "configs/logging.conf", "scripts/__init__.py"])
def test_both_bundles_carry_the_same_copy(name):
    assert (BUNDLES / "unetr3d" / name).read_bytes() == (BUNDLES / "pseudo2d" / name).read_bytes()


def test_settings_are_read_alike():
    assert (REPO / "autoconf/bundle/rules.py").read_bytes() == (BUNDLES / "shared/scripts/rules.py").read_bytes()


def test_the_bundle_finds_cases_as_inspect_does():
    assert (REPO / "autoconf/data/brats.py").read_bytes() == (BUNDLES / "unetr3d/scripts/brats.py").read_bytes()


REPEATED = {
    "pseudo2d": ("network_def", "bundle_root", "device", "amp", "image_size"),
    "unetr3d": (
        "network_def",
        "bundle_root",
        "device",
        "amp",
        "patch_size",
        "target_spacing",
        "overlap",
        "normalize_nonzero",
        "network_name",
    ),
}


@pytest.mark.parametrize(("bundle", "key"), [(bundle, key) for bundle in NAMES for key in REPEATED[bundle]])
def test_train_evaluate_and_inference_agree_on_what_they_repeat(bundle, key):
    train, evaluate, inference = (config(bundle, f"{name}.yaml")[key] for name in ALONE)
    assert train == evaluate == inference


def for_the_image(transforms: list[dict]) -> list[dict]:
    """The transforms that touch `image`, as if it were the only key.

    ToTensord only forgets where a training image came from, which inference must remember.
    """
    kept = []
    for step in transforms:
        keys = step["keys"] if isinstance(step["keys"], list) else [step["keys"]]
        if "image" in keys and step["_target_"] != "ToTensord":
            mode = step.get("mode")
            mode = {"mode": mode[keys.index("image")] if isinstance(mode, list) else mode} if mode else {}
            kept.append({**step, "keys": "image", **mode})
    return kept


def named(train: dict, step: dict | str) -> dict:
    """A step with what `@train#NAME` stands for in it."""
    if isinstance(step, str):
        return train[step.removeprefix("@train#")]
    known = {f"@train#{name}": value for name, value in train.items()}
    return {key: known.get(value, value) if isinstance(value, str) else value for key, value in step.items()}


@pytest.mark.parametrize("bundle", NAMES)
def test_an_image_is_prepared_alike_in_training_evaluation_and_inference(bundle):
    train = config(bundle, "train.yaml")["train"]
    trained_on = for_the_image([named(train, step) for step in train["deterministic_transforms"]])
    assert len(trained_on) >= 4
    for name in ("evaluate.yaml", "inference.yaml"):
        assert for_the_image(config(bundle, name)["preprocessing"]["transforms"]) == trained_on


@pytest.mark.parametrize("bundle", NAMES)
def test_windows_sigmoid_and_threshold_are_the_same_everywhere(bundle):
    validate = config(bundle, "train.yaml")["validate"]
    wanted = [t for t in validate["postprocessing"]["transforms"] if t["_target_"] in ("Activationsd", "AsDiscreted")]
    assert [t["_target_"] for t in wanted] == ["Activationsd", "AsDiscreted"]
    for name in ("evaluate.yaml", "inference.yaml"):
        other = config(bundle, name)
        assert other["inferer"] == validate["inferer"]
        post = other["postprocessing"]["transforms"]
        assert [t for t in post if t["_target_"] in ("Activationsd", "AsDiscreted")] == wanted


def test_a_volume_is_evaluated_as_it_is_segmented():
    """But for the copy that evaluation makes, because it still needs the regions for the metrics."""
    evaluated, segmented = (
        config("unetr3d", n)["postprocessing"]["transforms"] for n in ("evaluate.yaml", "inference.yaml")
    )
    evaluated = [
        t | ({"keys": "pred"} if t["keys"] == "mask" else {}) for t in evaluated if t["_target_"] != "CopyItemsd"
    ]
    assert evaluated == segmented


@pytest.mark.parametrize("bundle", NAMES)
def test_evaluation_and_inference_say_the_same_of_a_mask(bundle):
    evaluated, segmented = (config(bundle, name) for name in ("evaluate.yaml", "inference.yaml"))
    assert evaluated["provenance"] == segmented["provenance"]
    for content in (evaluated, segmented):  # the last, so that overlays may name the others by their places
        assert content["handlers"][-1]["_target_"] == "scripts.provenance.Provenance"
        (saved,) = {t["output_dir"] for t in content["postprocessing"]["transforms"] if "output_dir" in t}
        assert content["handlers"][-1]["output_dir"] == saved


@pytest.mark.parametrize("kind", ["torchscript", "onnx"])
@pytest.mark.parametrize("bundle", NAMES)
def test_the_weights_of_an_exported_network_are_its_file(bundle, kind):
    assert merged(bundle, f"inference+inference_{kind}")["provenance"]["weights"] == ["@exported"]


# Names


@pytest.mark.parametrize(("bundle", "run"), EVERY_RUN)
def test_each_target_is_there_and_takes_the_arguments_it_is_given(bundle, run):
    locator = ComponentLocator()
    with as_scripts(bundle):
        for component in components(merged(bundle, run).get()):
            target = component["_target_"]
            found = pydoc.locate(ConfigComponent({"_target_": target}, locator=locator).resolve_module_name())
            assert callable(found), target
            arguments = {key: value for key, value in component.items() if not re.fullmatch("_.*_", key)}
            bind = inspect.signature(found).bind_partial if "_mode_" in component else inspect.signature(found).bind
            bind(**arguments)  # raises a TypeError that names the argument


@pytest.mark.parametrize(("bundle", "run"), EVERY_RUN)
def test_each_reference_leads_somewhere(bundle, run):
    parser = merged(bundle, run)
    for text in (leaf for leaf in leaves(parser.get()) if isinstance(leaf, str) and leaf[:1] in "$@%"):
        for reference in re.findall(r"[@%](\w+(?:(?:::|#)\w+)*)", text):
            assert reference in parser, f"{text}: no '{reference}'"


MAE = [f"validate::{key}" for key in ("dataset::pick", "evaluator::metric_cmp_fn", "evaluator::decollate")]
ADDED = {  # overlay -> the file it lies on, and the keys that only the overlay has
    "study.yaml": ("train", []),
    "multi_gpu_train.yaml": ("train", ["distributed"]),
    "multi_gpu_evaluate.yaml": ("evaluate", ["distributed"]),
    "pretrain_mae.yaml": ("train", ["masking_ratio", "parts", *MAE, "checks::masking_ratio", "checks::parts"]),
    "pretrain_pseudo.yaml": ("train", ["parts", "checks::parts"]),
}
FINETUNE = (
    "pretrained",
    "pretrained_patch_size",
    "encoder",
    "encoder_factor",
    "freeze_epochs",
)  # knobs, all of them checked
FINETUNE = {*FINETUNE, *(f"checks::{knob}" for knob in FINETUNE)}
FINETUNE |= {"key_map", "pretrained_part", "+train::handlers"}


@pytest.mark.parametrize(("bundle", "name"), [*(("unetr3d", name) for name in ADDED), ("pseudo2d", "study.yaml")])
def test_an_overlay_adds_no_key_but_those_listed(bundle, name):
    below, added = ADDED[name]
    known = merged(bundle, below)
    assert [key for key in config(bundle, name) if key not in known] == added


@pytest.mark.parametrize("bundle", NAMES)
def test_fine_tuning_adds_no_key_but_those_listed_and_resumes_last_but_for_its_freezing(bundle):
    """Images have no table of positions that a patch would be of."""
    added = {key for key in config(bundle, "finetune.yaml") if key not in merged(bundle, "train")}
    missing = set() if bundle == "unetr3d" else {"pretrained_patch_size", "checks::pretrained_patch_size"}
    assert added == FINETUNE - missing
    handlers = [one["_target_"] for one in merged(bundle, "train+finetune")["train"]["handlers"]]
    assert handlers[-2:] == ["scripts.resume.Resume", "scripts.pretrained.Freeze"]


@pytest.mark.parametrize("bundle", NAMES)
@pytest.mark.parametrize("name", ["evaluate", "inference"])
def test_an_ensemble_adds_no_key_but_those_listed_and_loads_no_other_checkpoint(bundle, name):
    below = merged(bundle, name)
    added = [key for key in config(bundle, "ensemble.yaml") if key not in below]
    mine = ["checkpoints", "tta", "provenance::settings::tta"]
    assert added == [*mine, "checks::checkpoints", "checks::tta"]
    assert merged(bundle, f"{name}+ensemble")["load_checkpoint"] is False


@pytest.mark.parametrize("path", CONFIGS, ids=short_name)
def test_no_overlay_addresses_a_list_by_number(path):
    assert not [key for key in read_yaml(path) or {} if re.search(r"::\d+(::|$)", str(key))]


# Expressions


@pytest.mark.parametrize("path", CONFIGS, ids=short_name)
def test_expressions_are_short_and_plain(path):
    for text in (leaf for leaf in leaves(read_yaml(path)) if isinstance(leaf, str) and leaf.startswith("$")):
        assert len(text[1:]) <= 60, text
        assert "import" not in text, f"{text}: MONAI cannot resolve a reference beside these letters"
        kinds = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)
        tree = ast.parse(re.sub("[@%#]|::", "_", text[1:]), mode="eval")
        assert not any(isinstance(node, kinds) for node in ast.walk(tree)), text


# Knobs


def is_used(knob: str, content: dict[str, Any]) -> bool:
    """Whether something else than the checks refers to it."""
    rest = leaves([value for key, value in content.items() if key != "checks"])
    return any(re.search(rf"@{knob}\b", text) for text in rest if isinstance(text, str))


@pytest.mark.parametrize("bundle", NAMES)
def test_each_knob_is_there_and_used_not_only_checked(bundle):
    train = config(bundle, "train.yaml")
    assert [knob for knob in KNOBS[bundle] if knob not in train] == []
    for knob in KNOBS[bundle]:
        assert is_used(knob, train), knob
        assert train["checks"].get(knob) == f"@{knob}" or knob == "device", f"{knob} is not checked"


@pytest.mark.parametrize("path", [p for p in CONFIGS if "run" in read_yaml(p)], ids=short_name)
def test_what_a_file_lets_a_user_set_is_used_in_it(path):
    content = read_yaml(path)
    first = list(content)[: list(content).index("bundle_root")]
    assert [knob for knob in first if not is_used(knob, content)] == []


def test_a_contrast_is_dropped_from_one_crop_in_ten_unless_the_knob_says_otherwise():
    train = config("unetr3d", "train.yaml")
    steps = train["train"]["augmentation"]["transforms"]
    (drop,) = [t for t in steps if t["_target_"] == "scripts.augment.ModalityDropout"]
    assert drop["prob"] == "@modality_dropout" and train["modality_dropout"] == 0.1


# Metadata


@pytest.mark.parametrize("bundle", NAMES)
def test_the_metadata_describes_the_network(bundle):
    metadata = json.loads((BUNDLES / bundle / "configs/metadata.json").read_text())
    train = config(bundle, "train.yaml")
    image, pred = (metadata["network_data_format"][k][n] for k, n in (("inputs", "image"), ("outputs", "pred")))
    assert metadata["name"] == bundle
    assert image["num_channels"] == train["network_def"]["in_channels"] == len(image["channel_def"])
    channels = ConfigParser(train).get_parsed_content("network_def::out_channels")
    assert pred["num_channels"] == channels
    shape = train["patch_size"] if "patch_size" in train else [train["image_size"]] * 2
    assert image["spatial_shape"] == pred["spatial_shape"] == shape


@pytest.mark.parametrize("bundle", NAMES)
def test_the_metadata_names_the_tested_versions(bundle):
    lines = (REPO / "constraints.txt").read_text().splitlines()
    tested = dict(line.lower().split("==") for line in lines if "==" in line and not line.startswith("#"))
    metadata = json.loads((BUNDLES / bundle / "configs/metadata.json").read_text())
    named = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    stated = {package: metadata[key] for package, key in named.items()} | metadata["required_packages_version"]
    assert stated == {package: tested[package] for package in stated}


# The border between autoconf and the bundles


def imported(path: Path, at_import_time: bool) -> set[str]:
    """Names of the packages that a file imports; at_import_time: leaving out those inside functions."""
    found, queue = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
        elif not (at_import_time and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            queue += ast.iter_child_nodes(node)
    return found


def test_no_bundle_needs_autoconf():
    for path in BUNDLES.rglob("*.py"):
        assert "autoconf" not in imported(path, at_import_time=False), path


def test_autoconf_needs_no_bundle_and_starts_without_torch():
    for path in (REPO / "autoconf").rglob("*.py"):
        assert not imported(path, at_import_time=False) & {"scripts", "bundles"}, path
        if path.parent.name != "doctor" or not path.name.startswith(("bundle_", "opened")):  # of a process of its own
            assert not imported(path, at_import_time=True) & {"torch", "monai", "ignite"}, path


def test_the_doctor_starts_without_torch():
    """Its modules for the bundle's own process are not among those that the command line loads."""
    names = "catalogue, checks, data, lists, processes"
    code = f"import sys; from autoconf.doctor import doctor, {names}; print({{'torch', 'monai'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
