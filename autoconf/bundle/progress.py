"""The table of epochs that a training writes (progress.csv)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoconf.errors import AutoconfError
from autoconf.reading import read_lines, read_text

PROGRESS = ("epoch", "seconds", "learning_rate", "loss", "validation_dice")


@dataclass(frozen=True)
class Epoch:
    """A line of progress.csv. dice: of the validation, None in epochs without one."""

    number: int
    seconds: float
    rate: float
    loss: float
    dice: float | None


def read_progress(path: str) -> tuple[list[Epoch], int]:
    """The epochs of a progress.csv and the number of lines that could not be read: half a last line, say.

    Nothing where there is no file. Raises AutoconfError for a table of something else.
    """
    text = read_text(path)
    if not text:
        return [], 0
    whole, newline, rest = text.rpartition("\n")  # who writes a line ends it
    lines = read_lines(path, whole if newline else text)
    if not lines:
        return [], 0
    if not set(PROGRESS) <= set(lines[0]):
        raise AutoconfError(f"{path}: has no columns {', '.join(PROGRESS)}. Give the folder that a training wrote.")
    epochs, damaged = [], int(bool(rest) and bool(newline))
    for line in lines[1:]:
        try:
            row = dict(zip(lines[0], line, strict=True))
            dice = float(row["validation_dice"]) if row["validation_dice"] else None
            seconds, rate, loss = (float(row[name]) for name in ("seconds", "learning_rate", "loss"))
            epochs.append(
                Epoch(int(row["epoch"]), seconds, rate, loss, dice if dice is None or math.isfinite(dice) else None)
            )
        except ValueError:
            damaged += 1
    return epochs, damaged
