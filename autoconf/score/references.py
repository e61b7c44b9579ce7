"""Predictions that need no network. A model that does not beat them has learned nothing that matters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import nibabel
import numpy as np
from scipy import ndimage

from autoconf.data.pairs import Pair
from autoconf.data.volumes import bounding_box, check_same_grid, read_volume
from autoconf.score.metrics import overlap

ABOVE = 2.0  # robust standard deviations over the median of the head
SMOOTH_MM = 2.0  # what is thinner is cleaned away
MAD = 1.4826  # times the median absolute deviation is the standard deviation of a normal distribution
ATLAS = 48  # cells per axis of the head's bounding box, 3 to 4 mm each
ATLAS_CASES = 200  # more training cases change the mean mask by less than its threshold matters
THRESHOLDS = tuple(step / 20 for step in range(1, 20))


def flair_threshold(flair: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """The largest bright object: FLAIR more than ABOVE robust standard deviations over the head's median, opened.

    flair: (i, j, k), 0 outside the head. spacing: mm per axis of the array. Returns a boolean array of its shape.
    """
    bright = np.zeros(flair.shape, bool)
    head = flair != 0
    if not head.any():
        return bright
    box = bounding_box(head)
    inside, values = head[box], flair[box].astype(np.float32)
    median = np.median(values[inside])
    deviation = MAD * np.median(np.abs(values[inside] - median))
    found = inside & (values > median + ABOVE * deviation)
    steps = max(1, round(SMOOTH_MM / 2 / float(np.median(spacing))))
    found = ndimage.binary_opening(found, iterations=steps)
    objects, count = ndimage.label(found)
    if count:
        sizes = np.bincount(objects.ravel())
        sizes[0] = 0
        bright[box] = objects == sizes.argmax()
    return bright


@dataclass(frozen=True)
class Atlas:
    """How often each place of the head is tumour in the training cases, and from which share on to call it tumour.

    share: (ATLAS, ATLAS, ATLAS) float32 over the head's bounding box, axes R, A, S. threshold: the one with the best
    mean Dice on the training cases themselves.
    """

    share: np.ndarray
    threshold: float

    def predict(self, head: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """The atlas laid over a head: boolean, in the head's own array order. affine: (4, 4), voxel -> mm, RAS+."""
        orientation = nibabel.io_orientation(affine)
        turned = nibabel.apply_orientation(head, orientation)
        mask = np.zeros(turned.shape, bool)
        if turned.any():
            box = bounding_box(turned)
            cells = [_cells(side.stop - side.start) for side in box]
            mask[box] = self.share[np.ix_(*cells)] >= self.threshold
        back = nibabel.orientations.ornt_transform(nibabel.io_orientation(np.eye(4)), orientation)
        return nibabel.apply_orientation(mask, back)


def make_atlas(pairs: Iterable[Pair]) -> Atlas | None:
    """The mean mask of training cases, each stretched to the box of its head; None where no case has FLAIR and tumour.

    The whole tumour is any value above 0 where a pair's regions are not known. Raises AutoconfError for unreadable
    files.
    """
    masks = []
    for pair in pairs:
        if pair.flair is None:
            continue
        flair, truth = read_volume(pair.flair), read_volume(pair.truth)
        check_same_grid(truth, flair)
        values = pair.regions.get("wt") if pair.regions else None
        tumour = truth.data > 0 if values is None else np.isin(truth.data, values)
        to_ras = nibabel.io_orientation(flair.affine)
        head, tumour = (nibabel.apply_orientation(mask, to_ras) for mask in (flair.data != 0, tumour))
        if not head.any():
            continue
        box = bounding_box(head)
        centres = [_centres(side.stop - side.start) for side in box]
        masks.append(tumour[box][np.ix_(*centres)])
    if not masks or not any(mask.any() for mask in masks):
        return None
    share = np.asarray(np.mean(masks, axis=0, dtype=np.float32))
    dice = {t: np.mean([overlap(share >= t, mask).dice for mask in masks]) for t in THRESHOLDS}
    return Atlas(share, max(dice, key=lambda t: dice[t]))


def some_of(pairs: Sequence[Pair]) -> list[Pair]:
    """At most ATLAS_CASES of the cases, spread evenly over their order."""
    if len(pairs) <= ATLAS_CASES:
        return list(pairs)
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, ATLAS_CASES).astype(int)]


def _cells(length: int) -> np.ndarray:
    """For each of `length` voxels the cell of the atlas that holds its centre."""
    return np.minimum(((np.arange(length) + 0.5) / length * ATLAS).astype(int), ATLAS - 1)


def _centres(length: int) -> np.ndarray:
    """For each cell of the atlas the voxel, of `length`, that holds its centre."""
    return np.minimum(((np.arange(ATLAS) + 0.5) / ATLAS * length).astype(int), length - 1)
