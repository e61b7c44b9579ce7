"""python -m benchmarks: measure, compare, and write what was found as JSON."""

from __future__ import annotations

import argparse
import difflib
import inspect
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from . import guard, inference, precision, startup, training
from .machine import machine
from .rounds import Result
from .table import as_markdown
from .task import BenchmarkError, Task
from .timeline import profile

BENCHMARKS = {
    "step": training.step,
    "throughput": training.throughput,
    "loader": training.loader,
    "eager": training.eager,
    "arrangement": training.arrangement,
    "precision": precision.precision,
    "inference": inference.inference,
    "first_epoch": startup.first_epoch,
    "memory": startup.memory,
    "growth": startup.growth,
}
ROUNDS, QUICK_ROUNDS = 5, 1  # after one to warm up
OTHERS = {
    "all": "every benchmark above",
    "profile": "draw where the time of an iteration goes; --out FILE.png",
    "guard": f"fail if a ratio got more than {guard.LOSS:.0%} worse than the committed one; --update commits new ones",
    "table": "print results as a Markdown table: table FILE.json [FILE.json ...]",
}


def main(words: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input is one line on stderr and status 1."""
    try:
        return run(arguments(sys.argv[1:] if words is None else words))
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
    except OSError as error:
        print(f"benchmarks: {error.filename or ''}: {error.strerror or error}. Check the path.", file=sys.stderr)
    except KeyboardInterrupt:
        print("benchmarks: stopped by the keyboard", file=sys.stderr)
        return 130
    return 1


class Parser(argparse.ArgumentParser):
    """argparse would print its usage first, and exit with status 2."""

    def error(self, message: str) -> NoReturn:
        raise BenchmarkError(f"{message}. `python -m benchmarks --help` lists what there is.")


def arguments(words: list[str]) -> argparse.Namespace:
    """The words of the command line, checked as far as that is possible before anything is measured."""
    summary = {name: summary_of(name) for name in BENCHMARKS} | OTHERS
    listing = "\n".join(f"  {name:12s} {text}" for name, text in summary.items())
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser("python -m benchmarks", description=f"benchmarks:\n{listing}", formatter_class=layout)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--data", default="", help="folder of BraTS-named cases; without it, phantoms")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS}; with --quick {QUICK_ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="few iterations: to see that it runs, not how fast")
    parser.add_argument("--out", default="", help="JSON file to write (a picture for profile)")
    parser.add_argument("--update", action="store_true", help="with guard: write the measured ratios")
    given = parser.parse_args(words)
    if given.rounds is None:
        given.rounds = QUICK_ROUNDS if given.quick else ROUNDS
    if given.names == ["table"]:
        raise BenchmarkError("table needs the JSON files that --out wrote: table FILE.json [FILE.json ...]")
    if given.names[0] != "table":
        check(given, list(summary))
    return given


def check(given: argparse.Namespace, known: list[str]) -> None:
    """Raises BenchmarkError for what could not be measured, or not be written hours later."""
    for name in given.names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(known)}."
            raise BenchmarkError(f"no benchmark '{name}'. {hint}")
        if name in ("profile", "guard", "table") and len(given.names) > 1:
            raise BenchmarkError(f"'{name}' runs by itself. Give it alone.")
    if given.rounds < 1:
        raise BenchmarkError(f"--rounds is {given.rounds}. It must be 1 or more.")
    if given.data and not os.path.isdir(given.data):
        raise BenchmarkError(f"{given.data}: no such folder. Check --data.")
    if given.data and given.names == ["guard"]:
        raise BenchmarkError("guard compares with ratios that were measured on phantoms. Leave --data out.")
    if given.quick and given.names == ["guard"]:
        raise BenchmarkError("guard compares ratios, and --quick measures none that mean anything. Leave --quick out.")
    if given.update and given.names != ["guard"]:
        raise BenchmarkError("--update is for guard alone.")
    folder = os.path.dirname(os.path.abspath(given.out))
    if not os.path.isdir(folder) or os.path.isdir(given.out):
        raise BenchmarkError(f"cannot write --out {given.out}. Name a file in a folder that is there.")
    check_device(given.device)


def check_device(device: str) -> None:
    import torch

    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise BenchmarkError(f"--device is '{device}'. It must be cpu or cuda.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BenchmarkError("--device cuda: torch sees no GPU here.")


def summary_of(name: str) -> str:
    return (inspect.getdoc(BENCHMARKS[name]) or "").splitlines()[0]


def run(given: argparse.Namespace) -> int:
    """Do what was asked for; returns the exit status."""
    if given.names[0] == "table":
        print(as_markdown([read(path) for path in given.names[1:]]))
        return 0
    with tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True) as scratch:
        data = os.path.abspath(given.data) if given.data else ""
        task = Task(Path(scratch), given.device, data, given.rounds, given.quick)
        if given.names == ["profile"]:
            print(json.dumps(profile(task, given.out or "profile.png"), indent=1))
        elif given.names == ["guard"]:
            return guard.run(measure(task, list(guard.GUARDED), given.out), task.device, given.update)
        else:
            measure(task, [name for name in BENCHMARKS if name in given.names or "all" in given.names], given.out)
    return 0


def read(path: str) -> dict:
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        report["results"], report["machine"]
    except (ValueError, KeyError, TypeError):
        raise BenchmarkError(f"{path} holds no results of a benchmark. Give a file that --out wrote.") from None
    return report


def measure(task: Task, names: list[str], out: str) -> list[Result]:
    """Run benchmarks, say each result as soon as it is there, and write all that there are so far."""
    found: list[Result] = []
    for name in names:
        print(f"{name}: {summary_of(name)}", file=sys.stderr, flush=True)
        for result in BENCHMARKS[name](task):
            found.append(result)
            print(one_line(result, task.quick), flush=True)
        if out:
            data = Path(task.data).name or "phantoms"
            report = {"machine": machine(task.device), "device": task.device, "rounds": task.rounds, "data": data}
            report |= {"quick": task.quick, "plan": task.plan, "results": {one.name: one.plain() for one in found}}
            Path(out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return found


def one_line(result: Result, quick: bool = False) -> str:
    """A result with its verdict, which the few iterations of a `quick` one do not allow."""
    plain, quotient = result.plain(), result.quotient
    figures = ", ".join(f"{name} {numbers['median']:g}" for name, numbers in plain["figures"].items())
    goal = "" if result.goal is None else f"; goal {'<=' if result.better == 'low' else '>='} {result.goal:g}"
    verdict = {True: ": met", False: ": missed", None: ""}[None if quick else result.met]
    ratio = f"ratio {quotient['median']:.3f} ({quotient['min']:.3f} to {quotient['max']:.3f})"
    notes = "".join(f"; {name} {value}" for name, value in result.notes.items())
    return f"{result.name}: {figures} {result.unit}; {ratio}{goal}{verdict}{notes}"


if __name__ == "__main__":
    sys.exit(main())
