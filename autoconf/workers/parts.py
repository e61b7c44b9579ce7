"""One part of a long work: a folder that keeps what it left, worked on by one process at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import SoftFileLease, Timeout

from autoconf.bundle.runs import bundle_command, run_again
from autoconf.errors import AutoconfError
from autoconf.output import write_json

RESULT, LEASE = "result.json", "lease"
LEASE_SECONDS = 120.0  # without a sign of life, on another machine; a process that died on this one is known at once
T = TypeVar("T")


class PartFailed(Exception):
    """Why a part cannot be done, in one line."""


class Stopped(Exception):
    """The work was asked to stop; what is under way is resumed by the next start."""


class LeaseLost(Exception):
    """Another process took this one for dead, after a suspended machine say, and works on its part now."""


@dataclass(frozen=True)
class Part(Generic[T]):
    """One part. name: in messages. task: what `do` needs to know of it. needs: the parts that come before it."""

    name: str
    folder: Path
    task: T
    needs: tuple[Part[T], ...] = ()

    @property
    def is_done(self) -> bool:
        return (self.folder / RESULT).exists()

    @property
    def is_leased(self) -> bool:
        """Whether a process works on it, or died doing so."""
        return (self.folder / LEASE).exists()

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def run(self) -> Path:
        """Where its training run writes."""
        return self.folder / "run"

    @property
    def weights(self) -> Path:
        """Of the last epoch: the best one was chosen on cases that are scored (docs/decisions/0015)."""
        return self.run / "model_final.pt"

    def result(self) -> dict[str, Any]:
        """What it left when it was done. Raises AutoconfError if that cannot be read."""
        path = self.folder / RESULT
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise AutoconfError(
                f"{path}: cannot be read ({type(error).__name__}). Delete it to do this part again."
            ) from None


@dataclass(frozen=True)
class Worker:
    """What a part is done with. device: empty: the bundle's own choice. check: raises Stopped or LeaseLost."""

    device: str
    check: Callable[[], None]

    @property
    def on_device(self) -> dict[str, object]:
        """What a run is told of its device."""
        return {"device": self.device} if self.device else {}

    def run(
        self,
        part: Part[Any],
        run_id: str,
        configs: Sequence[str | Path],
        values: Mapping[str, object],
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        """One run of the bundle for a part, from its last epoch on after a kill; its output goes to the part's log.

        watch: called twice a second. Raises PartFailed, AutoconfError for a full disk, and what `check` and `watch`
        raise, which end the run.
        """

        def look() -> None:
            self.check()
            watch()

        def again(reason: str) -> None:
            print(f"{part.name}: {reason}; going on from its last epoch", flush=True)

        ended = run_again(bundle_command(run_id, configs, values), part.log, look, again)
        if not ended.ok:
            raise PartFailed(ended.reason)


Do = Callable[[Part[T], Worker], dict[str, Any]]


def do_part(part: Part[T], do: Do[T], stop: Path, device: str) -> None:
    """Do a part unless it is done, and write its result; in a thread of this process, or wherever an engine runs it.

    stop: the file that asks to stop, in the folder of the whole work. An engine that loses touch with a machine may
    run a part twice: then the second process waits for the first one, or for its lease to end.
    """
    if not stop.parent.is_dir():
        raise AutoconfError(f"{stop.parent} is not there for a worker. All machines need the same folders.")
    with _lease(part.folder, stop) as check:
        if not part.is_done:
            result = do(part, Worker(device, check))
            check()
            write_json(part.folder / RESULT, result)


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Work in a folder alone. Raises AutoconfError if another command does."""
    home.mkdir(parents=True, exist_ok=True)
    lease = SoftFileLease(home / LEASE, lease_duration=LEASE_SECONDS, thread_local=False)
    try:
        lease.acquire(timeout=0)
    except Timeout:
        print(f"another command may be at work in {home}; waiting for a sign of life", flush=True)
        try:
            lease.acquire(timeout=1.25 * LEASE_SECONDS, poll_interval=1.0)
        except Timeout:
            raise AutoconfError(
                f"another command is at work in {home}. Wait for its end, or give --out another folder."
            ) from None
    try:
        yield
    finally:
        lease.release()


@contextmanager
def _lease(folder: Path, stop: Path) -> Iterator[Callable[[], None]]:
    folder.mkdir(parents=True, exist_ok=True)
    lease = SoftFileLease(folder / LEASE, lease_duration=LEASE_SECONDS, thread_local=False)

    def check() -> None:
        if stop.exists():
            raise Stopped
        if lease.compromise:
            raise LeaseLost

    try:
        lease.acquire(poll_interval=0.5, cancel_check=stop.exists)
    except Timeout:
        raise Stopped from None
    try:
        yield check
    finally:
        lease.release()
