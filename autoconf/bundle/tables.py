"""The tables that a bundle's run writes: how far a training is, and what an evaluation found."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path

from autoconf.errors import AutoconfError
from autoconf.output import LINE_EVERY


def last_row(path: Path) -> dict[str, str]:
    """The newest epoch of a training's progress.csv; empty before the first."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError:
        return {}
    return rows[-1] if rows else {}


class EpochLines:
    """Prints how far a training run is, every few seconds at most. table: its progress.csv."""

    def __init__(self, name: str, table: Path) -> None:
        self.name, self.table = name, table
        self.said = last_row(table).get("epoch")
        self.looked = time.monotonic()

    def look(self) -> None:
        if time.monotonic() - self.looked < LINE_EVERY:
            return
        self.looked = time.monotonic()
        row = last_row(self.table)
        if row and row["epoch"] != self.said:
            self.said = row["epoch"]
            dice = row.get("validation_dice")
            words = f"epoch {row['epoch']}" + (f", validation Dice {float(dice):.3f}" if dice else "")
            print(f"{self.name}: {words}", flush=True)


def read_dice(path: Path) -> dict[str, float]:
    """case -> Dice of the table that `evaluating` writes; of several regions the first. Raises AutoconfError."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))[1:]
        found = {name: float(value) for name, value, *_ in rows}
    except (OSError, ValueError) as error:
        raise AutoconfError(f"{path}: cannot be read ({type(error).__name__}). Run the same command again.") from None
    if not found or not all(map(math.isfinite, found.values())):
        raise AutoconfError(f"{path}: holds no score for each case. Look at the log beside it.")
    return found
