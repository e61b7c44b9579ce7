"""The first thing on the page: how good the masks are, how sure that is, and what speaks against it."""

from __future__ import annotations

import os
import shlex
from typing import Any

from autoconf.pages.html import Section, bullets, counted, escape, facts, missing, more, paragraph, table
from autoconf.reading import at, number, texts
from autoconf.report.read import RunFiles, Scores
from autoconf.report.words import METRICS, REFERENCES, heading, region_name

NOT_A_DEVICE = "Research software, not a medical device. Never use it for diagnosis or treatment."
FEW = 30  # patients; docs/scoring.md


def verdict(found: RunFiles) -> Section:
    """The mean Dice with its interval, then the other numbers, the references and the warnings."""
    return Section("verdict", "Verdict", _scored(found.scores) if found.scores else _unscored(found))


def headline(scores: Scores, region: str) -> str:
    """`Whole tumour Dice 0.892 (95 % interval 0.76 to 0.96, 3 patients)`."""
    dice = at(scores.summary, "regions", region, "dice")
    mean, low, high = (number(dice, name) for name in ("mean", "low", "high"))
    words = f"{region_name(scores, region)} Dice {'unknown' if mean is None else f'{mean:.3f}'}"
    count = int(number(scores.summary, "patients") or 0)
    interval = "no interval, "  # which one patient cannot give
    if low is not None and high is not None and count != 1:
        interval = f"95 % interval {low:.2f} to {high:.2f}, "
    return f"{words} ({interval}{counted(count, 'image' if scores.images else 'patient')})"


def score_command(found: RunFiles) -> str:
    """What scores the run's masks, after making them if they are not there; with its own paths as far as known."""
    beside = os.path.dirname(os.path.abspath(found.run))
    truth = os.path.join(found.work or beside, "datalist.json")
    places = [os.path.join(beside, name) for name in ("masks", "predictions")]
    masks = next((place for place in places if os.path.isdir(place)), "")
    words = ["python", "-m", "autoconf", "score", masks or places[0], truth, "--out", os.path.join(found.run, "scores")]
    if masks:
        return shlex.join(words)
    files = at(found.record, "files")
    configs = [f"{found.bundle}/configs/inference.yaml"]
    configs += list(files) if isinstance(files, dict) else []
    make = ["python", "-m", "monai.bundle", "run", "inferring", "--config_file", str(configs), "--datalist", truth]
    make += ["--checkpoint", os.path.join(found.run, "model.pt"), "--output_dir", places[0]]
    return f"{shlex.join(make)} && {shlex.join(words)}"


def warnings(scores: Scores) -> list[str]:
    """What a reader must know before believing the number."""
    summary = scores.summary
    said = [*doubts(scores), *texts(summary, "warnings")]
    count = int(number(summary, "patients") or 0)
    if count < FEW and not any("few" in text.lower() for text in said):
        said.append(f"Few cases ({count}): as many others could give a clearly different mean.")
    for key, what in (("missing", "Scored as empty masks"), ("excluded", "Left out of the scores")):
        names = texts(summary, key)
        if names:
            said.append(f"{what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}.")
    return said


def doubts(scores: Scores) -> list[str]:
    """The verdicts that say that the model does not beat a reference."""
    return [said for said in texts(scores.summary, "verdicts") if "NOT BETTER" in said]


def _scored(scores: Scores) -> str:
    first, *others = scores.regions
    dice = at(scores.summary, "regions", first, "dice")
    rows = scores.worst_first(first)
    split = at(scores.summary, "split")
    parts = [f'<p class="headline">{escape(headline(scores, first))}</p>']
    parts += [paragraph(headline(scores, region)) for region in others]
    parts.append(
        facts(
            [
                ("Median Dice", _quartiles(dice)),
                ("Worst case", f"{rows[0].case}: Dice {rows[0].values.get('dice', 0.0):.3f}"),
                ("Scored", f"{counted(len(rows), 'case')}" + (f" of the {split} split" if split else "")),
                ("Both masks empty", _both_empty(scores, first)),
            ]
        )
    )
    parts.append(bullets(said for said in texts(scores.summary, "verdicts") if said not in doubts(scores)))
    parts.append(bullets((f"Warning: {text}" for text in warnings(scores)), "warnings"))
    parts.append(paragraph(NOT_A_DEVICE, "device"))
    parts.append(_means(scores, first) + _references(scores, first) + _comparison(scores, first))
    for region in others:
        tables = _means(scores, region) + _references(scores, region) + _comparison(scores, region)
        parts.append(more(region_name(scores, region), tables))
    return "".join(parts)


