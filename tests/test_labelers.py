"""Label functions, rules, fusions and audit, on made-up heads small enough to know the answer."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from helpers_bundles import scripts
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

labelers, label_scan = scripts("unetr3d", "labelers"), scripts("unetr3d", "label_scan")
rules = scripts("unetr3d", "label_rules")
fusion = scripts("unetr3d", "fusion")
label_audit = scripts("unetr3d", "label_audit")
A, N, T = label_scan.ABSTAIN, label_scan.NOT, label_scan.TUMOUR


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float | tuple[float, ...]) -> np.ndarray:
    grid = np.indices(shape).astype(float)
    radii = (radius,) * len(shape) if isinstance(radius, (int, float)) else radius
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1


def head(ndim: int = 3, turn: float = 0.0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Modalities, brain and tumour: an ellipsoid of noisy tissue with two bright ventricles and a tumour on one side.

    turn: radians by which the head leans to one side, in the plane of the first two axes.
    """
    shape, scale = ((44, 56, 44), 1) if ndim == 3 else ((88, 112), 2)
    middle = np.array([21.5, 27.5, 21.5])[:ndim] * scale
    grid = np.indices(shape).astype(float)
    x, y = grid[0] - middle[0], grid[1] - middle[1]
    u, v = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    rest = [grid[2] - middle[2]] if ndim == 3 else []
    at = [u, v, *rest]

    def blob(centre, radii):
        return sum(((a - c * scale) / (r * scale)) ** 2 for a, c, r in zip(at, centre, radii, strict=False)) <= 1

    brain = blob((0, 0, 0), (19, 25, 19))
    tumour = blob((8, 6, 1), (6, 7, 6))
    fluid = blob((-4, 0, 0), (2, 6, 3)) | blob((4, 0, 0), (2, 6, 3))
    cortex = ~blob((0, 0, 0), (15, 20, 15))  # tissues differ, and so the spread of a brain is more than noise
    noise = np.random.default_rng(0).normal(0, 4, (4, *shape))
    modalities = {"t1": 200 - 60 * tumour - 50 * cortex, "t2": 100 + 150 * fluid + 110 * tumour + 30 * cortex}
    modalities |= {"t1c": modalities["t1"], "flair": 150 - 100 * fluid + 110 * tumour + 30 * cortex}
    modalities = {name: modalities[name] for name in ("t1", "t1c", "t2", "flair")}
    modalities["t1c"] = modalities["t1c"] + 200 * blob((8, 6, 1), (3, 3, 3))
    raw = {n: np.where(brain, c + e, 0).astype(np.float32) for (n, c), e in zip(modalities.items(), noise, strict=True)}
    return raw, brain, tumour & ~fluid


def scan_of(ndim: int = 3, turn: float = 0.0, only: tuple[str, ...] = ("t1", "t1c", "t2", "flair")):
    raw, brain, tumour = head(ndim, turn)
    spacing = (2.0,) * 3 if ndim == 3 else (1.0,) * 2
    return label_scan.make_scan({n: raw[n] for n in only}, spacing, brain), tumour


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


# Label functions

FINDERS = ("otsu", "multi_otsu", "hysteresis", "sauvola", "asymmetry")


@pytest.mark.parametrize(("name", "ndim"), [(n, d) for n in FINDERS for d in (2, 3) if (n, d) != ("otsu", 3)])
def test_a_bright_tumour_is_found_in_two_and_three_dimensions(name, ndim):
    scan, tumour = scan_of(ndim)
    votes = getattr(labelers, name)(scan)
    assert votes.dtype == np.int8 and votes.shape == tumour.shape and set(np.unique(votes)) <= {A, N, T}
    assert dice(votes == T, tumour) > 0.8
    assert (votes[~scan.brain] == N).all()
    assert (votes[tumour] == N).mean() < 0.15


@pytest.mark.parametrize("name", (*FINDERS, "enhancement"))
def test_without_its_contrast_a_function_abstains(name):
    scan, _ = scan_of(only=("t1",))
    votes = getattr(labelers, name)(scan)
    assert (votes[scan.brain] == A).all() and (votes[~scan.brain] == N).all()


