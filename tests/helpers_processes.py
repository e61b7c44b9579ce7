"""Programs in processes of their own that need not load torch and MONAI again: those are forked from one that did.

`python -m monai.bundle` takes five seconds to import what it needs, a training on a phantom one. Python's fork server
imports it once for a whole test process; each program then is a fork of it, with words, environment, folder and output
of its own. Real command lines are those of tests that kill or replace something, of `make test-long` and `make demo`.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

SERVER = multiprocessing.get_context("forkserver")
# One thread each: two programs on two cores then do not wait for each other. The server's libraries read it, once.
ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
NOTHING: Mapping[str, str] = {}


def hears_ctrl_c() -> None:
    """For `preexec_fn`: a shell that starts tests in the background lets them, and all they start, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(condition: Callable[[], object], seconds: float = 200) -> None:
    """Return as soon as something is so, say a file that another process writes; it must be so in that time."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def run_module(
    module: str, words: Sequence[str], cwd: Path | None, env: Mapping[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """`python -W ignore -m MODULE WORDS` with its exit status, stdout and stderr. env: beside this process's own."""
    with tempfile.TemporaryDirectory(prefix="program_") as home:
        files = [Path(home) / "stdout", Path(home) / "stderr"]
        process = start_module(module, words, files, cwd, env)
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired([module, *words], timeout)
        texts = [path.read_text(encoding="utf-8", errors="replace") if path.exists() else "" for path in files]
    return subprocess.CompletedProcess([module, *words], process.exitcode or 0, *texts)


def start_module(
    module: str, words: Sequence[str], files: Sequence[Path], cwd: Path | None = None, env: Mapping[str, str] = NOTHING
) -> BaseProcess:
    """That program, under way. files: what it says on stdout and on stderr is appended to them; one may be both."""
    with mock.patch.dict(os.environ, ALONE, PYTHONPATH=str(Path(__file__).parent)):
        SERVER.set_forkserver_preload(["helpers_warm"])
        forkserver.ensure_running()
    environment = {**os.environ, **ALONE, **env}
    process = SERVER.Process(target=_be, args=(module, [module, *words], str(cwd or Path.cwd()), environment, files))
    process.start()
    return process


def _be(module: str, command: list[str], cwd: str, environment: dict[str, str], files: Sequence[Path]) -> None:
    """Become that program, in the fork."""
    for number, path in enumerate(files, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    multiprocessing.set_start_method("fork", force=True)  # as in any program; the server's own way was handed down
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[0:0] = [cwd]
    sys.argv = command
    warnings.simplefilter("ignore")
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]  # which a program may have made its own
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()  # a process of multiprocessing leaves without them
