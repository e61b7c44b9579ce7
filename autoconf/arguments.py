"""Flags that all long work takes, checked before anything runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from autoconf.errors import AutoconfError
from autoconf.output import check_out

SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
BYTES = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def check_device(device: str) -> None:
    """Raises AutoconfError unless it is cpu, cuda, cuda:NUMBER, or empty for what is there."""
    if not re.fullmatch(r"|cpu|cuda(:\d+)?", device):
        raise AutoconfError(f"--device is '{device}'. It must be cpu, cuda or cuda:NUMBER; empty takes what is there.")


def check_own_folder(out: str, work: str, data: str) -> None:
    """Raises AutoconfError if `out` is the folder of the datalist, lies inside the data, or cannot be written."""
    if os.path.realpath(out) == os.path.realpath(work):
        raise AutoconfError(f"--out is {work} itself. Give a folder of its own, such as {os.path.join(work, 'new')}.")
    check_out(out, outside=data)


def parse_time(text: str, flag: str = "--time") -> float:
    """`2h`, `90min`, `1.5 d` -> seconds. flag: that holds it, for errors. Raises AutoconfError."""
    return _parse_amount(text, SECONDS, f"{flag} is '{text}'. Write a time such as 2h, 90min or 1.5d.")


def parse_memory(text: str) -> float:
    """`8GB`, `24GiB`, `512 MB` -> bytes. Raises AutoconfError."""
    return _parse_amount(text, BYTES, f"--memory is '{text}'. Write an amount such as 8GB or 24GiB, or auto.")


def _parse_amount(text: str, units: Mapping[str, float], refusal: str) -> float:
    match = re.fullmatch(rf"\s*(\d+(?:\.\d+)?)\s*({'|'.join(units)})\s*", text, re.IGNORECASE)
    if not match or float(match[1]) == 0:
        raise AutoconfError(refusal)
    return float(match[1]) * units[match[2].lower()]
