"""Read the masks of a case from disk, one boolean array per region, and refuse what is no mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import nibabel
import numpy as np

from autoconf.data.labels import REGIONS, SCHEMES, choose_scheme
from autoconf.data.volumes import Volume, check_same_grid, read_volume
from autoconf.errors import AutoconfError
from autoconf.score.pairs import Pair, Regions

READINGS = ("auto", "binary", "brats2023", "truth")
BRATS2023 = SCHEMES["brats2023"].regions  # as the unetr3d bundle writes several regions
WT = "wt"


@dataclass(frozen=True)
class Labels:
    """A mask of label values as stored. spacing: mm per array axis (images: pixels); voxel_ml: None for images."""

    path: str
    data: np.ndarray
    spacing: tuple[float, ...]
    affine: np.ndarray | None = None
    voxel_ml: float | None = None

    @property
    def values(self) -> set[int]:
        """The values above 0."""
        return {int(value) for value in np.unique(self.data[self.data > 0])}  # few voxels to sort

    @property
    def volume(self) -> Volume:
        """The same, for comparing grids; not for images."""
        assert self.affine is not None
        return Volume(self.path, self.data, self.affine)

    def region(self, values: Iterable[int] | None) -> np.ndarray:
        """Boolean array of the voxels that hold one of the values; None: any value above 0."""
        return self.data > 0 if values is None else np.isin(self.data, list(values))


@dataclass(frozen=True)
class Meaning:
    """How the values of all masks of a run are to be read."""

    regions: tuple[str, ...]  # those that are scored
    binary: bool  # a prediction says no more than tumour or not
    truths: dict[str, Regions | None]  # case -> label values; None: any value above 0 is tumour
    predictions: Regions | None  # None: as the case's truth

    def of_truth(self, case: str, region: str) -> tuple[int, ...] | None:
        regions = self.truths[case]
        return regions[region] if regions else None

    def of_prediction(self, case: str, region: str) -> tuple[int, ...] | None:
        if self.binary:
            return None
        return self.predictions[region] if self.predictions else self.of_truth(case, region)


def read_truth(kind: str, pair: Pair) -> Labels:
    """The true mask. kind: "volumes" (NIfTI) or "images" (0 and 255, or 0 and 1). Raises AutoconfError."""
    return _read(kind, pair.truth)


def read_prediction(kind: str, pair: Pair, truth: Labels) -> Labels:
    """The predicted mask, on the grid of the true one; empty where there is none. Raises AutoconfError."""
    if pair.pred is None:
        return Labels("", np.zeros(truth.data.shape, np.uint8), truth.spacing, truth.affine, truth.voxel_ml)
    found = _read(kind, pair.pred)
    if kind == "images":
        _check_same_size(found, truth)
    else:
        check_same_grid(found.volume, truth.volume)
    return found


def decide(
    kind: str,
    pairs: Sequence[Pair],
    truths: Sequence[set[int]],
    predicted: Sequence[set[int]],
    labels: str = "auto",
    reading: str = "auto",
    wanted: str = "auto",
) -> Meaning:
    """What the values mean, from those found in each true and each predicted mask (0 left out).

    labels: a label scheme for truths that come without one (`autoconf inspect --labels`). reading: of READINGS, for the
    predictions. wanted: regions to score, as wt,tc,et; auto: all that both sides tell apart.
    Raises AutoconfError where that is not clear, or asks for what is not there.
    """
    if reading not in READINGS:
        raise AutoconfError(f"--pred-labels {reading}: no such reading. There are: {', '.join(READINGS)}.")
    regions = _truth_regions(kind, pairs, truths, labels)
    there = set().union(*predicted)
    binary = reading == "binary" or (reading == "auto" and len(there) < 2)
    meaning: Regions | None = None
    if not binary and (reading == "brats2023" or (reading == "auto" and there <= set(BRATS2023[WT]))):
        meaning = BRATS2023
    unknown = there - set(BRATS2023[WT]) if meaning else set()
    if unknown:
        raise AutoconfError(f"predictions hold {min(unknown)}, which BraTS 2023 has not. Give --pred-labels truth.")
    if reading == "auto" and not binary and meaning is None:
        _check_known(there, truths, regions, [pair.pred or "" for pair in pairs], predicted)
    known = [set(found) if found else {WT} for found in regions.values()]
    both = set.intersection(*known) & ({WT} if binary else set(REGIONS))
    names = tuple(name for name in REGIONS if name in both)
    if not names:
        raise AutoconfError(f"no region to score: the truth has {', '.join(sorted(set().union(*known)))}, not wt.")
    if wanted != "auto":
        asked = tuple(dict.fromkeys(wanted.replace(" ", "").split(",")))
        missing = [name for name in asked if name not in names]
        if missing:
            raise AutoconfError(
                f"--regions {wanted}: '{missing[0]}' is not told apart by both sides, which have: {', '.join(names)}."
            )
        names = asked
    return Meaning(names, binary, regions, meaning)


def _check_known(
    there: set[int],
    truths: Sequence[set[int]],
    regions: dict[str, Regions | None],
    paths: Sequence[str],
    predicted: Sequence[set[int]],
) -> None:
    """Refuse predicted values that neither a true mask nor a region has: they would all count as healthy."""
    of_regions = [set(values) for found in regions.values() if found for values in found.values()]
    unknown = there.difference(*truths, *of_regions) if of_regions else set()
    if unknown:
        path = next(path for path, found in zip(paths, predicted, strict=True) if found & unknown)
        raise AutoconfError(
            f"{path}: holds {min(unknown)}, which no true mask has. Say what it means: --pred-labels binary (any value "
            "is tumour) or truth (a value that is no region)."
        )


def _truth_regions(
    kind: str, pairs: Sequence[Pair], truths: Sequence[set[int]], labels: str
) -> dict[str, Regions | None]:
    """case -> label values of each region, chosen per collection where the truth comes without them."""
    regions: dict[str, Regions | None] = {pair.case: pair.regions for pair in pairs}
    if kind == "images":
        return regions
    for family in {pair.family for pair in pairs if pair.regions is None}:
        some = [(p, found) for p, found in zip(pairs, truths, strict=True) if p.regions is None and p.family == family]
        if labels == "auto" and not family and len(set().union(*(found for _, found in some))) < 2:
            continue  # 0 and one other value, whichever it is
        scheme = choose_scheme(family, [{0, *found} for _, found in some], labels)
        for pair, found in some:
            if not found <= scheme.values:
                odd = min(found - scheme.values)
                raise AutoconfError(
                    f"{pair.truth}: holds {odd}, which {scheme.name} does not have. Say what it means: --labels "
                    f"{'|'.join(SCHEMES)}."
                )
            regions[pair.case] = dict(scheme.regions)
    return regions


def _read(kind: str, path: str) -> Labels:
    if kind == "images":
        return Labels(path, _read_image(path), (1.0, 1.0))
    volume = read_volume(path)
    if volume.data.dtype.kind == "f" and not np.array_equal(volume.data, np.rint(volume.data)):
        raise AutoconfError(f"{path}: holds fractions, so it is no mask (probabilities?). Save it as 0 and 1.")
    if volume.data.min() < 0:
        raise AutoconfError(f"{path}: holds {volume.data.min():g}, so it is no mask. Save it as 0 and 1.")
    spacing = tuple(round(float(size), 6) for size in nibabel.affines.voxel_sizes(volume.affine))
    return Labels(path, volume.data, spacing, volume.affine, volume.voxel_ml)


def _check_same_size(found: Labels, truth: Labels) -> None:
    if found.data.shape != truth.data.shape:
        sizes = [f"{height}x{width}" for height, width in (found.data.shape, truth.data.shape)]
        raise AutoconfError(
            f"{found.path}: is {sizes[0]} pixels but {truth.path} is {sizes[1]}. Save both at one size."
        )


def _read_image(path: str) -> np.ndarray:
    """(height, width) uint8 of 0 and 1."""
    from PIL import Image

    from autoconf.data.images import BOMBS, bombs_refused

    try:
        with bombs_refused(), Image.open(path) as image:
            values = np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, *BOMBS) as error:
        raise AutoconfError(f"{path}: not a readable image ({error}). Copy it again or remove it.") from error
    found = np.unique(values)
    if len(found) > 2 or found[0] != 0 and len(found) == 2 or found[-1] not in (0, 1, 255):
        raise AutoconfError(
            f"{path}: holds {len(found)} grey values, {found[0]} to {found[-1]}, so it is no mask. "
            "Save masks as PNG with 0 and 255; JPEG changes values."
        )
    return (values > 0).astype(np.uint8)
