"""Which worker does which part of a long work. All is kept as files in a folder that the workers share; no server.

A part is a folder. Who takes it makes `owner-1.json` there, a file that only one process can make, on NFS too; its time
of change is the heartbeat. A part whose owner has died is taken over by making `owner-2.json`. What is done holds
`result.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoconf.errors import AutoconfError

BEAT_EVERY = 5.0  # seconds
DEAD_AFTER = 120.0  # seconds without a heartbeat, on another machine; on this one it is known at once
RESULT = "result.json"


class TakenOver(Exception):
    """Another worker thought that this one had died, and does its part now."""


@dataclass(frozen=True)
class Place:
    """One part of the work."""

    folder: Path

    @property
    def is_done(self) -> bool:
        return (self.folder / RESULT).exists()

    def result(self) -> dict[str, Any]:
        """What `finish` wrote. Raises AutoconfError if it cannot be read."""
        try:
            return json.loads((self.folder / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise AutoconfError(
                f"{self.folder / RESULT}: cannot be read ({type(error).__name__}). Delete it to do this part again."
            ) from None

    def attempts(self) -> int:
        """How many workers have taken it so far."""
        return max((int(path.stem.partition("-")[2]) for path in self.folder.glob("owner-*.json")), default=0)

    def is_taken(self) -> bool:
        """Whether a worker that lives is at it."""
        return self._lives(self.attempts())

    def failures(self) -> list[Path]:
        """What `Claim.fail` wrote so far."""
        return list(self.folder.glob("failed-*.txt"))

    def failure(self, old: Collection[Path] = ()) -> str:
        """Why the last attempt failed; empty if it did not, if it goes on, or if its file is one of `old`."""
        path = self.folder / f"failed-{self.attempts()}.txt"
        return path.read_text(encoding="utf-8") if path not in old and path.exists() else ""

    def take(self) -> Claim | None:
        """Make it ours, unless it is done, or a worker that lives has it, or takes it in this moment."""
        before = self.attempts()
        if self.is_done or self._lives(before):
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self.folder, prefix=".owner-") as file:
            json.dump(_me(), file)
            file.flush()
            try:  # only one can give that name, and whoever reads it finds it whole
                os.link(file.name, self.folder / f"owner-{before + 1}.json")
            except FileExistsError:
                return None
        return None if self.is_done else Claim(self, before + 1)  # its last owner may have finished meanwhile

    def _lives(self, attempt: int) -> bool:
        if attempt == 0 or (self.folder / f"left-{attempt}").exists():
            return False
        return _lives(self.folder / f"owner-{attempt}.json")


@dataclass
class Claim:
    """A part that this worker has. attempt: 1 for the first worker that has it."""

    place: Place
    attempt: int
    beaten: float = 0.0

    @property
    def folder(self) -> Path:
        return self.place.folder

    def beat(self) -> None:
        """Say that we live. Call it often; it does something every few seconds. Raises TakenOver."""
        now = time.monotonic()
        if now - self.beaten < BEAT_EVERY:
            return
        self.beaten = now
        if self.place.attempts() > self.attempt:
            raise TakenOver
        os.utime(self.folder / f"owner-{self.attempt}.json")

    def leave(self) -> None:
        """Give it back unfinished: another worker, or the next start, may go on at once."""
        with contextlib.suppress(OSError):  # on a full disk it is taken for dead a little later
            (self.folder / f"left-{self.attempt}").touch()

    def fail(self, reason: str) -> None:
        """Give it back, and say why it could not be done. The next start may try again."""
        (self.folder / f"failed-{self.attempt}.txt").write_text(reason, encoding="utf-8")
        self.leave()

    def finish(self, result: dict[str, Any]) -> None:
        """Write what came out. Raises TakenOver if it is no longer ours."""
        if self.place.attempts() > self.attempt:
            raise TakenOver
        write_json(self.folder / RESULT, result)


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_first(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Write the file unless it is there, as one step; returns what it holds now of the keys of `content`.

    Raises AutoconfError for a file that does not hold them.
    """
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.stem}-", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        with contextlib.suppress(FileExistsError):
            os.link(file.name, path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {key: found[key] for key in content}
    except (ValueError, KeyError, TypeError):
        raise AutoconfError(f"{path} is damaged. Give another --out, or delete {path.parent} to begin anew.") from None


def _me() -> dict[str, Any]:
    return {"machine": _machine(), "pid": os.getpid(), "began": _began(os.getpid())}


def _machine() -> list[str]:
    """The same for two processes that can see each other, on one start of one machine."""
    found = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(path) if os.path.islink(path) else Path(path).read_text().strip())
    return found


def _began(pid: int) -> str | None:
    """When a process began, in the kernel's ticks: a number may be used again. None where that is not told.

    `dead` for one that has died and waits for its parent to read its status.
    """
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "dead" if state in "ZX" else others[18]
    except (OSError, ValueError, IndexError):
        return None


def _lives(owner: Path) -> bool:
    try:
        said = json.loads(owner.read_text(encoding="utf-8"))
        age = _now_there(owner.parent) - owner.stat().st_mtime
    except (FileNotFoundError, ValueError):  # ValueError: cut short by a full disk
        return False
    if said["machine"] != _machine():
        return age < DEAD_AFTER
    try:
        os.kill(said["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's: it lives
        pass
    began = _began(said["pid"])
    return began != "dead" and said["began"] in (None, began)


def _now_there(folder: Path) -> float:
    """The time by the clock that gives files their times, which on a shared disk may not be ours."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as file:
        return os.stat(file.name).st_mtime
