"""Checks made before anything is loaded or written.

MONAI accepts a mistyped key without a word and goes on with the default. Here every key that
came from the command line or from an override file must exist in the bundle.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tempfile
from inspect import signature
from numbers import Real
from pathlib import Path
from pydoc import locate
from typing import Any

import torch
import yaml
from monai.bundle import ConfigComponent, ConfigParser

from .errors import ROOT, refuse

# Arguments of `monai.bundle run` itself, which are no keys of the config.
RUNNER_KEYS = {
    *("run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking"),
    *("args_file", "workflow_type", "properties_path", "bundle_root"),
}
# knob -> (what it must be, for the message; the test)
RULES = {
    "max_epochs": ("a whole number of at least 1", lambda v: _whole(v) and v >= 1),
    "batch_size": ("a whole number of at least 1", lambda v: _whole(v) and v >= 1),
    "accumulation_steps": ("a whole number of at least 1", lambda v: _whole(v) and v >= 1),
    "crops_per_case": ("a whole number of at least 1", lambda v: _whole(v) and v >= 1),
    "val_interval": ("a whole number of at least 1", lambda v: _whole(v) and v >= 1),
    "image_size": ("a multiple of 16, at least 32", lambda v: _whole(v) and v >= 32 and v % 16 == 0),
    "join_gap": ("a whole number of at least 0", lambda v: _whole(v) and v >= 0),
    "num_workers": ("a whole number of at least 0", lambda v: _whole(v) and v >= 0),
    "seed": ("a whole number of at least 0", lambda v: _whole(v) and v >= 0),
    "fold": ("a whole number of at least 0, or all", lambda v: v == "all" or (_whole(v) and v >= 0)),
    "learning_rate": ("a number above 0 (YAML reads 1e-4 as text: write 1.0e-4)", lambda v: _number(v) and v > 0),
    "weight_decay": ("a number of at least 0", lambda v: _number(v) and v >= 0),
    "dropout": ("a number from 0 to below 1", lambda v: _number(v) and 0 <= v < 1),
    "modality_dropout": ("a number from 0 to 1", lambda v: _number(v) and 0 <= v <= 1),
    "encoder": ("beginnings of names, such as vit,encoder", lambda v: isinstance(v, str) or _texts(v)),
    "encoder_factor": ("a number above 0", lambda v: _number(v) and 0 < v < float("inf")),
    "freeze_epochs": ("a whole number of at least 0", lambda v: _whole(v) and v >= 0),
    "masking_ratio": ("a number above 0 and below 1", lambda v: _number(v) and 0 < v < 1),
    "max_grad_norm": ("a number above 0", lambda v: _number(v) and v > 0),
    "dice_weight": ("a number from 0 to 1", lambda v: _number(v) and 0 <= v <= 1),
    "min_component_mm3": ("a number of at least 0, mm^3", lambda v: _number(v) and v >= 0),
    "overlap": ("a number from 0 to below 1", lambda v: _number(v) and 0 <= v < 1),
    "cache_rate": ("a number from 0 to 1", lambda v: _number(v) and 0 <= v <= 1),
    "parts": ("parts of the datalist, such as training,unlabelled", lambda v: isinstance(v, str) or _texts(v)),
    "patch_size": ("three multiples of 16, such as [128,128,128]", lambda v: _three(v, _sixteens)),
    "pretrained_patch_size": ("three multiples of 16, or []", lambda v: v in ([], ()) or _three(v, _sixteens)),
    "target_spacing": ("three lengths in mm above 0, such as [1.0,1.0,1.0]", lambda v: _three(v, _number)),
    "smooth_mm": ("a length in mm of at least 0", lambda v: _number(v) and v >= 0),
    "unsure": ("two numbers from 0 to 1, the smaller first, such as [0.35,0.65]", lambda v: _interval(v)),
    "augmentation_strength": ("a number from 0 to 10", lambda v: _number(v) and 0 <= v <= 10),
    "resume": ("True or False, with a capital letter", lambda v: isinstance(v, bool)),
    "ema_decay": ("a number from 0 to below 1", lambda v: _number(v) and 0 <= v < 1),
    "compile": ("True or False, with a capital letter", lambda v: isinstance(v, bool)),
    "deterministic": ("True or False, with a capital letter", lambda v: isinstance(v, bool)),
    "on_nan": ("stop or skip", lambda v: v in ("stop", "skip")),
    "amp": ("True or False, with a capital letter, or force", lambda v: isinstance(v, bool) or v == "force"),
    "normalize_nonzero": ("True or False, with a capital letter", lambda v: isinstance(v, bool)),
    "save_probability": ("True or False, with a capital letter", lambda v: isinstance(v, bool)),
    "device": ("cpu, cuda or cuda:NUMBER, and there", lambda v: _is_device(v)),
    "pretrained": ("a file that exists (weights that a training saved)", lambda v: os.path.isfile(v)),
    "checkpoint": ("a file that exists (weights saved by training)", lambda v: os.path.isfile(v)),
}
PATHS = ("datalist", "dataset_dir", "mask_dir", "output_dir", "cache_dir", "checkpoint", "pretrained")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value == value


def _texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value)


def _sixteens(value: Any) -> bool:
    return _whole(value) and value % 16 == 0


def _interval(value: Any) -> bool:
    two = isinstance(value, (list, tuple)) and len(value) == 2 and all(_number(v) for v in value)
    return two and 0 <= value[0] <= value[1] <= 1


def _three(value: Any, test) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(test(v) and v > 0 for v in value)


def _is_device(value: Any) -> bool:
    try:
        torch.empty(0, device=value)
    except (RuntimeError, TypeError, AssertionError):  # unknown; known but not there; not compiled in
        return False
    return True


def check_settings(**settings: Any) -> None:
    """Refuse what a run could not use: unknown keys, values out of range, an unwritable `output_dir`.

    settings: knob -> value, as the config resolved it; knobs without a rule are passed through.
    """
    check_keys(sys.argv)
    for knob, value in settings.items():
        if knob in PATHS and not isinstance(value, str):
            refuse(f"{knob} was read as {value!r}, not as a path. Write ./{value} or an absolute path.")
        if knob in RULES and not RULES[knob][1](value):
            refuse(f"{knob} is {value!r}. It must be {RULES[knob][0]}.")
    if "output_dir" in settings:
        check_writable(settings["output_dir"])


def check_weights(checkpoint: str, network: torch.nn.Module) -> None:
    """Refuse a checkpoint whose tensors are not those of the network, usually for want of its plan.

    checkpoint: a state dict saved by training; opened as plain tensors only.
    """
    try:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
        weights = weights.get("model", weights)
        found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    except Exception as error:  # noqa: BLE001 - pickle, zip and type errors all mean the same here
        refuse(
            f"{checkpoint} holds no weights that training saved ({type(error).__name__}). Give another --checkpoint."
        )
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if found == wanted:
        return
    name = next(name for name in (*wanted, *found) if found.get(name) != wanted.get(name))
    shapes = f"{found.get(name, 'absent')} in the file, {wanted.get(name, 'absent')} in the network"
    refuse(
        f"{checkpoint} does not fit the network ('{name}': {shapes}). Give the plan that it was trained with: "
        "--config_file \"['CONFIG','plan.yaml']\"."
    )


def check_writable(folder: str, knob: str = "output_dir") -> None:
    """Refuse an output folder in which no file can be made; leaves nothing behind. knob: what names the folder."""
    there = os.path.abspath(folder)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        refuse(f"cannot write to {knob} {folder}: {error.strerror}. Choose another with --{knob}.")


def check_keys(argv: list[str]) -> None:
    """Refuse a key on the command line, or in an override file, that the bundle does not have.

    argv: `sys.argv` of `python -m monai.bundle run ...`; anything else (MONAI Label, a test) is left alone.
    Files of the bundle's own `configs` folder, and of its `networks`, define the keys; other files may only
    override them.
    """
    if not {"run", "run_workflow"} & set(argv[1:2]):
        return
    arguments = _arguments(argv[2:])
    files = _config_files(arguments.get("config_file", ""))
    own = [file for file in files if _is_own(file)]
    if not own:  # named in an --args_file, or by position
        return
    config = ConfigParser.load_config_files(own)
    # A plan is made for training and given to inference too, which has no use for some of its keys.
    known = config
    if "train.yaml" not in {Path(file).name for file in own}:
        known = {**ConfigParser.load_config_file(ROOT / "configs" / "train.yaml"), **config}
    for file in [*files, *_args_file(arguments)]:
        if file not in own:
            for key, value in _overrides(file).items():
                if file in files or key not in RUNNER_KEYS:
                    _check_key(known, key.lstrip("+"), f" (in {file})")
                    _check_network(config, key.lstrip("+"), value, f" (in {file})")
                    _check_whole(known, key, value, file)
    for key, value in arguments.items():
        if key not in RUNNER_KEYS:
            _check_key(config, key, "")
            _check_network(config, key, value, "")


def files_on_top(argv: list[str]) -> dict[str, str]:
    """The text of each override file (a plan, say) of a command line, by the name that it was given with.

    argv: as of `check_keys`.
    """
    if not {"run", "run_workflow"} & set(argv[1:2]):
        return {}
    files = _config_files(_arguments(argv[2:]).get("config_file", ""))
    return {file: Path(file).read_text(encoding="utf-8") for file in files if not _is_own(file)}


def is_on_command_line(key: str, argv: list[str]) -> bool:
    """Whether `--KEY` is among the words of `python -m monai.bundle run ...`. argv: as of `check_keys`."""
    return bool({"run", "run_workflow"} & set(argv[1:2])) and key in _arguments(argv[2:])


def _is_own(file: str) -> bool:
    """Whether a config file lies in the bundle's own `configs` or in its `networks`."""
    return Path(file).resolve().parent in (ROOT / "configs", ROOT / "configs" / "networks")