def _quartiles(dice: Any) -> str | None:
    median, low, high = (number(dice, name) for name in ("median", "q1", "q3"))
    if median is None:
        return None
    return f"{median:.3f}" + (f" (quartiles {low:.3f} to {high:.3f})" if low is not None and high is not None else "")


def _both_empty(scores: Scores, region: str) -> str | None:
    count = int(number(scores.summary, "both_empty", region) or 0)
    return f"{counted(count, 'case')}, scored as 1" if count else None


def _means(scores: Scores, region: str) -> str:
    """Every metric of a region: mean with its interval, median, range."""
    rows = []
    for name, metric in METRICS.items():
        found = at(scores.summary, "regions", region, name)
        keys = ("mean", "low", "high", "median", "min", "max")
        mean, low, high, median, least, most = (metric.text(number(found, key)) for key in keys)
        if mean:
            rows.append(
                (heading(scores, name), mean, f"{low} to {high}" if low and high else "", median, f"{least} to {most}")
            )
    caption = f"{region_name(scores, region)}: means over cases, intervals over patients"
    return table(rows, ("", "mean", "95 % interval", "median", "range"), caption, "numbers")


def _references(scores: Scores, region: str) -> str:
    """The model beside answers that need no training."""
    references = at(scores.summary, "references", region)
    if not isinstance(references, dict) or not references:
        return ""
    shown = {name: METRICS[name] for name in ("dice", "iou", "nsd", "hd95")}
    own = at(scores.summary, "regions", region)
    rows = [("this model", *(metric.text(number(own, name, "mean")) for name, metric in shown.items()), "")]
    mine = number(own, "dice", "mean")
    for name, found in references.items():
        means = {key: number(found, key, "mean") for key in shown}
        means = {key: number(found, key) if value is None else value for key, value in means.items()}
        other = means["dice"]
        gain = "" if mine is None or other is None else f"{mine - other:+.3f}"
        cells = [metric.text(means[key]) for key, metric in shown.items()]
        rows.append((REFERENCES.get(str(name), str(name)), *cells, gain))
    header = ("", *(heading(scores, name) for name in shown), "Dice gained by the model")
    caption = f"{region_name(scores, region)}: beside answers that need no training"
    return table(rows, header, caption, "numbers")


def _comparison(scores: Scores, region: str) -> str:
    """The model beside another one, where `score --compare` put them side by side."""
    rows = []
    for name, metric in METRICS.items():
        found = at(scores.comparison, "regions", region, name)
        numbers = [number(found, key) for key in ("difference", "low", "high", "p_holm", "wins", "losses")]
        if None not in numbers:
            gain, low, high, p, wins, losses = (value or 0.0 for value in numbers)
            span = f"{low:+.3f} to {high:+.3f}"
            rows.append((metric.label, f"{gain:+.3f}", span, f"{p:.3f}", f"{wins:.0f}", f"{losses:.0f}"))
    if not rows:
        return ""
    header = ("", "difference", "95 % interval", "p (Holm)", "better in", "worse in")
    caption = f"{region_name(scores, region)}: this model minus {at(scores.comparison, 'other')}"
    return table(rows, header, caption, "numbers")


def _unscored(found: RunFiles) -> str:
    best, last = found.best, found.epochs[-1] if found.epochs else None
    of = int(number(found.record, "max_epochs") or 0)
    lines = []
    if best:
        lines.append(f'<p class="headline">Not scored yet. Best validation Dice so far {best.dice:.3f}</p>')
        lines.append(paragraph(f"In epoch {best.number}. The validation chose the epoch, so this number flatters."))
    else:
        lines.append('<p class="headline">Not scored yet, and no validation so far</p>')
    if last and of:
        end = "finished" if last.number >= of else "not finished, or still going on"
        lines.append(paragraph(f"Epoch {last.number} of {of}: {end}."))
    return "".join(lines) + missing("No scores were found.", score_command(found)) + paragraph(NOT_A_DEVICE, "device")
