"""All parts of a long work, each when those that it needs are done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from autoconf.bundle.tables import EpochLines
from autoconf.errors import AutoconfError
from autoconf.workers.engine import AGAIN, Engine, Running, deal, start
from autoconf.workers.parts import Do, LeaseLost, Part, PartFailed, do_part

LOOK_SECONDS = 1.0
STOP_SECONDS = 30.0  # for runs that were asked to stop; they get ten seconds themselves before they are killed
WAITING_SECONDS = 30.0  # between two lines that say that no worker is there
T = TypeVar("T")


@dataclass
class Unfinished:
    """failed: name -> reason, with the path of the log. blocked: parts that need one of these."""

    failed: dict[str, str] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)
    timed_out: bool = False


def do_parts(
    parts: Sequence[Part[T]],
    do: Do[T],
    engine: Engine,
    home: Path,
    ends: float | None = None,
    ended: Callable[[Part[T], str], None] | None = None,
) -> Unfinished:
    """Do all parts that are not done, as many at once as the engine has room for, in their order.

    do: returns the result of a part, or raises PartFailed; it goes by pickle to the workers of a cluster. home: the
    folder of the work, which all workers see. ends: time.time() at which to stop. ended: called here after each
    part, with the reason if it failed.
    Raises AutoconfError, KeyboardInterrupt and what `do` and `ended` raise, once all that runs has ended; what is under
    way then is resumed by the next start.
    """
    home.mkdir(parents=True, exist_ok=True)
    work = _Work(parts, do, engine, home / f"stop-{os.getpid()}-{time.time_ns():x}", ended)
    if not work.todo():
        return work.left
    with start(engine, home) as running:
        try:
            work.go_on(running, ends)
        except BaseException:
            work.stop()
            raise
    return work.left


@dataclass
class _Work:
    parts: Sequence[Part[Any]]
    do: Do[Any]
    engine: Engine
    stop_file: Path
    ended: Callable[[Part[Any], str], None] | None
    pending: dict[Future[None], tuple[Part[Any], str]] = field(default_factory=dict)  # with their devices
    left: Unfinished = field(default_factory=Unfinished)

    def todo(self) -> list[Part[Any]]:
        """Parts that are neither done nor under way nor failed, nor need one that failed."""
        current = {part.name for part, _ in self.pending.values()}
        return [
            part
            for part in self.parts
            if not part.is_done and part.name not in {*current, *self.left.failed, *self.left.blocked}
        ]

    def go_on(self, running: Running, ends: float | None) -> None:
        lines = {part.name: EpochLines(part.name, part.run / "progress.csv") for part in self.parts}
        said = time.monotonic()
        while self.pending or self.todo():
            if ends is not None and time.time() > ends:
                self.left.timed_out = True
                self.stop()
                return
            slots = running.slots()
            if not slots and time.monotonic() - said > WAITING_SECONDS:
                said = time.monotonic()
                print("no worker is there yet; waiting for one", flush=True)
            self._submit(running, slots)
            for future in wait(self.pending, LOOK_SECONDS, FIRST_COMPLETED).done:
                self._settle(future)
            for part, _ in self.pending.values():
                lines[part.name].look()
            if not slots:
                time.sleep(LOOK_SECONDS)

    def _submit(self, running: Running, slots: int) -> None:
        ready = (part for part in self.todo() if all(need.is_done for need in part.needs))
        for part in list(ready)[: max(0, slots - len(self.pending))]:
            device = deal(self.engine.devices, [device for _, device in self.pending.values()])
            future = running.executor.submit(do_part, part, self.do, self.stop_file, device)
            self.pending[future] = part, device

    def _settle(self, future: Future[None]) -> None:
        """Take the end of a part. Raises what ends the whole work."""
        part, _ = self.pending.pop(future)
        try:
            future.result()
        except PartFailed as error:
            self._fail(part, str(error))
        except LeaseLost:
            print(f"{part.name}: taken over by another process", flush=True)
        except CancelledError:
            raise AutoconfError(f"{part.name}: its Dask scheduler has gone. {AGAIN}") from None
        except Exception as error:
            if type(error).__name__ != "KilledWorker":  # of distributed, which this module does not import
                raise
            self._fail(part, "its worker died each time it was tried")
        else:
            self._tell(part, "")

    def _fail(self, part: Part[Any], reason: str) -> None:
        self.left.failed[part.name] = f"{reason.rstrip('.')} (log: {part.log})"
        stuck = {*self.left.failed, *self.left.blocked}
        for later in self.parts:  # each stands after those that it needs
            if not later.is_done and any(need.name in stuck for need in later.needs):
                stuck.add(later.name)
                self.left.blocked.append(later.name)
        self._tell(part, reason)

    def _tell(self, part: Part[Any], reason: str) -> None:
        if self.ended:
            self.ended(part, reason)
        else:
            print(f"{part.name}: {f'failed: {reason}' if reason else 'done'}", flush=True)

    def stop(self) -> None:
        """Ask all that runs to stop, and wait for it; a scheduler that has gone cannot say what still runs."""
        self.stop_file.touch()
        ends = time.monotonic() + STOP_SECONDS
        try:
            for future in self.pending:
                future.cancel()
            while any(part.is_leased for part in self.parts) and time.monotonic() < ends:
                time.sleep(LOOK_SECONDS / 10)
        finally:
            self.stop_file.unlink(missing_ok=True)