@pytest.mark.parametrize("name", (*FINDERS, "enhancement"))
@pytest.mark.parametrize("brain", [False, True])
def test_an_empty_scan_and_one_without_contrast_are_answered(name, brain):
    inside = np.full((12, 12, 12), brain)
    scan = label_scan.make_scan({n: np.full((12, 12, 12), 7.0) for n in ("t1", "t1c", "t2", "flair")}, (2,) * 3, inside)
    assert not (getattr(labelers, name)(scan) == T).any()


@given(st.floats(0.01, 100), st.floats(-50, 50))
def test_units_do_not_matter(scale, shift):
    raw, brain, _ = head(2)
    scans = [label_scan.make_scan({"flair": s * raw["flair"] + t}, (1, 1), brain) for s, t in ((1, 0), (scale, shift))]
    first, second = (labelers.hysteresis(scan) for scan in scans)
    assert (first != second).mean() < 0.002  # a value on a threshold may be rounded to its other side


def test_enhancement_says_tumour_where_contrast_agent_is_and_nothing_elsewhere():
    scan, tumour = scan_of()
    votes = labelers.enhancement(scan)
    assert (votes == T).sum() > 50 and tumour[votes == T].mean() > 0.9
    assert (votes[scan.brain & (votes != T)] == A).all()


def test_hysteresis_abstains_about_what_is_bright_without_a_brighter_heart():
    values = np.zeros((9, 9), np.float32)
    values[1:3, 1:3], values[6:8, 6:8], values[7, 7] = 2, 2, 3
    scan = label_scan.Scan({"flair": values}, {}, np.ones((9, 9), bool), (1.0, 1.0))
    votes = labelers.hysteresis(scan, low=1.5, high=2.5)
    assert (votes[1:3, 1:3] == A).all() and (votes[6:8, 6:8] == T).all() and votes[4, 4] == N


@pytest.mark.parametrize(("ndim", "turn"), [(2, 0.0), (2, 0.15), (3, 0.0), (3, 0.15)])
def test_the_mid_sagittal_plane_of_a_leaning_head_is_found(ndim, turn):
    raw, brain, _ = head(ndim, turn)
    scan = label_scan.make_scan({"t1": raw["t1"], "t2": raw["t2"]}, (2.0,) * ndim, brain)
    at = np.argwhere(brain)
    left = label_scan.plane_distance(scan, signed=True)[brain] > 0
    u = np.cos(turn) * (at[:, 0] - at[:, 0].mean()) - np.sin(turn) * (at[:, 1] - at[:, 1].mean())
    assert max(np.mean(left == (u > 0)), np.mean(left == (u < 0))) > 0.96
    twice = label_scan.mirrored(label_scan.mirrored(scan.modalities["t2"], scan.mirror), scan.mirror)
    inner = ndimage.binary_erosion(brain, iterations=6)
    assert np.abs(twice - scan.modalities["t2"])[inner].mean() < 0.5


def test_walks_from_agreed_seeds_fill_what_is_in_doubt():
    scan, tumour = scan_of()
    core, far = ndimage.binary_erosion(tumour, iterations=2), ~ndimage.binary_dilation(tumour, iterations=3)
    vote = np.where(core, T, np.where(far, N, A)).astype(np.int8)
    doubted = np.where(ndimage.binary_dilation(core, iterations=4), T, N).astype(np.int8)
    found = labelers.walker(scan, {"a": vote, "b": doubted}, seeds=0.8)
    assert dice(found == T, tumour) > dice(doubted == T, tumour)
    assert dice(found == T, tumour) > 0.8


def test_walks_without_seeds_say_nothing():
    scan, _ = scan_of()
    found = labelers.walker(scan, {"a": scan.silent(), "b": np.zeros(scan.brain.shape, np.int8)})
    assert (found[scan.brain] == A).all()


# Rules


