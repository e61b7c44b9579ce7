"""Of several processes one says why a job ends, in one line: a refusal, or that another process was lost.

torchrun notices a lost process within a tenth of a second and ends the others with SIGTERM; often gloo or nccl tell
them earlier, by an exception out of whatever they were doing. Both end here.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import sys
import threading
from datetime import timedelta
from types import TracebackType

import torch.distributed as dist

from . import errors

MARKS = ("gloo/transport", "Gloo connectFullMesh", "NCCL")  # in what gloo and nccl raise as plain RuntimeErrors
SAID = "said"  # the store's count of processes that would say why the job ends; the first does
HEARD = "heard"  # a key of the store that is there when it has


def speak_for_the_lost(store: dist.Store, advice: str) -> None:
    """From now on this process ends with one line if another one is lost, if torchrun ends the job, or if it refuses.

    store: of this attempt; through it only the first that survives or refuses speaks, and none if a process that
    ended had said why itself. advice: what the line tells the user to do.
    """
    voice = store.clone()  # a connection of its own: the main thread may be waiting on the other one
    voice.set_timeout(timedelta(seconds=5))
    line = f"{errors.ROOT.name}: a process of this job was lost, or the job was ended from outside; {advice}\n"

    def end() -> None:
        _speak(voice, line)
        os._exit(1)  # not by way of the interpreter: gloo and nccl may wait for the lost process

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.flush()
        if is_loss(error):
            end()
        sys.__excepthook__(kind, error, trace)

    errors.speak = functools.partial(_speak, voice)
    sys.excepthook = hook
    _on_sigterm(end)
    atexit.register(_speak, voice, "")  # whoever ends by itself has said why, or has no reason to give
    atexit.register(_forget_sigterm)  # runs before it


def is_loss(error: BaseException | None) -> bool:
    """Whether an exception, or one that it came from, is gloo's or nccl's word for a process that does not answer."""
    while error is not None:
        if isinstance(error, dist.DistError) or any(mark in str(error) for mark in MARKS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _speak(store: dist.Store, line: str) -> None:
    """Say why the job ends, unless another process does; also if the store is lost too."""
    try:
        if store.add(SAID, 1) > 1:
            store.wait([HEARD])  # torchrun, which will see this process end, might end the other before it has spoken
            return
    except RuntimeError:
        pass
    os.write(2, line.encode())
    with contextlib.suppress(RuntimeError):
        store.set(HEARD, "")


def _on_sigterm(end) -> None:  # noqa: ANN001 - a function without arguments
    """Call `end` from a thread: Python's own handlers wait for the main thread, which may wait for the lost process."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)

    def listen() -> None:
        while os.read(heard, 1) != bytes([signal.SIGTERM]):
            pass
        end()

    threading.Thread(target=listen, daemon=True).start()
    os.register_at_fork(after_in_child=_forget_sigterm)  # a loader's worker must not speak into our pipe


def _forget_sigterm() -> None:
    with contextlib.suppress(ValueError):  # in a child of another thread, which has no main thread
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
