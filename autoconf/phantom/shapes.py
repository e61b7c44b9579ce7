"""Geometry the phantom is made of: signed distances, soft edges and smooth random fields.

Everything here maps points to numbers, so one anatomy can be sampled on a 3D grid of any
voxel size or on a single 2D plane. Points are float32 arrays of shape (3, N), in mm, axes
RAS+ (x right, y anterior, z superior). Distances are in mm and positive *inside* a shape.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

CHUNK = 1 << 15  # points per block: a block and its temporaries stay in the processor's cache


@dataclass(frozen=True)
class Waves:
    """A random field of unit variance whose features all have about one size.

    vectors: (K, 3) wave vectors in radians per mm; phases: (K,) radians.
    A sum of plane waves of one wavelength has labyrinth-like zero surfaces, evenly half a
    wavelength apart: the pattern of cortical folds (Cahn, J. Chem. Phys. 42, 93, 1965).
    """

    vectors: np.ndarray
    phases: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Field values at points (3, N) mm -> (N,), mean 0, variance 1."""
        return self.with_slope(points, slope=False)[0]

    def with_slope(self, points: np.ndarray, slope: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Field values and gradient lengths (per mm) at points (3, N) mm -> two (N,) arrays.

        Summed wave by wave rather than by a matrix product: the result must not depend on how
        many threads a linear algebra library uses.
        """
        value = np.zeros(points.shape[1], np.float32)
        steep = np.zeros(points.shape[1], np.float32)
        scale = np.float32(np.sqrt(2 / len(self.phases)))
        for start in range(0, points.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            x, y, z = points[:, part]
            total = np.zeros_like(x)
            gradient = np.zeros((3, x.size), np.float32)
            for (kx, ky, kz), phase in zip(self.vectors, self.phases, strict=True):
                angle = kx * x + ky * y + kz * z + phase
                total += np.cos(angle)
                if slope:
                    sine = np.sin(angle)
                    for axis, k in enumerate((kx, ky, kz)):
                        gradient[axis] += k * sine
            value[part] = total * scale
            steep[part] = np.sqrt(np.square(gradient).sum(0)) * scale
        return value, steep


def draw_waves(rng: np.random.Generator, wavelength: float, count: int = 24) -> Waves:
    """Draw a random field with features of about `wavelength` mm (+-15 %)."""
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    length = 2 * np.pi / (wavelength * rng.uniform(0.85, 1.15, (count, 1)))
    phases = rng.uniform(0, 2 * np.pi, count)
    return Waves((direction * length).astype(np.float32), phases.astype(np.float32))


def ellipsoid(points: np.ndarray, centre: ArrayLike, semi: ArrayLike) -> np.ndarray:
    """Distance to an axis-aligned ellipsoid, (3, N) mm -> (N,) mm, positive inside.

    First-order (exact on the surface, good near it). Source: I. Quilez, "ellipsoid - SDF".
    """
    semi = np.asarray(semi, np.float32)[:, None]
    offset = (points - np.asarray(centre, np.float32)[:, None]) / semi
    k0 = np.sqrt(np.square(offset).sum(0))
    k1 = np.sqrt(np.square(offset / semi).sum(0))
    ratio = np.where(k1 > 1e-6, k0 / np.maximum(k1, 1e-6), semi.min())  # 0/0 at the centre
    return (1 - k0) * ratio


def tube(points: np.ndarray, nodes: Any, grow: Any = 1.0) -> np.ndarray:
    """Distance to a bent tube, (3, N) mm -> (N,) mm, positive inside.

    nodes: rows (x, y, z, radius) in mm along the tube; grow: factor on the radius, () or (N,).
    """
    nodes = np.asarray(nodes, np.float32)
    best = np.full(points.shape[1], -np.inf, np.float32)
    for a, b in zip(nodes[:-1], nodes[1:], strict=True):
        axis = (b - a)[:3]
        offset = points - a[:3, None]
        along = np.clip((axis[:, None] * offset).sum(0) / np.square(axis).sum(), 0, 1)
        away = np.sqrt(np.square(offset - along * axis[:, None]).sum(0))
        best = np.maximum(best, grow * (a[3] + along * (b[3] - a[3])) - away)
    return best


def smooth_max(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Union of two shapes with the crease between them rounded over `width` mm."""
    h = np.clip(0.5 + 0.5 * (a - b) / width, 0, 1)
    return b + h * (a - b) + width * h * (1 - h)


def smooth_min(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Intersection of two shapes with the edge between them rounded over `width` mm."""
    return -smooth_max(-a, -b, width)


def ramp(distance: np.ndarray, width: float) -> np.ndarray:
    """Share of a voxel of `width` mm that lies inside a border at `distance` mm (0 to 1)."""
    return np.clip(0.5 + distance / width, 0, 1)
