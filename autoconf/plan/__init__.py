"""The verb `plan`: from a data set's fingerprint and a bundle's own network to an override file."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from typing import Any

import numpy as np
import yaml

from autoconf.errors import AutoconfError
from autoconf.output import by, check_out, table, write_files
from autoconf.plan import rules
from autoconf.plan.bundle import Bundle, check_override, parse_set, read_bundle
from autoconf.plan.rules import Choice

UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
USABLE = 0.9  # of the memory: the rest is for the library's workspace and fragmentation


def plan(
    work: str,
    bundle: str,
    memory: str = "8GB",
    out: str = "plan.yaml",
    device: str = "auto",
    set: tuple[str, ...] = (),  # noqa: A002 - the flag is called --set
) -> None:
    """Choose spacing, patch and batch for the data and the memory, with reasons.

    WORK is a folder that `inspect` wrote. OUT is an override file of plain YAML for the bundle:

        python -m monai.bundle run training --config_file "['BUNDLE/configs/train.yaml','OUT']" ...

    --memory  of the device, e.g. 8GB or 24GiB
    --device  cpu, cuda, or auto: what is there. On a CPU the voxels are made coarser, until a patch that a
              CPU can train shows enough of the brain.
    --set     key=value of the bundle, which goes into the plan as it is; may be given several times
    """
    fingerprint = _read_fingerprint(work)
    to = read_bundle(bundle)
    if not to.is_3d:
        raise AutoconfError(f"bundle '{to.name}' has no patch to plan. Run it with its own defaults.")
    if fingerprint["kind"] != "volumes":
        raise AutoconfError(f"{work} holds 2D images; bundle '{to.name}' needs volumes. Inspect a folder of cases.")
    fixed = parse_set(to, set)
    budget = parse_memory(memory) * USABLE
    on = _device(device)
    check_out(os.path.dirname(os.path.abspath(out)))
    choices = choose(fingerprint, to, budget, on, fixed)
    for key, choice in choices.items():
        check_override(to, key, choice.value)
    command = ["autoconf", "plan", work, "--bundle", bundle, "--memory", memory, "--device", on]
    command += [word for s in set for word in ("--set", s)]
    write_files(os.path.dirname(os.path.abspath(out)), {os.path.basename(out): render(shlex.join(command), choices)})
    print(table([[key, _flow(c.value), c.reason] for key, c in choices.items()], ["key", "value", "reason"]))
    print(f"\nwrote  {out}")
    configs = f"\"['{os.path.join(bundle, 'configs', 'train.yaml')}','{out}']\""
    datalist = os.path.join(work, "datalist.json")
    print(f"next   python -m monai.bundle run training --config_file {configs} --datalist {datalist} --output_dir RUN")


def choose(
    fingerprint: dict[str, Any], bundle: Bundle, budget: float, device: str, fixed: dict[str, Any]
) -> dict[str, Choice]:
    """Decide each key in turn; what `fixed` holds is taken as it is and the rest follows from it.

    budget: bytes that a training step may use. device: cpu or cuda.
    """
    cases = fingerprint["cases"]
    chosen = {key: Choice(value, "set by hand") for key, value in fixed.items()}
    spacings = np.array([case["spacing"] for case in cases])
    lengths = np.array([case["brain_shape"] for case in cases]) * spacings  # mm
    if "target_spacing" not in chosen:
        chosen["target_spacing"] = _spacing(spacings, lengths, device)
    spacing = np.array(chosen["target_spacing"].value, dtype=float)
    brain = _voxels(np.median(lengths, axis=0), spacing)
    if "patch_size" not in chosen:
        chosen["patch_size"] = _patch(brain, bundle, budget, device)
    patch = tuple(chosen["patch_size"].value)  # type: ignore[arg-type]
    if "batch_size" not in chosen:
        dataset_voxels = float(np.prod(lengths / spacing, axis=1).sum())
        chosen["batch_size"] = _batch(patch, bundle, budget, device, dataset_voxels)
    if device == "cpu" and "num_workers" not in chosen:
        chosen["num_workers"] = Choice(0, "a CPU's cores are the network's: further processes would take them away")
    order = [key for key in bundle.config if key in chosen]
    return {key: chosen[key] for key in order}


def _spacing(spacings: np.ndarray, lengths: np.ndarray, device: str) -> Choice:
    finest = np.array(rules.target_spacing(spacings))
    reason = f"median of {len(spacings)} cases"
    factor = 1
    if device == "cpu":
        factor = rules.coarsening(_voxels(np.median(lengths, axis=0), finest), rules.CPU_PATCH_VOXELS)
    if factor > 1:
        share = rules.CPU_PATCH_VOXELS / math.prod(_voxels(np.median(lengths, axis=0), finest * (factor - 1)))
        finer = f"at {factor - 1} x, a patch that a CPU can train would show {share:.0%} of the brain"
        reason = f"{factor} x the {reason}: {finer}"
    return Choice([float(round(s, 4)) for s in finest * factor], reason)


def _patch(brain: rules.Vec3, bundle: Bundle, budget: float, device: str) -> Choice:
    batch = 1 if device == "cpu" else 2  # batch normalisation aside, two crops a step steady the gradient

    def need(patch: rules.Vec3) -> float:
        return _count(bundle, patch).total(batch)

    def fits(patch: rules.Vec3) -> bool:
        small = device != "cpu" or math.prod(patch) <= rules.CPU_PATCH_VOXELS
        return small and need(patch) <= budget

    patch, too_large = rules.fit_patch(brain, fits)
    share = math.prod(min(p, b) for p, b in zip(patch, brain, strict=True)) / math.prod(brain)
    reason = f"covers {share:.0%} of the median brain of {by(brain)} voxels"
    if too_large is None:
        reason += ", all that is needed"
    elif need(too_large) > budget:
        reason += f"; {by(too_large)} would need {need(too_large) / USABLE / 1e9:.1f} GB for {batch}"
    else:
        reason += f"; {by(too_large)} is more than a CPU trains in good time"
    return Choice(list(patch), reason)


def _batch(patch: rules.Vec3, bundle: Bundle, budget: float, device: str, dataset_voxels: float) -> Choice:
    step = _count(bundle, patch)
    fitting = int((budget - step.fixed) // step.per_sample)
    if fitting < 1:
        raise AutoconfError(
            f"a patch of {by(patch)} needs {step.total(1) / USABLE / 1e9:.1f} GB for one crop. "
            "Give more --memory, or a smaller patch_size."
        )
    if device == "cpu":
        return Choice(1, "a CPU computes crops one after the other: more steps are worth more than larger ones")
    choice = rules.batch_size(patch, fitting, dataset_voxels)
    gigabytes = step.total(choice.value) / 1e9  # type: ignore[arg-type]
    return Choice(choice.value, f"{choice.reason}; a step keeps {gigabytes:.1f} GB in float32, bfloat16 less")


_counted: dict[tuple, Any] = {}  # one network is built once per patch, a second each


def _count(bundle: Bundle, patch: rules.Vec3):
    from autoconf.plan.memory import count_step

    key = (bundle.train_config, patch)
    if key not in _counted:
        _counted[key] = count_step(bundle.train_config, bundle.channels, patch)
    return _counted[key]


def _voxels(lengths: np.ndarray, spacing: np.ndarray) -> rules.Vec3:
    return tuple(int(math.ceil(round(mm / s, 3))) for mm, s in zip(lengths, spacing, strict=True))  # type: ignore[return-value]


def render(command: str, choices: dict[str, Choice]) -> str:
    """An override file: the command that made it, then `key: value  # reason`, one per line."""
    lines = [f"{key}: {_flow(choice.value)}" for key, choice in choices.items()]
    width = max(len(line) for line in lines)
    body = [f"{line.ljust(width)}  # {choice.reason}" for line, choice in zip(lines, choices.values(), strict=True)]
    return "\n".join([f"# {command}", *body]) + "\n"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()
    return text.removesuffix("...").strip()


def parse_memory(text: str) -> float:
    """`8GB`, `24GiB`, `512 MB` -> bytes. Raises AutoconfError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B)\s*", text, re.IGNORECASE)
    if not match or float(match[1]) == 0:
        raise AutoconfError(f"--memory is '{text}'. Write an amount such as 8GB or 24GiB.")
    return float(match[1]) * UNITS[match[2].upper()]


def _device(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise AutoconfError(f"--device is '{device}'. It must be auto, cpu or cuda.")
    if device == "auto":
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _read_fingerprint(work: str) -> dict[str, Any]:
    path = os.path.join(work, "fingerprint.json")
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError:
        raise AutoconfError(f"{path} is not there. Make it with: autoconf inspect DATA --out {work}") from None
    except ValueError as error:
        raise AutoconfError(f"{path} is not readable JSON ({error}). Run inspect again.") from None
