"""The errors that a user of autoconf should ever see."""

from __future__ import annotations


class AutoconfError(Exception):
    """Bad input. The message is one line: what was found, where, and what to do.

    `python -m autoconf` prints it to stderr as `autoconf: <message>` and exits with status 1.
    """


class DataError(AutoconfError):
    """One file of a data set that cannot be used; `inspect` leaves its case out and goes on.

    kind: a key of `autoconf.data.problems.KINDS`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[DataError], tuple[str, str]]:  # so that it comes back whole from a process
        return type(self), (self.kind, str(self))
