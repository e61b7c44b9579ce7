"""What MONAI's handlers lack: clipping and averaging of weights, progress that a person can follow, names of cases."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from tqdm import tqdm

from .errors import refuse

SHOWN_EVERY = 10  # iterations: reading the loss makes the program wait for a GPU


class ClipGradients:
    """Scale the gradients down to a total norm of at most `max_norm` before each optimiser step.

    With a trainer's `accumulation_steps` the gradients of several batches are added first and clipped once: clipping
    a part sum would weigh its batches less.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if not steps_now(engine):
            return
        weights = list(engine.network.parameters())
        norm = total_norm([w.grad for w in weights if w.grad is not None])
        engine.state.gradient_norm = norm
        if norm.is_cpu and norm <= self.max_norm:  # nothing to scale; a GPU would have to be waited for to know
            return
        torch.nn.utils.clip_grads_with_norm_(weights, self.max_norm, norm)


def total_norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """The Euclidean norm of all of them; on a CPU by products, which take half the time of torch's norms."""
    if not all(gradient.is_cpu and gradient.is_contiguous() for gradient in gradients):
        return torch.nn.utils.get_total_norm(gradients)
    return torch.stack([torch.dot(flat, flat) for flat in (g.view(-1) for g in gradients)]).sum().sqrt()


def steps_now(engine: Engine) -> bool:
    """Whether the optimiser steps on this batch, rather than only adding its gradients to those before."""
    added = getattr(engine, "accumulation_steps", 1)
    length = engine.state.epoch_length or engine.state.iteration
    done = (engine.state.iteration - 1) % length + 1  # of the epoch; its last batch is always stepped on
    return done % added == 0 or done == length


class WatchNumbers:
    """Find a step whose gradient is no finite number, name its cases, and stop, or leave the step out.

    on_nan: "stop" ends the training before anything of it is kept. It looks at once on a CPU, every SHOWN_EVERY steps
    on a GPU, which need not be waited for in between. "skip" leaves the weights as they are and says so; the GPU is
    waited for at every step. It ends the training, too, when MOST steps in a row were left out: those are no outliers.
    Attach after ClipGradients, which measures the gradient, and before what validates and saves.
    """

    MOST = 20

    def __init__(self, on_nan: str = "stop") -> None:
        self.skips = on_nan == "skip"
        self.cases: list[str] = []  # of the step under way: several batches, where gradients are accumulated
        self.unread: list[tuple[int, list[str], torch.Tensor]] = []  # steps that nobody has looked at: their norms
        self.left_out = 0  # in a row

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._gradient)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._look)

    def _gradient(self, engine: Engine) -> None:
        self.cases += [str(case) for case in engine.state.batch.get("case", [])]
        if not steps_now(engine):
            return
        self.unread.append((engine.state.iteration, self.cases, engine.state.gradient_norm))
        self.cases = []
        if self.skips or engine.state.gradient_norm.is_cpu or len(self.unread) >= SHOWN_EVERY:
            self._look(engine)

    def _look(self, engine: Engine) -> None:
        unread, self.unread = self.unread, []
        for iteration, cases, norm in unread:
            if math.isfinite(norm):
                self.left_out = 0
            else:
                self._found(engine, f"step {iteration} (epoch {engine.state.epoch}, {_listed(cases)})")

    def _found(self, engine: Engine, step: str) -> None:
        if not self.skips:
            refuse(
                f"the gradient is no number in {step}; nothing of it is kept. Lower --learning_rate, look at these "
                "scans, or give --on_nan skip."
            )
        self.left_out += 1
        if self.left_out == self.MOST:
            refuse(f"the gradient is no number in {self.MOST} steps in a row, the last {step}. Lower --learning_rate.")
        engine.optimizer.zero_grad(set_to_none=True)  # the optimiser passes over weights without a gradient
        print(f"training: left out {step}: its gradient is no number", file=sys.stderr, flush=True)


def _listed(cases: list[str]) -> str:
    """`cases A, B and 2 more`"""
    names = list(dict.fromkeys(cases))
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"cases {', '.join(names[:4])}{more}" if names else "cases without a name"


