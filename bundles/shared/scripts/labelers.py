"""Label functions: each looks at one scan in its own way and says of every voxel tumour, not, or nothing.

A label function takes a `Scan` and returns int8 of its shape: TUMOUR, NOT or ABSTAIN. No truth is used. One whose
contrast is missing abstains everywhere, so that a scan without T1c can still be labelled. All hold in two and in three
dimensions but for what their names say; `fusion.py` makes one mask of them, `label_rules.py` cleans it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage, optimize
from skimage.filters import apply_hysteresis_threshold, threshold_multiotsu, threshold_otsu, threshold_sauvola
from skimage.measure import regionprops
from skimage.segmentation import random_walker

TUMOUR, NOT, ABSTAIN = 1, 0, -1
MAD = 1.4826  # times the median absolute deviation is the standard deviation of a normal distribution
BINS = 256
FEWEST = 64  # voxels of a brain below which nothing is said: no histogram has a shape
Votes = Mapping[str, np.ndarray]  # label function -> int8


@dataclass(frozen=True)
class Scan:
    """What a label function sees.

    modalities: name -> robust z-scores, float32, 0 outside the brain. raw: name -> values as they came.
    brain: bool. spacing: mm per axis (pixels: 1). All arrays of one shape; axis `across` runs from ear to ear.
    """

    modalities: Mapping[str, np.ndarray]
    raw: Mapping[str, np.ndarray]
    brain: np.ndarray
    spacing: tuple[float, ...]
    across: int = 0

    @cached_property
    def depth(self) -> np.ndarray:
        """mm from each voxel of the brain to the nearest one outside; 0 outside."""
        return ndimage.distance_transform_edt(np.pad(self.brain, 1), self.spacing)[(slice(1, -1),) * self.brain.ndim]

    @cached_property
    def mirror(self) -> tuple[np.ndarray, np.ndarray]:
        """Matrix and offset that take a voxel to its mirror image about the mid-sagittal plane."""
        return mirror_plane(self)

    def silent(self) -> np.ndarray:
        """Abstain in the brain; outside there is no tumour."""
        return np.where(self.brain, ABSTAIN, NOT).astype(np.int8)

    def knows(self, *names: str) -> bool:
        return set(names) <= set(self.modalities) and np.count_nonzero(self.brain) >= FEWEST


def make_scan(
    raw: Mapping[str, np.ndarray], spacing: Sequence[float], brain: np.ndarray, smooth_mm: float = 1.0, across: int = 0
) -> Scan:
    """A Scan of the modalities that are there, those that vary inside the brain, and of `oedema`: FLAIR and T2, 2 to 1.

    raw: name -> numbers, any unit. brain: bool. smooth_mm: standard deviation of the Gaussian that goes before the
    z-score; measured inside the brain alone, so that its edge is not darkened by what lies outside.
    """
    sigma = [smooth_mm / s for s in spacing]
    weight = ndimage.gaussian_filter(brain.astype(np.float32), sigma)
    modalities = {}
    for name, values in raw.items():
        inside = np.where(brain, values, 0).astype(np.float32)
        smooth = np.divide(ndimage.gaussian_filter(inside, sigma), weight, out=np.zeros_like(inside), where=brain)
        scored = robust_z(smooth, brain)
        if scored is not None:
            modalities[name] = scored
    if "flair" in modalities:  # oedema is bright in both; artefacts and rims in one, fluid in T2 alone
        flair, t2 = modalities["flair"], modalities.get("t2", modalities["flair"])
        modalities["oedema"] = ((2 * flair + np.clip(t2, -2, 3)) / 3).astype(np.float32)
    return Scan(modalities, dict(raw), brain, tuple(float(s) for s in spacing), across)


def robust_z(values: np.ndarray, inside: np.ndarray) -> np.ndarray | None:
    """Distance from the median inside, in robust standard deviations (1.4826 * MAD); 0 outside; None without spread."""
    if not inside.any():
        return None
    median = np.median(values[inside])
    deviation = MAD * np.median(np.abs(values[inside] - median))
    if deviation <= 1e-6 * max(1e-6, abs(float(median))):
        return None
    return np.where(inside, (values - median) / deviation, 0).astype(np.float32)


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


# The mid-sagittal plane


def mirror_plane(scan: Scan, coarse_mm: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """The plane about which a head looks most like its mirror image, as the affine map of voxels to their mirrors.

    Begins upright through the middle of the brain and turns and shifts the plane until the brightness on both sides
    correlates best, on a coarse copy. Tumours disturb that little: most of a head is healthy.
    """
    spacing, ndim = np.asarray(scan.spacing), scan.brain.ndim
    factor = np.minimum(1.0, spacing / coarse_mm)
    names = [name for name in ("t1", "t2", *scan.modalities) if name in scan.modalities][:2]
    pictures = [np.clip(scan.modalities[name], -3, 3) for name in names] + [6.0 * scan.brain]
    coarse = [ndimage.zoom(ndimage.gaussian_filter(p, coarse_mm / 3 / spacing), factor, order=1) for p in pictures]
    step = spacing * (np.asarray(scan.brain.shape) - 1) / np.maximum(1, np.asarray(coarse[0].shape) - 1)
    places = np.argwhere(scan.brain)
    centre = places.mean(axis=0) * spacing if len(places) else spacing * (np.asarray(scan.brain.shape) - 1) / 2

    def cost(parameters: np.ndarray) -> float:
        matrix, offset = _reflection(parameters, centre, step, scan.across)
        there = [ndimage.affine_transform(p, matrix, offset, order=1) for p in coarse]
        return float(sum(np.abs(p - q).mean() for p, q in zip(coarse, there, strict=True)))

    begin = np.zeros(ndim)  # shift in mm / 10, then a turn in radians * 10 per other axis
    simplex = np.vstack([begin, begin + 0.6 * np.eye(ndim)])
    found = optimize.minimize(
        cost, begin, method="Nelder-Mead", options={"initial_simplex": simplex, "xatol": 0.02, "maxfev": 150}
    )
    return _reflection(found.x, centre, spacing, scan.across)


def _reflection(
    parameters: np.ndarray, centre: np.ndarray, spacing: np.ndarray, across: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mirror about a plane near `centre` (mm), as a map of voxels to voxels."""
    normal = np.insert(np.asarray(parameters[1:]) / 10, across, 1.0)
    normal /= np.linalg.norm(normal)
    on_plane = normal @ centre + 10 * parameters[0]
    flip = np.eye(len(centre)) - 2 * np.outer(normal, normal)
    return flip * spacing[None] / spacing[:, None], 2 * on_plane * normal / spacing


def mirrored(values: np.ndarray, mirror: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The picture as its mirror image lies on it; 0 where that lies outside."""
    return ndimage.affine_transform(values, *mirror, order=1)


def plane_distance(scan: Scan, signed: bool = False) -> np.ndarray:
    """mm from each voxel to the mid-sagittal plane, half the way to its mirror image; signed: below 0 on one side."""
    matrix, offset = scan.mirror
    grid = np.indices(scan.brain.shape, dtype=np.float32)
    way = np.tensordot(matrix - np.eye(len(offset)), grid, axes=1) + offset.reshape(-1, *[1] * len(offset))
    distance = np.sqrt(sum((w * s) ** 2 for w, s in zip(way, scan.spacing, strict=True))) / 2
    return distance * np.sign(way[scan.across]) if signed else distance


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
