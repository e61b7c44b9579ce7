"""Label functions: each looks at one scan in its own way and says of every voxel tumour, not, or nothing.

A label function takes a `Scan` and returns int8 of its shape: TUMOUR, NOT or ABSTAIN. No truth is used. One whose
contrast is missing abstains everywhere, so that a scan without T1c can still be labelled. All hold in two and in three
dimensions but for what their names say; `fusion.py` makes one mask of them, `label_rules.py` cleans it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold, threshold_multiotsu, threshold_otsu, threshold_sauvola
from skimage.measure import regionprops
from skimage.segmentation import random_walker

from .label_scan import ABSTAIN, NOT, TUMOUR, Scan, mirrored, plane_distance, robust_z

BINS = 256
Votes = Mapping[str, np.ndarray]  # label function -> int8


# Brightness


def otsu(scan: Scan, contrast: str = "flair", inside: bool = True, band: float = 0.0) -> np.ndarray:
    """Bright by Otsu's threshold. inside: of the brain's voxels; or, as in the study, of the whole picture.

    band: abstains within this share of the distance between the two classes' means. Source: N. Otsu, IEEE Trans. SMC 9,
    62-66 (1979).
    """
    if not scan.knows(contrast):
        return scan.silent()
    values = scan.modalities[contrast] if inside else scan.raw[contrast]
    among = values[scan.brain] if inside else values.ravel()
    threshold = threshold_otsu(among, BINS)
    reach = band * float(among[among > threshold].mean() - among[among <= threshold].mean())
    return _votes(scan, values > threshold + reach, values <= threshold - reach)


def multi_otsu(scan: Scan, contrast: str = "oedema", classes: int = 5, unsure: int = 1) -> np.ndarray:
    """The brightest of several Otsu classes inside the brain; abstains in the `unsure` classes below it.

    Source: P.-S. Liao, T.-S. Chen, P.-C. Chung, J. Inf. Sci. Eng. 17, 713-727 (2001).
    """
    if not scan.knows(contrast):
        return scan.silent()
    values = scan.modalities[contrast]
    among = values[scan.brain]
    low, high = np.percentile(among, (0.5, 99.5))
    try:
        thresholds = threshold_multiotsu(np.clip(among, low, high), classes, nbins=64)
    except ValueError:  # fewer values than classes
        return scan.silent()
    return _votes(scan, values > thresholds[-1], values <= thresholds[-1 - unsure])


def hysteresis(scan: Scan, contrast: str = "flair", low: float = 1.5, high: float = 2.5) -> np.ndarray:
    """Above `low` and connected to what is above `high`, in robust z; abstains above `low` without such a link."""
    if not scan.knows(contrast):
        return scan.silent()
    values = scan.modalities[contrast]
    return _votes(scan, apply_hysteresis_threshold(values, low, high), values <= low)


def sauvola(
    scan: Scan, contrast: str = "oedema", window_mm: float = 90.0, k: float = 0.3, least: float = 1.2
) -> np.ndarray:
    """Brighter than its surroundings in the planes through a voxel: in most of them tumour, in some no word.

    In 3D the planes are sagittal, coronal and axial, and two of three must agree; a picture is one plane.
    window_mm: side of the square around a voxel. k: how far above the local mean, as Sauvola's. least: robust z below
    which nothing is tumour, however dark its surroundings. Source: J. Sauvola, M. Pietikainen, Pattern Recognition 33,
    225-236 (2000).
    """
    if not scan.knows(contrast):
        return scan.silent()
    values = scan.modalities[contrast]
    # Outside lies the brain's median: the empty room around a head must not make its edge look bright.
    positive = np.clip(values, -4, 6) + 4
    agreed = np.zeros(values.shape, np.int8)
    planes = list(itertools.combinations(range(values.ndim), 2))
    for plane in planes:
        window = [1] * values.ndim
        for axis in plane:
            window[axis] = 2 * max(1, round(window_mm / scan.spacing[axis] / 2)) + 1
        # Sauvola lowers the mean by k where nothing varies; here tumour is the bright side, so it is raised.
        agreed += positive > threshold_sauvola(positive, window, k=-k, r=4.0)
    bright = values > least
    return _votes(scan, bright & (2 * agreed > len(planes)), ~bright | (agreed == 0))


# The other half of the head, and contrast agent


def asymmetry(
    scan: Scan, contrast: str = "oedema", above: float = 0.8, bright: float = 0.8, middle_mm: float = 6.0
) -> np.ndarray:
    """Brighter than the mirrored place on the other side by `above` robust z, and bright at all.

    No word where both sides are bright, and within `middle_mm` of the mid-sagittal plane, where they are one place.
    """
    if not scan.knows(contrast):
        return scan.silent()
    values = scan.modalities[contrast]
    other = mirrored(values, scan.mirror)
    seen = mirrored(scan.brain.astype(np.float32), scan.mirror) > 0.5  # the other side is brain, too
    difference = values - other
    middle = plane_distance(scan) < middle_mm
    tumour = (difference > above) & (values > bright) & seen & ~middle
    unsure = (middle | ~seen | (other > bright)) & (values > bright)
    return _votes(scan, tumour, ~tumour & ~unsure)


def enhancement(
    scan: Scan, before: str = "t1", after: str = "t1c", above: float = 3.0, rim_mm: float = 8.0
) -> np.ndarray:
    """What took up contrast agent: T1c minus T1 by `above` robust z. Says tumour or nothing: oedema takes up none.

    Nearer than `rim_mm` to the edge of the brain it is silent: meninges and vessels take it up as well.
    """
    if not scan.knows(before, after):
        return scan.silent()
    difference = robust_z(scan.modalities[after] - scan.modalities[before], scan.brain)
    if difference is None:
        return scan.silent()
    taken = (difference > above) & (scan.depth > rim_mm)
    taken = ndimage.binary_opening(taken, iterations=1)
    return _votes(scan, taken, ~scan.brain)


# Shape


def blob(
    scan: Scan,
    contrast: str = "image",
    levels: Sequence[float] = (1, 1.5, 2, 2.5, 3, 4, 5),
    least: float = 0.004,
    most: float = 0.2,
) -> np.ndarray:
    """The most distinct bright object of all that any of several thresholds cuts out; all else is not tumour.

    levels: robust z. least, most: size of an object as a share of the brain. For pictures: a volume takes long.
    """
    if not scan.knows(contrast):
        return scan.silent()
    values, size = scan.modalities[contrast], np.count_nonzero(scan.brain)
    best, found = 0.0, np.zeros(scan.brain.shape, bool)
    for level in levels:
        bright = ndimage.binary_opening((values > level) & scan.brain, iterations=2)
        for one in regionprops(ndimage.label(bright)[0]):
            if least * size <= one.area <= most * size:
                score = distinctness(scan, contrast, one)
                if score > best:
                    best, found = score, np.zeros(scan.brain.shape, bool)
                    found[one.slice] = one.image
    return _votes(scan, found, ~found)


def distinctness(scan: Scan, contrast: str, one: Any, ring: int = 6, rim_mm: float = 6.0) -> float:
    """How much one of `regionprops` looks like a lesion: large, compact, brighter than its ring, not along the edge.

    Solidity squared, times the radius of the largest ball within, times the root of the difference in robust z to the
    `ring` voxels around it, times the share farther than `rim_mm` from the brain's edge. 0 or more. Our own, found by
    trying four such products on 80 pictures (docs/how-to/labelers.md).
    """
    box = tuple(slice(max(0, side.start - ring), side.stop + ring) for side in one.slice)
    inside = np.zeros(scan.brain.shape, bool)
    inside[one.slice] = one.image
    inside, values = inside[box], np.clip(scan.modalities[contrast][box], -4, 8)
    away = ndimage.distance_transform_edt(~inside)
    around = (away > 0) & (away <= ring) & scan.brain[box]
    if not around.any():
        return 0.0
    brighter = max(0.0, float(values[inside].mean() - values[around].mean()))
    radius = float(ndimage.distance_transform_edt(np.pad(inside, 1)).max())
    deep = float((scan.depth[box][inside] >= rim_mm).mean())
    return float(one.solidity) ** 2 * radius * brighter**0.5 * deep


# From what others agree on


def walker(
    scan: Scan,
    votes: Votes,
    modalities: Sequence[str] = ("flair", "t2"),
    seeds: float = 0.8,
    beta: float = 90.0,
    sure: float = 0.6,
) -> np.ndarray:
    """Random walks from the voxels that others agree on, along voxels of like brightness.

    votes: of the other label functions. seeds: share of those who speak that must agree on tumour (on not: all of
    them). beta: how hard an edge is to cross. sure: probability below which nothing is said. Source: L. Grady, IEEE
    TPAMI 28, 1768-1783 (2006).
    """
    names = [name for name in modalities if name in scan.modalities]
    share = tumour_share(votes)
    core = ndimage.binary_erosion((share >= seeds) & scan.brain)
    if not names or not core.any():
        return scan.silent()
    outside = (share <= 0) & scan.brain  # NaN, where all abstain, is neither
    box = _around(core | ((share > 0) & scan.brain), 4)
    labels = np.where(scan.brain, 0, -1)[box]
    labels[core[box]], labels[outside[box]] = 1, 2
    if not (labels == 2).any() or not (labels == 0).any():
        return _votes(scan, core, outside)
    data = np.stack([np.clip(scan.modalities[name][box], -4, 6) for name in names], axis=-1).astype(np.float64)
    found = random_walker(
        *(data, labels, beta, "cg_j", 1e-3),
        return_full_prob=True,
        channel_axis=-1,
        spacing=scan.spacing,
        prob_tol=0.1,
    )
    tumour = np.zeros(scan.brain.shape)
    tumour[box] = np.nan_to_num(found[0])
    return _votes(scan, tumour > sure, tumour < 1 - sure)


def tumour_share(votes: Votes) -> np.ndarray:
    """Of those who do not abstain, the share that says tumour; NaN where all abstain."""
    said = sum((vote >= 0).astype(np.float32) for vote in votes.values())
    tumour = sum((vote == TUMOUR).astype(np.float32) for vote in votes.values())
    return np.divide(tumour, said, out=np.full(said.shape, np.nan, np.float32), where=said > 0)


def _votes(scan: Scan, tumour: np.ndarray, not_tumour: np.ndarray) -> np.ndarray:
    """int8 votes; outside the brain there is no tumour, and tumour goes before not."""
    votes = np.full(scan.brain.shape, ABSTAIN, np.int8)
    votes[not_tumour | ~scan.brain] = NOT
    votes[tumour & scan.brain] = TUMOUR
    return votes


def _around(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    """The box around a mask that is not empty, wider by a margin of voxels."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(slice(max(0, b.start - margin), b.stop + margin) for b in box)
