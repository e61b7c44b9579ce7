"""What a plan may set: the keys that the bundle's own train.yaml defines, each with a value of its kind."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from autoconf.bundle.overrides import Choice
from autoconf.bundle.rules import Rule, described, is_allowed
from autoconf.errors import AutoconfError
from autoconf.output import table

SETTINGS = "settings.yaml"  # of a bundle's configs: which values each setting may have


@dataclass(frozen=True)
class Bundle:
    """A bundle folder as far as planning needs it."""

    name: str
    configs: tuple[str, ...]  # paths of configs/train.yaml and, on top of it, one of configs/networks
    config: dict[str, Any]  # what they hold together
    channels: int  # of the network's input
    rules: Mapping[str, Rule] = field(default_factory=dict)  # of configs/settings.yaml; none of a bundle without it

    @property
    def is_3d(self) -> bool:
        return "patch_size" in self.config

    @property
    def of_runs(self) -> list[str]:
        """The settings that a command gives to each of its runs by itself."""
        return [key for key, rule in self.rules.items() if rule.get("of") == "run"]


def read_bundle(folder: str, network: str = "") -> Bundle:
    """Read configs/train.yaml, configs/metadata.json and, if one is named, configs/networks/NETWORK.yaml.

    Raises AutoconfError if the folder is no bundle or has no such network.
    """
    configs = [os.path.join(folder, "configs", "train.yaml")]
    if network:
        configs.append(_overlay(folder, network))
    try:
        config: dict[str, Any] = {}
        for path in configs:
            with open(path, encoding="utf-8") as stream:
                config |= yaml.safe_load(stream)
        with open(os.path.join(folder, "configs", "metadata.json"), encoding="utf-8") as stream:
            metadata = json.load(stream)
        rules = {}
        if os.path.exists(os.path.join(folder, "configs", SETTINGS)):
            with open(os.path.join(folder, "configs", SETTINGS), encoding="utf-8") as stream:
                rules = dict(yaml.safe_load(stream))
        channels = metadata["network_data_format"]["inputs"]["image"]["num_channels"]
    except FileNotFoundError as error:
        raise AutoconfError(
            f"{folder} is no bundle: {error.filename} is not there. Give --bundle bundles/unetr3d."
        ) from None
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise AutoconfError(f"{folder}: its configs cannot be read ({type(error).__name__}: {error}).") from None
    return Bundle(os.path.basename(os.path.abspath(folder)), tuple(configs), config, channels, rules)


def _overlay(folder: str, network: str) -> str:
    """Path of a network's config file. Raises AutoconfError with the nearest name, or all there are."""
    networks = os.path.join(folder, "configs", "networks")
    known = sorted(path.stem for path in Path(networks).glob("*.yaml"))
    if network in known:
        return os.path.join(networks, f"{network}.yaml")
    hint = _nearest(network, known) if known else "It has its own only: leave --network out."
    raise AutoconfError(f"bundle '{os.path.basename(os.path.abspath(folder))}' has no network '{network}'. {hint}")


def settings_table(bundle: Bundle) -> str:
    """Every setting but those of single runs: its value in train.yaml, if it has one, what it may be, what it is."""
    rows = []
    for name, rule in bundle.rules.items():
        if name in bundle.of_runs:
            continue
        value = bundle.config.get(name, "")
        own = "" if isinstance(value, str) and value[:1] in ("", "$", "@") else json.dumps(value)
        rows.append([name, own, described(rule), str(rule.get("help", ""))])
    return table(rows, ["setting", "value", "may be", "what it is"])


def _nearest(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"It has: {', '.join(known)}."


def check_override(bundle: Bundle, key: str, value: Any) -> None:
    """Refuse a key that the bundle does not define, or a value of another kind than its own."""
    if key not in bundle.config:
        raise AutoconfError(f"bundle '{bundle.name}' has no '{key}' to override. {_nearest(key, bundle.config)}")
    own = bundle.config[key]
    if key == "network_name" and value != own:
        raise AutoconfError(f"'{key}' only names the network. Choose it with --network {value}.")
    kinds: dict[type, Any] = {bool: bool, int: int, float: (int, float), str: str, list: list, dict: dict}
    expected = kinds.get(type(own))
    if isinstance(own, str) and own.startswith(("$", "@")) or expected is None:
        return
    if not isinstance(value, expected) or isinstance(value, bool) is not isinstance(own, bool):
        raise AutoconfError(f"'{key}' of bundle '{bundle.name}' is {own!r}; {value!r} is no value of that kind.")
    if isinstance(own, list) and len(own) != len(value):
        raise AutoconfError(f"'{key}' of bundle '{bundle.name}' has {len(own)} values; {value!r} has {len(value)}.")
    rule = bundle.rules.get(key)
    if rule and not is_allowed(rule, value):
        raise AutoconfError(f"'{key}' is {value!r}. It must be {described(rule)}.")


def check_plan(bundle: Bundle, plan: Mapping[str, Choice]) -> None:
    """The same for a plan; a path such as `network_def::dropout_rate` is left to the bundle itself."""
    for key, choice in plan.items():
        if "::" not in key:
            check_override(bundle, key, choice.value)


def parse_set(bundle: Bundle, words: tuple[str, ...]) -> dict[str, Any]:
    """`key=value` words as checked overrides; values are YAML, and 3e-4 is a number here."""
    overrides = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise AutoconfError(f"--set {word}: no value. Write --set {word}=VALUE.")
        if key.partition("::")[0] in bundle.config and "::" in key:
            raise AutoconfError(f"--set {word}: only whole keys can be set here. Write '{key}' into the plan's file.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise AutoconfError(f"--set {word}: '{text}' is no YAML. Write numbers, or lists as [1,2,3].") from None
        if isinstance(value, str) and isinstance(bundle.config.get(key), float):
            with contextlib.suppress(ValueError):  # YAML 1.1 reads 3e-4 as text
                value = float(value)
        check_override(bundle, key, value)
        overrides[key] = value
    return overrides
