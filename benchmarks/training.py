"""What a training iteration costs: against the bare step, and against other ways to make its batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import islice
from typing import Any

import torch

from .rounds import Result, in_turn
from .task import ZOO, BenchmarkError, Task, open_config, wait_for
from .worker import Training, Worker

STEPS, QUICK_STEPS = 20, 2  # iterations of a round
BATCHES, QUICK_BATCHES = 48, 16  # of a round of `loader`: TorchIO makes 16 patches at a time, then hands them out


def steps(task: Task) -> int:
    return QUICK_STEPS if task.quick else STEPS


def step(task: Task) -> list[Result]:
    """Wall time of a training iteration, data and handlers included, against forward, backward and optimiser alone."""
    training = Training(["train.yaml"], task.overrides())
    bare = bare_step(training)
    count = steps(task)
    figures = in_turn({"ours": lambda: training.run(count), "bare step": lambda: bare(count)}, task.rounds)
    goal = 1.10 if task.device.startswith("cuda") else 1.05
    return [Result("step", "s an iteration", figures, ("ours", "bare step"), goal)]


def bare_step(training: Training) -> Callable[[int], float]:
    """The same network, precision, loss and optimiser on one batch that lies on the device."""
    parts = {name: training.parser.get_parsed_content(name) for name in ("network", "optimizer", "train#inferer")}
    network, optimiser, inferer = parts.values()
    loss_function = training.trainer.loss_function
    batch = next(iter(training.trainer.data_loader))
    image, label = training.trainer.prepare_batch(batch, torch.device(training.device), False)

    def run(count: int) -> float:
        network.train()
        wait_for(training.device)
        began = time.perf_counter()
        for _ in range(count):
            optimiser.zero_grad(set_to_none=True)
            loss_function(inferer(image, network), label).backward()
            optimiser.step()
        wait_for(training.device)
        return (time.perf_counter() - began) / count

    return run


def eager(task: Task) -> list[Result]:
    """The bare step of the network as we arrange it, against MONAI's network in plain float32 (TF32 on a GPU)."""
    torch.set_float32_matmul_precision("high")
    arranged = Training(["train.yaml"], task.overrides(compile=task.device.startswith("cuda")))
    plain_config = task.overrides(amp=False)
    plain = Training(["train.yaml"], plain_config | {"network": "$@network_def.to(@device)", "optimizer#fused": None})
    contestants = {"ours": bare_step(arranged), "plain float32": bare_step(plain)}
    count = steps(task)
    figures = in_turn({name: lambda run=run: run(count) for name, run in contestants.items()}, task.rounds)
    goal = 2.0 if task.device.startswith("cuda") else None
    return [Result("eager", "s a step", figures, ("plain float32", "ours"), goal, "high")]


def arrangement(task: Task) -> list[Result]:
    """The bare step of the network as we arrange it, against other arrangements in the same precision."""
    plain = {"network": "$@network_def.to(@device)", "amp": "force"}  # bfloat16 also where it answers wrongly
    ways = {
        "ours": bare_step(Training(["train.yaml"], task.overrides())),
        "as MONAI has it": bare_step(Training(["train.yaml"], task.overrides() | plain)),
        "group norms": bare_step(with_group_norms(Training(["train.yaml"], task.overrides() | plain))),
        "group norms, channels last": bare_step(with_group_norms(Training(["train.yaml"], task.overrides()))),
    }
    count = steps(task)
    figures = in_turn({name: lambda run=run: run(count) for name, run in ways.items()}, task.rounds)
    return [
        Result(f"arrangement, {name}", "s a step", {"ours": figures["ours"], name: figures[name]}, (name, "ours"), None)
        for name in ways
        if name != "ours"
    ]


def with_group_norms(training: Training) -> Training:
    """Exchange instance norms for group norms of groups of one, as the bundle does on a CPU."""
    from scripts.speed import NORMS  # the bundle's, on the path

    for module in training.parser.get_parsed_content("network").modules():
        if type(module) in NORMS and not module.track_running_stats:
            module.__class__ = NORMS[type(module)]
    return training


