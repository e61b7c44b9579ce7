"""Parts of a long work: done once each, by one process at a time, here or on a cluster, whatever dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from helpers_processes import wait_for

from autoconf.errors import AutoconfError
from autoconf.workers import parts as parts_module
from autoconf.workers.engine import Engine, deal, read_engine, start
from autoconf.workers.parts import LeaseLost, Part, PartFailed, Stopped, do_part, only_one
from autoconf.workers.work import do_parts

REPO = Path(__file__).parents[1]


def numbered(home: Path, count: int) -> list[Part[int]]:
    return [Part(f"part {n}", home / str(n), n) for n in range(count)]


def note(log: Path, seconds: float, part: Part[int], worker) -> dict[str, int]:
    """Writes a line at its begin and its end; stops when it is asked to."""
    with open(log, "a") as file:
        file.write(f"begin {part.task} {os.getpid()} {worker.device}\n")
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        worker.check()
        time.sleep(0.02)
    if part.task == 13:
        raise PartFailed("13 cannot be done.")
    with open(log, "a") as file:
        file.write(f"end {part.task}\n")
    return {"squared": part.task**2}


def lines(log: Path, kind: str) -> list[int]:
    text = log.read_text() if log.exists() else ""
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith(kind)]


# On this machine


def test_every_part_is_done_once_and_its_result_kept(tmp_path):
    parts, log = numbered(tmp_path, 5), tmp_path / "log"
    left = do_parts(parts, partial(note, log, 0.0), Engine(2), tmp_path)
    assert not left.failed and [part.result() for part in parts] == [{"squared": n * n} for n in range(5)]
    do_parts(parts, partial(note, log, 0.0), Engine(2), tmp_path)
    assert sorted(lines(log, "begin")) == [0, 1, 2, 3, 4]


def test_parts_wait_for_those_that_they_need_and_a_failure_blocks_what_comes_after(tmp_path):
    first, bad = Part("first", tmp_path / "first", 1), Part("bad", tmp_path / "bad", 13)
    second = Part("second", tmp_path / "second", 2, (first,))
    after_bad = Part("after bad", tmp_path / "after", 3, (bad,))
    last = Part("last", tmp_path / "last", 4, (after_bad, second))
    log = tmp_path / "log"
    left = do_parts([bad, first, second, after_bad, last], partial(note, log, 0.0), Engine(4), tmp_path)
    assert left.failed == {"bad": f"13 cannot be done (log: {tmp_path / 'bad' / 'log.txt'})"}
    assert left.blocked == ["after bad", "last"] and second.is_done
    assert log.read_text().index("end 1") < log.read_text().index("begin 2")


def test_jobs_share_the_cores(tmp_path, monkeypatch):
    """Two processes that take all cores each wait for one another."""
    monkeypatch.setattr("autoconf.workers.engine.usable_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with start(Engine(2), tmp_path):
        assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.delenv("OMP_NUM_THREADS")
    with start(Engine(2), tmp_path):
        assert os.environ["OMP_NUM_THREADS"] == "4"
    assert "OMP_NUM_THREADS" not in os.environ


def test_devices_are_dealt_to_the_jobs(tmp_path):
    do_parts(numbered(tmp_path, 2), partial(note, tmp_path / "log", 0.3), Engine(2, ("cuda:0", "cuda:1")), tmp_path)
    assert {line.split()[-1] for line in (tmp_path / "log").read_text().splitlines() if "begin" in line} == {
        "cuda:0",
        "cuda:1",
    }
    assert deal(["a", "b", "c"], ["a", "b", "a"]) == "c"


def test_when_the_time_is_up_what_runs_is_stopped_and_the_next_start_does_the_rest(tmp_path):
    parts, log = numbered(tmp_path, 3), tmp_path / "log"
    left = do_parts(parts, partial(note, log, 60.0), Engine(1), tmp_path, ends=time.time() + 0.5)
    assert left.timed_out and lines(log, "begin") == [0] and not lines(log, "end")
    assert not list(tmp_path.glob("stop-*")) and not list(tmp_path.rglob("lease"))
    do_parts(parts, partial(note, log, 0.0), Engine(1), tmp_path)
    assert lines(log, "end") == [0, 1, 2]


def test_what_a_callback_raises_ends_all_and_is_passed_on(tmp_path):
    def ended(part: Part[int], reason: str) -> None:
        raise AutoconfError("enough")

    with pytest.raises(AutoconfError, match="enough"):
        do_parts(numbered(tmp_path, 4), partial(note, tmp_path / "log", 0.1), Engine(2), tmp_path, ended=ended)
    assert len(lines(tmp_path / "log", "begin")) < 4


def test_a_damaged_result_is_one_line(tmp_path):
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(AutoconfError, match="Delete it to do this part again"):
        Part("p", tmp_path, 0).result()


# The lease


def test_a_part_that_another_has_is_waited_for_and_not_done_twice(tmp_path):
    """As when an engine takes a machine for lost that only could not be reached."""
    part, log, stop = Part("p", tmp_path / "p", 7), tmp_path / "log", tmp_path / "stop"
    first = threading.Thread(target=do_part, args=(part, partial(note, log, 1.0), stop, ""))
    first.start()
    wait_for(lambda: lines(log, "begin"))
    do_part(part, partial(note, log, 0.0), stop, "")
    first.join()
    assert lines(log, "begin") == [7] and part.result() == {"squared": 49}


def test_the_lease_of_a_process_that_was_killed_is_taken_over_at_once(tmp_path):
    part, log = Part("p", tmp_path / "p", 7), tmp_path / "log"
    code = (
        "import sys; from functools import partial; from pathlib import Path; from test_workers import note\n"
        "from autoconf.workers.parts import Part, do_part\n"
        f"do_part(Part('p', Path({str(part.folder)!r}), 7), partial(note, Path({str(log)!r}), 60.0), "
        f"Path({str(tmp_path / 'stop')!r}), '')"
    )
    other = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": f"{REPO}:{REPO}/tests"})
    wait_for(lambda: lines(log, "begin"))
    other.kill()
    other.wait()
    before = time.monotonic()
    do_part(part, partial(note, log, 0.0), tmp_path / "stop", "")
    assert part.is_done and time.monotonic() - before < 10


def test_a_lease_elsewhere_ends_when_its_heartbeat_stops_and_its_owner_writes_nothing(tmp_path, monkeypatch):
    """A suspended machine: the part goes to another process, and when it wakes up it finds that out."""
    monkeypatch.setattr(parts_module, "LEASE_SECONDS", 1.5)
    part, stop, woken = Part("p", tmp_path / "p", 7), tmp_path / "stop", threading.Event()
    raised: list[BaseException] = []

    def suspended(part: Part[int], worker) -> dict[str, int]:
        lease = part.folder / "lease"
        text = lease.read_text()
        lease.unlink()  # another took it over
        lease.write_text(text.replace(str(os.getpid()), "1"))
        woken.wait(20)
        worker.check()
        return {}

    def run() -> None:
        try:
            do_part(part, suspended, stop, "")
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(3.0)
    woken.set()
    thread.join()
    assert [type(error) for error in raised] == [LeaseLost] and not part.is_done


def test_a_stop_is_heard_also_while_waiting_for_a_lease(tmp_path):
    part, stop = Part("p", tmp_path / "p", 7), tmp_path / "stop"
    holder = threading.Thread(target=do_part, args=(part, partial(note, tmp_path / "log", 1.0), tmp_path / "no", ""))
    holder.start()
    wait_for(lambda: lines(tmp_path / "log", "begin"))
    stop.touch()
    with pytest.raises(Stopped):
        do_part(part, partial(note, tmp_path / "log", 0.0), stop, "")
    holder.join()


def test_a_folder_that_a_worker_does_not_see_is_one_line(tmp_path):
    with pytest.raises(AutoconfError, match="All machines need the same folders"):
        do_part(Part("p", tmp_path / "a" / "p", 0), partial(note, tmp_path / "log", 0.0), tmp_path / "a" / "stop", "")


def test_only_one_command_works_in_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parts_module, "LEASE_SECONDS", 1.0)
    with only_one(tmp_path), pytest.raises(AutoconfError, match="another command is at work"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass
    assert "waiting for a sign of life" in capsys.readouterr().out


# A cluster: a Dask scheduler and its workers, as processes of this machine


class Dask:
    """A scheduler on loopback and workers of one thread each, without a nanny, so that a kill is a kill."""

    def __init__(self, home: Path) -> None:
        self.home, self.processes = home, []
        self.address = f"tcp://127.0.0.1:{free_port()}"

    def start(self, *words: str) -> subprocess.Popen:
        env = {**os.environ, "PYTHONPATH": f"{REPO}:{REPO}/tests", "CUDA_VISIBLE_DEVICES": ""}
        with open(self.home / "dask.log", "ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "dask", *words], env=env, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def scheduler(self) -> subprocess.Popen:
        port = self.address.rpartition(":")[2]
        return self.start("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")

    def worker(self) -> subprocess.Popen:
        words = ("--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory", str(self.home))
        return self.start("worker", self.address, *words)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def dask(tmp_path) -> Iterator[Dask]:
    pytest.importorskip("distributed")
    (tmp_path / "dask").mkdir()
    dask = Dask(tmp_path / "dask")
    dask.scheduler()
    yield dask
    for process in dask.processes:
        process.kill()
        process.wait()


def workers_of(log: Path) -> set[str]:
    text = log.read_text() if log.exists() else ""
    return {line.split()[2] for line in text.splitlines() if line.startswith("begin")}


@pytest.mark.promise("Resume", "A killed worker of a cluster costs one part's unfinished step")
def test_two_workers_of_a_cluster_share_the_parts_and_one_that_is_killed_is_replaced(dask, tmp_path):
    parts, log = numbered(tmp_path, 6), tmp_path / "log"
    first, _ = dask.worker(), dask.worker()

    def kill() -> None:
        wait_for(lambda: len(workers_of(log)) == 2)
        first.kill()
        first.wait()  # as a nanny or a shell would: a dead process that nobody waits for still has its number

    killer = threading.Thread(target=kill)
    killer.start()
    left = do_parts(parts, partial(note, log, 1.0), Engine(cluster=dask.address), tmp_path)
    killer.join()
    assert not left.failed and all(part.is_done for part in parts)
    assert sorted(lines(log, "end")) == [0, 1, 2, 3, 4, 5] and len(lines(log, "begin")) == 7


def test_a_failure_on_a_cluster_is_one_with_its_reason(dask, tmp_path):
    dask.worker()
    left = do_parts([Part("bad", tmp_path / "bad", 13)], partial(note, tmp_path / "log", 0.0),
                    Engine(cluster=dask.address), tmp_path)  # fmt: skip
    assert left.failed == {"bad": f"13 cannot be done (log: {tmp_path / 'bad' / 'log.txt'})"}


@pytest.mark.promise("Resume", "A scheduler that dies is one line, and the same command goes on")
def test_a_killed_scheduler_is_one_line_and_the_same_command_goes_on(dask, tmp_path):
    parts, log = numbered(tmp_path, 2), tmp_path / "log"
    dask.worker()
    killer = threading.Thread(target=lambda: (wait_for(lambda: lines(log, "begin")), dask.processes[0].kill()))
    killer.start()
    with pytest.raises(AutoconfError, match="the same command goes on|The same command goes on"):
        do_parts(parts, partial(note, log, 5.0), Engine(cluster=dask.address), tmp_path)
    killer.join()
    assert not list(tmp_path.glob("stop-*"))
    dask.scheduler()
    dask.worker()
    do_parts(parts, partial(note, log, 0.0), Engine(cluster=dask.address), tmp_path)
    assert sorted(lines(log, "end"))[-2:] == [0, 1] and all(part.is_done for part in parts)


@pytest.mark.promise("Resume", "A client that dies loses nothing that its workers do")
def test_after_kill_9_of_the_client_the_next_start_waits_for_what_its_worker_still_does(dask, tmp_path):
    parts, log = numbered(tmp_path, 2), tmp_path / "log"
    dask.worker()
    code = (
        "from functools import partial; from pathlib import Path; from test_workers import note, numbered\n"
        "from autoconf.workers.engine import Engine; from autoconf.workers.work import do_parts\n"
        f"home = Path({str(tmp_path)!r})\n"
        f"do_parts(numbered(home, 2), partial(note, home / 'log', 4.0), Engine(cluster={dask.address!r}), home)"
    )
    client = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": f"{REPO}:{REPO}/tests"})
    wait_for(lambda: lines(log, "begin"))
    client.send_signal(signal.SIGKILL)
    client.wait()
    do_parts(parts, partial(note, log, 0.0), Engine(cluster=dask.address), tmp_path)
    assert sorted(lines(log, "begin")) == sorted(lines(log, "end")) == [0, 1]


def test_no_scheduler_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("autoconf.workers.engine.CONNECT_SECONDS", 1)
    with pytest.raises(AutoconfError, match="no Dask scheduler answers there"):
        do_parts(numbered(tmp_path, 1), partial(note, tmp_path / "log", 0.0), Engine(cluster="tcp://127.0.0.1:9"),
                 tmp_path)  # fmt: skip


def test_devices_of_a_cluster_are_its_own():
    with pytest.raises(AutoconfError, match="Name one, or none"):
        read_engine(1, "cuda:0,cuda:1", "tcp://127.0.0.1:1", "")
    with pytest.raises(AutoconfError, match="Leave it out"):
        read_engine(2, "", "tcp://127.0.0.1:1", "")


# Slurm: what dask-jobqueue submits, to a stand-in for sbatch that runs the script at once


@pytest.fixture
def sbatch(tmp_path, monkeypatch) -> Path:
    """`sbatch`, `squeue` and `scancel` in front on the PATH: jobs are processes of this machine."""
    pytest.importorskip("dask_jobqueue")
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "sbatch": 'job="$(dirname "$0")/$$.job"\ncp "$1" "$job"\nbash "$job" > "$job.out" 2>&1 &\n'
        'echo "Submitted batch job $!"\n',
        "scancel": 'pkill -P "$1"; kill "$1" 2> /dev/null || true\n',
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{REPO}:{REPO}/tests")
    return folder


def test_slurm_starts_workers_with_tls_and_ends_them(sbatch, tmp_path):
    parts, log = numbered(tmp_path, 3), tmp_path / "log"
    engine = read_engine(2, "", "", "queue=gpu cores=2 memory=1GB walltime=00:10:00 interface=lo")
    left = do_parts(parts, partial(note, log, 0.5), engine, tmp_path)
    assert not left.failed and sorted(lines(log, "end")) == [0, 1, 2]
    script = next(sbatch.glob("*.job")).read_text()
    assert "#SBATCH -p gpu" in script and "tls://127.0.0.1:" in script and "--tls-key" in script
    assert "--cpus-per-task=2" in script and "export OMP_NUM_THREADS=2" in script and "--nthreads 1" in script
    with contextlib.suppress(ProcessLookupError):
        for pid in workers_of(log):
            wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists())


def test_options_that_slurm_does_not_know_are_one_line(sbatch, tmp_path):
    with pytest.raises(AutoconfError, match="^--slurm: .*Check its options.$"):
        do_parts(numbered(tmp_path, 1), partial(note, tmp_path / "log", 0.0),
                 read_engine(1, "", "", "que=gpu cores=1 memory=1GB"), tmp_path)  # fmt: skip
