"""Lesions: a core that pushes tissue aside, and oedema that creeps along white matter.

Everything is in template coordinates (see head.py). The oedema's arrival times are computed
once per case on a fixed 3 mm lattice, so a lesion does not depend on the image's voxel size.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from autoconf.phantom.head import HEALTHY, Head, cerebrum, inside_brain, tissues
from autoconf.phantom.shapes import Waves, draw_waves, ramp

TUMOUR = ("oedema", "necrosis", "enhancing", "solid")
TISSUES = HEALTHY + TUMOUR
NECROSIS, OEDEMA, ENHANCING = 1, 2, 3  # BraTS 2023; 1 is also a core without enhancement

LATTICE = 3.0  # mm
LATTICE_MIN = np.array([-87.0, -105.0, -81.0], np.float32)
LATTICE_SHAPE = (59, 69, 55)
# How many mm of white matter take as long to soak as 1 mm of this tissue.
DELAY = {"wm": 1.0, "gliosis": 1.0, "gm": 5.0}
BLOCKED = 60.0  # any other tissue: further than oedema ever spreads


@dataclass(frozen=True)
class Lesion:
    """One focus.

    centre: (3,) mm; radius: mm, of the core; stretch: (3, 3) symmetric, unit determinant;
    shape: field that makes the core irregular; rim: mm, mean thickness of the enhancing rim, 0
    for a core that takes up no contrast; rim_shape: field that thins and thickens it; push: mm,
    how far tissue at the core's border has moved outwards; reach: mm, how far oedema spreads
    along white matter; core: whether there is a visible core at all.
    """

    centre: np.ndarray
    radius: float
    stretch: np.ndarray
    shape: Waves
    rim: float
    rim_shape: Waves
    push: float
    reach: float
    core: bool


@dataclass(frozen=True)
class Tumour:
    """All lesions of a case.

    arrival: LATTICE_SHAPE float32, how far the oedema's front has passed each lattice point, in
    mm of white matter; negative where it has not arrived.
    """

    lesions: tuple[Lesion, ...]
    arrival: np.ndarray


HEALTHY_STATE = Tumour((), np.full(LATTICE_SHAPE, -100, np.float32))


def draw_lesions(rng: np.random.Generator, head: Head, enhancing: bool, growth: float = 1.0) -> tuple[Lesion, ...]:
    """Draw one to three lesions in the white matter of the cerebrum, the largest first.

    enhancing: whether cores have a contrast-enhancing rim. growth: factor on every length, for a
    later scan of the same patient: the same `rng` state then gives the same lesions, grown.
    """
    count = int(rng.choice([1, 2, 3], p=[0.65, 0.25, 0.10]))
    has_core = bool(enhancing or rng.random() < 0.75)  # else oedema is all there is to see
    sites = _sites(head)
    lesions: list[Lesion] = []
    for index in range(count):
        radius = rng.uniform(11, 21) if index == 0 else rng.uniform(5, 10)
        room = np.full(sites.shape[1], True)
        for other in lesions:
            away = np.linalg.norm(sites - other.centre[:, None], axis=0)
            room &= away > 1.3 * (radius + other.radius / growth) + 6
        room &= (inside_brain(sites) > 0.7 * radius + 4) & (np.abs(sites[0]) > 0.6 * radius + 5)
        if not room.any():  # the first always finds room; a small satellite may not
            break
        centre = sites[:, rng.choice(np.flatnonzero(room))] + rng.uniform(-2, 2, 3)
        lesions.append(_lesion(rng, centre, radius, enhancing, has_core, growth))
    return tuple(lesions)


def _lesion(
    rng: np.random.Generator, centre: np.ndarray, radius: float, enhancing: bool, core: bool, growth: float
) -> Lesion:
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    lengths = rng.uniform(0.8, 1.25, 3)
    lengths /= lengths.prod() ** (1 / 3)
    rim = max(3.2, radius * rng.uniform(0.2, 0.45))  # thinner than a voxel would be invisible
    return Lesion(
        centre=centre.astype(np.float32),
        radius=radius * growth,
        stretch=(axes @ np.diag(1 / lengths) @ axes.T).astype(np.float32),
        shape=draw_waves(rng, 1.6 * radius),
        rim=rim * growth if enhancing else 0.0,
        rim_shape=draw_waves(rng, 1.2 * radius),
        push=radius * growth * rng.uniform(0.2, 0.5),
        reach=growth * (4 + radius * rng.uniform(0.3, 1.1)) * rng.uniform(0.7, 1.3),
        core=core,
    )


def _sites(head: Head) -> np.ndarray:
    """Points (3, N) mm well inside the cerebrum's white matter, where a lesion may start."""
    points = _lattice(6.0)
    points = points[:, cerebrum(points) > 9]
    white = tissues(head, points, 6.0)[HEALTHY.index("wm")]
    low = points[2] < -12  # leaves out the stem, where BraTS has hardly any tumours
    return points[:, (white > 0.6) & ~(low & (np.abs(points[0]) < 25))]


