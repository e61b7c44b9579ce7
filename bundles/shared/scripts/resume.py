"""A training run that goes on where it was stopped: resume.pt."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from torch.utils.data import Sampler

from .checkpoints import FULL, LOST_WORKER, is_first, plain, refuse_lost_worker, save, say
from .errors import refuse
from .handlers import remembered, steps_now

RESUME, BEFORE, OLD = "resume.pt", "resume_previous.pt", "resume_old.pt"
SCHEDULE = ("last_epoch", "_step_count", "_last_lr")  # where a schedule stands; its length is that of this run
RESTARTS = "TORCHELASTIC_RESTART_COUNT"  # above 0: torchrun starts the job again, after a process was lost


class Resume:
    """Write all that a training is after each epoch, and when it is asked to stop; begin from there if asked to.

    Weights, optimiser, where the learning rate's schedule stands, epoch, best score, random states, and what other
    handlers `remember`. On a CPU a training that was stopped and went on ends with the same weights, to the bit, as one
    that never stopped.
    A single process that gets SIGTERM, as a cluster sends before it kills, ends its step, keeps what it has of the
    epoch, and ends; during a validation, when that is done. A second one ends it at once.

    resume: go on from `output_dir`; begin anew if nothing is there yet. Where torchrun starts a job again it goes on
    in any case. If False, what an earlier run left there is renamed to resume_old.pt, and its epoch before is removed.
    Attach to the trainer as the last of its handlers, so that an epoch is written when all others are done with it.
    """

    def __init__(
        self,
        output_dir: str,
        resume: bool,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any,
        validator: Engine,
    ) -> None:
        self.folder = Path(output_dir)
        self.resume = resume or int(os.environ.get(RESTARTS, 0)) > 0
        self.network = network
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.validator = validator
        self.asked_to_stop = False

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_starts)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._end)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)

    def _start(self, engine: Engine) -> None:
        self.listens = threading.current_thread() is threading.main_thread() and not dist.is_initialized()
        if self.listens:  # of several processes torchrun says who ends when
            self.listened_before = signal.signal(signal.SIGTERM, self._asked)
        if self.resume:
            state = self._read()
            if state is not None:
                self._go_on(engine, state)
        elif is_first():
            self._put_aside()

    def _put_aside(self) -> None:
        """Leave nothing of an earlier run that this one, when it is resumed, could take for its own."""
        if (self.folder / RESUME).exists():
            os.replace(self.folder / RESUME, self.folder / OLD)
            say(f"beginning anew; the run that was in {self.folder} is kept as {OLD} (--resume True goes on with one)")
        (self.folder / BEFORE).unlink(missing_ok=True)

    def _end(self) -> None:
        if self.listens:
            signal.signal(signal.SIGTERM, self.listened_before)

    def _failed(self, error: Exception) -> None:
        if LOST_WORKER in str(error):
            refuse_lost_worker(error)
        if isinstance(error, OSError) and error.errno in FULL:
            what = error.filename or f"into {self.folder}"
            refuse(f"cannot write {what}: {error.strerror}. Free some space; --resume True goes on.")
        raise error

    def _asked(self, *_: object) -> None:
        if self.asked_to_stop:
            end_by(signal.SIGTERM)
        self.asked_to_stop = True
        say("asked to stop (SIGTERM): keeping what it has after this step, or this validation")

    def _epoch_starts(self) -> None:
        self.random_at_start = random_states()  # from here the order of the epoch's batches can be drawn again

    def _step(self, engine: Engine) -> None:
        steps = engine.state.iteration % engine.state.epoch_length
        if self.asked_to_stop and steps and steps_now(engine):  # not between the parts of an accumulated gradient
            self._keep(engine, engine.state.epoch - 1, steps)
            say(f"stopped after step {steps} of epoch {engine.state.epoch}; --resume True goes on from there")
            end_by(signal.SIGTERM)

    def _epoch(self, engine: Engine) -> None:
        self._keep(engine, engine.state.epoch, 0)
        if self.asked_to_stop and engine.state.epoch < engine.state.max_epochs:
            say(f"stopped after epoch {engine.state.epoch}; --resume True goes on from there")
            end_by(signal.SIGTERM)

    def _keep(self, engine: Engine, epochs: int, steps: int) -> None:
        """Write the state after so many whole epochs, and so many steps of the next."""
        if not is_first():
            return
        weights = plain(self.network).state_dict()
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            refuse("the weights are no numbers any more; what was kept before is whole. Lower --learning_rate.")
        state = {
            "network": weights,
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": {name: self.lr_scheduler.state_dict()[name] for name in SCHEDULE},
            "epoch": epochs,
            "steps": steps,
            "epoch_length": engine.state.epoch_length,
            "best": [float(self.validator.state.best_metric), int(self.validator.state.best_metric_epoch)],
            "validated": [int(self.validator.state.epoch), int(self.validator.state.iteration)],
            "metrics": {name: float(value) for name, value in self.validator.state.metrics.items()},
            "random": random_states(),
            "random_at_start": self.random_at_start,
            "others": {name: other.state_dict() for name, other in remembered(engine).items()},
        }
        path = self.folder / RESUME
        save(state, path, before=self.folder / BEFORE)

    def _read(self) -> dict[str, Any] | None:
        """The newest state that is whole; None where there is none at all."""
        paths = [self.folder / RESUME, self.folder / BEFORE]
        there = [path for path in paths if path.exists()]
        for path in there:
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # noqa: BLE001 - a damaged zip, pickle or disk all mean the same here
                say(f"{path} is damaged ({type(error).__name__}); trying the epoch before")
        if there:
            refuse(f"nothing in {self.folder} can be resumed. Begin anew with --resume False.")
        return None

    def _go_on(self, engine: Engine, state: Mapping[str, Any]) -> None:
        network = plain(self.network)
        shapes = {name: weight.shape for name, weight in network.state_dict().items()}
        if {name: weight.shape for name, weight in state["network"].items()} != shapes:
            refuse(f"{self.folder / RESUME} is of another network. Give the plan it began with, or --resume False.")
        if state["epoch"] > engine.state.max_epochs:
            refuse(f"{self.folder / RESUME} has {state['epoch']} epochs already. Give --max_epochs at least as many.")
        network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        vars(self.lr_scheduler).update(state["lr_scheduler"])
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * engine.state.epoch_length + state.get("steps", 0)
        self.validator.state.best_metric, self.validator.state.best_metric_epoch = state["best"]
        self.validator.state.epoch, self.validator.state.iteration = state["validated"]
        self.validator.state.metrics.update(state["metrics"])
        for name, other in remembered(engine).items():
            if name in state["others"]:
                other.load_state_dict(state["others"][name])
        if state.get("steps"):
            self._go_on_within(engine, state)
        elif is_first():
            set_random_states(state["random"])
            say(f"going on after epoch {state['epoch']} of {engine.state.max_epochs}")
        else:  # every process draws numbers of its own
            torch.manual_seed(torch.initial_seed() + 1_000_003 * state["epoch"])

    def _go_on_within(self, engine: Engine, state: Mapping[str, Any]) -> None:
        """The epoch's batches are drawn again in the same order; those that were used are passed over unread."""
        if dist.is_initialized():
            refuse("it was stopped within an epoch by one process, and goes on with one only. Or begin anew.")
        if state["epoch_length"] != engine.state.epoch_length:
            refuse(
                f"{self.folder / RESUME} was stopped within an epoch of {state['epoch_length']} steps, not "
                f"{engine.state.epoch_length}. Give the data and settings it began with, or --resume False."
            )
        set_random_states(state["random_at_start"])
        batches = engine.data_loader.batch_sampler
        used = state["steps"] * batches.batch_size
        batches.sampler = Unused(batches.sampler, used, lambda: set_random_states(state["random"]))
        say(f"going on after step {state['steps']} of epoch {state['epoch'] + 1} of {engine.state.max_epochs}")


class Unused(Sampler[int]):
    """Another sampler's order without its first indices, once; then all of it, epoch by epoch.

    used: how many indices to leave out. then: called when they are drawn, before the first that is not.
    """

    def __init__(self, order: Sampler[int], used: int, then: Callable[[], None]) -> None:
        self.order = order
        self.used = used
        self.then = then

    def __len__(self) -> int:
        return len(self.order)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        indices = iter(self.order)
        if self.used:
            for _ in range(self.used):
                next(indices)
            self.used = 0
            self.then()
        yield from indices


def end_by(number: signal.Signals) -> None:
    """End this process as if it had never listened to that signal, so that whoever sent it sees so."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def random_states() -> dict[str, Any]:
    """All generators that a training draws from, as plain data and tensors."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, numbers, following = random.getstate()
    return {
        "python": [version, list(numbers), following],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """The opposite of `random_states`; GPUs are left alone if there is another number of them now."""
    version, numbers, following = states["python"]
    random.setstate((version, tuple(numbers), following))
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
