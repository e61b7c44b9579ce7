"""A healthy head: which tissue is at which point.

Shapes are written down once, for a template head (mm, RAS+, origin near the middle of the
brain). A `Head` says how one person differs from the template: turned, scaled and gently bent,
with folds, sulcal width and ventricles of its own.
"""

from dataclasses import dataclass

import numpy as np

from autoconf.phantom.shapes import Waves, draw_waves, ellipsoid, ramp, smooth_max, smooth_min, tube

HEALTHY = ("csf", "ventricle", "gm", "wm", "gliosis", "plexus", "bone", "marrow", "scalp")

CEREBRUM = (0, 0, 6), (66, 82, 63)  # centre and semi-axes, mm
CORTEX = 3.4  # mm; real cortex is 2 to 4.5
# Left and right share one description: these have x >= 0 and are mirrored.
LATERAL_VENTRICLE = ((13, 37, 7, 3.5), (9.5, 16, 15, 5.5), (10, -10, 22, 5.0), (20, -36, 15, 6.5), (25, -60, 7, 1.5))
TEMPORAL_HORN = (20, -36, 15, 6.5), (33, -28, -4, 2.6), (34, -4, -19, 2.2)
CAUDATE = (16.5, 27, 9, 5.5), (17.5, 12, 15, 4.5), (19, -8, 21, 2.5)
HORN_TIPS = (14, 41, 7), (26, -62, 7)  # where age leaves FLAIR-bright caps


@dataclass(frozen=True)
class Head:
    """One person's anatomy.

    turn: (3, 3) rotation; scale: (3,) factors on the template; bend: three fields for a smooth
    warp of `bend_mm`; folds and depths: fields that place sulci and say how deep they cut;
    sulcus: half a sulcus's width in mm; ventricles: factor on their radius; lopsided: relative
    difference between the left and the right ventricle; caps: 0 to 1, how much periventricular
    FLAIR-bright gliosis; spots: field whose peaks are small white matter lesions.
    """

    turn: np.ndarray
    scale: np.ndarray
    bend: tuple[Waves, Waves, Waves]
    bend_mm: float
    folds: Waves
    depths: Waves
    spots: Waves
    sulcus: float
    ventricles: float
    lopsided: float
    caps: float


def draw_head(rng: np.random.Generator) -> Head:
    """Draw one person; every number comes from `rng`, in this order."""
    return Head(
        turn=_rotation(rng.normal(0, np.radians(3), 3)),
        scale=rng.uniform(0.93, 1.01, 3).astype(np.float32),
        bend=(draw_waves(rng, 110, 8), draw_waves(rng, 110, 8), draw_waves(rng, 110, 8)),
        bend_mm=rng.uniform(1.0, 2.2),
        folds=draw_waves(rng, rng.uniform(20, 25), 40),
        depths=draw_waves(rng, 45, 12),
        spots=draw_waves(rng, 24, 24),
        sulcus=rng.uniform(0.7, 1.4),
        ventricles=rng.uniform(0.75, 1.35),
        lopsided=rng.uniform(-0.15, 0.15),
        caps=rng.uniform(0.25, 1.0),
    )


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) from angles about x, y and z in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return (about_z @ about_y @ about_x).astype(np.float32)


def to_template(head: Head, points: np.ndarray) -> np.ndarray:
    """Scanner points (3, N) mm RAS+ -> the template points (3, N) mm with the same tissue."""
    turned = np.einsum("ij,jn->in", head.turn, points) / head.scale[:, None]
    return turned + np.float32(head.bend_mm) * np.stack([wave(turned) for wave in head.bend])


def inside_brain(points: np.ndarray) -> np.ndarray:
    """Depth below the inner table of the skull, template points (3, N) mm -> (N,) mm."""
    parts = cerebrum(points), _cerebellum(points), _stem(points)
    return smooth_max(smooth_max(parts[0], parts[1], 12), parts[2], 10) + 2.0


def tissues(head: Head, points: np.ndarray, voxel: float) -> np.ndarray:
    """Tissue shares at template points.

    points: (3, N) mm; voxel: mm, the width over which neighbouring tissues mix.
    Returns (len(HEALTHY), N) float32, 0 to 1, summing to 1 inside the head and 0 in air.
    """
    out = np.zeros((len(HEALTHY), points.shape[1]), np.float32)
    depth = inside_brain(points)
    _head_shell(out, points, depth, voxel)
    near = depth > -voxel
    inner = points[:, near]
    skull_share = 1 - ramp(depth[near], voxel)
    out[:, near] = out[:, near] * skull_share + _brain(head, inner, voxel) * (1 - skull_share)
    return out


