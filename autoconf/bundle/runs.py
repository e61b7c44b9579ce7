"""One run of a bundle as a process of its own, watched while it runs, and what can be said of its end."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoconf.errors import AutoconfError

LOOK_EVERY = 0.5  # seconds
TAIL = 20_000  # bytes of a log that are looked at for a reason
PATIENCE = 10.0  # seconds between asking a process to end and ending it
ATTEMPTS = 3  # of a run that is killed: perhaps it needs more memory than there is
FULL_DISK = "No space left on device"
LEAST_ROOM = 64_000  # bytes; with less a process cannot even say why it ended
OUT_OF_MEMORY = ("out of memory", "OutOfMemoryError", "can't allocate memory", "MemoryError", "Cannot allocate memory")
# Linux ends the process if whoever started it dies, even by kill -9: no orphan goes on writing beside its successor.
LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(sys.argv[1]):
        sys.exit("whoever started this has gone")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
BIG_FILES = ("resume.pt", "resume_previous.pt", "model.pt", "model_final.pt")  # what a training keeps


@dataclass(frozen=True)
class Ended:
    """How a run ended. reason: one line, empty for a success. killed: by a signal that we did not send."""

    status: int
    reason: str = ""
    killed: bool = False

    @property
    def ok(self) -> bool:
        return self.status == 0


def bundle_command(run_id: str, configs: Sequence[str | Path], values: Mapping[str, object]) -> list[str]:
    """`-m monai.bundle run RUN_ID --config_file ... --key value`, without the interpreter in front."""
    files = [str(path) for path in configs]
    one_or_list = files[0] if len(files) == 1 else str(files)
    words = [word for key, value in values.items() for word in (f"--{key}", str(value))]
    return ["-W", "ignore", "-m", "monai.bundle", "run", run_id, "--config_file", one_or_list, *words]


def listed(configs: Sequence[str | Path]) -> str:
    """The files after `--config_file`, as a person types them in a shell."""
    # in double quotes, which read more easily than what shlex.quote makes of the inner ones
    inner = "[" + ",".join(repr(str(path)) for path in configs) + "]"
    return '"' + re.sub(r'([\\"$`])', r"\\\1", inner) + '"'


def start(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen:
    """Start python with these words; its output goes to the end of `log`, and it dies with this process."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as out:
        return subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,  # a ctrl-C reaches us alone, and we end it in order
        )


def run(command: Sequence[str], log: Path, watch: Callable[[], None] = lambda: None) -> Ended:
    """Start that and wait for its end. watch: called twice a second.

    What `watch` raises ends the run (its whole process group) and is passed on; so does a KeyboardInterrupt.
    Raises AutoconfError if the run failed for a full disk: that is no fault of it, and it goes on when there is room.
    """
    before = log.stat().st_size if log.exists() else 0
    process = start(command, log)
    try:
        while process.poll() is None:
            watch()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_EVERY)
        watch()
    finally:
        end(process)
    ended = Ended(process.returncode, *_why(process.returncode, log, before))
    if not ended.ok and (FULL_DISK in ended.reason or shutil.disk_usage(log.parent).free < LEAST_ROOM):
        raise AutoconfError(f"{log.parent}: {FULL_DISK}. Free some space; the same command goes on.")
    return ended


def run_again(
    command: Sequence[str], log: Path, watch: Callable[[], None], again: Callable[[str], None] = lambda reason: None
) -> Ended:
    """`run`, and again after a kill, from the last epoch on, ATTEMPTS times in all. again: told why, before each."""
    ended = run(command, log, watch)
    for _ in range(ATTEMPTS - 1):
        if not ended.killed:
            break
        again(ended.reason)
        ended = run(command, log, watch)
    return ended


def end(process: subprocess.Popen) -> None:
    """Ask a process group to end, then end it."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        ends = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < ends:
            time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):  # also what it left behind: the workers of a data loader
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _why(status: int, log: Path, before: int) -> tuple[str, bool]:
    """The reason of an end, and whether a signal caused it."""
    if status == 0:
        return "", False
    with open(log, "rb") as file:
        file.seek(max(before, os.path.getsize(log) - TAIL))
        text = file.read().decode(errors="replace")
    if any(sign in text for sign in OUT_OF_MEMORY):
        return "out of memory", False
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}{': perhaps out of main memory' if -status == signal.SIGKILL else ''}", True
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1][:300] if lines else f"ended with status {status}"), False


def drop_weights(run_folder: Path, but: str = "") -> None:
    """Take away what is large of a run that is over, except for the file `but`."""
    for name in BIG_FILES:
        if name != but:
            (run_folder / name).unlink(missing_ok=True)
