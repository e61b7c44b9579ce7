"""A picture of a head, skull and all, as label functions want it: its brain found, brightness as robust z-scores."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from .label_scan import Scan, make_scan

CONTRAST = "image"  # the only one; label functions are told its name
SKULL = 0.18  # of the head's largest depth: scalp and skull; 12 to 15 mm of an adult's 75 mm
DARKER = 0.5  # of Otsu's threshold: the dimmest that still is head


def scan_of(picture: np.ndarray, smooth: float = 1.0) -> Scan:
    """(H, W) in any unit, (row, column) -> a Scan; ears are left and right.

    The brain is the head without its outermost layer: a guess from the outline alone, too large where the face is seen.
    """
    if picture.min() == picture.max():
        return make_scan({CONTRAST: picture}, (1, 1), np.zeros(picture.shape, bool), smooth, across=1)
    bright = ndimage.gaussian_filter(picture.astype(np.float32), 2.0)
    floor = float(picture.min())
    head = bright > floor + DARKER * (threshold_otsu(bright) - floor)
    objects, count = ndimage.label(ndimage.binary_closing(np.pad(head, 8), iterations=6)[8:-8, 8:-8])
    if count:
        head = ndimage.binary_fill_holes(objects == 1 + np.bincount(objects.ravel())[1:].argmax())
    depth = ndimage.distance_transform_edt(np.pad(head, 1))[1:-1, 1:-1]
    return make_scan({CONTRAST: picture}, (1, 1), depth > SKULL * depth.max(), smooth, across=1)
