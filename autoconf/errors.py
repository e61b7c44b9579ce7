"""The errors that a user of autoconf should ever see."""


class AutoconfError(Exception):
    """Bad input. The message is one line: what was found, where, and what to do.

    `python -m autoconf` prints it to stderr as `autoconf: <message>` and exits with status 1.
    """


class DataError(AutoconfError):
    """One file of a data set that cannot be used; `inspect` leaves its case out and goes on.

    kind: a key of `autoconf.inspect.problems.KINDS`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
