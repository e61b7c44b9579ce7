"""Parts of a long work: taken by one worker, taken over from the dead, never done twice at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers_processes import wait_for

from autoconf.bundle import runs
from autoconf.errors import AutoconfError
from autoconf.workers import places
from autoconf.workers.places import Place, TakenOver


def dead_owner(place: Place, attempt: int = 1) -> None:
    """As a worker of this machine leaves it that was killed."""
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    place.folder.mkdir(parents=True, exist_ok=True)
    said = places._me() | {"pid": int(done.stdout)}
    (place.folder / f"owner-{attempt}.json").write_text(json.dumps(said))


def foreign_owner(place: Place, age: float) -> Path:
    """As a worker of another machine, whose last heartbeat was `age` seconds ago."""
    place.folder.mkdir(parents=True, exist_ok=True)
    path = place.folder / "owner-1.json"
    path.write_text(json.dumps({"machine": ["elsewhere"], "pid": 1, "began": "1"}))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_a_part_is_taken_once(tmp_path):
    place = Place(tmp_path / "000")
    claim = place.take()
    assert claim is not None and claim.attempt == 1
    assert place.is_taken() and place.take() is None


def test_of_many_threads_that_reach_for_a_dead_ones_part_one_gets_it(tmp_path):
    place = Place(tmp_path / "000")
    dead_owner(place)
    barrier, got = threading.Barrier(16), []

    def reach() -> None:
        barrier.wait()
        got.append(place.take())

    threads = [threading.Thread(target=reach) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (claim,) = [one for one in got if one is not None]
    assert claim.attempt == 2


def test_a_number_that_another_process_has_now_is_no_sign_of_life(tmp_path):
    place = Place(tmp_path / "000")
    place.folder.mkdir()
    (place.folder / "owner-1.json").write_text(json.dumps(places._me() | {"began": "1"}))
    assert not place.is_taken()


def test_who_has_died_and_waits_for_his_parent_is_dead(tmp_path):
    place = Place(tmp_path / "000")
    place.folder.mkdir()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    said = {"pid": child.pid, "began": places._began(child.pid)}
    (place.folder / "owner-1.json").write_text(json.dumps(places._me() | said))
    assert place.is_taken()
    child.kill()
    wait_for(lambda: is_gone(child.pid))
    assert not place.is_taken()
    child.wait()


def test_a_worker_elsewhere_is_dead_when_its_heartbeat_stops(tmp_path):
    place = Place(tmp_path / "000")
    foreign_owner(place, age=places.DEAD_AFTER - 60)
    assert place.take() is None
    foreign_owner(place, age=places.DEAD_AFTER + 60)
    assert place.take() is not None


def test_who_was_taken_for_dead_stops_and_writes_nothing(tmp_path):
    place = Place(tmp_path / "000")
    claim = place.take()
    place_of_another = foreign_owner(Place(tmp_path / "other"), 0)
    os.replace(place_of_another, place.folder / "owner-2.json")
    with pytest.raises(TakenOver):
        claim.beat()
    with pytest.raises(TakenOver):
        claim.finish({})
    assert not place.is_done


def test_what_is_left_can_be_taken_at_once_and_what_is_done_never(tmp_path):
    place = Place(tmp_path / "000")
    place.take().leave()
    again = place.take()
    assert again.attempt == 2
    again.finish({"dice": 0.5})
    assert place.take() is None and place.result() == {"dice": 0.5}


def test_a_damaged_result_is_one_line(tmp_path):
    place = Place(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(AutoconfError, match="Delete it"):
        place.result()


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
            raise TakenOver

    with pytest.raises(TakenOver):
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
