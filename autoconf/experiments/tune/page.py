"""One page about a search: what it found, how sure that is, and every trial."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoconf.experiments.tune.confirm import Verdict
from autoconf.experiments.tune.pictures import Plots
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
    parts = [_verdict(search, found, verdict, finished)]
    if any(trial.state == COMPLETE for trial in found):
        parts += _pictures(search, found, importances)
    parts.append(Section("trials", "Trials", _trials(search, found)))
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


def _pictures(search: Search, found: Sequence[Trial], importances: Sequence[dict[str, float]]) -> list[Section]:
    plots = Plots(search.space.params, found)
    best = best_of(list(found))
    over = f"Validation Dice of {counted(len(found), 'trial')}; the best is {best.dice if best else 0:.4f}."
    sections = [
        Section("history", "Trial by trial", _charts([(plots.history(), over), (plots.learning_curves(), over)])),
        Section(
            "slices",
            "Each setting against Dice",
            _charts([(plots.one_setting(param), f"{param.key} against Dice") for param in search.space.params])
            + paragraph("Trials in full; darker ones came later."),
        ),
    ]
    said = "; ".join(f"{key} {share:.2f}" for shares in importances for key, share in shares.items())
    body = paragraph("Fewer than ten trials in full, or one setting only: nothing can be said of what mattered.")
    if said:
        body = _charts([(plots.importances(), said)])
        body += paragraph(f"PED-ANOVA over the trials in full: {said}. With few trials it is a hint, no finding.")
    sections.append(Section("importance", "What mattered", body))
    lines = _charts([(plots.parallel(), "All settings of each trial in full, with its Dice")])
    return [*sections, Section("parallel", "All settings together", lines)]


def _charts(pictures: Sequence[tuple[bytes, str]]) -> str:
    """PNGs, each with what it shows in words."""
    images = [
        f'<img class="plot" alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for png, words in pictures
    ]
    return f'<div class="charts">{"".join(images)}</div>'


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
