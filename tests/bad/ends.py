"""How a program ends when it is run in this process: exit status, what is said, and what it took."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bad.row import End

PROGRAMS = ("autoconf: ", "unetr3d: ", "pseudo2d: ")
MAPPED = 3 << 30  # bytes of addresses that may be asked for beyond those before, used or not
SECONDS = 30
NOBODY = 65534


@dataclass(frozen=True)
class Ran:
    """line: what it said on stderr. resident: bytes at the peak beyond before."""

    status: int
    line: str
    shown: str
    resident: int


def ran(call: Callable[[], Any], as_user: bool = False) -> Ran:
    """Run autoconf's `main`, which returns its exit status, or a part of a bundle, which refuses by SystemExit.

    What would be a traceback is raised.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), bounded() as memory:
        try:
            with rights(as_user):
                answer = call()
            status = answer if isinstance(answer, int) else 0
        except SystemExit as stopped:
            status = 1
            err.write(str(stopped.code))
    return Ran(status, err.getvalue().strip(), out.getvalue(), memory())


def of_bundle(said: Ran) -> Ran:
    """That, but of stderr only the bundle's own lines."""
    lines = [line for line in said.line.splitlines() if line.startswith(PROGRAMS[1:])]
    return replace(said, line="\n".join(lines))


def assert_one_line(status: int, line: str, end: End) -> None:
    """One line of two sentences: what is wrong, and what to do, which may be a command."""
    assert status == 1, f"exit status {status}: {line}"
    assert "\n" not in line and line.startswith(PROGRAMS), line
    assert end.said and end.said in line, f"{end.said!r} not in: {line}"
    assert line.endswith((".", "?")) or "Make it with: " in line, line
    assert re.search(r"[.?:;] [A-Z`[-]|[:;] [a-z]", line), line


@contextlib.contextmanager
def bounded() -> Iterator[Callable[[], int]]:
    """Inside, memory and time have a limit; gives a function that says what was taken at the peak (0 but on Linux)."""

    def hang(*_: object) -> None:
        raise TimeoutError(f"not done in {SECONDS} s")

    before, limits = _memory("VmRSS"), resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    old = signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    if before:
        resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + MAPPED, limits[1]))
    peak = before
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # it would be one more line on the screen
            yield lambda: peak - before
    finally:
        peak = _memory("VmHWM")
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def _memory(name: str) -> int:
    """Bytes, as the kernel counts them."""
    with contextlib.suppress(OSError):
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) << 10 if found else 0
    return 0


@contextlib.contextmanager
def rights(as_user: bool) -> Iterator[None]:
    """Inside, if that is asked for and we are root, we are nobody: root may read whatever it likes."""
    if not as_user or os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except OSError as error:
        pytest.skip(f"root cannot become a user here: {error.strerror}")
    try:
        yield
    finally:
        os.seteuid(0)