def _lattice(step: float) -> np.ndarray:
    """Template points (3, N) mm, `step` apart, over the lattice's box, in C order."""
    counts = [int(round((n - 1) * LATTICE / step)) + 1 for n in LATTICE_SHAPE]
    axes = [low + step * np.arange(n, dtype=np.float32) for low, n in zip(LATTICE_MIN, counts, strict=True)]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])


def push_back(lesions: tuple[Lesion, ...], points: np.ndarray) -> np.ndarray:
    """Where the tissue now at `points` was before the lesions grew, (3, N) mm -> (3, N) mm.

    Around each lesion tissue moved radially, by `push` at the core's border and less with
    distance; nothing moves through the skull. The map is monotonic along each radius, so tissue
    is squeezed but never folded or torn.
    """
    free = np.clip(inside_brain(points) / 14, 0, 1)  # 0 at the skull, which does not give way
    for lesion in lesions:
        offset = points - lesion.centre[:, None]
        away = np.maximum(np.sqrt(np.square(offset).sum(0)), 1e-3)
        beyond = np.maximum(away - lesion.radius, 0)
        shift = lesion.push * np.minimum(away / lesion.radius, 1)
        shift *= np.exp(-beyond / (1.2 * lesion.radius))
        points = points - (free * shift / away).astype(np.float32) * offset
    return points


def core_depth(lesion: Lesion, points: np.ndarray) -> np.ndarray:
    """Depth inside a lesion's core, (3, N) mm -> (N,) mm, negative outside."""
    offset = points - lesion.centre[:, None]
    away = np.sqrt(np.square(np.einsum("ij,jn->in", lesion.stretch, offset)).sum(0))
    return lesion.radius * (1 + 0.16 * lesion.shape(points)) - away


def grow(rng: np.random.Generator, head: Head, lesions: tuple[Lesion, ...]) -> Tumour:
    """Spread oedema from the cores: a front that runs along white matter and stops at fluid.

    Arrival times are shortest paths whose cost per mm is the tissue's DELAY, times a smooth factor
    drawn from `rng`. Source: Konukoglu et al., IEEE Trans. Med. Imaging 29, 77-95 (2010), for
    tumour invasion as an eikonal front that is faster in white matter.
    """
    points = _lattice(LATTICE)
    shares = tissues(head, push_back(lesions, points), LATTICE)
    delay = BLOCKED - sum((BLOCKED - DELAY[n]) * shares[HEALTHY.index(n)] for n in DELAY)
    delay *= np.exp(0.35 * draw_waves(rng, 22)(points))
    limit = max(lesion.reach for lesion in lesions)
    start = np.full(points.shape[1], 3 * limit, np.float32)
    for lesion in lesions:  # one with a shorter reach sets off later, so that all stop at `limit`
        places = _around(lesion, points)
        places = places[core_depth(lesion, points[:, places]) > -2]
        start[places] = np.minimum(start[places], limit - lesion.reach)
    delay = delay.reshape(LATTICE_SHAPE).astype(np.float32)
    return Tumour(lesions, limit - _front(start.reshape(LATTICE_SHAPE), delay, limit))


def _around(lesion: Lesion, points: np.ndarray) -> np.ndarray:
    """Indices of the points that a lesion's core might cover."""
    return np.flatnonzero(np.linalg.norm(points - lesion.centre[:, None], axis=0) < 1.8 * lesion.radius)