class AverageWeights:
    """Validate and keep the moving average of the weights, which is steadier than the weights of any one step.

    decay: share of the average that stays at each optimiser step; 0.999 is a mean over some 1,000 steps; 0 averages
    nothing. Early on the decay is (1 + steps) / (10 + steps), so that the first weights are soon forgotten.
    validator: while it runs, and once the training has completed, the network holds the average.
    Source: Polyak and Juditsky 1992; the warm-up is TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, decay: float, validator: Engine) -> None:
        self.decay = decay
        self.validator = validator
        self.steps = 0
        self.exchanged = False  # whether the network holds the average

    def attach(self, engine: Engine) -> None:
        if self.decay == 0:
            return
        remember(engine, "average", self)
        engine.add_event_handler(Events.STARTED, self._start)  # a trainer has no network yet when handlers are attached
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED, self._exchange)
        self.validator.add_event_handler(Events.STARTED, self._exchange)
        self.validator.add_event_handler(Events.COMPLETED, self._exchange)
        self.validator.add_event_handler(Events.EXCEPTION_RAISED, self._give_back)

    def _start(self, engine: Engine) -> None:
        floats = [w for w in engine.network.state_dict().values() if w.is_floating_point()]
        self.weights = list({w.data_ptr(): w for w in floats}.values())  # a DynUNet names its blocks twice
        self.others = [w.clone() for w in self.weights]  # the average; during validation, the weights of the last step

    def _step(self, engine: Engine) -> None:
        if not steps_now(engine):
            return
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.others, self.weights, 1 - decay)

    @torch.no_grad()
    def _exchange(self) -> None:
        self.exchanged = not self.exchanged
        for weight, other in zip(self.weights, self.others, strict=True):
            kept = weight.clone()
            weight.copy_(other)
            other.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """The average as it is after an epoch, when the network holds the weights of the last step."""
        return {"steps": self.steps, "average": self.others}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The opposite; the training has begun, so that the tensors are there."""
        self.steps = state["steps"]
        for other, kept in zip(self.others, state["average"], strict=True):
            other.copy_(kept)

    def _give_back(self, error: Exception) -> None:
        if self.exchanged:  # ignite calls twice, from the inner loop and the outer one
            self._exchange()
        raise error


class Progress:
    """Show where a run stands: a bar on a terminal, one plain line per epoch elsewhere.

    name: what runs, e.g. "training".
    validator: the evaluator whose key metric (and best so far) is shown beside the loss. score: what that metric is.
    """

    def __init__(self, name: str, validator: Engine | None = None, score: str = "Dice") -> None:
        self.name = name
        self.validator = validator
        self.score = score
        self.bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._end)

    def _start(self, engine: Engine) -> None:
        self.began = time.monotonic()
        self.done_before: int | None = None  # epochs of a run that this one goes on with
        self.losses: list[torch.Tensor] = []
        self.items = 0
        if sys.stderr.isatty():
            total = engine.state.epoch_length * (engine.state.max_epochs or 1)
            self.bar = tqdm(total=total, desc=self.name, unit="step", dynamic_ncols=True)

    def _epoch_start(self, engine: Engine) -> None:
        if self.done_before is None:
            self.done_before = engine.state.epoch - 1
            if self.bar is not None:
                self.bar.update(engine.state.iteration)

    def _iteration(self, engine: Engine) -> None:
        output = engine.state.output
        self.items += len(output) if isinstance(output, list) else 1  # MONAI takes a batch apart into its items
        self.losses += loss_of(output)
        if self.bar is not None:
            if self.losses and engine.state.iteration % SHOWN_EVERY == 0:
                self.bar.set_postfix_str(self._text(engine), refresh=False)
            self.bar.update()

    def _epoch(self, engine: Engine) -> None:
        if self.bar is None and self.validator is not None:
            epoch, epochs = engine.state.epoch, engine.state.max_epochs
            spent = time.monotonic() - self.began
            left = spent / (epoch - (self.done_before or 0)) * (epochs - epoch)
            clock = f"{_clock(spent)} spent, {_clock(left)} left"
            print(f"{self.name}: epoch {epoch}/{epochs}  {self._text(engine)}  {clock}", file=sys.stderr, flush=True)
        self.losses.clear()

    def _text(self, engine: Engine) -> str:
        text = f"loss {mean_loss(self.losses):.4f}"
        state = self.validator.state if self.validator is not None else None
        if state is not None and state.key_metric_name in state.metrics:
            now = state.metrics[state.key_metric_name]
            text += f"  validation {self.score} {now:.4f} (best {state.best_metric:.4f})"
        return text

    def _end(self, engine: Engine) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.validator is None:
            spent = time.monotonic() - self.began
            print(f"{self.name}: {self.items} done in {_clock(spent)}", file=sys.stderr, flush=True)


def remember(engine: Engine, name: str, part: Any) -> None:
    """Let a training that goes on after a stop give `part` back its state, by its state_dict and load_state_dict."""
    if not hasattr(engine, "remembered_parts"):
        engine.remembered_parts = {}
    engine.remembered_parts[name] = part


def remembered(engine: Engine) -> dict[str, Any]:
    """What was given to `remember`, by name."""
    return getattr(engine, "remembered_parts", {})


def case_names(batch: list[dict]) -> list[dict]:
    """Name the rows of `MetricsSaver` after the items' cases, not after the first file of each."""
    return [{"filename_or_obj": item["case"]} for item in batch]


def loss_of(output: object) -> list[torch.Tensor]:
    """The loss of an iteration, as a list of one; empty where there is none. MONAI gives a dict, or one per item.

    It stays on its device: to read it as a number would make the program wait for a GPU at every step.
    """
    first = output[0] if isinstance(output, list) and output else output
    return [torch.as_tensor(first["loss"]).detach()] if isinstance(first, dict) and "loss" in first else []


def loss_to_show(output: object) -> torch.Tensor | None:
    """The loss of an iteration as the one number that MONAI's handlers for TensorBoard want."""
    return next(iter(loss_of(output)), None)


def mean_loss(losses: list[torch.Tensor]) -> float:
    """0 if there are none."""
    return float(torch.stack(losses).mean()) if losses else 0.0


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
