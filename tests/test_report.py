"""`autoconf report`: what the page says, that no text of a file can change it, and where the outlines lie."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers_report import CHECKS, PLAN, PROGRESS, RECORD, write_run, write_scored_run, write_scores
from helpers_volumes import REPO, SHAPE, odd_copies, plain_affine, store, tilted_affine, tumour, write_case
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from autoconf.bundle.progress import read_progress
from autoconf.data.datalist import Case, Datalist
from autoconf.errors import AutoconfError
from autoconf.pages.chart import Scale, thin
from autoconf.pages.html import Section, escape, shell
from autoconf.pages.overlays import PicturedCase, encode
from autoconf.pages.planes import PicturedScan, outline, stacks
from autoconf.report import report
from autoconf.report.cases import chosen, limits
from autoconf.report.details import split_sizes
from autoconf.report.figures import unused
from autoconf.report.page import SECTIONS, page
from autoconf.report.read import Row, find
from autoconf.score import score

NASTY = """BraTS<script>alert(1)</script>"'&<b>\u202e"""
MOST = 10_000_000  # bytes of a page


class Page(HTMLParser):
    """The elements of a page, the headings' levels, and its text without scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag in ("script", "style"):
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if not self.inside:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def made(run: Path, **options: str) -> Page:
    return Page(page(find(str(run), **options)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A finished, scored run on oblique scans of 1 x 1 x 3 mm. Copy it before a change."""
    return write_scored_run(tmp_path_factory.mktemp("whole"), tilted_affine())


# --- the page as a whole ----------------------------------------------------------------------


