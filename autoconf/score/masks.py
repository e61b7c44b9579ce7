"""Decide what the values of true and predicted masks mean, and refuse where that is not clear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autoconf.data.labels import REGIONS, SCHEMES, WRITTEN, choose_scheme
from autoconf.data.pairs import Pair, Regions, Values
from autoconf.errors import AutoconfError

READINGS = ("auto", "binary", "brats2023", "truth")
BRATS2023 = WRITTEN.regions
WT = "wt"


@dataclass(frozen=True)
class Meaning:
    """How the values of all masks of a run are to be read."""

    pairs: list[Pair]  # with `read_as`
    regions: tuple[str, ...]  # those that are scored
    predictions: str  # binary, that is no more than tumour or not, brats2023, or truth: as the case's own


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
    predictions = _predictions(reading, there)
    if reading == "auto" and predictions == "truth":
        _check_known(there, truths, regions, [pair.pred or "" for pair in pairs], predicted)
    known = [set(found) if found else {WT} for found in regions.values()]
    both = set.intersection(*known) & ({WT} if predictions == "binary" else set(REGIONS))
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
    read = []
    for pair in pairs:
        of_truth: Mapping[str, Values] = regions[pair.case] or dict.fromkeys(names)
        of_prediction = dict.fromkeys(names) if predictions == "binary" else of_truth
        of_prediction = BRATS2023 if predictions == "brats2023" else of_prediction
        read.append(replace(pair, read_as={name: (of_truth[name], of_prediction[name]) for name in names}))
    return Meaning(read, names, predictions)


def _predictions(reading: str, there: set[int]) -> str:
    """binary, brats2023 or truth: how the values in all predictions together are read. Raises AutoconfError."""
    if reading == "auto":
        return "binary" if len(there) < 2 else "brats2023" if there <= set(BRATS2023[WT]) else "truth"
    unknown = there - set(BRATS2023[WT])
    if reading == "brats2023" and unknown:
        raise AutoconfError(f"predictions hold {min(unknown)}, which BraTS 2023 has not. Give --pred-labels truth.")
    return reading


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