def flat(shape: tuple[int, ...] = (40, 40), spacing: float = 1.0, **modalities: np.ndarray):
    brain = np.zeros(shape, bool)
    brain[tuple(slice(2, -2) for _ in shape)] = True
    return label_scan.Scan(modalities, {}, brain, (spacing,) * len(shape))


def test_what_lies_along_the_edge_is_dropped_and_what_reaches_inside_stays():
    scan, mask = flat(), np.zeros((40, 40), bool)
    mask[2:5, 2:30] = mask[10:25, 2:20] = True
    kept = rules.remove_rim(scan, mask, rim_mm=6, most=0.7)
    assert not kept[2:5].any() and kept[10:25, 2:20].all()


def test_fluid_is_dropped_and_oedema_stays():
    t2, flair = np.zeros((2, 40, 40), np.float32)
    t2[5:20] = 3
    flair[5:12], flair[12:20] = -2, 2
    kept = rules.remove_ventricles(flat(t2=t2, flair=flair), np.ones((40, 40), bool))
    assert not kept[5:12].any() and kept[12:].all()
    assert rules.remove_ventricles(flat(flair=flair), np.ones((40, 40), bool)).all()


def test_specks_and_what_is_small_beside_the_largest_are_dropped():
    mask = np.zeros((40, 40), bool)
    mask[4:20, 4:20] = mask[25:35, 5:15] = mask[30:32, 30:32] = mask[5:10, 25:30] = True
    kept = rules.keep_large(flat(), mask, least=10, beside_largest=0.2, most=3)
    assert kept[4:20, 4:20].all() and kept[25:35, 5:15].all() and not kept[5:32, 22:].any()
    only = rules.keep_large(flat(), mask, least=10, beside_largest=0.0, most=1)
    assert only.sum() == 256


def test_of_two_objects_the_compact_one_is_kept_unless_it_is_not_distinct_enough():
    disc, line = ball((40, 40), (12, 12), 5), np.zeros((40, 40), bool)
    line[30:33, 8:36] = True
    scan = flat(image=np.where(disc | line, 3, 0).astype(np.float32))
    assert (rules.keep_most_distinct(scan, disc | line) == disc).all()
    assert not rules.keep_most_distinct(scan, disc | line, least=100).any()


def test_the_most_distinct_object_is_found_at_whatever_level_it_shows():
    large, bright = ball((80, 80), (40, 30), 12), ball((80, 80), (40, 60), 3)
    values = 1.7 * large + 6 * bright + 0.2 * np.random.default_rng(0).normal(size=(80, 80))
    scan = flat((80, 80), image=values.astype(np.float32))
    votes = labelers.blob(scan)
    assert dice(votes == T, large) > 0.9 and (votes[bright] == N).all()


def test_holes_are_filled_and_thin_lines_cut():
    mask = ball((40, 40), (20, 20), 10) & ~ball((40, 40), (20, 20), 4)
    assert rules.closed(flat(), mask, radius_mm=1)[20, 20]
    line = mask.copy()
    line[20, 30:38] = True
    assert not rules.opened(flat(), line, radius_mm=1.5)[20, 33:38].any()


def test_an_outline_moves_to_the_edge_of_what_is_bright():
    bright = ball((40, 40), (20, 20), 10)
    scan = flat(flair=np.where(bright, 3, 0).astype(np.float32))
    start = ball((40, 40), (20, 20), 7)
    assert dice(rules.active_contour(scan, start, ("flair",), steps=6), bright) > 0.97 > dice(start, bright)


EVERY_RULE = ("remove_rim", "remove_ventricles", "opened", "keep_large", "closed", "active_contour")


@pytest.mark.parametrize("name", EVERY_RULE)
def test_a_rule_leaves_an_empty_mask_empty(name):
    zeros = np.zeros((40, 40), np.float32)
    assert not getattr(rules, name)(flat(flair=zeros, t2=zeros), np.zeros((40, 40), bool)).any()


# Fusion


