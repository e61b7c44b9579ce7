"""The verb `plan`: from a data set's fingerprint and a bundle's own network to an override file."""

from __future__ import annotations

import functools
import json
import math
import os
import shlex
from collections import Counter
from typing import Any

from autoconf.arguments import parse_time
from autoconf.bundle.overrides import Choice, as_table, read, render
from autoconf.bundle.runs import listed
from autoconf.bundle.settings import Bundle, check_override, parse_set, read_bundle
from autoconf.data.datalist import NAME, Datalist, check_kind, read_datalist
from autoconf.errors import AutoconfError
from autoconf.output import check_out_file, write_files
from autoconf.plan.choose import Cases, Limit, choose, task
from autoconf.plan.images import choose_2d
from autoconf.plan.machine import Machine, measure_speed, read_machine


def plan(
    work: str,
    bundle: str = "",
    network: str = "",
    memory: str = "auto",
    time: str = "",
    out: str = "plan.yaml",
    device: str = "auto",
    set: tuple[str, ...] = (),  # noqa: A002 - the flag is called --set
    show: bool = False,
) -> None:
    """Choose spacing, patch, batch and schedule for the data, the memory and the time, with reasons.

    WORK is a folder that `inspect` wrote. OUT is an override file of plain YAML for the bundle:

        python -m monai.bundle run training --config_file "['BUNDLE/configs/train.yaml','OUT']" ...

    --network  one of BUNDLE/configs/networks, such as segresnet; empty: the bundle's own
    --memory   of the device, e.g. 8GB or 24GiB; auto: what is there (on a CPU: the free main memory)
    --time     to train in, e.g. 2h or 90min; a training step of the planned patch is measured on the device for it
    --device   cpu, cuda, or auto: what is there. On a CPU the voxels are made coarser, until a patch that a
               CPU can train shows enough of the brain.
    --set      key=value of the bundle, which goes into the plan as it is; may be given several times
    --show     print the plan whose file is given as WORK: each value with its reason and what was rejected
    """
    if show:
        show_plan(work)
        return
    if not bundle:
        raise AutoconfError("plan needs --bundle, such as bundles/unetr3d.")
    fingerprint = _read_fingerprint(work)
    to = read_bundle(bundle, network)
    check_kind(work, fingerprint["kind"], to.name, to.is_3d)
    fixed = parse_set(to, set)
    seconds = parse_time(time) if time else None
    machine = read_machine(device, memory)
    check_out_file(out, "plan.yaml")
    fold = fixed.get("fold", to.config.get("fold", 0))
    cases = count_cases(read_datalist(os.path.join(work, NAME)), fold)
    choices = decide(fingerprint, to, machine, cases, fixed, seconds)
    for key, choice in choices.items():
        check_override(to, key, choice.value)
    flags = {"network": network, "memory": memory, "time": time, "device": machine.device}
    command = ["autoconf", "plan", work, "--bundle", bundle]
    command += [word for flag, value in flags.items() if value for word in (f"--{flag}", value)]
    command += [word for s in set for word in ("--set", s)]
    text = render([shlex.join(command), f"for {machine}"], choices)
    write_files(os.path.dirname(os.path.abspath(out)), {os.path.basename(out): text})
    print(as_table(choices))
    print(f"\nwrote  {out}\nnext   {_next(to, work, out)}")


def show_plan(path: str) -> None:
    """Print each key of an override file with its value, its reason and what was rejected. Raises AutoconfError."""
    heading, choices = read(path)
    print("\n".join([*heading, "", as_table(choices)]) if heading else as_table(choices))


def decide(
    fingerprint: dict[str, Any],
    bundle: Bundle,
    machine: Machine,
    cases: Cases,
    fixed: dict[str, Any],
    seconds: float | None = None,
) -> dict[str, Choice]:
    """All choices for a data set. seconds: to train in, if limited."""
    if not bundle.is_3d:
        if seconds is not None:
            raise AutoconfError(f"bundle '{bundle.name}' is not planned for a time. Leave --time out.")
        return choose_2d(fingerprint, bundle, machine, cases.both, fixed)
    limit = None
    if seconds is not None:
        amp = fixed.get("amp", bundle.config.get("amp", False))
        limit = Limit(seconds, functools.cache(lambda patch: measure_speed(bundle, patch, machine.device, amp)))
    return choose(task(fingerprint, bundle, machine, cases, limit), fixed)


def _read_fingerprint(work: str) -> dict[str, Any]:
    """Raises AutoconfError for one that was changed by hand, or cut short, before its numbers are computed with."""
    path = os.path.join(work, "fingerprint.json")
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
        missing = [key for key in ("kind", "cases") if key not in content]
        if missing or not isinstance(content, dict):
            raise ValueError(f"it has no {', '.join(missing)}")
        _check_fingerprint(content)
    except FileNotFoundError:
        raise AutoconfError(f"{path} is not there. Make it with: autoconf inspect DATA --out {work}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AutoconfError(f"{path} is not what inspect writes ({error}). Run it again.") from None
    return content


def _check_fingerprint(fingerprint: dict[str, Any]) -> None:
    """Raises KeyError, TypeError, ValueError or AttributeError for what inspect does not write."""
    if "contrasts" in fingerprint:
        raise ValueError("its key `contrasts` is called `modalities` now")
    if fingerprint["kind"] == "images":
        lists = [fingerprint["median_size"], [fingerprint["n_images"]]]
    elif fingerprint["kind"] == "volumes":
        lists = [row[key] for row in fingerprint["cases"] for key in ("brain_shape", "spacing")]
        lists += [row["shape"] for row in fingerprint["cases"] if row.get("shape")]
        modalities = [isinstance(modality, str) for modality in fingerprint.get("modalities", {})]
        if {len(numbers) for numbers in lists} != {3} or not all(modalities):
            raise ValueError("its cases have not three axes")
    else:
        raise ValueError("its kind is neither volumes nor images")
    if not all(0 < float(number) < math.inf for numbers in lists for number in numbers):
        raise ValueError("a size or spacing is not above 0")


def count_cases(datalist: Datalist, fold: int) -> Cases:
    """The cases of the training list when `fold` validates, and how many lack each modality."""
    learning = len(datalist.learning(fold))
    if not learning:
        raise AutoconfError(
            f"{NAME} has no training case outside fold {fold}, so there is nothing to plan for. "
            "Add masks and inspect again, or choose another fold with --set fold=N."
        )
    missing = Counter(
        modality
        for case in datalist.training
        for modality in datalist.modalities
        if datalist.file_of(case, modality) is None
    )
    return Cases(learning, len(datalist.validating(fold)), dict(missing))


def _next(bundle: Bundle, work: str, out: str) -> str:
    configs = listed([*bundle.configs, out])
    masks = "" if bundle.is_3d else " --mask_dir MASKS"
    datalist = shlex.quote(os.path.join(work, "datalist.json"))
    return f"python -m monai.bundle run training --config_file {configs} --datalist {datalist}{masks} --output_dir RUN"
