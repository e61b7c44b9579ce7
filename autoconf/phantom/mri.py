"""From tissue to signal: modalities, inner texture, bias field, Rician noise."""

from dataclasses import dataclass

import numpy as np

from autoconf.phantom.shapes import Waves, draw_waves
from autoconf.phantom.tumour import TISSUES

MODALITIES = ("t1n", "t1c", "t2w", "t2f")  # BraTS 2023: T1, T1 with contrast agent, T2, FLAIR

# Signal per tissue, white matter on T1 = 1. The order within a row is that of real scans
# (spin echo at 1.5 to 3 T); the distances are chosen so that ranges overlap after bias and noise.
SIGNAL = {
    #                t1n   t1c   t2w   t2f
    "csf":        (0.26, 0.27, 1.00, 0.14),
    "ventricle":  (0.24, 0.25, 1.05, 0.12),
    "gm":         (0.68, 0.71, 0.55, 0.60),
    "wm":         (1.00, 1.01, 0.40, 0.52),
    "gliosis":    (0.82, 0.83, 0.62, 0.88),
    "plexus":     (0.60, 1.35, 0.80, 0.55),
    "bone":       (0.08, 0.08, 0.08, 0.06),
    "marrow":     (0.55, 0.60, 0.35, 0.30),
    "scalp":      (1.15, 1.20, 0.70, 0.60),
    "oedema":     (0.70, 0.71, 0.80, 0.98),
    "necrosis":   (0.36, 0.40, 0.92, 0.50),
    "enhancing":  (0.66, 1.65, 0.64, 0.80),
    "solid":      (0.55, 0.58, 0.86, 0.86),
}  # fmt: skip
LESION = ("oedema", "necrosis", "enhancing", "solid", "gliosis")


@dataclass(frozen=True)
class ScanSettings:
    """How one session's scanner shows tissue.

    signal: (4, len(TISSUES)) raw units; bias: one field per contrast, of relative size
    bias_size (4,); noise: (4,) raw units, standard deviation; texture: field of small
    differences within any tissue; patches: field of larger ones within a lesion.
    """

    signal: np.ndarray
    bias: tuple[Waves, ...]
    bias_size: np.ndarray
    noise: np.ndarray
    texture: Waves
    patches: Waves


def draw_scan(rng: np.random.Generator) -> ScanSettings:
    """Draw a scanner: gains, tissue values a few percent off, bias and noise per contrast."""
    table = np.array([SIGNAL[name] for name in TISSUES]).T
    spread = np.array([0.10 if name in LESION else 0.03 for name in TISSUES])
    table = table * np.exp(spread * np.clip(rng.normal(size=table.shape), -2, 2))
    gain = np.exp(rng.normal(np.log(800), 0.4, (4, 1)))  # scanners have no common unit
    return ScanSettings(
        signal=(table * gain).astype(np.float32),
        bias=tuple(draw_waves(rng, rng.uniform(160, 260), 6) for _ in MODALITIES),
        bias_size=rng.uniform(0.05, 0.14, 4).astype(np.float32),
        noise=(gain[:, 0] * rng.uniform(0.02, 0.05, 4)).astype(np.float32),
        texture=draw_waves(rng, 9, 24),
        patches=draw_waves(rng, 20, 24),
    )


def render(rng: np.random.Generator, scan: ScanSettings, shares: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Image values of the four MODALITIES.

    shares: (len(TISSUES), N); points: (3, N) scanner mm, for bias and texture. Returns (4, N)
    float32, not negative. Noise is Rician: the magnitude of a signal with Gaussian noise in both
    channels (Gudbjartsson and Patz, Magn. Reson. Med. 34, 910-914, 1995), so air is not 0.
    """
    sick = sum(shares[TISSUES.index(name)] for name in LESION)
    texture = 1 + 0.02 * scan.texture(points) + 0.09 * sick * scan.patches(points)
    out = np.empty((len(MODALITIES), points.shape[1]), np.float32)
    for row in range(len(MODALITIES)):
        signal = np.einsum("t,tn->n", scan.signal[row], shares) * texture
        signal *= np.exp(scan.bias_size[row] * scan.bias[row](points))
        real, imaginary = scan.noise[row] * rng.standard_normal((2, points.shape[1]), np.float32)
        out[row] = np.hypot(signal + real, imaginary)
    return out
