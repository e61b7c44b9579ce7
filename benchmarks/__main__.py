"""python -m benchmarks: measure, compare, and write what was found as JSON."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import tempfile
from pathlib import Path

from . import inference, startup, training
from .guard import COMMITTED, LOSS, losses, ratios, read
from .machine import machine
from .profile import profile
from .rounds import Result
from .table import as_markdown
from .task import BenchmarkError, Task

BENCHMARKS = {
    "step": training.step,
    "throughput": training.throughput,
    "loader": training.loader,
    "eager": training.eager,
    "inference": inference.inference,
    "first_epoch": startup.first_epoch,
    "memory": startup.memory,
    "growth": startup.growth,
}
GUARDED = ("step", "loader", "inference", "memory")
OTHERS = {
    "all": "every benchmark above",
    "profile": "draw where the time of an iteration goes; --out FILE.png",
    "guard": f"fail if a ratio got more than {LOSS:.0%} worse than the committed one; --update commits new ones",
    "table": "print the results of JSON files (--from FILE, ...) as a Markdown table",
}


def main() -> None:
    given = arguments()
    try:
        run(given)
    except BenchmarkError as error:
        sys.exit(f"benchmarks: {error}")


def arguments() -> argparse.Namespace:
    summary = {name: (inspect.getdoc(make) or "").splitlines()[0] for name, make in BENCHMARKS.items()} | OTHERS
    listing = "\n".join(f"  {name:12s} {text}" for name, text in summary.items())
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks", description=f"benchmarks:\n{listing}", formatter_class=layout)
    parser.add_argument("names", nargs="+", choices=[*summary], metavar="NAME")
    parser.add_argument("--data", default="", help="folder of BraTS-named cases; without it, phantoms")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few iterations: to see that it runs, not how fast")
    parser.add_argument("--out", help="JSON file to write (a picture for profile)")
    parser.add_argument("--from", dest="sources", nargs="*", default=[], help="JSON files for table")
    parser.add_argument("--update", action="store_true", help="with guard: write the measured ratios")
    return parser.parse_args()


def run(given: argparse.Namespace) -> None:
    if given.names == ["table"]:
        print(as_markdown([json.loads(Path(path).read_text()) for path in given.sources]))
        return
    if given.rounds < 1:
        raise BenchmarkError(f"--rounds is {given.rounds}. It must be 1 or more.")
    if given.data and not os.path.isdir(given.data):
        raise BenchmarkError(f"{given.data}: no such folder. Check --data.")
    with tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True) as scratch:
        task = Task(Path(scratch), given.device, os.path.abspath(given.data) if given.data else "", given.rounds, given.quick)
        if given.names == ["profile"]:
            print(json.dumps(profile(task, given.out or "profile.png"), indent=1))
        elif given.names == ["guard"]:
            guard(task, given.update)
        else:
            names = [n for n in BENCHMARKS if n in given.names or "all" in given.names]
            measure(task, names, given.out)


def measure(task: Task, names: list[str], out: str | None) -> list[Result]:
    """Run benchmarks, say each result as soon as it is there, and write them all."""
    found: list[Result] = []
    for name in names:
        print(f"{name}: {(inspect.getdoc(BENCHMARKS[name]) or '').splitlines()[0]}", file=sys.stderr, flush=True)
        for result in BENCHMARKS[name](task):
            found.append(result)
            print(one_line(result), flush=True)
        if out:
            data = Path(task.data).name or "phantoms"
            report = {"machine": machine(task.device), "device": task.device, "rounds": task.rounds, "data": data}
            report |= {"plan": task.plan, "results": {one.name: one.plain() for one in found}}
            Path(out).write_text(json.dumps(report, indent=1) + "\n")
    return found


def one_line(result: Result) -> str:
    figures = ", ".join(f"{name} {result.plain()['figures'][name]['median']:g}" for name in result.figures)
    quotient = result.quotient
    goal = "" if result.goal is None else f"; goal {'<=' if result.better == 'low' else '>='} {result.goal:g}"
    verdict = {True: ": met", False: ": missed", None: ""}[result.met]
    ratio = f"ratio {quotient['median']:.3f} ({quotient['min']:.3f} to {quotient['max']:.3f})"
    return f"{result.name}: {figures} {result.unit}; {ratio}{goal}{verdict}"


def guard(task: Task, update: bool) -> None:
    found = ratios(measure(task, list(GUARDED), None))
    if update:
        content = {"note": "written by `python -m benchmarks guard --update`", "machine": machine(task.device), "ratios": found}
        COMMITTED.write_text(json.dumps(content, indent=1) + "\n")
        print(f"wrote {COMMITTED.name}")
        return
    lines = losses(read(), found)
    if lines:
        sys.exit("\n".join(f"benchmarks: {line}" for line in lines))
    print(f"no ratio got more than {LOSS:.0%} worse")


if __name__ == "__main__":
    main()
