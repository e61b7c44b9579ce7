"""2D pictures of the same heads, skull and scalp included, as a hospital's PACS would show them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from autoconf.phantom.cases import PhantomCase
from autoconf.phantom.head import to_template
from autoconf.phantom.mri import MODALITIES, render
from autoconf.phantom.tumour import HEALTHY_STATE, paint

SHOWN = {"T1": "t1n", "T1C+": "t1c", "T2": "t2w"}  # class name -> contrast
PLANES = np.arange(-14.0, 58.0, 4.0)  # mm, axial; below, the face is missing
WIDTH_MM, HEIGHT_MM = 176.0, 212.0
PER_CASE = 4  # pictures per case and contrast through the tumour
NORMAL_PER_CASE = 3
MAX_SIDE = 256  # px
LARGE_MM2 = 60.0  # a plane with less tumour than this is not shown as one


def make_slices(case: PhantomCase, size: int) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (class name, picture name, picture) for one case.

    Pictures are (rows, columns) uint8, anterior at the top, patient's right at the left, the
    shorter side min(2 * size, 256) px. Planes through the tumour are classed by diagnosis. _NORMAL
    is the same head before it fell ill, at the same heights: planes beside the tumour would let a
    classifier tell normal from ill by the height alone. No contrast agent is given to the healthy.
    """
    area = np.array([np.count_nonzero(_plane(case, z, 5.0)[1]) * 25.0 for z in PLANES])
    diagnosis = "Glioblastoma" if case.enhancing else "Astrocitoma"  # spelt as in the public set
    ill = PLANES[area > max(LARGE_MM2, 0.25 * area.max())]
    yield from _pictures(case, diagnosis, tuple(SHOWN), _spread(ill, PER_CASE), size)
    if case.session == 0:
        healthy = replace(case, tumour=HEALTHY_STATE)
        yield from _pictures(healthy, "_NORMAL", ("T1", "T2"), _spread(ill, NORMAL_PER_CASE), size)


def _pictures(
    case: PhantomCase, group: str, wanted: tuple[str, ...], planes: np.ndarray, size: int
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (class name, picture name, picture) for some planes of a case."""
    pixel = WIDTH_MM / min(2 * size, MAX_SIDE)
    for z in planes:
        key = int(np.searchsorted(PLANES, z))
        points, _, shares = _plane(case, z, pixel)
        values = render(case.noise(size, key, int(group == "_NORMAL")), case.scan, shares, points)
        for contrast in wanted:
            row = values[MODALITIES.index(SHOWN[contrast])]
            picture = _window(row.reshape(_shape(pixel)))
            yield f"{group} {contrast}", f"{case.name}_{key:02d}", picture


def _spread(planes: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the planes, evenly spaced, the outermost left out if others do."""
    if len(planes) <= count:
        return planes
    return planes[np.unique(np.linspace(0, len(planes) - 1, count + 2).round().astype(int)[1:-1])]


def _shape(pixel: float) -> tuple[int, int]:
    return round(HEIGHT_MM / pixel), round(WIDTH_MM / pixel)


def _plane(case: PhantomCase, z: float, pixel: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scanner points (3, N) mm, labels (N,) and shares of an axial plane, rows from anterior."""
    rows, columns = _shape(pixel)
    y = pixel * ((rows - 1) / 2 - np.arange(rows))
    x = pixel * ((columns - 1) / 2 - np.arange(columns))  # right of the patient first
    grid = np.broadcast_arrays(x[None, :], y[:, None], np.float32(z))
    points = np.stack([axis.ravel() for axis in grid]).astype(np.float32)
    shares, labels = paint(case.head, case.tumour, to_template(case.head, points), pixel)
    return points, labels, shares


def _window(picture: np.ndarray) -> np.ndarray:
    """Grey values uint8 from raw units: 0 stays black, the 99.5th percentile is white."""
    return np.clip(picture * (255 / np.percentile(picture, 99.5)), 0, 255).astype(np.uint8)
