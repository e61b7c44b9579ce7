"""What a check is, what it finds, and how one is run. Nothing here knows what is checked."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass

PASS, FAIL, SKIPPED = "pass", "FAIL", "skipped"
MOST = 200  # letters of a reason


@dataclass(frozen=True)
class Subject:
    """What is examined. Plain data, so that it can be handed to another process."""

    scratch: str  # an empty folder that is removed afterwards
    bundle: str = ""  # folder of a bundle
    datalist: str = ""  # the user's, or that of a phantom where he has none
    work: str = ""  # the folder of the user's datalist; empty for a phantom
    plan: str = ""  # override file
    checkpoint: str = ""
    quick: bool = False


@dataclass(frozen=True)
class Check:
    """One question: what it needs to be asked, what it expects, and which function answers it."""

    group: str
    name: str
    expected: str
    where: str  # "module:function" of this package; the function takes a Subject and returns an Outcome
    needs: tuple[str, ...] = ()  # fields of Subject that must not be empty
    slow: bool = False  # left out by --quick

    @property
    def probe(self) -> bool:
        """Whether it runs in the bundle's own process."""
        return self.where.startswith("bundle_")


@dataclass(frozen=True)
class Outcome:
    """An answer. passed: None if the question does not apply; `measured` then says why."""

    measured: str
    passed: bool | None
    note: str = ""


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    group: str
    check: str
    expected: str
    measured: str
    verdict: str
    seconds: float
    note: str = ""


def ask(check: Check, subject: Subject, function: Callable[[Subject], Outcome] | None = None) -> Result:
    """Run one check. Whatever it raises, a bundle's refusal (SystemExit) included, is a FAIL and no traceback."""
    started = time.monotonic()
    try:
        module, name = check.where.split(":")
        function = function or getattr(importlib.import_module(f"autoconf.doctor.{module}"), name)
        outcome = function(subject)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a check that cannot be made has failed
        outcome = Outcome(reason_of(error), False)
    verdict = {True: PASS, False: FAIL, None: SKIPPED}[outcome.passed]
    seconds = round(time.monotonic() - started, 2)
    return Result(check.group, check.name, check.expected, outcome.measured, verdict, seconds, outcome.note)


def unanswered(check: Check, verdict: str, why: str) -> Result:
    """The row of a check that was skipped, or whose process ended before it answered."""
    return Result(check.group, check.name, check.expected, why, verdict, 0.0)


def reason_of(error: BaseException) -> str:
    """One line for what was raised: the innermost cause, because MONAI wraps each error in one of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error.code) if isinstance(error, SystemExit) else str(error)
    kind = "" if isinstance(error, SystemExit) or type(error).__name__ in text else f"{type(error).__name__}: "
    return " ".join((kind + text).split())[:MOST] or type(error).__name__
