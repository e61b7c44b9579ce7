"""The parts of a long work, one free one after the other, shared with whoever else is at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from autoconf.workers.places import Claim, Place, TakenOver

LOOK_EVERY = 2.0  # seconds between two looks at the parts of others


class Failed(Exception):
    """Why a part cannot be done, in one line."""


class AnyPart(Protocol):
    """One part of the work. needs: those that come before it."""

    @property
    def name(self) -> str: ...
    @property
    def place(self) -> Place: ...
    @property
    def log(self) -> Path: ...
    @property
    def needs(self) -> Sequence[AnyPart]: ...
    @property
    def is_done(self) -> bool: ...
    def take(self) -> Claim | None: ...


P = TypeVar("P", bound=AnyPart)
Do = Callable[[P, Claim], dict[str, Any]]


@dataclass(frozen=True)
class Left:
    """What is not done when no part is free any more, by name.

    failed: name -> reason, with the place of the log. blocked: those that need one of these. others: those that another
    worker is at, or that wait for one.
    """

    failed: dict[str, str]
    blocked: list[str]
    others: list[str]


def in_turn(parts: Sequence[P], do: Do[P], wait: bool) -> Left:
    """Do one free part after the other. wait: until no other worker is at one.

    do: returns what came out of a part, or raises Failed. A part stands after all that it needs. One that failed since
    we began, here or elsewhere, is not tried again; one that failed before is.
    """
    old = {path for part in parts for path in part.place.failures()}
    while True:
        todo = [part for part in parts if not part.is_done]
        failed = {part.name: reason for part in todo if (reason := part.place.failure(old))}
        blocked = _blocked(todo, set(failed))
        todo = [part for part in todo if part.name not in {*failed, *blocked}]
        ready = (part for part in todo if all(need.is_done for need in part.needs))
        taken = next(((part, claim) for part in ready if (claim := part.take())), None)
        if taken:
            _do(*taken, do)
        elif not todo or not wait:
            logs = {part.name: part.log for part in parts}
            said = {name: f"{reason.rstrip('.')} (log: {logs[name]})" for name, reason in failed.items()}
            return Left(said, blocked, [part.name for part in todo])
        else:
            time.sleep(LOOK_EVERY)


def _blocked(todo: Sequence[AnyPart], failed: set[str]) -> list[str]:
    """Those that come after a failure, in their order."""
    blocked: list[str] = []
    for part in todo:
        if part.name not in failed and any(need.name in failed or need.name in blocked for need in part.needs):
            blocked.append(part.name)
    return blocked


def _do(part: P, claim: Claim, do: Do[P]) -> None:
    """One part as far as it goes; its end is a result or a failure, in its folder."""
    try:
        claim.finish(do(part, claim))
        say(part, "done")
    except Failed as error:
        claim.fail(str(error))
        say(part, f"failed: {error}")
    except TakenOver:  # we were taken for dead: a suspended machine, a disk that hung
        say(part, "taken over by another worker")
    except BaseException:
        claim.leave()
        raise


def say(part: AnyPart, what: str) -> None:
    print(f"{part.name}: {what}", flush=True)
