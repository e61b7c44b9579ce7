"""What MONAI's model zoo asks of a bundle before it takes one, step by step as its `ci/verify_bundle.py` does.

The bundle lies in `models/NAME`, and paths are relative, as there. Only the schema of metadata.json is not the zoo's
own, which lies behind a URL: SCHEMA holds what MONAI's specification of a bundle demands, and MONAI_SCHEMA=FILE names
the real one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers_bundles import BUNDLES, NAMES, TINY, TINY_2D, copy_bundle, read_yaml
from helpers_exports import Done, assert_done, monai_bundle
from helpers_processes import run_module
from monai.bundle import ConfigParser

WITH_SCHEMA = "MONAI checks metadata with jsonschema: pip install '.[test]'"
TEXT, OBJECT, WHOLE = {"type": "string"}, {"type": "object"}, {"type": "integer"}
TENSOR = {
    "type": {"enum": ["image", "series", "tuples", "probabilities"]},
    "format": TEXT,
    "modality": TEXT,
    "num_channels": WHOLE,
    "spatial_shape": {"type": "array", "items": {"type": ["integer", "string"]}},
    "dtype": TEXT,
    "value_range": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
    "is_patch_data": {"type": "boolean"},
    "channel_def": OBJECT,
}
TENSOR_NEEDS = [key for key in TENSOR if key != "modality"]  # which has a default
TENSORS = {"type": "object", "additionalProperties": {"type": "object", "properties": TENSOR, "required": TENSOR_NEEDS}}
NEEDED = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors")
OPTIONAL = ("intended_use", "data_source", "data_type", "image_classes", "label_classes", "pred_classes", "name")
SCHEMA = {
    "type": "object",
    "properties": {
        **dict.fromkeys((*NEEDED, *OPTIONAL, "copyright"), TEXT),
        **dict.fromkeys(("required_packages_version", "changelog", "eval_metrics", "supported_apps"), OBJECT),
        "references": {"type": "array", "items": TEXT},
        "network_data_format": {
            "type": "object",
            "properties": {"inputs": TENSORS, "outputs": TENSORS},
            "required": ["inputs", "outputs"],
        },
    },
    "required": [*NEEDED, "copyright", "required_packages_version", "network_data_format"],
}
LARGEST = 25 * 10**6  # bytes; what is larger the zoo keeps elsewhere, and large_files.yml says where
KEYS = {  # what the zoo's CONTRIBUTING.md wants to find in each config
    "inference": ["bundle_root", "device", "network_def", "inferer", "output_dir"],
    "train": [
        *("bundle_root", "device", "dataset_dir", "output_dir", "val_interval"),
        *("train::trainer", "train::trainer::max_epochs", "train::dataset", "train::dataset::data", "train::handlers"),
        *("train::preprocessing", "train::inferer", "validate::evaluator", "validate::handlers", "validate::dataset"),
        *("validate::dataset::data", "validate::preprocessing", "validate::postprocessing", "validate::inferer"),
        "validate::key_metric",
    ],
}
# README headings of the zoo's own bundles, in their order
HEADINGS = [
    "Data",
    "Preprocessing",
    "Training configuration",
    "Input",
    "Output",
    "Performance",
    "MONAI Bundle Commands",
]
HEADINGS = ["Model Overview", *HEADINGS, "References", "License"]


def metadata(bundle: str) -> dict[str, Any]:
    return json.loads((BUNDLES / bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))


# Files and keys


@pytest.mark.parametrize("bundle", NAMES)
def test_a_bundle_has_the_files_of_the_zoo(bundle):
    folder = BUNDLES / bundle
    for name in (
        "LICENSE",
        "configs/metadata.json",
        "configs/inference.yaml",
        "configs/logging.conf",
        "docs/README.md",
    ):
        assert (folder / name).is_file(), name
    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert (folder / "docs" / "data_license.txt").read_text(encoding="utf-8").strip()


@pytest.mark.parametrize("bundle", NAMES)
def test_only_weights_are_larger_than_the_zoo_takes(bundle):
    tracked = subprocess.run(["git", "ls-files", "."], cwd=BUNDLES / bundle, capture_output=True, text=True, check=True)
    large = [name for name in tracked.stdout.splitlines() if (BUNDLES / bundle / name).stat().st_size > LARGEST]
    assert tracked.stdout and set(large) <= {"models/model.pt"}


@pytest.mark.parametrize(("bundle", "name"), [(bundle, name) for bundle in NAMES for name in KEYS])
def test_a_config_has_the_keys_of_the_zoo(bundle, name):
    content = read_yaml(BUNDLES / bundle / "configs" / f"{name}.yaml")
    parser = ConfigParser(content)
    assert [key for key in KEYS[name] if key not in parser] == []
    if name == "train":
        (validation,) = (h for h in content["train"]["handlers"] if h["_target_"] == "ValidationHandler")
        assert validation["interval"] == "@val_interval"


@pytest.mark.parametrize("bundle", NAMES)
def test_the_version_stands_in_the_changelog_and_on_the_page(bundle):
    found = metadata(bundle)
    assert found["version"] in found["changelog"]
    page = (BUNDLES / bundle / "docs" / "README.md").read_text(encoding="utf-8")
    changes = page.split("## Changelog")[1]
    assert all(f"**{version}**" in changes for version in found["changelog"])


@pytest.mark.parametrize("bundle", NAMES)
def test_the_schema_refuses_what_lacks_a_field(bundle):
    """So that what passes it has passed something."""
    jsonschema = pytest.importorskip("jsonschema", reason=WITH_SCHEMA)
    whole = metadata(bundle)
    jsonschema.validate(whole, SCHEMA)
    for key in SCHEMA["required"]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({name: value for name, value in whole.items() if name != key}, SCHEMA)
    for key in TENSOR_NEEDS:
        less = metadata(bundle)
        del less["network_data_format"]["outputs"]["pred"][key]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(less, SCHEMA)


# The page


def page(bundle: str) -> str:
    return (BUNDLES / bundle / "docs" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("bundle", NAMES)
def test_the_page_follows_the_zoos_order(bundle):
    headings = re.findall(r"^#+ (.+)$", page(bundle), re.MULTILINE)
    assert [heading for heading in headings if heading in HEADINGS] == HEADINGS
    assert "Changelog" in headings and "not a medical device" in " ".join(page(bundle).split())


@pytest.mark.parametrize("bundle", NAMES)
def test_every_command_of_the_page_names_files_and_ids_that_are_there(bundle):
    commands = re.findall(r"-m monai\.bundle run (\w+) .*?--config_file (\"\[.*?\]\"|\S+)", page(bundle))
    assert {"training", "evaluating", "inferring", "exporting"} <= {name for name, _ in commands}
    for run_id, files in commands:
        own = [name for name in re.findall(r"configs/[\w/]+\.yaml", files)]
        parser = ConfigParser()
        parser.read_config([str(BUNDLES / bundle / name) for name in own])  # fails if one is not there
        assert run_id in parser, run_id


# Commands, as the zoo gives them


@dataclass(frozen=True)
class Verified:
    """A bundle in `home/models`, as the zoo has it, and what each of its commands said."""

    home: Path
    done: dict[str, Done]


def in_zoo(bundle: str, home: Path) -> Path:
    """A copy in `home/models` whose weights lie elsewhere, with a large_files.yml; the schema is there already."""
    root = copy_bundle(BUNDLES / bundle, home / "models" / bundle, "models")
    weights = home / "weights.pt"
    shutil.copyfile(BUNDLES / bundle / "models" / "model.pt", weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    entry = {"path": "models/model.pt", "url": weights.as_uri(), "hash_val": digest, "hash_type": "sha256"}
    (root / "large_files.yml").write_text(yaml.safe_dump({"large_files": [entry]}))
    (root / "eval").mkdir()
    real = os.environ.get("MONAI_SCHEMA")
    schema = Path(real).read_text(encoding="utf-8") if real else json.dumps(SCHEMA)
    (root / "eval" / "schema.json").write_text(schema, encoding="utf-8")
    return root


@pytest.fixture(scope="module", params=NAMES)
def verified(request, tmp_path_factory) -> Verified:
    home = tmp_path_factory.mktemp("zoo")
    in_zoo(request.param, home)
    root = f"models/{request.param}"
    described = ("--meta_file", f"{root}/configs/metadata.json")
    network = ("--net_id", "network_def", *described, "--config_file", f"{root}/configs/inference.yaml")
    wrong = "--_meta_#network_data_format#outputs#pred#num_channels"
    weights = ("--ckpt_file", f"{root}/models/model.pt", "--filepath", f"{root}/models/verify_model.ts")
    commands = {
        "download": ["download_large_files", "--bundle_path", root],  # 1.6.1 fails if told the file's name
        "metadata": ["verify_metadata", *described, "--filepath", f"{root}/eval/schema.json"],
        "shapes": ["verify_net_in_out", *network, "--bundle_root", root],
        "other shapes": ["verify_net_in_out", *network, "--bundle_root", root, wrong, 2],
        "torchscript": ["ckpt_export", *network, *weights, "--bundle_root", root],
    }
    return Verified(home, dict(zip(commands, monai_bundle(*commands.values(), cwd=home), strict=True)))


@pytest.mark.parametrize("step", ["download", "metadata", "shapes", "torchscript"])
def test_each_step_of_the_zoos_verification_passes(verified, step):
    if step == "metadata":
        pytest.importorskip("jsonschema", reason=WITH_SCHEMA)
    assert_done(verified.done[step])


def test_the_zoos_verification_would_find_another_shape(verified):
    assert verified.done["other shapes"].code == 1 and "doesn't match: `2`" in verified.done["other shapes"].output


def test_the_zoos_torchscript_file_can_be_loaded(verified):
    (path,) = verified.home.glob("models/*/models/verify_model.ts")
    assert torch.jit.load(path).eval() is not None


# The zoo's unit test: each config runs, and MONAI finds its properties

UNIT_TEST = """
import json, os, sys
bundle, settings, elsewhere = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
sys.argv[1:] = []
sys.path = [f"models/{bundle}", *sys.path]
from monai.bundle import create_workflow

