"""What a command says as JSON, one object per line, for programs that gather logs (`--log-json`)."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

ERROR = "autoconf: "  # how the line begins that says why a command failed


class JsonLines(io.TextIOBase):
    """Takes text and writes {"time", "level", "verb", "message"} for each line of it that is not empty.

    level: of the lines; the one that says why the command failed is an error.
    """

    def __init__(self, target: TextIO, verb: str, level: str) -> None:
        self.target, self.verb, self.level = target, verb, level
        self.begun = ""

    def write(self, text: str) -> int:
        *lines, self.begun = (self.begun + text).split("\n")
        for line in lines:
            self._say(line.rstrip())
        return len(text)

    def fileno(self) -> int:
        return self.target.fileno()

    def flush(self) -> None:
        self.target.flush()

    def end(self) -> None:
        """Write what has no end of line yet."""
        self._say(self.begun.rstrip())
        self.begun = ""
        self.flush()

    def _say(self, line: str) -> None:
        if not line:
            return
        level, message = ("error", line.removeprefix(ERROR)) if line.startswith(ERROR) else (self.level, line)
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        said = {"time": time, "level": level, "verb": self.verb, "message": message}
        self.target.write(json.dumps(said, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def as_json(verb: str) -> Iterator[None]:
    """Inside it, all that is printed becomes JSON: stdout as info, stderr as warning or error."""
    out, error = JsonLines(sys.stdout, verb, "info"), JsonLines(sys.stderr, verb, "warning")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            yield
        finally:
            out.end()
            error.end()
