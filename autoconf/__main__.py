"""The command line: `python -m autoconf COMMAND ...`. One command is one module (or folder) of the same name, in
`autoconf.experiments` if it is one.

Words are checked here, before anything runs, so that a mistake is one line; Fire then converts and calls.
"""

from __future__ import annotations

import difflib
import importlib
import inspect as signatures
import itertools
import json
import os
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from autoconf import __version__
from autoconf.bundle.settings import read_bundle, settings_table
from autoconf.errors import AutoconfError

COMMANDS = {  # in the order of use
    "phantom": "make synthetic cases, to try everything before any download",
    "inspect": "read a data folder: check every file, split by patient, measure",
    "plan": "choose spacing, patch and batch for the data and the memory, with reasons",
    "tune": "search for better settings with short trainings, and confirm what it finds",
    "crossval": "train each fold, score all out-of-fold predictions together, make an ensemble",
    "efficiency": "Dice against the number of labelled patients, with and without a pre-training",
    "segment": "masks of many scans, several processes of a bundle at once",
    "score": "compare predicted masks with the truth, with intervals, beside trivial predictions",
    "doctor": "check metrics, data, training and model for what would make a score a lie",
    "report": "one HTML page about a run: scores, curves, overlays, plan, audit",
    "view": "HTML pages of masks that have no truth, drawn over their scans",
    "pack": "one archive of a bundle, plan and weights inside, with sums",
    "fetch": "a bundle from elsewhere, checked before anything of it runs",
    "layout": "a data folder as a datastore for MONAI Label (label/README.md)",
    "env": "print what a bug report needs: versions, processor, memory, GPU",
}
EXPERIMENTS = ("tune", "crossval", "efficiency")
FLAG_BY_CUSTOM = ("out", "bundle", "plan")  # required, but shown as a flag unless it is all that a command needs
HELP = ("--help", "-h", "help")