def throughput(task: Task) -> list[Result]:
    """Whole training iterations by our pipeline and by the zoo's, each in a process of its own."""
    run, workers = task.overrides(), task.plan.get("num_workers", 0)
    zoo_workers = 4 if task.device.startswith("cuda") else workers  # as zoo bundles have it
    zoo = run | {"output_dir": run["output_dir"] + "_zoo", "num_workers": zoo_workers}
    published = zoo | {"output_dir": run["output_dir"] + "_zoo32", "amp": False}
    count = steps(task)
    files = ["train.yaml", str(ZOO)]
    with Worker(["train.yaml"], run) as ours, Worker(files, zoo) as same, Worker(files, published) as full:
        contestants = {"ours": ours, "zoo-style": same, "zoo-style, float32": full}
        ask = {name: lambda worker=worker: worker.ask(count)["seconds"] for name, worker in contestants.items()}
        figures = in_turn(ask, task.rounds)
    goal = 3.0 if task.device.startswith("cuda") else 1.15
    same_precision = {name: figures[name] for name in ("ours", "zoo-style")}
    as_published = {name: figures[name] for name in ("ours", "zoo-style, float32")}
    return [
        Result("throughput", "s an iteration", same_precision, ("zoo-style", "ours"), goal, "high"),
        Result("throughput as published", "s an iteration", as_published, ("zoo-style, float32", "ours"), goal, "high"),
    ]


def loader(task: Task) -> list[Result]:
    """Seconds to make one varied batch, by ours and by each peer that is installed."""
    from .peers import nnunet, torchio_queue

    own = open_config(["train.yaml"], task.overrides(crops_per_case=10**6))
    zoo = open_config(["train.yaml", str(ZOO)], task.overrides(crops_per_case=10**6))
    sources: dict[str, Iterator] = {"ours": batches(own, task.device), "zoo-style": batches(zoo, task.device)}
    cases = own.get_parsed_content("train#dataset")
    size, batch_size = own.get_parsed_content("patch_size"), own.get_parsed_content("batch_size")
    notes: dict[str, Any] = {}
    for peer in (torchio_queue, nnunet):
        if find_spec(peer.PACKAGE):
            sources[peer.NAME] = named(peer.NAME, peer.PACKAGE, peer.batches(cases, size, batch_size))
        else:
            notes[peer.NAME] = f"skipped: {peer.PACKAGE} is not installed"
    count = QUICK_BATCHES if task.quick else BATCHES
    contestants = {name: lambda source=source: pull(source, count, task.device) for name, source in sources.items()}
    figures = in_turn(contestants, task.rounds)
    first = {name: figures[name] for name in ("ours", "zoo-style")}
    found = [Result("loader", "s a batch", first, ("zoo-style", "ours"), None, "high", notes)]
    for name in list(figures)[2:]:
        both = {"ours": figures["ours"], name: figures[name]}
        found.append(Result(f"loader, {name}", "s a batch", both, (name, "ours"), None, "high"))
    return found


def batches(parser: Any, device: str) -> Iterator:
    """Batches as the trainer hands them to the network, without end."""
    data, prepare = (parser.get_parsed_content(f"train#{name}") for name in ("dataloader", "prepare_batch"))
    while True:
        for batch in data:
            yield prepare(batch, torch.device(device), True)


def named(name: str, package: str, source: Iterator) -> Iterator:
    """The batches of a peer's `source`. Raises BenchmarkError with the peer's name and version if it fails."""
    try:
        yield from source
    except Exception as error:  # whatever an installed package raises: a peer that fails is not one left out
        try:
            name = f"{name} ({package} {version(package)})"
        except PackageNotFoundError:
            name = f"{name} ({package})"
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        cure = f"benchmarks/README.md says which versions work; without {package} installed it is left out."
        raise BenchmarkError(f"loader: {name} failed: {said}. {cure}") from error


def pull(source: Iterator, count: int, device: str) -> float:
    wait_for(device)
    began = time.perf_counter()
    for _ in islice(source, count):
        pass
    wait_for(device)
    return (time.perf_counter() - began) / count
