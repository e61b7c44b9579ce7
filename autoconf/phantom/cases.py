"""Which patients there are, and their scans as BraTS-like volumes.

Every random number comes from (seed, patient, stream, ...), so a case does not depend on how
many others are made, and a patient's second scan shows the same head.
"""

from dataclasses import dataclass

import numpy as np

from autoconf.phantom.head import Head, draw_head, inside_brain, to_template
from autoconf.phantom.mri import MODALITIES, ScanSettings, draw_scan, render
from autoconf.phantom.tumour import Tumour, draw_lesions, grow, paint

FIELD_MM = 180.0  # edge of the cubic field of view: a brain of 135 x 170 x 135 mm with a margin
EVERY_SIXTH = 6  # cases per second scan: splits that ignore patients leak, as they would on BraTS
GROWTH = 1.2  # lengths between a patient's scans
HEAD, LESION, OEDEMA, SCAN, NOISE, GRADE = range(6)  # random streams


@dataclass(frozen=True)
class PhantomCase:
    """One scan: seed, patient and session name it; the rest is what it shows."""

    seed: int
    patient: int
    session: int
    enhancing: bool
    head: Head
    tumour: Tumour
    scan: ScanSettings

    @property
    def name(self) -> str:
        """BraTS 2023 name: patient, then session."""
        return f"BraTS-GLI-{self.patient:05d}-{self.session:03d}"

    def noise(self, *key: int) -> np.random.Generator:
        """The noise stream of one picture of this case; `key` tells its pictures apart."""
        return _stream(self.seed, self.patient, NOISE, self.session, *key)


@dataclass(frozen=True)
class Template:
    """One scan as arrays; axes LPS: they grow to the left, to the back and upwards.

    images: (4, n, n, n) int16 in the order of MODALITIES, 0 outside the brain; labels: (n, n, n)
    uint8; affine: (4, 4) voxel to RAS+ mm.
    """

    images: np.ndarray
    labels: np.ndarray
    affine: np.ndarray


def make_case(seed: int, index: int) -> PhantomCase:
    """Draw case `index` (from 0) of the data set `seed`."""
    session = int(index % EVERY_SIXTH == EVERY_SIXTH - 1)
    patient = index - (index + 1) // EVERY_SIXTH
    head = draw_head(_stream(seed, patient, HEAD))
    enhancing = takes_up_contrast(seed, patient)
    growth = GROWTH if session else 1.0
    lesions = draw_lesions(_stream(seed, patient, LESION), head, enhancing, growth)
    tumour = grow(_stream(seed, patient, OEDEMA), head, lesions)
    scan = draw_scan(_stream(seed, patient, SCAN, session))
    return PhantomCase(seed, patient, session, enhancing, head, tumour, scan)


def takes_up_contrast(seed: int, patient: int) -> bool:
    """False for exactly one of every four patients in a row, so that small sets have one too."""
    return int(_stream(seed, patient // 4, GRADE).integers(4)) != patient % 4


def _stream(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def make_volume(case: PhantomCase, size: int) -> Template:
    """Scan a case on a `size`^3 grid, skull-stripped as BraTS is."""
    voxel = FIELD_MM / size
    affine = lps_affine(size)
    points = centred_points(affine, (size,) * 3)
    generous = np.array([85, 100, 85], np.float32)[:, None]  # mm; spares the corners the full computation
    places = np.flatnonzero(np.linalg.norm(points / generous, axis=0) < 1)
    template = to_template(case.head, points[:, places])
    kept = inside_brain(template) > 1.0  # a brain mask leaves some fluid around the brain
    places, template = places[kept], template[:, kept]
    shares, found = paint(case.head, case.tumour, template, voxel)
    values = render(case.noise(size), case.scan, shares, points[:, places])
    images = np.zeros((len(MODALITIES), size**3), np.int16)
    images[:, places] = np.clip(np.rint(values), 1, 32767)  # 0 is kept for "not brain"
    labels = np.zeros(size**3, np.uint8)
    labels[places] = found
    return Template(images.reshape(-1, size, size, size), labels.reshape(size, size, size), affine)


def lps_affine(size: int) -> np.ndarray:
    """Voxel to RAS+ mm as BraTS stores it: x and y reversed, origin at a corner, (4, 4) floats."""
    voxel = FIELD_MM / size
    affine = np.diag([-voxel, -voxel, voxel, 1.0])
    affine[1, 3] = (size - 1) * voxel
    return affine


def centred_points(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """RAS+ mm of all voxels relative to the grid's centre, (3, N) float32 in C order."""
    axes = [affine[i, i] * (np.arange(n) - (n - 1) / 2) for i, n in enumerate(shape)]
    return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")]).astype(np.float32)
