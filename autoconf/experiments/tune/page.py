"""One page about a search: what it found, how sure that is, and every trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoconf.experiments.tune.confirm import Verdict
from autoconf.experiments.tune.pictures import history, importance, learning_curves, parallel, slices
from autoconf.experiments.tune.search import COMPLETE, FAILED, PRUNED, Trial, best_of
from autoconf.experiments.tune.settings import Search
from autoconf.pages.document import document
from autoconf.pages.html import Section, bullets, counted, escape, facts, more, paragraph, table

ENDS = {COMPLETE: "", PRUNED: "early", FAILED: "failed"}
NO_DEVICE = "Research software. Not a medical device; never use it for diagnosis or treatment."


def page(
    search: Search,
    found: Sequence[Trial],
    verdict: Verdict | None,
    importances: Sequence[dict[str, float]],
    finished: bool,
) -> str:
    """The whole HTML file."""
    parts = [
        _verdict(search, found, verdict, finished),
        Section("history", "Trial by trial", _charts([history(found), learning_curves(found)])),
        Section("slices", "Each setting against Dice", _slices(search, found)),
        Section("importance", "What mattered", _importance(importances)),
        Section("parallel", "All settings together", parallel(search.space.params, found)),
        Section("trials", "Trials", _trials(search, found)),
    ]
    return document("Search", "/".join(Path(search.setup.home).parts[-2:]), parts)


def _verdict(search: Search, found: Sequence[Trial], verdict: Verdict | None, finished: bool) -> Section:
    best = best_of(list(found))
    body = f'<p class="headline">{escape(_headline(best, verdict))}</p>' + paragraph(NO_DEVICE, "device")
    counts = {state: sum(t.state == state for t in found) for state in (COMPLETE, PRUNED, FAILED)}
    body += facts(
        [
            ("Trials in full", counts[COMPLETE]),
            ("Ended early", counts[PRUNED]),
            ("Failed", counts[FAILED]),
            ("Epochs of a trial", search.space.max_epochs),
            ("Validated on", f"fold {search.fold}"),
            ("Time", f"{sum(t.seconds for t in found) / 60:.0f} min"),
        ]
    )
    if not finished:
        body += paragraph(
            f"The search is not finished: {counted(sum(search.sizes()), 'trial')} were asked for.", "warning"
        )
    if best:
        rows = [(key, _shown(value), _shown(search.value(key))) for key, value in best.settings.items()]
        body += table(rows, ("setting", f"trial {best.number}", "as planned"), "The best trial", "plan")
    for param in search.space.params:
        if best and param.at_its_end(best.settings.get(param.key)):
            text = (
                f"{param.key} lies at an end of its range ({param.described()}): a wider one may hold a better value."
            )
            body += paragraph(text, "warning")
    if verdict:
        runs = [
            (r["seed"], r["fold"], r["cases"], r["default"], r["tuned"], r["tuned"] - r["default"])
            for r in verdict.runs
        ]
        header = ("seed", "validation fold", "cases", "Dice as planned", "Dice tuned", "difference")
        body += table(runs, header, "Trained again, on folds that did not choose", "numbers")
        body += paragraph(
            f"{verdict.wins} cases are better with the tuned settings, {verdict.losses} worse. The interval is a "
            f"bootstrap over {counted(verdict.patients, 'patient')}. A full training is longer than these runs of "
            f"{counted(search.space.max_epochs, 'epoch')}: what wins a sprint need not win a marathon."
        )
    elif best:
        body += paragraph(
            "Not confirmed: the fold that chose a trial flatters it. --seeds 3 compares it on the others.", "warning"
        )
    return Section("verdict", "Verdict", body)


def _headline(best: Trial | None, verdict: Verdict | None) -> str:
    if best is None:
        return "No trial ran to its end."
    if verdict is None:
        return f"The best trial reached a validation Dice of {best.dice:.3f}, on the fold that chose it."
    return verdict.words()


def _charts(pictures: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(pictures)}</div>'


def _slices(search: Search, found: Sequence[Trial]) -> str:
    pictures = [slices(param, found, search.value(param.key)) for param in search.space.params]
    return _charts(pictures) + paragraph(
        "Filled: trials in full; hollow: ended early, with their best Dice until then."
    )


def _importance(importances: Sequence[dict[str, float]]) -> str:
    known = [(stage, shares) for stage, shares in enumerate(importances) if shares]
    if not known:
        return paragraph("Fewer than ten trials in full, or one setting only: nothing can be said of what mattered.")
    titles = ["Share of the differences" if len(importances) == 1 else f"Stage {stage + 1}" for stage, _ in known]
    body = _charts([importance(f"importance-{s}", t, shares) for (s, shares), t in zip(known, titles, strict=True)])
    return body + paragraph("PED-ANOVA over the trials in full. With few trials it is a hint, no finding.")


def _trials(search: Search, found: Sequence[Trial]) -> str:
    keys = [param.key for param in search.space.params]
    rows: list[list[Any]] = []
    for t in found:
        values = [_shown(t.settings.get(key, search.value(key))) for key in keys]
        rows.append([t.number, t.dice, t.epochs, f"{t.seconds / 60:.1f}", *values, ENDS[t.state]])
    body = table(rows, ("trial", "Dice", "epochs", "min", *keys, "end"), "All trials", "numbers")
    failed = [f"Trial {t.number}: {t.reason}" for t in found if t.state == FAILED]
    return body + (more(counted(len(failed), "failed trial"), bullets(failed)) if failed else "")


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