def tried(root, kind, *names, runs):
    with_model = {"checkpoint": settings["output_dir"] + "/model.pt"} if names != ("train",) else {}
    workflow = create_workflow(
        workflow_type=kind,
        config_file=[f"{root}/configs/{name}.yaml" for name in names],
        logging_file=f"{root}/configs/logging.conf",
        meta_file=f"{root}/configs/metadata.json",
        bundle_root=root,
        **settings,
        **with_model,
    )
    print("missing:", "+".join(names), workflow.check_properties(), flush=True)
    if runs:
        workflow.run()
        workflow.finalize()

CASES = (("train", "train"), ("train", "train", "evaluate"), ("infer", "inference"))
for case in CASES:
    tried(f"models/{bundle}", *case, runs=True)
root = os.path.abspath(f"models/{bundle}")
os.chdir(elsewhere)
for case in CASES:
    tried(root, *case, runs=False)
"""
WANTED = 2 * [f"missing: {name} []" for name in ("train", "train+evaluate", "inference")]


@pytest.mark.parametrize("bundle", NAMES)
def test_each_config_runs_and_has_all_properties_from_any_working_directory(bundle, request, tmp_path):
    in_zoo(bundle, tmp_path)
    settings: dict[str, Any] = {"output_dir": str(tmp_path / "out"), "num_workers": 0, "max_epochs": 1, "device": "cpu"}
    if bundle == "unetr3d":
        volumes = request.getfixturevalue("volumes")
        settings |= {"datalist": str(volumes.datalist), "cache_dir": str(tmp_path / "cache"), "crops_per_case": 1}
        settings |= {"patch_size": [32] * 3, "target_spacing": [5.0] * 3, **TINY}
    else:
        masks = request.getfixturevalue("pseudo_labelled") / "masks"
        settings |= {"datalist": str(request.getfixturevalue("slices").datalist), "mask_dir": str(masks)}
        settings |= {"image_size": 64, **TINY_2D}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "unit_test.py").write_text(UNIT_TEST)
    done = run_module("unit_test", [bundle, json.dumps(settings), str(elsewhere)], tmp_path, {}, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line for line in done.stdout.splitlines() if line.startswith("missing:")] == WANTED, done.stderr[-3000:]
    assert (tmp_path / "out" / "model.pt").is_file() and (tmp_path / "out" / "metrics.csv").is_file()
    assert list(elsewhere.iterdir()) == []