def _front(times: np.ndarray, delay: np.ndarray, limit: float) -> np.ndarray:
    """Shortest arrival times over a lattice with 18 neighbours, by relaxation up to `limit`."""
    steps = [s for s in np.ndindex(3, 3, 3) if 0 < sum(abs(i - 1) for i in s) < 3]
    best = _relax(times, delay, steps)
    while not np.array_equal(np.minimum(best, limit), np.minimum(times, limit)):
        times, best = best, _relax(best, delay, steps)
    # A lattice point in fluid is late, and would delay the tissue beside it when times are
    # interpolated: one step at full speed lets it take its neighbours' time.
    return _relax(best, np.ones_like(delay), steps)


def _relax(times: np.ndarray, delay: np.ndarray, steps: list[tuple[int, int, int]]) -> np.ndarray:
    """Earliest arrival at each lattice point directly or by way of one neighbour."""
    padded = np.pad(times, 1, mode="edge")
    best = times
    for step in steps:
        window = tuple(slice(i, i + n) for i, n in zip(step, times.shape, strict=True))
        length = np.float32(LATTICE * np.sqrt(sum(abs(i - 1) for i in step)))
        best = np.minimum(best, padded[window] + length * delay)
    return best


def arrival_at(tumour: Tumour, points: np.ndarray) -> np.ndarray:
    """How far the oedema's front has passed template points, (3, N) mm -> (N,) mm; wet if > 0."""
    index = (points - LATTICE_MIN[:, None]) / np.float32(LATTICE)
    return ndimage.map_coordinates(tumour.arrival, index, order=1, mode="nearest")


def paint(head: Head, tumour: Tumour, points: np.ndarray, voxel: float) -> tuple[np.ndarray, np.ndarray]:
    """Tissue shares and labels of the head with its tumour.

    points: (3, N) template mm; voxel: mm. Returns ((len(TISSUES), N) float32 shares,
    (N,) uint8 BraTS 2023 labels).
    """
    shares = np.zeros((len(TISSUES), points.shape[1]), np.float32)
    shares[: len(HEALTHY)] = tissues(head, push_back(tumour.lesions, points), voxel)
    labels = np.zeros(points.shape[1], np.uint8)
    _soak(shares, labels, arrival_at(tumour, points))
    for lesion in tumour.lesions:
        if lesion.core:
            _add_core(shares, labels, lesion, points, voxel)
    return shares, labels


def _soak(shares: np.ndarray, labels: np.ndarray, front: np.ndarray) -> None:
    """Turn tissue the front has passed into oedema, in place; cortex takes up less of it."""
    wet = np.zeros_like(front)
    for name, share in (("wm", 1.0), ("gliosis", 1.0), ("gm", 0.35)):
        row = shares[TISSUES.index(name)]
        taken = row * share * np.clip(0.5 + front / 5, 0, 1)  # fades out over 5 mm
        row -= taken
        wet += taken
    shares[TISSUES.index("oedema")] = wet
    labels[(wet > 0.42) & (front > 0)] = OEDEMA


def _add_core(shares: np.ndarray, labels: np.ndarray, lesion: Lesion, points: np.ndarray, voxel: float) -> None:
    """Replace tissue by one lesion's core, in place; ventricles and skull are spared."""
    near = _around(lesion, points)
    local = points[:, near]
    depth = np.minimum(core_depth(lesion, local), inside_brain(local) - 2)
    fluid = shares[TISSUES.index("ventricle"), near]
    inside = ramp(depth, voxel) * (1 - fluid)
    thickness = lesion.rim * (1 + 0.4 * np.clip(lesion.rim_shape(local), -1.5, 1.5))
    centre = ramp(depth - thickness, voxel) * (lesion.rim > 0)
    shares[:, near] *= 1 - inside
    shares[TISSUES.index("necrosis"), near] += inside * centre
    shares[TISSUES.index("enhancing" if lesion.rim > 0 else "solid"), near] += inside * (1 - centre)
    core = inside > 0.5
    labels[near[core & (centre > 0.5)]] = NECROSIS
    labels[near[core & (centre <= 0.5)]] = ENHANCING if lesion.rim > 0 else NECROSIS
