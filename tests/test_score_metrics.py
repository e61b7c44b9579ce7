"""The scores of two masks: against a brute-force reference, against MONAI's, and by their properties."""

import itertools
import math

import brute_force
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoconf.score.lesions import dilate
from autoconf.score.metrics import LOWER_IS_BETTER, METRICS, WORST_MM, bounding_box, overlap, score_masks

masks = arrays.arrays(bool, (3, 4, 2))
spacings = st.tuples(*[st.sampled_from([0.5, 1.0, 1.7, 3.0])] * 3)
RATIOS = [name for name in METRICS if name not in LOWER_IS_BETTER]
PAIRED = ("dice", "iou", "hd95", "nsd")  # the same if prediction and truth change places


@st.composite
def blobs(draw: st.DrawFn, shape: tuple[int, ...] = (5, 4, 22), most: int = 4) -> np.ndarray:
    """A few boxes, far enough apart in a long array that several can be separate lesions."""
    mask = np.zeros(shape, bool)
    for _ in range(draw(st.integers(0, most))):
        start = [draw(st.integers(0, n - 1)) for n in shape]
        size = [draw(st.integers(1, 3)) for _ in shape]
        mask[tuple(slice(a, a + b) for a, b in zip(start, size, strict=True))] = True
    return mask


def cube(shift: int = 0, side: int = 4, size: int = 16) -> np.ndarray:
    mask = np.zeros((size, size, size), bool)
    mask[1 + shift : 1 + shift + side, 2 : 2 + side, 3 : 3 + side] = True
    return mask


# --- against a reference ----------------------------------------------------------------------


