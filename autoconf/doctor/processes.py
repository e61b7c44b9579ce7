"""Ask a bundle's own process, and hear its answers one by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from autoconf.doctor.checks import Check, Result, Subject, lost

HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # the folder that holds autoconf
TAIL = 2000  # bytes of its last words


def ask_bundle(subject: Subject, checks: Sequence[Check]) -> Iterator[Result]:
    """One Result per check, as they come. A process that ends too early fails all checks that it did not answer."""
    if not checks:
        return
    folder = tempfile.mkdtemp(dir=subject.scratch)
    request = os.path.join(folder, "request.json")
    with open(request, "w", encoding="utf-8") as stream:
        json.dump({"subject": asdict(subject), "checks": [check.name for check in checks]}, stream)
    waiting = {check.name: check for check in checks}
    path = os.pathsep.join(filter(None, (HOME, os.environ.get("PYTHONPATH", ""))))
    with open(os.path.join(folder, "stderr.txt"), "w+b") as noise:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "autoconf.doctor.probe", request],
            env={**os.environ, "PYTHONPATH": path},
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
        why = f"the bundle's process ended with status {process.returncode}: {_last_line(noise)}"
    yield from (lost(check, why) for check in waiting.values())


def _last_line(noise: object) -> str:
    """The last thing that the process said."""
    noise.seek(0, os.SEEK_END)  # type: ignore[attr-defined]
    noise.seek(max(0, noise.tell() - TAIL))  # type: ignore[attr-defined]
    lines = noise.read().decode(errors="replace").strip().splitlines()  # type: ignore[attr-defined]
    return lines[-1][:300] if lines else "it said nothing"
