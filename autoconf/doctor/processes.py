"""Ask a bundle's own process, and hear its answers one by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from autoconf.commands import environment
from autoconf.doctor.checks import FAIL, Check, Result, Subject, unanswered


def ask_bundle(subject: Subject, checks: Sequence[Check]) -> Iterator[Result]:
    """One Result per check, as they come. A process that ends too early fails all checks that it did not answer."""
    if not checks:
        return
    folder = tempfile.mkdtemp(dir=subject.scratch)
    request = os.path.join(folder, "request.json")
    with open(request, "w", encoding="utf-8") as stream:
        json.dump({"subject": asdict(subject), "checks": [check.name for check in checks]}, stream)
    waiting = {check.name: check for check in checks}
    log = Path(folder, "stderr.txt")
    with open(log, "wb") as noise:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "autoconf.doctor.probe", request],
            env=environment(),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
        )
        try:
            for line in process.stdout or ():
                result = Result(**json.loads(line))
                waiting.pop(result.check)
                yield result
            process.wait()
        finally:
            process.kill()
            process.wait()
    last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
    why = f"the bundle's process ended with status {process.returncode}: {last[:300]}"
    yield from (unanswered(check, FAIL, why) for check in waiting.values())
