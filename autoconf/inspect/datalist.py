"""Build the datalist of what was found."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autoconf.data.brats import MODALITIES
from autoconf.data.datalist import IMAGES, TRAINING, UNLABELLED, VOLUMES, Case, Datalist, Side
from autoconf.data.images import Image
from autoconf.data.labels import Scheme
from autoconf.data.scans import LayoutScans, Scan
from autoconf.data.split import TESTING, group_sides


def of_volumes(
    data: str,
    found: LayoutScans,
    seed: int,
    scans: Sequence[Scan],
    rows: Sequence[Mapping[str, Any]],
    schemes: Sequence[Scheme],
    sides: Sequence[Side],
    groups: Sequence[str],
) -> Datalist:
    """rows, schemes, sides, groups: of each scan what was measured, its label scheme, its side and its group.

    `regions` are those of most scans; a scan of another scheme has its own. A mask without tumour is not listed.
    """
    commonest = Counter(scheme.name for scheme in schemes).most_common(1)[0][0]
    usual = next(scheme for scheme in schemes if scheme.name == commonest)
    cases = []
    for scan, row, scheme in zip(scans, rows, schemes, strict=True):
        images = scan.files[:1] if scan.channels else scan.image
        case = Case(
            name=scan.case,
            patient=scan.patient,
            images=tuple(os.path.abspath(path) if path else None for path in images),
            stacked=bool(scan.channels),
            label=os.path.abspath(scan.label) if scan.label and row["tumour_voxels"] else None,
            regions=scheme.regions if row["tumour_voxels"] and scheme.regions != usual.regions else None,
        )
        cases.append(case)
    names = {str(value): name for value, name in sorted(usual.meaning.items()) if name}
    datalist = _empty(data, VOLUMES, seed, found.layout, modalities_of(found))
    datalist = replace(datalist, meaning={"0": "background", **names}, regions=usual.regions)
    return datalist.with_cases(assigned(cases, sides, groups))


def of_images(
    data: str,
    layout: str,
    seed: int,
    images: Sequence[Image],
    masks: Mapping[str, str],
    sides: Sequence[Side],
    groups: Sequence[str],
) -> Datalist:
    """masks: image -> mask. groups: what must stay on one side with each image; they stand for its patient."""
    root = os.path.abspath(data)
    cases = [
        Case(
            name=image.case,
            patient=group,
            images=(os.path.join(root, image.case),),
            group=image.group,
            label=os.path.join(root, masks[image.case]) if image.case in masks else None,
        )
        for image, group in zip(images, groups, strict=True)
    ]
    return _empty(data, IMAGES, seed, layout, ()).with_cases(assigned(cases, sides, groups))


def _empty(data: str, kind: str, seed: int, layout: str, modalities: Sequence[str]) -> Datalist:
    root = os.path.abspath(data)
    return Datalist(os.path.basename(root), kind, root, (), seed, layout, tuple(modalities))


def modalities_of(found: LayoutScans) -> list[str]:
    """The modalities as a case's `image` lists them: of 4D files, as the channels lie."""
    channels = found.scans[0].channels
    if not channels or found.scans[0].convert:
        return list(MODALITIES)
    names = [f"channel {place}" for place in range(max(channels) + 1)]
    for contrast, channel in zip(MODALITIES, channels, strict=True):
        names[channel] = contrast
    return names


def assigned(cases: Sequence[Case], sides: Sequence[Side], groups: Sequence[str]) -> list[Case]:
    """The cases in their sections: training with a fold, testing, or unlabelled, whose side is None.

    An unlabelled case of a patient who has labelled ones says on which side those are, testing or a fold: whoever
    learns from unlabelled scans must leave it out where that side is held out.
    """
    found = []
    for case, side, side_of_group in zip(cases, sides, group_sides(groups, sides), strict=True):
        if side is None:
            found.append(replace(case, section=UNLABELLED, patient_side=side_of_group))
        elif isinstance(side, int):
            found.append(replace(case, section=TRAINING, fold=side))
        else:
            found.append(replace(case, section=TESTING))
    return found