def _brain(head: Head, points: np.ndarray, voxel: float) -> np.ndarray:
    """Tissue shares (len(HEALTHY), N) inside the skull, template points (3, N) mm."""
    pial, stem = pial_depth(head, points), _stem(points)
    ventricle = _ventricles(head, points)
    brain = np.maximum(ramp(pial, voxel), ramp(stem, voxel))
    white = np.maximum(ramp(pial - CORTEX, voxel), ramp(stem, voxel))
    white *= 1 - 0.75 * ramp(_deep_grey(points), voxel)  # nuclei hold many fibres
    hollow = ramp(ventricle, voxel)
    plexus = 0.8 * hollow * ramp(ellipsoid(_mirror(points), (20, -35, 14), (2.5, 5, 3)), voxel)
    gliosis = _gliosis(head, points, ventricle) * white
    out = np.zeros((len(HEALTHY), points.shape[1]), np.float32)
    shares = {"csf": 1 - brain, "gm": brain - white, "wm": white - gliosis, "gliosis": gliosis}
    for name, share in shares.items():
        out[HEALTHY.index(name)] = share * (1 - hollow)
    out[HEALTHY.index("ventricle")] = hollow - plexus
    out[HEALTHY.index("plexus")] = plexus
    return out


def pial_depth(head: Head, points: np.ndarray) -> np.ndarray:
    """Depth below the folded surface of cerebrum and cerebellum, (3, N) mm -> (N,) mm.

    Negative in the fluid around the brain and in its sulci; CORTEX mm deep, white matter begins.
    """
    hull = cerebrum(points)
    fissure = _fissure(points)
    outer = np.minimum(hull, fissure)
    folded = outer.copy()
    shallow = (outer > -4) & (outer < 30)  # no sulcus is deeper, so no waves are summed there
    sulci = _sulci(head, points[:, shallow], outer[shallow])
    folded[shallow] = smooth_min(outer[shallow], sulci, 3.0)
    folded = np.minimum(folded, _sylvian(points, head.sulcus))
    return np.maximum(folded, _folia(points))


