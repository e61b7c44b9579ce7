"""How the training went: loss, learning rate and validation Dice over the epochs."""

from __future__ import annotations

import math

from autoconf.pages.chart import curve
from autoconf.pages.html import Section, counted, facts, missing, more, paragraph, table
from autoconf.reading import number
from autoconf.report.read import RunFiles

MOST_LINES = 200  # of the table below the curves


def curves(found: RunFiles) -> Section:
    """Three curves and their numbers as a table."""
    if not found.epochs:
        return Section("curves", "Learning curves", missing("No epoch is in progress.csv yet.", found.command))
    epochs = found.epochs
    body = [_summary(found), '<div class="charts">']
    body.append(curve("loss", "Training loss", "epoch", [(e.number, e.loss) for e in epochs]))
    body.append(curve("rate", "Learning rate", "epoch", [(e.number, e.rate) for e in epochs]))
    scored = [(e.number, e.dice) for e in epochs if e.dice is not None]
    best = (found.best.number, found.best.dice) if found.best and found.best.dice is not None else None
    if scored:
        body.append(curve("dice", "Validation Dice", "epoch", scored, best, unit=True))
    body.append("</div>")
    if not scored:
        body.append(paragraph("No epoch has been validated yet.", "missing"))
    return Section("curves", "Learning curves", "".join(body) + _numbers(found))


def _summary(found: RunFiles) -> str:
    last, best = found.epochs[-1], found.best
    of = int(number(found.record, "max_epochs") or 0)
    bad = sum(not math.isfinite(epoch.loss) for epoch in found.epochs)
    lines = facts(
        [
            ("Epochs", f"{last.number} of {of}" if of else f"{last.number}"),
            ("Time", duration(last.seconds)),
            ("Last loss", f"{last.loss:.4f}"),
            ("Best validation Dice", f"{best.dice:.3f} in epoch {best.number}" if best else None),
        ]
    )
    if of and last.number < of:
        lines += paragraph(f"{counted(of - last.number, 'epoch')} to go: stopped, or still going on.")
    if found.damaged:
        lines += paragraph(f"{counted(found.damaged, 'line')} of progress.csv could not be read and is left out.")
    if bad:
        lines += paragraph(f"Warning: the loss is no finite number in {counted(bad, 'epoch')}.", "warning")
    return lines


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`."""
    if not math.isfinite(seconds):
        return "unknown"
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _numbers(found: RunFiles) -> str:
    rows = [
        (e.number, duration(e.seconds), f"{e.rate:.3g}", f"{e.loss:.4f}", "" if e.dice is None else f"{e.dice:.4f}")
        for e in found.epochs[-MOST_LINES:]
    ]
    header = ("epoch", "since the start", "learning rate", "loss", "validation Dice")
    what = f"the last {MOST_LINES} epochs" if len(found.epochs) > MOST_LINES else "all epochs"
    return more("The numbers of the curves", table(rows, header, f"Progress, {what}", "numbers"))