def _arguments(words: list[str]) -> dict[str, str]:
    """Read `--key value`, `--key=value` and `-key value`, as Fire does (within a key, `-` is `_` to it)."""
    found = {}
    for word, following in zip(words, words[1:] + [""], strict=False):
        if re.match(r"--?[A-Za-z]", word):
            key, _, value = word.lstrip("-").partition("=")
            found[key.replace("-", "_")] = value or following
    return found


def _config_files(value: str) -> list[str]:
    """`a.yaml`, or a list of files written as Fire and YAML both read it."""
    files = yaml.safe_load(value) if value.startswith("[") else value
    return [str(f) for f in (files if isinstance(files, list) else [files]) if f]


def _args_file(arguments: dict[str, str]) -> list[str]:
    return [arguments["args_file"]] if "args_file" in arguments else []


def _overrides(file: str) -> dict[str, Any]:
    try:
        with open(file, encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
    except OSError as error:
        refuse(f"cannot read {file}: {error.strerror}. Check --config_file.")
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # no UTF-8, no such date; nested too deep
        refuse(f"{file} is no YAML ({' '.join(str(error).split())}). Correct it.")
    if content is not None and not isinstance(content, dict):
        refuse(f"{file} holds no `key: value` lines. An override file is plain YAML.")
    for key in content or {}:
        if not isinstance(key, str):
            refuse(f"{file} has the key {key!r:.60}, which is no name. Put it in quotes, or take it out.")
    return content or {}


def _check_whole(config: dict, key: str, value: Any, file: str) -> None:
    """Refuse a few new values for a block of settings, which would replace all the others of the block."""
    own = config.get(key)
    if isinstance(own, dict) and isinstance(value, dict) and "_target_" not in value and set(own) - set(value):
        first = next(iter(value), "KEY")
        refuse(f"'{key}' (in {file}) would lose all its other settings. Write `{key}::{first}: VALUE`.")


def _check_key(config: dict, key: str, where: str) -> None:
    """Follow `a::b::c` (or `a#b#c`) into the config; new arguments of a `_target_` are allowed."""
    at: Any = config
    for part in key.replace("#", "::").split("::"):
        if isinstance(at, dict) and part not in at and "_target_" not in at:
            names = [k for k in at if isinstance(k, str)]
            near = difflib.get_close_matches(part, names, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"It has: {', '.join(names)}."
            refuse(f"no key '{key}' to override{where}. {hint}")
        if isinstance(at, dict) and part not in at and not _takes(at, part):
            refuse(f"no key '{key}' to override{where}: {at['_target_']} has no argument '{part}'. Check its spelling.")
        at = at.get(part) if isinstance(at, dict) else None


def _check_network(config: dict, key: str, value: Any, where: str) -> None:
    """Refuse a plan for another network than the one that the bundle's own files define: its patch may not fit."""
    if key == "network_name" and value != config[key]:
        refuse(f"{key} is {value!r}{where}, but {config[key]!r} would run. Of configs/networks give {value}.yaml only.")


def _takes(component: dict, argument: str) -> bool:
    """Tell whether what a `_target_` names can be called with an argument; yes where that cannot be known."""
    if argument in ConfigComponent.non_arg_keys:
        return True
    try:
        parameters = signature(locate(ConfigComponent(dict(component)).resolve_module_name())).parameters  # type: ignore
    except (ImportError, TypeError, ValueError):
        return True
    return argument in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
