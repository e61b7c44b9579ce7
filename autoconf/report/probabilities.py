"""What the saved probabilities say: other thresholds, whether they mean what they say, which case to look at first."""

from __future__ import annotations

from autoconf.pages.chart import LEFT, RIGHT, TOP, WIDTH, Scale, axes, curve, dots, line, polyline, svg, thin
from autoconf.pages.html import Section, missing, paragraph, table
from autoconf.reading import items, number
from autoconf.report.read import RunFiles, Scores
from autoconf.report.verdict import score_command

MOST_ROWS = 10  # cases to look at first


def probabilities(found: RunFiles) -> Section:
    """A curve over thresholds, a reliability diagram, and the cases with the highest entropy."""
    scores, title = found.scores, "Probabilities"
    if scores is None or not (scores.threshold_curve or scores.calibration or scores.triage):
        said = "No probabilities were scored. Let inferring write them with --save_probability True, then score again."
        return Section("probabilities", title, missing(said, score_command(found)))
    parts = ['<div class="charts">', _thresholds(scores), _reliability(scores), "</div>"]
    error = number(scores.calibration, "ece")
    if error is not None:
        parts.append(paragraph(f"Expected calibration error {error:.3f}, within 10 mm of the tumour; 0 is best."))
    return Section("probabilities", title, "".join(parts) + _triage(scores))


def _thresholds(scores: Scores) -> str:
    points = thin(scores.threshold_curve)
    if not points:
        return ""
    best = max(points, key=lambda point: point[1])
    note = "The masks were cut at 0.5. A threshold chosen on these cases must not be reported on them."
    return f"<div>{curve('threshold', 'Mean Dice', 'threshold', points, best, unit=True)}{paragraph(note)}</div>"


def _reliability(scores: Scores) -> str:
    """Share of tumour against mean probability, bin by bin; the diagonal is what an honest network gives."""
    bins = [(number(entry, "probability"), number(entry, "tumour")) for entry in items(scores.calibration, "bins")]
    points = thin(sorted((p, t) for p, t in bins if p is not None and t is not None))
    if not points:
        return ""
    height = 270.0
    x, y = Scale(0.0, 1.0, LEFT, WIDTH - RIGHT), Scale(0.0, 1.0, height - 36, TOP)
    body = axes(x, y, "probability", "share of tumour") + line(x.start, y.start, x.end, y.end, "limit")
    places = [(x.place(p), y.place(t)) for p, t in points]
    body += polyline(places, "curve") + dots(places, 3)
    words = "Probability and share of tumour: " + "; ".join(f"{p:.2f}: {t:.2f}" for p, t in points) + "."
    return svg("reliability", "Share of tumour by probability", words, height, body)


def _triage(scores: Scores) -> str:
    unsure = sorted(scores.triage, key=lambda item: (-item[1], item[0]))[:MOST_ROWS]
    rows = [(case, f"{entropy:.3f}") for case, entropy in unsure]
    caption = "Look at these first: mean entropy around the predicted tumour, in bits"
    return table(rows, ("case", "entropy"), caption, "numbers") if rows else ""
