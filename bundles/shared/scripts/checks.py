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
from pathlib import Path
from pydoc import locate
from typing import Any

import torch
import yaml
from monai.bundle import ConfigComponent, ConfigParser

from .errors import ROOT, refuse
from .rules import described, is_allowed

# Arguments of `monai.bundle run` itself, which are no keys of the config.
RUNNER_KEYS = {
    *("run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking"),
    *("args_file", "workflow_type", "properties_path", "bundle_root"),
}
SETTINGS: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "settings.yaml").read_text(encoding="utf-8"))


def _is_device(value: Any) -> bool:
    try:
        torch.empty(0, device=value)
    except (RuntimeError, TypeError, AssertionError):  # unknown; known but not there; not compiled in
        return False
    return True


def check_settings(**settings: Any) -> None:
    """Refuse what a run could not use: unknown keys, values out of range, an unwritable `output_dir`.

    settings: name -> value, as the config resolved it; those that settings.yaml does not list are passed through.
    """
    check_keys(sys.argv)
    for name, value in settings.items():
        if name in SETTINGS:
            _check_setting(name, value, SETTINGS[name])
    if "output_dir" in settings:
        check_writable(settings["output_dir"])


def _check_setting(name: str, value: Any, rule: dict[str, Any]) -> None:
    if rule["kind"] in ("path", "file") and not isinstance(value, str):
        refuse(f"{name} was read as {value!r}, not as a path. Write ./{value} or an absolute path.")
    if rule["kind"] == "file" and not os.path.isfile(value):
        refuse(f"{name} is {value!r}. It must be a file that exists ({rule['note']}).")
    if rule["kind"] == "device" and not _is_device(value):
        refuse(f"{name} is {value!r}. It must be cpu, cuda or cuda:NUMBER, and there.")
    if not is_allowed(rule, value):
        refuse(f"{name} is {value!r}. It must be {described(rule)}.")


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


def check_writable(folder: str, flag: str = "output_dir") -> None:
    """Refuse an output folder in which no file can be made; leaves nothing behind. flag: that names the folder."""
    there = os.path.abspath(folder)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        refuse(f"cannot write to {flag} {folder}: {error.strerror}. Choose another with --{flag}.")


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
