"""Cases in several processes, their results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from autoconf.errors import AutoconfError

T = TypeVar("T")


def in_order(
    function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], jobs: int, start: str | None = "spawn"
) -> Iterator[T]:
    """function(*task) of each task, with processes if jobs > 1, never more than 2 * jobs results ahead of the reader.

    Not threads: half of the work is numpy's counting and selecting, which holds the interpreter's lock. What the
    function raises is raised here. Raises AutoconfError if a process was ended from outside.
    start: how processes begin: "spawn" is the same on every system, and copies no lock while it is held; None is the
    system's own way, which on Linux begins at once and needs no `if __name__ == "__main__"` of a script.
    """
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        yield from (function(*task) for task in tasks)
        return
    ahead: deque[Future] = deque()
    context = multiprocessing.get_context(start)
    with ProcessPoolExecutor(jobs, context, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        try:
            for task in tasks:
                ahead.append(pool.submit(function, *task))
                if len(ahead) >= 2 * jobs:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except BrokenProcessPool:
            raise AutoconfError(
                "a process that read cases was ended from outside, perhaps for want of memory. Give fewer --jobs."
            ) from None
        finally:  # the reader stopped, or a case failed: do not begin what nobody waits for
            for future in ahead:
                future.cancel()


def usable_cores() -> int:
    """Of this process: a container or `taskset` may leave it fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
