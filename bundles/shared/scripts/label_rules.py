"""Rules that clean a mask of what cannot be tumour: rims, ventricles, specks; and an outline that follows the picture.

Each takes a `labelers.Scan` and a boolean mask of its shape and returns another. They hold in two and three dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage
from skimage.measure import regionprops
from skimage.segmentation import morphological_chan_vese

from .label_scan import Scan
from .labelers import distinctness

Rule = Callable[[Scan, np.ndarray], np.ndarray]


def remove_rim(scan: Scan, mask: np.ndarray, rim_mm: float = 6.0, most: float = 0.7) -> np.ndarray:
    """Drop the objects of which more than `most` lies within `rim_mm` of the brain's edge: meninges, fat, cortex."""
    objects, count = ndimage.label(mask)
    if not count:
        return mask
    near = ndimage.mean(scan.depth < rim_mm, objects, np.arange(1, count + 1))
    return np.isin(objects, 1 + np.flatnonzero(near <= most))


def remove_ventricles(scan: Scan, mask: np.ndarray, bright: float = 1.5, dark: float = -0.5) -> np.ndarray:
    """Drop what looks like fluid: bright in T2 and dark in FLAIR, in robust z. Without both modalities nothing."""
    if not scan.knows("t2", "flair"):
        return mask
    return mask & ~((scan.modalities["t2"] > bright) & (scan.modalities["flair"] < dark))


def opened(scan: Scan, mask: np.ndarray, radius_mm: float = 2.0) -> np.ndarray:
    """Drop what is thinner than twice `radius_mm`, and cut thin bridges."""
    return _ball_erosion(_ball_erosion(mask, scan.spacing, radius_mm), scan.spacing, radius_mm, grow=True) & mask


def keep_large(
    scan: Scan, mask: np.ndarray, least: float = 500.0, beside_largest: float = 0.2, most: int = 3
) -> np.ndarray:
    """Keep the `most` largest objects of those with `least` mm^3 (pictures: pixels) and a share of the largest."""
    objects, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(objects.ravel())[1:] * float(np.prod(scan.spacing))
    wanted = (sizes >= least) & (sizes >= beside_largest * sizes.max())
    wanted[np.argsort(-sizes, kind="stable")[most:]] = False
    return np.isin(objects, 1 + np.flatnonzero(wanted))


def keep_most_distinct(scan: Scan, mask: np.ndarray, contrast: str = "image", least: float = 0.0) -> np.ndarray:
    """Keep the one object that looks most like a lesion, or none that reaches `least`; see `labelers.distinctness`."""
    if not scan.knows(contrast):
        return mask
    kept = np.zeros_like(mask)
    objects = regionprops(ndimage.label(mask)[0])
    scores = [distinctness(scan, contrast, one) for one in objects]
    if objects and max(scores) >= least:
        best = objects[int(np.argmax(scores))]
        kept[best.slice] = best.image
    return kept


def closed(scan: Scan, mask: np.ndarray, radius_mm: float = 4.0) -> np.ndarray:
    """Bridge gaps narrower than twice `radius_mm` and fill what is enclosed: a dead core is tumour, too."""
    width = [int(np.ceil(radius_mm / s)) + 1 for s in scan.spacing]
    padded = np.pad(mask, [(w, w) for w in width])
    grown = _ball_erosion(padded, scan.spacing, radius_mm, grow=True)
    back = _ball_erosion(grown, scan.spacing, radius_mm)[tuple(slice(w, -w) for w in width)]
    return ndimage.binary_fill_holes(back | mask) & scan.brain


def active_contour(
    scan: Scan, mask: np.ndarray, modalities: Sequence[str] = ("flair", "t2"), steps: int = 6, smoothing: int = 1
) -> np.ndarray:
    """Let the outline move for a few steps to where inside and outside differ most in brightness.

    Morphological active contour without edges, near the mask. Source: P. Marquez-Neila, L. Baumela, L. Alvarez, IEEE
    TPAMI 36, 2-17 (2014).
    """
    names = [name for name in modalities if name in scan.modalities]
    if not mask.any() or not names:
        return mask
    reach = 2 * steps
    box = tuple(slice(max(0, b.start - reach), b.stop + reach) for b in ndimage.find_objects(mask.astype(np.uint8))[0])
    picture = np.mean([np.clip(scan.modalities[name][box], -3, 5) for name in names], axis=0)
    moved = np.zeros_like(mask)
    moved[box] = (
        morphological_chan_vese(picture, steps, init_level_set=mask[box].astype(np.int8), smoothing=smoothing) > 0
    )
    return moved & scan.brain


def apply(rules: Sequence[Rule], scan: Scan, mask: np.ndarray) -> np.ndarray:
    """One rule after the other."""
    for rule in rules:
        mask = rule(scan, mask)
    return mask


def _ball_erosion(mask: np.ndarray, spacing: Sequence[float], radius: float, grow: bool = False) -> np.ndarray:
    """Erode or dilate by a ball in mm."""
    if grow:
        return ~_ball_erosion(~mask, spacing, radius)
    if mask.all():
        return mask.copy()
    return ndimage.distance_transform_edt(mask, spacing) > radius
