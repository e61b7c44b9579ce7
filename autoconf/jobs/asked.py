"""Flags that all long work takes, checked before anything runs."""

from __future__ import annotations

import os
import re

from autoconf.errors import AutoconfError
from autoconf.output import check_out


def check_device(device: str) -> None:
    """Raises AutoconfError unless it is cpu, cuda, cuda:NUMBER, or empty for what is there."""
    if not re.fullmatch(r"|cpu|cuda(:\d+)?", device):
        raise AutoconfError(f"--device is '{device}'. It must be cpu, cuda or cuda:NUMBER; empty takes what is there.")


def check_own_folder(out: str, work: str, data: str) -> None:
    """Raises AutoconfError if `out` is the folder of the datalist, lies inside the data, or cannot be written."""
    if os.path.realpath(out) == os.path.realpath(work):
        raise AutoconfError(f"--out is {work} itself. Give a folder of its own, such as {os.path.join(work, 'new')}.")
    check_out(out, outside=data)