@settings(max_examples=150)
@given(blobs(), blobs(), spacings)
def test_every_metric_is_that_of_the_brute_force_reference(pred: np.ndarray, truth: np.ndarray, spacing) -> None:
    found = score_masks(pred, truth, spacing)
    p, t = brute_force.voxels(pred), brute_force.voxels(truth)
    expected = {
        "dice": brute_force.dice(p, t),
        "hd95": brute_force.hd95(p, t, spacing),
        "nsd": brute_force.nsd(p, t, spacing),
        **brute_force.lesion_wise(p, t, spacing),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@settings(max_examples=60)
@given(arrays.arrays(bool, (4, 5, 3)), arrays.arrays(bool, (4, 5, 3)), spacings)
def test_noise_too_is_scored_as_by_brute_force(pred: np.ndarray, truth: np.ndarray, spacing) -> None:
    found = score_masks(pred, truth, spacing)
    p, t = brute_force.voxels(pred), brute_force.voxels(truth)
    assert found["hd95"] == pytest.approx(brute_force.hd95(p, t, spacing), abs=1e-9)
    assert found["nsd"] == pytest.approx(brute_force.nsd(p, t, spacing), abs=1e-9)
    for name, value in brute_force.lesion_wise(p, t, spacing).items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@settings(max_examples=40)
@given(blobs((6, 7, 8)), blobs((6, 7, 8)), spacings)
def test_ordinary_cases_agree_with_monai(pred: np.ndarray, truth: np.ndarray, spacing) -> None:
    import torch
    from monai.metrics import DiceMetric, HausdorffDistanceMetric, MeanIoU, SurfaceDiceMetric

    assume(pred.any() and truth.any())
    batch = [torch.from_numpy(mask[None, None]).float() for mask in (pred, truth)]
    found = score_masks(pred, truth, spacing)
    for name, metric, more in (
        ("dice", DiceMetric(), {}),
        ("iou", MeanIoU(), {}),
        ("hd95", HausdorffDistanceMetric(percentile=95), {"spacing": spacing}),
        ("nsd", SurfaceDiceMetric(class_thresholds=[1.0 + 1e-6], include_background=True), {"spacing": spacing}),
    ):
        tolerance = 5e-6 if name == "hd95" else 1e-6  # MONAI interpolates its percentile in single precision
        assert found[name] == pytest.approx(float(metric(*batch, **more)), abs=tolerance), name


def test_where_monai_drops_a_failure_it_is_charged_here() -> None:
    """docs/scoring.md, last section: what is tested here is that the two differ, and how."""
    import torch
    from monai.metrics import DiceMetric, HausdorffDistanceMetric

    truth, nothing = cube(), np.zeros_like(cube())
    good = cube(1)
    pair = [torch.from_numpy(np.stack(two)[:, None]).float() for two in ([good, nothing], [truth, truth])]
    monai = HausdorffDistanceMetric(percentile=95)
    monai(*pair)
    with_a_miss = float(monai.aggregate())
    assert with_a_miss == pytest.approx(score_masks(good, truth, (1, 1, 1))["hd95"])  # the missed tumour is not in it
    ours = [score_masks(pred, truth, (1, 1, 1))["hd95"] for pred in (good, nothing)]
    assert ours[1] == WORST_MM and np.mean(ours) > with_a_miss

    false = [torch.from_numpy(mask[None, None]).float() for mask in (truth, nothing)]  # a tumour where there is none
    assert math.isnan(float(DiceMetric()(*false)))
    assert score_masks(truth, nothing, (1, 1, 1))["dice"] == 0


# --- properties -------------------------------------------------------------------------------


@given(masks, masks)
def test_both_overlaps_are_symmetric_and_related(pred: np.ndarray, truth: np.ndarray) -> None:
    found, turned = overlap(pred, truth), overlap(truth, pred)
    assert (found.dice, found.iou) == (turned.dice, turned.iou)
    assert (found.sensitivity, found.precision) == (turned.precision, turned.sensitivity)
    assert 0 <= found.iou <= found.dice <= 1
    assert found.iou == pytest.approx(found.dice / (2 - found.dice))


@given(masks, masks, spacings)
def test_what_should_be_symmetric_is(pred: np.ndarray, truth: np.ndarray, spacing) -> None:
    found, turned = score_masks(pred, truth, spacing), score_masks(truth, pred, spacing)
    for name in PAIRED:
        assert found[name] == pytest.approx(turned[name], abs=1e-12)


@given(blobs(), blobs(), spacings)
def test_no_score_leaves_its_range_or_is_nan(pred: np.ndarray, truth: np.ndarray, spacing) -> None:
    found = score_masks(pred, truth, spacing)
    assert all(0 <= found[name] <= 1 for name in RATIOS)
    assert all(0 <= found[name] <= WORST_MM for name in LOWER_IS_BETTER)


@given(blobs(), blobs(), spacings, st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_turning_the_head_changes_nothing(pred: np.ndarray, truth: np.ndarray, spacing, order, flips) -> None:
    def turned(mask: np.ndarray) -> np.ndarray:
        return np.flip(mask, [axis for axis in range(3) if flips[axis]]).transpose(order)

    found = score_masks(pred, truth, spacing)
    again = score_masks(turned(pred), turned(truth), [spacing[axis] for axis in order])
    assert again == pytest.approx(found, abs=1e-9)


@given(masks)
def test_a_perfect_prediction_scores_1_and_all_background_0(truth: np.ndarray) -> None:
    perfect = score_masks(truth, truth, (1, 1, 1))
    assert {perfect[name] for name in RATIOS} == {1} and {perfect[name] for name in LOWER_IS_BETTER} == {0}
    background = score_masks(np.zeros_like(truth), truth, (9, 9, 9))  # 729 mm3 a voxel: every lesion counts
    assert {background[name] for name in RATIOS} == {0 if truth.any() else 1}
    assert {background[name] for name in LOWER_IS_BETTER} == {WORST_MM if truth.any() else 0}


@given(masks.filter(np.any))
def test_all_foreground_scores_2p_over_1_plus_p(truth: np.ndarray) -> None:
    share = truth.mean()
    assert overlap(np.ones_like(truth), truth).dice == pytest.approx(2 * share / (1 + share))
    assert overlap(np.ones_like(truth), truth).iou == pytest.approx(share)


@given(masks, masks)
def test_overlaps_agree_with_sets_of_voxels(pred: np.ndarray, truth: np.ndarray) -> None:
    p, t = set(np.flatnonzero(pred)), set(np.flatnonzero(truth))
    if p | t:
        assert overlap(pred, truth).iou == pytest.approx(len(p & t) / len(p | t))


@pytest.mark.parametrize("shift", range(5))
def test_a_shifted_cube_has_the_analytic_values(shift: int) -> None:
    found = score_masks(cube(shift), cube(), (2.5, 1, 1))
    assert found["dice"] == pytest.approx((4 - shift) / 4)
    assert found["sensitivity"] == found["precision"] == found["dice"]
    assert found["hd95"] == pytest.approx(2.5 * shift)  # the leading face, 16 of 56 surface voxels, is that far


def test_distances_are_in_mm_along_their_own_axis() -> None:
    a, b = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    a[1, 1, 1] = b[4, 1, 1] = True
    for axis, spacing in itertools.product(range(3), [(1, 1, 5), (0.5, 2, 1)]):
        moved = [mask.swapaxes(0, axis) for mask in (a, b)]
        assert score_masks(*moved, spacing)["hd95"] == 3 * spacing[axis]


# --- lesions ----------------------------------------------------------------------------------


def with_ball(mask: np.ndarray, at: tuple[int, int, int], side: int) -> np.ndarray:
    changed = mask.copy()
    changed[tuple(slice(start, start + side) for start in at)] = True
    return changed


def test_one_more_false_lesion_halves_lesion_dice_and_hardly_moves_dice() -> None:
    truth = np.zeros((60, 60, 60), bool)
    truth[5:25, 5:25, 5:25] = True
    found = score_masks(with_ball(truth, (45, 45, 45), 4), truth, (1, 1, 1))  # 64 voxels beside 8,000
    assert found["dice"] > 0.99
    assert found["lesion_dice"] == 0.5 and found["lesion_hd95"] == WORST_MM / 2
    assert found["lesion_f1"] == pytest.approx(2 / 3)


def test_a_missed_lesion_costs_like_a_false_one_unless_it_is_tiny() -> None:
    one = np.zeros((60, 60, 60), bool)
    one[5:25, 5:25, 5:25] = True
    missed = score_masks(one, with_ball(one, (45, 45, 45), 4), (1, 1, 1))
    assert (missed["lesions_true"], missed["lesion_dice"], missed["lesion_f1"]) == (2, 0.5, pytest.approx(2 / 3))
    tiny = score_masks(one, with_ball(one, (45, 45, 45), 3), (1, 1, 1))  # 27 mm3
    assert (tiny["lesions_true"], tiny["lesion_dice"]) == (1, 1)
    assert score_masks(one, with_ball(one, (45, 45, 45), 3), (1, 1, 2))["lesions_true"] == 2  # 54 mm3


def test_an_object_at_a_tiny_lesion_is_not_false() -> None:
    one = np.zeros((60, 60, 60), bool)
    one[5:25, 5:25, 5:25] = True
    both = with_ball(one, (45, 45, 45), 3)
    assert score_masks(both, both, (1, 1, 1))["lesion_dice"] == 1


@pytest.mark.parametrize(("gap", "lesions"), [(6, 1), (7, 2)])
def test_pieces_within_reach_of_each_other_are_one_lesion(gap: int, lesions: int) -> None:
    """Two dilations of three voxels touch, by faces, edges or corners, over a gap of six."""
    truth = np.zeros((4, 4, 40), bool)
    truth[:, :, 5:10] = truth[:, :, 10 + gap : 15 + gap] = True
    assert score_masks(truth, truth, (1, 1, 1))["lesions_true"] == lesions


@pytest.mark.parametrize(("gap", "lesions"), [(6, 1), (7, 2)])
def test_pieces_whose_dilations_touch_by_an_edge_are_one_lesion(gap: int, lesions: int) -> None:
    truth = np.zeros((30, 30, 12), bool)
    truth[5:10, 5:10] = truth[10 + gap : 15 + gap, 10 + gap : 15 + gap] = True
    assert score_masks(truth, truth, (1, 1, 1))["lesions_true"] == lesions


def test_many_pieces_of_a_prediction_make_one_found_lesion() -> None:
    truth = np.zeros((12, 12, 12), bool)
    truth[2:10, 2:10, 2:10] = True
    pieces = truth.copy()
    pieces[5] = False
    found = score_masks(pieces, truth, (1, 1, 1))
    assert (found["lesions_pred"], found["lesion_f1"]) == (2, 1)
    assert found["lesion_dice"] == found["dice"]


@given(blobs((6, 6, 9)))
def test_a_dilation_is_that_of_scipy(mask: np.ndarray) -> None:
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(3, 2)
    assert np.array_equal(dilate(mask, 3), ndimage.binary_dilation(mask, structure, 3))


# --- images and refusals ----------------------------------------------------------------------


def test_images_are_scored_in_pixels_and_their_worst_distance_is_the_diagonal() -> None:
    truth = np.zeros((30, 40), bool)
    truth[5:15, 5:15] = True
    found = score_masks(np.roll(truth, 2, axis=1), truth, (1, 1))
    assert (found["dice"], found["hd95"], found["lesion_f1"]) == (0.8, 2, 1)
    assert score_masks(np.zeros_like(truth), truth, (1, 1))["hd95"] == 50


def test_a_bounding_box_holds_all_and_no_more() -> None:
    mask = np.zeros((5, 6, 7), bool)
    assert mask[bounding_box(mask)].shape == (1, 1, 1)
    mask[1, 2, 3] = mask[3, 2, 6] = True
    assert bounding_box(mask) == (slice(1, 4), slice(2, 3), slice(3, 7))


def test_anything_but_two_masks_of_one_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="two boolean masks"):
        overlap(np.zeros(3, np.uint8), np.zeros(3, bool))
    with pytest.raises(ValueError, match="two boolean masks"):
        overlap(np.zeros(3, bool), np.zeros(4, bool))
    with pytest.raises(ValueError, match="two boolean masks"):
        score_masks(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), (1, 1, 1))
    with pytest.raises(ValueError, match="a spacing above 0"):
        score_masks(cube(), cube(), (1, 0, 1))
    with pytest.raises(ValueError, match="a spacing above 0"):
        score_masks(cube(), cube(), (1, 1))
