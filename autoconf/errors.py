"""The one error a user of autoconf should ever see."""


class AutoconfError(Exception):
    """Bad input. The message is one line: what was found, where, and what to do.

    `python -m autoconf` prints it to stderr as `autoconf: <message>` and exits with status 1.
    """