def _sulci(head: Head, points: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """Distance from the nearest sulcus (N,) mm, negative in its fluid.

    Sulci are the zero surfaces of `folds`. The field is read mostly at the point's projection
    onto the hull, so that sulci run inwards at right angles to the surface.
    """
    centre, semi = (np.array(v, np.float32)[:, None] for v in CEREBRUM)
    offset = points - centre
    radius = np.maximum(np.sqrt(np.square(offset / semi).sum(0)), 0.3)
    keep = np.float32(0.35)  # 0: walls perfectly radial; 1: no relation to the surface
    stretch = (1 - keep) / radius + keep
    value, slope = head.folds.with_slope(centre + offset * stretch)
    steepness = np.sqrt(np.square(slope) + np.square(0.25 * 2 * np.pi / 22.5))
    sheet = np.abs(value) / (steepness * stretch)
    cortical = np.clip((radius - 0.45) / 0.25, 0, 1)  # the projection is useless near the centre
    floor = (17 + 6 * head.depths(points)) * cortical - 3 * (1 - cortical)
    width = head.sulcus * (1.1 - 0.4 * np.clip(outer / 15, 0, 1))  # opens towards the skull
    return np.hypot(sheet, np.maximum(outer - floor, 0)) - width


def cerebrum(points: np.ndarray) -> np.ndarray:
    """Hull of the cerebrum: a dome with a flat base, and two temporal lobes below it."""
    _, y, z = points
    side = _mirror(points)
    base = z + 17 + 0.06 * y
    dome = smooth_min(ellipsoid(points, *CEREBRUM), base, 14)
    temporal = ellipsoid(side, (42, 4, -22), (22, 42, 20))
    tentorium = -(_cerebellum(points) + 3.0)
    return np.minimum(smooth_max(dome, temporal, 8), tentorium)


def _cerebellum(points: np.ndarray) -> np.ndarray:
    return ellipsoid(_mirror(points), (20, -46, -36), (31, 29, 22))


def _stem(points: np.ndarray) -> np.ndarray:
    return tube(points, [(0, -12, 0, 9), (0, -15, -16, 14), (0, -18, -32, 15), (0, -27, -62, 8)])


def _folia(points: np.ndarray) -> np.ndarray:
    """Depth below the cerebellum's leaves, all cut in one direction."""
    _, y, z = points
    hull = _cerebellum(points)
    leaf = 3.6 * np.abs(np.sin(np.pi * (z + 0.5 * y) / 8.5)) - 0.4
    return np.where(hull < 12, np.minimum(hull, np.hypot(leaf, np.maximum(hull - 8, 0))), hull)


def _fissure(points: np.ndarray) -> np.ndarray:
    """Distance from the cleft between the hemispheres, which stops at the corpus callosum."""
    _, y, z = points
    core = np.hypot((y + 4) / 44, (z - 4) / 29)
    return np.hypot(points[0], np.maximum(1 - core, 0) * 29) - 1.2


def _sylvian(points: np.ndarray, sulcus: float) -> np.ndarray:
    """Distance from the Sylvian fissure and the insula at its bottom."""
    x, y, z = _mirror(points)
    across = z + 7 + 0.25 * y + 2 * np.sin(y / 9)
    entry = np.hypot(across, np.hypot(np.maximum(40 - x, 0), np.maximum(np.abs(y - 4) - 30, 0)))
    bowl = x - 40 - 0.004 * (y - 4) ** 2
    insula = np.hypot(bowl, np.maximum(np.hypot(across, (y - 4) * 0.6) - 13, 0))
    return np.minimum(entry - 0.8 - sulcus, insula - 0.4 - 0.5 * sulcus)


def _ventricles(head: Head, points: np.ndarray) -> np.ndarray:
    side = _mirror(points)
    grow = np.float32(head.ventricles) * (1 + np.float32(head.lopsided) * np.sign(points[0]))
    lateral = smooth_max(tube(side, LATERAL_VENTRICLE, grow), tube(side, TEMPORAL_HORN, grow), 3)
    third = ellipsoid(points, (0, -6, 2), (2.6 * head.ventricles, 14, 9))
    fourth = ellipsoid(points, (0, -33, -33), (7, 4.5 * head.ventricles, 8))
    return np.maximum(np.minimum(lateral, side[0] - 0.8), np.maximum(third, fourth))


def _deep_grey(points: np.ndarray) -> np.ndarray:
    """Depth inside thalamus, caudate or lentiform nucleus."""
    side = _mirror(points)
    slanted = side - np.array([0.28, 0, 0], np.float32)[:, None] * (4 - side[1])
    thalamus = ellipsoid(slanted, (10, -12, 7), (8, 14, 9))
    lentiform = ellipsoid(slanted, (26, 4, 2), (6, 19, 10))
    return np.maximum(np.maximum(thalamus, lentiform), tube(side, CAUDATE))


def _gliosis(head: Head, points: np.ndarray, ventricle: np.ndarray) -> np.ndarray:
    """Share of white matter turned FLAIR-bright by age: caps on the horns, a rim, a few spots."""
    side = _mirror(points)
    reach = np.maximum(*(ellipsoid(side, tip, (11, 11, 11)) for tip in HORN_TIPS))
    caps = head.caps * np.clip(0.2 + reach / 6, 0, 1)
    rim = 0.7 * head.caps * np.clip(1 + ventricle / 5, 0, 1)
    spots = head.caps * np.clip((head.spots(points) - 1.9) * 3, 0, 1)
    return np.maximum(np.maximum(caps, rim), spots)


def _head_shell(out: np.ndarray, points: np.ndarray, depth: np.ndarray, voxel: float) -> None:
    """Fill skull (two tables with marrow between) and scalp outside `depth` < 0, in place."""
    vault = np.maximum(depth, ellipsoid(points, (0, -1, -4), (69, 87, 78)))
    layers = ("bone", -1.6), ("marrow", -4.6), ("bone", -6.4), ("scalp", -12.5)  # outer edge, mm
    inner = ramp(vault, voxel)
    out[HEALTHY.index("bone")] += inner  # skull base, where the vault is not filled with brain
    for name, edge in layers:
        outer = ramp(vault - edge, voxel)
        out[HEALTHY.index(name)] += outer - inner
        inner = outer


def _mirror(points: np.ndarray) -> np.ndarray:
    return np.stack([np.abs(points[0]), points[1], points[2]])