def test_a_majority_is_of_those_who_speak():
    votes = {"a": np.int8([T, T, A, A, N]), "b": np.int8([T, N, A, T, N]), "c": np.int8([N, N, A, A, N])}
    assert fusion.majority(votes) == pytest.approx([2 / 3, 1 / 3, np.nan, 1, 0], nan_ok=True)


def voters(truth: np.ndarray, qualities: list[tuple[float, float]], speaks: float = 1.0, seed: int = 0):
    """Votes of people with a known sensitivity and specificity."""
    rng = np.random.default_rng(seed)
    votes = {}
    for place, (p, q) in enumerate(qualities):
        says = np.where(truth, rng.random(truth.shape) < p, rng.random(truth.shape) >= q)
        votes[f"v{place}"] = np.where(rng.random(truth.shape) < speaks, says, A).astype(np.int8)
    return votes


GOOD_AND_BAD = [(0.95, 0.95), (0.9, 0.92), (0.9, 0.9), (0.55, 0.6), (0.5, 0.6), (0.6, 0.55), (0.55, 0.5)]


@pytest.mark.parametrize("speaks", [1.0, 0.7])
def test_staple_believes_those_who_are_right_and_beats_a_majority(speaks):
    truth = ball((60, 60), (30, 30), 20)
    votes = voters(truth, GOOD_AND_BAD, speaks)
    by_staple, by_majority = (np.nan_to_num(f(votes)) > 0.5 for f in (fusion.staple, fusion.majority))
    assert dice(by_staple, truth) > dice(by_majority, truth) + 0.05


def test_staple_by_patterns_is_staple_voxel_by_voxel():
    votes = voters(ball((12, 12), (6, 6), 4), GOOD_AND_BAD[:3], speaks=0.8, seed=3)
    table = np.stack([v.ravel() for v in votes.values()])
    at = (table == T).any(axis=0)
    yes, no = (table[:, at] == T).astype(float), (table[:, at] == N).astype(float)
    p, q, prior = np.full(3, 0.9), np.full(3, 0.9), float(yes.mean())
    for _ in range(50):
        a = prior * np.prod(np.where(yes, p[:, None], np.where(no, 1 - p[:, None], 1)), axis=0)
        b = (1 - prior) * np.prod(np.where(no, q[:, None], np.where(yes, 1 - q[:, None], 1)), axis=0)
        w = a / (a + b)
        p, q = (yes * w).sum(1) / ((yes + no) * w).sum(1), (no * (1 - w)).sum(1) / ((yes + no) * (1 - w)).sum(1)
        p, q = np.clip(p, 1e-4, 1 - 1e-4), np.clip(q, 1e-4, 1 - 1e-4)
    found = fusion.staple(votes, tolerance=0).ravel()
    assert found[at] == pytest.approx(w, abs=1e-3)
    silent = (table == A).all(axis=0)
    assert np.isnan(found[silent]).all() and (found[~at & ~silent] == 0).all()


@pytest.mark.parametrize("name", ["majority", "staple", "agreement"])
def test_a_fusion_keeps_what_all_agree_on_and_knows_what_nobody_knows(name):
    vote = np.int8([[T, T, N, N, A]] * 4)
    found = getattr(fusion, name)({"a": vote, "b": vote.copy(), "c": vote.copy()})
    assert found.dtype == np.float32 and (found[:, :2] > 0.9).all() and (found[:, 2:4] < 0.1).all()
    assert np.isnan(found[:, 4]).all()
    nothing = getattr(fusion, name)({"a": np.zeros((3, 3), np.int8)})
    assert (nothing == 0).all()


def test_by_agreement_a_stranger_weighs_less():
    truth = ball((40, 40), (20, 20), 9)
    stranger = ball((40, 40), (6, 6), 5)
    votes = {"a": truth, "b": ndimage.binary_dilation(truth), "c": stranger}
    votes = {name: vote.astype(np.int8) for name, vote in votes.items()}
    assert fusion.agreement_of("c", votes) == 0 < fusion.agreement_of("a", votes)
    assert (fusion.agreement(votes) > 0.5)[truth].all() and not (fusion.agreement(votes) > 0.01)[
        stranger & ~truth
    ].any()


