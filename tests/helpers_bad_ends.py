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
from pathlib import Path
from typing import Any

import pytest
from helpers_bad_inputs import Promise

from autoconf.__main__ import main

MAPPED = 3 << 30  # bytes of addresses that may be asked for beyond those before, used or not
SECONDS = 30
NOBODY = 65534


def command(*words: str, as_user: bool = False) -> tuple[int, str, int, str]:
    """Exit status, stderr, memory, stdout of `python -m autoconf WORDS`; what would be a traceback is raised."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), bounded() as memory, rights(as_user):
        status = main(list(words))
    return status, err.getvalue().strip(), memory(), out.getvalue()


def bundle_says(run: Callable[[], Any], as_user: bool = False) -> tuple[int, str, int]:
    """Exit status, the bundle's own lines on stderr, memory. It refuses by SystemExit, whose text Python prints."""
    status, err = 0, io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err), bounded() as memory:
        try:
            with rights(as_user):
                run()
        except SystemExit as stopped:
            status = 1
            err.write(str(stopped.code))
    said = [line for line in err.getvalue().splitlines() if line.startswith(("unetr3d: ", "pseudo2d: "))]
    return status, "\n".join(said), memory()


def assert_one_line(status: int, line: str, promise: Promise) -> None:
    """One line of two sentences: what is wrong, and what to do."""
    assert status == 1, f"exit status {status}: {line}"
    assert "\n" not in line and line.startswith(("autoconf: ", "unetr3d: ", "pseudo2d: ")), line
    assert promise.said in line, f"{promise.said!r} not in: {line}"
    assert line.endswith((".", "?")) and re.search(r"[.?:] [A-Z-]|: [a-z]", line), line


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


def shortened(line: str, tmp: Path, case: str) -> str:
    """The line without the program's name, and with paths as a reader knows them."""
    line = re.sub(r"^(autoconf|unetr3d|pseudo2d): ", "", line)
    return line.replace(str(tmp / "data"), "DATA").replace(f"{tmp}/", "").replace(case, "CASE")
