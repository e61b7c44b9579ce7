"""Flags that all long work takes, checked before anything runs."""

from __future__ import annotations

import os
import re

from autoconf.errors import AutoconfError
from autoconf.output import check_out

SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}


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
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|d)\s*", text, re.IGNORECASE)
    if not match or float(match[1]) == 0:
        raise AutoconfError(f"{flag} is '{text}'. Write a time such as 2h, 90min or 1.5d.")
    return float(match[1]) * SECONDS[match[2].lower()]