def test_labelling_gives_hard_soft_and_ignore_masks_that_fit_each_other():
    scan, tumour = scan_of()
    names = {name: getattr(labelers, name) for name in ("multi_otsu", "hysteresis", "sauvola", "asymmetry")}
    chain = [rules.remove_ventricles, rules.opened, rules.keep_large, rules.closed]
    found = fusion.label(scan, names, fusion.staple, chain, {"walker": labelers.walker})
    assert dice(found.hard, tumour) > 0.9
    assert list(found.votes) == [*names, "walker"]
    assert found.soft.dtype == np.float32 and 0 <= found.soft.min() <= found.soft.max() <= 1
    assert (found.soft[found.hard] >= 0.5).all() and not found.soft[~scan.brain].any()
    assert not found.ignore[~scan.brain].any()


def test_what_nobody_knows_is_ignored_and_what_a_rule_took_is_not():
    scan = flat((20, 20))
    quarter = np.zeros((20, 20), bool)
    quarter[2:10, 2:10] = True
    vote = np.where(quarter, T, N).astype(np.int8)
    vote[12:16, 12:16] = A
    found = fusion.label(scan, {"a": lambda _: vote}, fusion.majority, [lambda scan, mask: mask & False])
    assert found.ignore[12:16, 12:16].all() and found.ignore.sum() == 16
    assert not found.hard.any() and not found.soft.any()
    split = {"a": lambda _: vote, "b": lambda _: np.where(quarter, N, vote).astype(np.int8)}
    assert fusion.label(scan, split, fusion.majority).ignore[quarter].all()  # one against one


# Audit


def test_kappa_is_one_for_twins_and_zero_by_chance():
    brain = np.ones(8, bool)
    a = np.int8([T, T, N, N, T, T, N, N])
    assert label_audit.kappa(a, a, brain) == 1
    assert label_audit.kappa(a, np.int8([T, N, T, N, T, N, T, N]), brain) == 0
    # 20 of 35 yes-yes and so on: Cohen's own kind of table. po = .7, pe = .5
    first, second = np.repeat([T, T, N, N], [20, 5, 10, 15]), np.repeat([T, N, T, N], [20, 5, 10, 15])
    assert label_audit.kappa(first, second, np.ones(50, bool)) == pytest.approx(0.4)
    assert label_audit.kappa(a, np.full(8, A, np.int8), brain) == 0


def test_the_audit_tells_a_tumour_from_a_rim_and_from_ventricles():
    scan, tumour = scan_of()
    rim = scan.brain & (scan.depth < 4)
    both = ball(scan.brain.shape, (13, 27, 21), 4) | ball(scan.brain.shape, (30, 27, 21), 4)
    assert [label_audit.touches_skull(scan, m) for m in (tumour, rim, both)] == [False, True, False]
    assert [label_audit.bilateral(scan, m) for m in (tumour, both)] == [False, True]
    votes = {n: np.where(m, T, N).astype(np.int8) for n, m in (("tumour", tumour), ("rim", rim), ("both", both))}
    votes["silent"] = scan.silent()
    found = fusion.Labelled(votes, tumour.astype(np.float32), tumour, np.zeros_like(tumour))
    rows = list(csv.DictReader(io.StringIO(label_audit.to_csv(label_audit.audit(scan, found, "case")))))
    by_name = {row["who"]: row for row in rows}
    assert list(by_name) == [*votes, "fused"]
    assert [row["touches_skull"] for row in rows] == ["", "yes", "", "", ""]
    assert [row["bilateral"] for row in rows] == ["", "yes", "yes", "", ""]
    assert by_name["silent"]["coverage"] == "0.0000" and by_name["tumour"]["coverage"] == "1.0000"
    assert float(by_name["tumour"]["share"]) == pytest.approx(tumour.sum() / scan.brain.sum(), abs=1e-4)
    assert fusion.dice(votes["tumour"], votes["tumour"]) == 1 and fusion.dice(votes["tumour"], votes["silent"]) == 0
