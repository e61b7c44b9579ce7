"""The plan as a file: plain YAML in the bundle's keys, with reasons and rejected alternatives as comments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from autoconf.errors import AutoconfError
from autoconf.output import table

REJECTED = "# rejected: "
COMMENT = re.compile(r"\s+# (?P<text>.*)")


def render(heading: list[str], choices: dict[str, Choice]) -> str:
    """An override file: the heading, then `key: value  # reason`, and below each what was rejected.

    heading: lines without their `#`; the first is the command that made the plan.
    """
    lines = {key: f"{key}: {flow(choice.value)}" for key, choice in choices.items()}
    width = max(map(len, lines.values()), default=0)
    body = []
    for key, choice in choices.items():
        body.append(f"{lines[key].ljust(width)}  # {choice.reason}")
        body += [REJECTED + alternative for alternative in choice.rejected]
    return "\n".join([*(f"# {line}" for line in heading), *body]) + "\n"


def flow(value: Any) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()
    return text.removesuffix("...").strip()


def parse(text: str, name: str) -> tuple[list[str], dict[str, Choice]]:
    """Heading and choices of an override file; the opposite of `render`, and of any file of `key: value` lines.

    A key without a comment gets an empty reason. name: of the file, for errors. Raises AutoconfError.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AutoconfError(
            f"{name}: is no YAML ({str(error).splitlines()[0]}). Give a file that plan wrote."
        ) from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise AutoconfError(f"{name}: holds no `key: value` lines. Give a file that plan wrote.")
    lines = text.splitlines()
    starts = [key.start_mark.line for key, _ in root.value] + [len(lines)]
    choices = {}
    for number, (key, value) in enumerate(root.value):
        if key.value not in content:
            raise AutoconfError(f"{name}: line {starts[number] + 1} merges keys with `<<`. Write them one by one.")
        end = value.end_mark
        rest = COMMENT.fullmatch(lines[end.line][end.column :]) if end.line < starts[number + 1] else None
        below = lines[starts[number] : starts[number + 1]]
        rejected = tuple(line.removeprefix(REJECTED) for line in below if line.startswith(REJECTED))
        choices[key.value] = Choice(content[key.value], rest["text"].strip() if rest else "", rejected)
    heading = [line.removeprefix("#").strip() for line in lines[: starts[0]] if line.startswith("#")]
    return heading, choices


def read(path: str) -> tuple[list[str], dict[str, Choice]]:
    """`parse` of a file. Raises AutoconfError."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except FileNotFoundError:
        raise AutoconfError(
            f"{path} is not there. Make it with: autoconf plan WORK --bundle BUNDLE --out {path}"
        ) from None
    except UnicodeDecodeError:
        raise AutoconfError(f"{path}: is no text. Give a file that plan wrote.") from None
    return parse(text, path)


def as_table(choices: dict[str, Choice]) -> str:
    """Key, value and reason in columns; rejected alternatives below their key."""
    rows: list[list[str]] = []
    for key, choice in choices.items():
        rows.append([key, flow(choice.value), choice.reason])
        rows += [["", "rejected", alternative] for alternative in choice.rejected]
    return table(rows, ["key", "value", "reason"])


@dataclass(frozen=True)
class Choice:
    """A value, why it was chosen, and what else was looked at (`what: why not`)."""

    value: object
    reason: str
    rejected: tuple[str, ...] = ()