def main(words: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input is one line on stderr and status 1."""
    words = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in words
    try:
        run([word for word in words if word != "--debug"])
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _fail("stopped by the keyboard", 130)
    except BrokenPipeError:  # the reader of our output, say `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (AutoconfError, OSError, UnicodeEncodeError) as error:
        if debug:
            raise
        return _fail(_one_line(error), 1)
    return 0


def run(words: list[str]) -> None:
    """Find the command, check its words, call it. Raises AutoconfError for a mistyped command."""
    if not words or words[0] in HELP:
        print(overview())
        return
    command, *rest = words
    if command == "--version":
        print(__version__)
        return
    if command not in COMMANDS:
        raise AutoconfError(f"no command '{command}'. {_nearest(command, list(COMMANDS))}")
    function = function_of(command)
    if any(word in HELP[:2] for word in rest):
        print(help_of(command, function) + _settings_of(function, rest))
        return
    flags = check_words(command, function, rest)
    import fire

    parsers = {name: _parser(name, parameter) for name, parameter in _parameters(function).items()}
    parsers = {name: parser for name, parser in parsers.items() if parser}
    function = fire.decorators.SetParseFns(**parsers)(function)
    fire.Fire(function, command=[f"--{name}={value}" for name, value in flags.items()], name=f"autoconf {command}")


def function_of(command: str) -> Callable[..., None]:
    """The function that is called for a command."""
    room = "autoconf.experiments" if command in EXPERIMENTS else "autoconf"
    return getattr(importlib.import_module(f"{room}.{command}"), command)


def overview() -> str:
    """The commands, one line each."""
    lines = [f"  {command:<11}{what}" for command, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m autoconf COMMAND ...",
            "",
            *lines,
            "",
            "COMMAND --help explains one; --debug shows tracebacks.",
        ]
    )


def help_of(command: str, function: Callable[..., None]) -> str:
    """Usage and docstring of one command."""
    return f"usage: {usage(command, function)}\n\n{signatures.getdoc(function)}"


def _settings_of(function: Callable[..., None], rest: list[str]) -> str:
    """What `--set` may set, of the bundle that is named beside --help; a hint if none is."""
    if "set" not in _parameters(function):
        return ""
    named = [word.removeprefix("--bundle=") for word in rest if word.startswith("--bundle=")]
    named += [value for flag, value in itertools.pairwise(rest) if flag == "--bundle"]
    if not named:
        return "\n\nWith --bundle BUNDLE beside --help: the settings of that bundle."
    return f"\n\nSettings of {named[0]}:\n\n{settings_table(read_bundle(named[0]))}"


def usage(command: str, function: Callable[..., None]) -> str:
    """`python -m autoconf inspect DATA --out OUT [--seed 0]`"""
    parts: list[str] = []
    for name, parameter in _parameters(function).items():
        flag, default = f"--{name.replace('_', '-')}", parameter.default
        if default is parameter.empty:
            parts.append(f"{flag} {name.upper()}" if parts and name in FLAG_BY_CUSTOM else name.upper())
        elif isinstance(default, bool):
            parts.append(f"[{flag}]")
        else:
            parts.append(f"[{flag} {name.upper() if default in (None, '', ()) else default}]")
    return " ".join(["python -m autoconf", command, *parts])


def check_words(command: str, function: Callable[..., None], words: list[str]) -> dict[str, str]:
    """The arguments as parameter -> text. Raises AutoconfError for an unknown, missing, extra or repeated one."""
    parameters = _parameters(function)
    given: dict[str, list[str]] = {}
    loose: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if not word.startswith("-") or word[1:2].isdigit() or word == "-":
            loose.append(word)
            continue
        flag, equals, value = word.partition("=")
        name = flag[2:].replace("-", "_")
        if not flag.startswith("--") or name not in parameters:
            known = ["--" + parameter.replace("_", "-") for parameter in parameters]
            raise AutoconfError(f"{command} has no flag '{flag}'. {_nearest(flag, known)}")
        if not equals and _base(parameters[name].annotation) is bool:
            value = "true"
        elif not equals:
            if not queue or queue[0].startswith("--"):
                raise AutoconfError(f"{flag} needs a value. Usage: {usage(command, function)}")
            value = queue.pop(0)
        given.setdefault(name, []).append(value)
    for name in [name for name in parameters if name not in given][: len(loose)]:
        given[name] = [loose.pop(0)]
    if loose:
        raise AutoconfError(f"{command} has no use for '{loose[0]}'. Usage: {usage(command, function)}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in given:
            raise AutoconfError(f"{command} needs {name.upper()}. Usage: {usage(command, function)}")
        if len(given.get(name, [])) > 1 and _base(parameter.annotation) not in (list, tuple):
            raise AutoconfError(f"--{name} is given twice. Give it once.")
    return {
        name: json.dumps(values) if _base(parameters[name].annotation) in (list, tuple) else values[0]
        for name, values in given.items()
    }


def _parameters(function: Callable[..., None]) -> dict[str, signatures.Parameter]:
    return dict(signatures.signature(function, eval_str=True).parameters)


def _base(annotation: Any) -> Any:
    """str for `str | None`, list for `list[str]`, and so on."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    return typing.get_origin(annotation) or annotation


def _parser(name: str, parameter: signatures.Parameter) -> Callable[[str], Any] | None:
    """How a parameter's text becomes its value. Fire's own guess reads the folder 2024_01 as the number 202401."""
    kind = _base(parameter.annotation)
    if kind in (list, tuple):
        return lambda text: kind(json.loads(text))
    expected = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    if kind not in expected:
        return None

    def parse(text: str) -> Any:
        try:
            return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError):
            raise AutoconfError(f"--{name} must be {expected[kind]}, not '{text}'.") from None

    return parse


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(known)}."


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}. Check the path, its permissions and the free space."
    if isinstance(error, UnicodeEncodeError):  # a file named in an old code page, or half a character in a JSON file
        text = ascii(error.object[max(0, error.start - 40) : error.end + 40])
        return f"no Unicode text: {text}. Rename that file or folder, or correct that text."
    return str(error).replace("\n", " ")


def _fail(message: str, status: int) -> int:
    print(f"autoconf: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