def test_a_report_is_one_file_with_its_pictures_beside_it(whole: Path, tmp_path: Path) -> None:
    report(str(whole), str(tmp_path / "out" / "mine.html"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mine.html", "mine_files"]
    names = sorted(path.name for path in (tmp_path / "out" / "mine_files").iterdir())
    cases = [f"overlay_BraTS2021_{number:05d}.png" for number in (0, 1)]
    assert names == ["bland_altman.png", "curves.png", *cases, "strip.png"]
    for name in names:
        with Image.open(tmp_path / "out" / "mine_files" / name) as picture:
            assert picture.width > 300 and len(picture.convert("L").getcolors(10**6)) > 5


def test_the_page_loads_nothing(whole: Path) -> None:
    found = made(whole)
    targets = [
        value for _, a in found.elements for name, value in a.items() if name in ("href", "src", "srcset", "action")
    ]
    assert targets and all(target.startswith(("#", "data:")) for target in targets)
    policy = next(a["content"] for a in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert not found.all("iframe") and "@import" not in page(find(str(whole)))


def test_the_same_run_gives_the_same_page(whole: Path) -> None:
    assert page(find(str(whole))) == page(find(str(whole)))


def test_headings_go_down_one_level_at_a_time_and_the_contents_lead_to_each_section(whole: Path) -> None:
    found = made(whole)
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    idents = [a["id"] for _, a in found.elements if "id" in a]
    assert len(idents) == len(set(idents))
    sections = [a["id"] for a in found.all("section")]
    assert sections == [
        "verdict",
        "curves",
        "cases",
        "overlays",
        "probabilities",
        "plan",
        "audit",
        "doctor",
        "environment",
    ]
    assert [a["href"] for a in found.all("a")] == ["#main", *(f"#{ident}" for ident in sections)]


def test_every_picture_and_control_has_a_name(whole: Path) -> None:
    found = made(whole)
    idents = {a["id"] for _, a in found.elements if "id" in a}
    for picture in found.all("svg"):
        assert picture.get("aria-hidden") == "true" or set(picture["aria-labelledby"].split()) <= idents
    for control in found.all("input"):
        assert control["type"] == "checkbox" or control["aria-label"]


@pytest.mark.parametrize(
    "words", [["a", "--b", "['c','d']"], ["--x=$HOME", 'it\'s "so"', "", "a b", "é;rm"], ["a", "&&", "b"]]
)
def test_a_command_can_be_copied_whatever_its_words_are(words: list[str]) -> None:
    shown = Page(shell(" ".join(shlex.quote(word) if word != "&&" else word for word in words)))
    text = "".join(shown.words)
    assert shlex.split(text.replace("\\\n", " ")) == words
    assert "'\"'\"'" not in text or '"' in "".join(words)


def test_another_section_is_another_function(whole: Path) -> None:
    text = page(find(str(whole)), (*SECTIONS, lambda found: Section("tuning", "Tuning", f"<p>{found.best.dice}</p>")))
    assert '<a href="#tuning">Tuning</a>' in text and "<p>0.86</p>" in text


def test_neither_torch_nor_monai_is_loaded(whole: Path, tmp_path: Path) -> None:
    words = ["report", str(whole), "--out", str(tmp_path / "r.html")]
    command = f"import sys; from autoconf.__main__ import main; main({words}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], cwd=REPO, capture_output=True, text=True, check=True)
    assert not {"torch", "monai"} & set(done.stdout.split()) and (tmp_path / "r.html").exists()


# --- what it says -----------------------------------------------------------------------------


def test_the_verdict_comes_first_with_its_interval(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    write_scores(run / "scores", ["a", "b", "c"], ("wt", "et"))
    text = made(run).text
    first = text.index("Whole tumour Dice 0.892 (95 % interval 0.76 to 0.96, 3 patients)")
    assert first < text.index("Enhancing tumour Dice 0.892") < text.index("Research software, not a medical device")
    assert text.index("few patients (3)") < text.index("Learning curves", first)
    assert "Worst case a: Dice 0.250" in text and "+0.792" in text


def test_doubts_and_cases_without_a_prediction_are_warnings(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    summary = write_scores(run / "scores", ["a", "b"]) / "summary.json"
    said = {"verdicts": ["NOT BETTER: wt Dice"], "warnings": [], "missing": ["b"], "excluded": ["c", "d"]}
    summary.write_text(json.dumps(json.loads(summary.read_text()) | said))
    text = made(run).text
    for words in ("NOT BETTER: wt Dice", "Few cases (2)", "Scored as empty masks: b.", "Left out of the scores: c, d."):
        assert f"Warning: {words}" in text


def test_one_patient_has_no_interval(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    write_scores(run / "scores", ["a"])
    assert "Whole tumour Dice 0.892 (no interval, 1 patient)" in made(run).text


def test_the_best_epoch_is_marked(tmp_path: Path) -> None:
    text = made(write_run(tmp_path)).text
    assert "0.860 in epoch 3" in text and "best 0.860, epoch 3" in text and "4 of 4" in text


def test_plan_data_checks_and_commands_are_shown(whole: Path) -> None:
    text = made(whole).text
    for words in ("covers 84% of the brain", "64, needs 8 GB", "python -m monai.bundle run training", "16,674,833"):
        assert words in text
    for words in ("not installed", "Median voxel, mm 1.0x1.0x3.0", "validation (fold 0)", "2 checks: 1 FAIL, 1 pass"):
        assert words in text
    assert text.index("leak FAIL") < text.index("empty pass")


def test_the_split_is_counted_in_cases_and_in_patients() -> None:
    learned = [Case(c, p, ("x",), fold=f) for c, p, f in (("a", "1", 0), ("b", "2", 1), ("c", "2", 4))]
    datalist = Datalist("d", "volumes", "/", (*learned, Case("d", "d", ("x",), section="testing")))
    assert split_sizes(datalist) == [("training", 2, 1), ("validation (fold 0)", 1, 1), ("testing", 1, 1)]


def test_a_file_on_top_that_is_no_plan_is_shown_as_it_is(tmp_path: Path) -> None:
    text = made(write_run(tmp_path, RECORD | {"files": {"odd.yaml": "- 1\n- [2\n", "empty.yaml": ""}})).text
    assert "- [2" in text and text.count("shown as it is") == 2


def test_the_limits_of_agreement_hold_95_percent_of_a_normal_sample() -> None:
    found = limits([1.0, 2.0, 3.0])
    assert (found.bias, found.low, found.high) == (2.0, pytest.approx(2 - 1.96), pytest.approx(2 + 1.96))
    assert limits([1.0, 5.0]).low is None
    sample = np.random.default_rng(0).normal(3, 2, 20_000)
    found = limits(sample.tolist())
    assert np.mean((sample > found.low) & (sample < found.high)) == pytest.approx(0.95, abs=0.005)


def test_thinned_dots_keep_the_worst_and_the_best_case() -> None:
    rows = [Row(f"{n}", "", "wt", {"dice": n / 1000}) for n in range(1000)]
    shown = chosen(rows, 200)
    assert len(shown) == len({row.case for row in shown}) == 200
    assert [row.case for row in shown[:50]] == [f"{n}" for n in range(50)] and shown[-1].case == "999"


def test_saved_probabilities_and_comparisons_are_shown_where_they_were_scored(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    scores = write_scores(run / "scores", ["a", "b", "c"])
    assert "No probabilities were scored" in made(run).text
    (scores / "threshold_curve.csv").write_text("threshold,dice\n0.3,0.5\n0.5,0.8\n0.7,0.75\n")
    bins = [{"probability": 0.1, "tumour": 0.2}, {"probability": 0.9, "tumour": 0.7}]
    (scores / "calibration.json").write_text(json.dumps({"ece": 0.123, "bins": bins}))
    (scores / "triage.csv").write_text("case,entropy\nb,0.2\nc,0.9\n")
    judged = {"difference": 0.05, "low": -0.01, "high": 0.11, "p_holm": 0.4, "wins": 2, "losses": 1}
    (scores / "comparison.json").write_text(json.dumps({"other": "old_masks", "regions": {"wt": {"dice": judged}}}))
    text = made(run).text
    for words in ("best 0.800, threshold 0.5", "error 0.123", "0.10: 0.20; 0.90: 0.70", "this model minus old_masks"):
        assert words in text
    assert "Dice +0.050 -0.010 to +0.110 0.400 2 1" in text and text.index("c 0.900") < text.index("b 0.200")


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(allow_infinity=True)), max_size=300), st.integers(1, 50))
def test_a_thinned_curve_keeps_its_last_point_and_no_more_than_asked(points: list, most: int) -> None:
    finite, shown = [p for p in points if np.isfinite(p[1])], thin(points, most)
    assert len(shown) <= most and shown[-1:] == finite[-1:] and (len(finite) > most or shown == finite)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_round_numbers_inside_the_scale(low: float, span: float) -> None:
    ticks = Scale(low, low + span, 0, 300).ticks()
    assert 1 <= len(ticks) <= 6
    steps = {f"{step:.0e}"[0] for step in np.diff(ticks)}
    assert len(steps) <= 1 and steps <= {"1", "2", "5"}
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in ticks)


# --- what is missing --------------------------------------------------------------------------


def test_a_half_finished_run_can_be_reported(tmp_path: Path) -> None:
    text = made(write_run(tmp_path, progress=PROGRESS[: PROGRESS.index("3,110") + 9])).text
    assert "Not scored yet. Best validation Dice so far 0.810" in text
    assert "2 of 4" in text and "1 line of progress.csv could not be read" in text


@pytest.mark.parametrize("end", [5, 49, 50, 57, 60, 68, 90])
def test_a_table_that_ends_anywhere_is_read_up_to_there(tmp_path: Path, end: int) -> None:
    path = tmp_path / "progress.csv"
    path.write_text(PROGRESS[:end])
    whole_lines = PROGRESS[:end].count("\n")
    if end < 48:
        with pytest.raises(AutoconfError, match="has no columns"):
            read_progress(str(path))
    else:
        epochs, damaged = read_progress(str(path))
        assert len(epochs) == max(0, whole_lines - 1)
        assert damaged == (not PROGRESS[:end].endswith("\n"))


def test_a_table_of_an_empty_line_holds_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text("\n")
    assert read_progress(str(tmp_path / "progress.csv")) == ([], 0)


def test_a_plan_that_merges_keys_is_shown_as_it_is(tmp_path: Path) -> None:
    run = write_run(tmp_path, RECORD | {"files": {"plan.yaml": "seed: 3\n<<: {amp: false}\n"}})
    assert "Not a file of `key: value` lines, so shown as it is." in made(run).text


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    text = made(write_run(tmp_path, progress=None)).text
    assert "Not scored yet, and no validation so far" in text and "No epoch is in progress.csv yet" in text


def test_each_missing_part_is_one_line_with_its_command(tmp_path: Path) -> None:
    text = made(write_run(tmp_path, record=None)).text
    for verb in ("score", "plan", "inspect", "doctor"):
        assert f"python -m autoconf {verb}" in text
    assert "python -m monai.bundle run training" in text


def test_scores_alone_can_be_reported(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write_scores(tmp_path / "elsewhere", ["a", "b"])
    assert "Whole tumour Dice 0.892" in made(tmp_path / "run", scores=str(tmp_path / "elsewhere")).text


def test_scores_and_checks_are_also_found_beside_the_run(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    write_scores(tmp_path / "scores", ["a", "b"])
    (tmp_path / "doctor").mkdir()
    (tmp_path / "doctor" / "doctor.json").write_text(json.dumps(CHECKS))
    text = made(run).text
    assert "Whole tumour Dice 0.892" in text and "leak" in text


def test_masks_that_are_gone_leave_the_numbers(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    write_scores(run / "scores", ["a", "b"])
    found = made(run)
    assert "pairs.json is not there. Score again." in found.text and not found.all("figure")


def test_masks_that_were_changed_after_the_scores_are_not_drawn(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole.parent, tmp_path / "all")
    run = tmp_path / "all" / "run"
    pairs = (run / "scores" / "pairs.json").read_text()
    (run / "scores" / "pairs.json").write_text(pairs.replace(str(whole.parent), str(tmp_path / "all")))
    mask = np.zeros(SHAPE, np.uint8)
    mask[1, 1, 1] = 1
    store(mask, tmp_path / "all" / "masks" / "BraTS2021_00001.nii.gz", tilted_affine())
    found = made(run)
    assert "holds 0.003 mL now, but 0.036 when it was scored. Score it again." in found.text
    assert len(found.all("figure")) == 3


def test_masks_are_read_in_the_labels_that_they_were_scored_with(tmp_path: Path) -> None:
    """1 to 4, of which `auto` would take the paediatric order, where 4 is tumour and no cavity."""
    for case in ("a", "b"):
        mask = tumour((1, 2, 3, 4))
        for folder in ("pred", "truth"):
            (tmp_path / folder).mkdir(exist_ok=True)
            store(mask, tmp_path / folder / f"{case}.nii.gz")
    run = write_run(tmp_path)
    pred, truth, out = (str(path) for path in (tmp_path / "pred", tmp_path / "truth", run / "scores"))
    score(pred, truth, out, labels="brats2024-post", pred_labels="truth", jobs=1)
    found = made(run)
    assert "cannot be drawn" not in found.text and "Score it again" not in found.text and found.all("figure")
    pairs = json.loads((run / "scores" / "pairs.json").read_text())
    assert pairs[0]["regions"]["wt"] == {"truth": [1, 2, 3], "pred": [1, 2, 3]}


# --- text that others wrote -------------------------------------------------------------------


def test_no_text_of_a_file_becomes_html(tmp_path: Path) -> None:
    checks = [{"check": NASTY, "verdict": NASTY, "note": NASTY, "group": NASTY}]
    record = {key: NASTY for key in RECORD} | {"files": {NASTY: PLAN + f"key: {json.dumps(NASTY)} # {NASTY}\n"}}
    record |= {"versions": {NASTY: NASTY}, "datalist": str(tmp_path / "datalist.json")}
    run = write_run(tmp_path, record)
    write_scores(run / "scores", [NASTY, "b"])
    (run / "doctor.json").write_text(json.dumps(checks))
    item = {"case": NASTY, "patient": NASTY, "image": NASTY}
    (tmp_path / "datalist.json").write_text(json.dumps({"kind": "images", "training": [item], "testing": [item]}))
    (tmp_path / "fingerprint.json").write_text(
        json.dumps({"modalities": {NASTY: {NASTY: 1}}, "median_spacing": [NASTY]})
    )
    (tmp_path / "problems.csv").write_text(
        "severity,problem,case,finding\n" + ",".join(['"' + NASTY.replace('"', '""') + '"'] * 4)
    )
    text = page(find(str(run)))
    found = Page(text)
    assert not found.all("b") and len(found.all("script")) == 1
    assert "alert(1)" in found.text and "\u202e" not in text
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("text", ["\ud800", "\x00\x1b[2J", "a" * 10_000, "&" * 300])
def test_odd_characters_and_endless_texts_are_made_harmless(text: str) -> None:
    shown = escape(text)
    assert len(shown.encode()) <= 400 and not set(shown) & {"\x00", "\x1b", "\ud800"}


def test_files_of_another_form_are_reported_or_refused_but_never_crash(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    cases = ["a", "b"]
    scores = write_scores(run / "scores", cases)
    summary = json.loads((scores / "summary.json").read_text())
    few = {"dice": {"mean": 0.5, "low": 0.4}}
    summary |= {"regions": {"wt": few}, "references": {"wt": {"all_background": few}}}
    files = {
        run / "run.json": RECORD,
        scores / "summary.json": summary,
        run / "doctor.json": CHECKS[:1],
        tmp_path / "datalist.json": {
            "kind": "images",
            "training": [{"case": "a", "fold": 0, "patient": "p", "image": "a.png"}],
            "testing": [],
            "dataset_dir": "x",
        },
        tmp_path / "fingerprint.json": {"n_cases": 1, "median_spacing": [1, 1, 1], "modalities": {"t1": {"mean": 1.0}}},
    }
    for path, content in files.items():
        path.write_text(json.dumps(content))
    for path, content in files.items():
        for odd in odd_copies(content):
            path.write_text(json.dumps(odd))
            try:
                assert page(find(str(run))).endswith("</html>\n")
            except AutoconfError as error:
                assert path.name in str(error) or path.parent.name in str(error)
        path.write_text(json.dumps(content))


# --- its size ---------------------------------------------------------------------------------


def test_thousands_of_cases_stay_below_ten_megabytes(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    write_scores(run / "scores", [f"{n}{'&' * 500}" for n in range(3000)], ("wt", "tc", "et"))
    text = page(find(str(run)))
    assert len(text.encode()) < MOST - 7_500_000
    assert "200 of 3,000 cases are drawn" in text


def test_pictures_that_are_too_large_lose_quality_and_slices_and_the_page_says_so() -> None:
    noise = np.random.default_rng(0).integers(1, 255, (40, 40, 40), np.uint8)
    mask = noise > 250
    case = PicturedCase("a", "worst", 0.5, PicturedScan(noise, {"wt": (mask, mask)}, (1.0, 1.0, 1.0)), "FLAIR")
    sizes, notes = [], []
    for most in (10**9, 200_000, 50_000):
        drawn, note = encode([(case, stacks(case.scan))], most)
        planes = drawn[0][1]
        sizes.append(
            sum(len(text) for plane in planes for text in (*plane.grey, *plane.first.truth, *plane.first.pred))
        )
        notes.append(note)
        assert sizes[-1] <= most
        for plane in planes:  # what is shown first is always there
            assert plane.numbers[plane.start] == plane.stack.first + plane.stack.start + 1
    assert sizes[0] > sizes[1] > sizes[2]
    assert all(re.search(r"\(0\.\d MB\)", note) for note in notes)
    assert "every slice" in notes[0] and "one slice of" in notes[2]


# --- where the outlines lie -------------------------------------------------------------------


def box_of(path: str, transform: str) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of an SVG path of relative steps, in the units of its viewBox."""
    points = []
    for part in re.findall(r"M([^z]*)z", path):
        start, steps = part.split("l")
        numbers = [list(map(int, re.findall(r"-?\d+", words))) for words in (start, steps)]
        points.append(np.cumsum(np.array(numbers[0] + numbers[1]).reshape(-1, 2), axis=0))
    scale = np.array([float(value) for value in re.findall(r"[\d.]+", transform)])
    every = np.concatenate(points) * scale
    return (*every.min(axis=0).tolist(), *every.max(axis=0).tolist())


@pytest.mark.parametrize("affine", [plain_affine, tilted_affine])
def test_outlines_lie_on_the_tumour_in_each_plane_whatever_way_the_scan_is_stored(affine, tmp_path: Path) -> None:
    """Tumour: 5..7 to the right, 7..8 to the front, 2..3 up. Scan: 10 x 12 x 8 voxels, shown from 0, 1, 0 on."""
    found = made(write_scored_run(tmp_path, affine()))
    views = [a["viewbox"] for a in found.all("svg") if a.get("aria-labelledby", "").startswith("p")][:3]
    paths = {kind: [a for a in found.all("path") if a.get("class") == kind][:3] for kind in ("truth", "pred")}
    assert views == ["0 0 10 11", "0 0 10 24", "0 0 11 24"]  # mm: 3 mm per voxel upward
    truth, pred = ([box_of(a["d"], a["transform"]) for a in paths[kind]] for kind in ("truth", "pred"))
    assert truth == [(2, 3, 5, 5), (2, 12, 5, 18), (3, 12, 5, 18)]
    assert pred == [(2, 2, 5, 5), (2, 12, 5, 18), (2, 12, 5, 18)]
    assert "slice 3 of 8, truth 0.1 cm\u00b2, prediction 0.1 cm\u00b2" in found.text
    assert (
        "slice 8 of 12, " in found.text and "slice 6 of 10, " in found.text
    )  # counted in the scan, not in what is shown


def test_every_region_that_was_scored_can_be_outlined(tmp_path: Path) -> None:
    """Labels 1, 2 and 4 take turns in the tumour; the prediction calls enhancing tumour 3, and misses one slice."""
    home = write_case(tmp_path / "data", "BraTS2021_00000", affine=tilted_affine())
    mask = tumour((1, 2, 3))
    mask[5] = 0
    (tmp_path / "masks").mkdir()
    store(mask, tmp_path / "masks" / f"{home.name}.nii.gz", tilted_affine())
    run = write_run(tmp_path)
    score(str(tmp_path / "masks"), str(tmp_path / "data"), str(run / "scores"), jobs=1)
    text = page(find(str(run)))
    stored = json.loads(re.search(r'id="stacks">(.*?)</script>', text, re.DOTALL)[1])
    sagittal = {region: np.array(lines["truth_area"]) for region, lines in stored[2]["lines"].items()}
    predicted = {region: np.array(lines["pred_area"]) for region, lines in stored[2]["lines"].items()}
    values = {"wt": (1, 2, 4), "tc": (1, 4), "et": (4,)}
    for region, labels in values.items():  # 3 mm2 a voxel
        count = np.isin(tumour(), labels).sum(axis=(1, 2))
        assert sagittal[region] == pytest.approx(count * 0.03, abs=0.006)
        assert predicted[region] == pytest.approx(np.where(np.arange(10) == 5, 0, count) * 0.03, abs=0.006)
    choice = [a["value"] for a in Page(text).all("input") if a["type"] == "radio"]
    assert choice == ["wt", "tc", "et"]


def test_the_letters_say_where_the_patients_sides_are() -> None:
    """A spot in the right, front and upper corner is shown at the letters R, A and S."""
    image = np.zeros((4, 5, 6), np.uint8)
    image[0, 0, 0] = 9  # so that nothing is cropped
    image[3, 4, 5] = 250
    scan = PicturedScan(image, {"wt": (image > 100, image > 100)}, (1.0, 1.0, 1.0))
    for stack in stacks(scan):
        number, row, column = np.argwhere(stack.grey == 250)[0]
        left, right, top, bottom = stack.sides
        spot = {"R", "A", "S"}
        assert ({left} if column == 0 else {right}) | ({top} if row == 0 else {bottom}) <= spot
        assert number == stack.start and stack.first + number + 1 == stack.total


@given(arrays.arrays(bool, (7, 6)))
def test_an_outline_has_every_pixel_on_its_side(mask: np.ndarray) -> None:
    from matplotlib.path import Path as Polygon

    inside = np.zeros(mask.shape, int)
    centres = np.array([(2 * column + 1, 2 * row + 1) for row in range(7) for column in range(6)], float)
    for part in re.findall(r"M([^z]*)z", outline(mask)):
        numbers = np.array(list(map(int, re.findall(r"-?\d+", part)))).reshape(-1, 2)
        corners = np.cumsum(numbers, axis=0).astype(float)
        inside += Polygon(np.vstack([corners, corners[:1]]), closed=True).contains_points(centres).reshape(7, 6)
    assert np.array_equal(inside % 2 == 1, mask)


def test_a_picture_shows_the_slice_and_not_another(whole: Path) -> None:
    """The first picture is the axial slice with most tumour, as bright as the scan."""
    found = made(whole)
    picture = found.all("image")[0]
    with Image.open(io.BytesIO(base64.b64decode(picture["href"].partition(",")[2]))) as image:
        grey = np.asarray(image).astype(float)
    assert grey.shape == (11, 10)
    brain = np.zeros((11, 10), bool)
    brain[1:9, 2:7] = True  # 3..10 to the front; 2..6 to the right, as FLAIR does not reach 7
    assert grey[~brain].mean() < 0.2 * grey[brain].mean()


def test_without_javascript_the_sliders_are_hidden_and_a_slice_is_shown(whole: Path) -> None:
    found = made(whole)
    assert all("hidden" in a for a in found.all("input") if a["type"] == "range")
    assert all(a["href"].startswith("data:image/jpeg;base64,") for a in found.all("image"))


def test_another_contrast_is_shown_where_flair_is_missing(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole.parent, tmp_path / "all")
    for path in (tmp_path / "all").glob("data/*/*_flair.nii.gz"):
        path.unlink()
    for name in ("work/datalist.json", "run/scores/pairs.json", "run/run.json"):
        path = tmp_path / "all" / name
        path.write_text(path.read_text().replace(str(whole.parent), str(tmp_path / "all")))
    assert "Shown on T2." in made(tmp_path / "all" / "run").text


def test_images_are_shown_as_one_plane_in_pixels(tmp_path: Path) -> None:
    mask, image = np.zeros((20, 30), np.uint8), np.full((20, 30), 90, np.uint8)
    mask[4:8, 20:25] = 255
    item = {"case": "class/1.jpg", "image": "class/1.jpg"}
    for folder, pixels, name in (("truth", mask, "1.jpg.png"), ("pred", mask, "1.jpg.png"), ("data", image, "1.jpg")):
        (tmp_path / folder / "class").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / folder / "class" / name)
    run = write_run(tmp_path, RECORD | {"bundle": "pseudo2d", "datalist": str(tmp_path / "work" / "datalist.json")})
    (tmp_path / "work").mkdir()
    datalist = {"kind": "images", "dataset_dir": str(tmp_path / "data"), "training": [], "testing": [item]}
    (tmp_path / "work" / "datalist.json").write_text(json.dumps(datalist))
    score(str(tmp_path / "pred"), str(tmp_path / "truth"), str(run / "scores"), jobs=1)
    found = made(run)
    assert "Mask Dice 1.000 (no interval, 1 image)" in found.text
    assert "truth 20 pixels, prediction 20 pixels" in found.text and "Shown on the image." in found.text
    assert len(found.all("figure")) == 1 and not [a for a in found.all("input") if a["type"] == "range"]
    path = next(a for a in found.all("path") if a.get("class") == "truth")
    assert box_of(path["d"], path["transform"]) == (20, 4, 25, 8)


def test_two_cases_never_share_a_picture() -> None:
    assert unused("overlay_a", {"overlay_A.png": b"", "overlay_a_2.png": b""}) == "overlay_a_3.png"


# --- what is refused --------------------------------------------------------------------------
