"""One run of a bundle as a process: watched, ended with all that it started, and what can be said of its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_processes import wait_for

from autoconf.bundle import runs
from autoconf.errors import AutoconfError
from autoconf.workers.parts import Stopped


def test_a_run_is_watched_and_its_last_line_is_the_reason(tmp_path):
    looks = []
    ended = runs.run(
        ["-c", "import sys, time; time.sleep(1); sys.exit('unetr3d: no key')"],
        tmp_path / "log.txt",
        lambda: looks.append(1),
    )
    assert (ended.status, ended.reason, ended.killed) == (1, "unetr3d: no key", False) and len(looks) >= 2


@pytest.mark.parametrize("said", ["torch.OutOfMemoryError: CUDA out of memory. Tried to", "x can't allocate memory: y"])
def test_out_of_memory_is_called_so(tmp_path, said):
    ended = runs.run(["-c", f"import sys; print({said!r}); sys.exit(1)"], tmp_path / "log.txt")
    assert ended.reason == "out of memory"


def test_a_killed_run_is_no_failure_of_its_own(tmp_path):
    ended = runs.run(["-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], tmp_path / "log.txt")
    assert ended.killed and "SIGKILL" in ended.reason


def test_who_is_told_of_a_kill_is_told_of_those_alone_that_something_follows(tmp_path):
    told = []
    killed = ["-c", "import os, signal; print('here', flush=True); os.kill(os.getpid(), signal.SIGKILL)"]
    ended = runs.run_again(killed, tmp_path / "log.txt", lambda: None, told.append)
    assert ended.killed and (tmp_path / "log.txt").read_text().split() == ["here"] * runs.ATTEMPTS
    assert len(told) == runs.ATTEMPTS - 1 and "SIGKILL" in told[0]


def test_a_full_disk_is_no_failure_of_the_run(tmp_path):
    with pytest.raises(AutoconfError, match="No space left on device. Free some space; the same command goes on."):
        runs.run(["-c", "raise OSError(28, 'No space left on device')"], tmp_path / "log.txt")


def test_where_a_run_has_no_room_to_say_why_it_ended_the_disk_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LEAST_ROOM", 10**18)
    with pytest.raises(AutoconfError, match="No space left on device"):
        runs.run(["-c", "import sys; sys.exit(1)"], tmp_path / "log.txt")
    assert runs.run(["-c", "pass"], tmp_path / "log.txt").ok


def test_what_the_watcher_raises_ends_the_run_and_all_that_it_started(tmp_path):
    helper = f"import os, time; open({str(tmp_path / 'helper')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {helper!r}]).wait()"

    def watch() -> None:
        if (tmp_path / "helper").exists() and (tmp_path / "helper").read_text():
            raise Stopped

    with pytest.raises(Stopped):
        runs.run(["-c", code], tmp_path / "log.txt", watch)
    wait_for(lambda: is_gone(int((tmp_path / "helper").read_text())))


def test_when_the_watcher_is_killed_its_run_ends_too(tmp_path):
    """Otherwise the next worker and the orphan would write into one folder."""
    child = "import os, time; open('child', 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"from pathlib import Path; from autoconf.bundle.runs import run; run(['-c', {child!r}], Path('log.txt'))"
    home = str(Path(runs.__file__).parents[2])
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": home})
    wait_for(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    pid = int((tmp_path / "child").read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: is_gone(pid))


def is_gone(pid: int) -> bool:
    """Or waits, dead, for somebody to read its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
