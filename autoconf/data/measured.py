"""What is kept of one measured case, in memory and in a record of the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from autoconf.data.counts import Counts, Intensities


@dataclass(frozen=True)
class Measured:
    """One case: its row of the fingerprint, and the counts of its voxels by contrast."""

    row: dict[str, Any]
    brain: dict[str, Counts]  # the voxels that are not 0
    foreground: dict[str, Counts]  # the voxels inside the mask, 0 or not; {} without a mask or with an empty one
    coarse: np.ndarray  # traits.coarse of the first contrast that is there
    content: list[int]  # a checksum of the voxels of each contrast that are not 0, and of their box
    agreement: list[float] | None  # traits.agreement; None where a contrast or the tumour is missing

    def add_to(self, intensities: dict[str, Intensities]) -> None:
        """Add the counts to those of other cases, by contrast."""
        for contrast, found in self.brain.items():
            intensities[contrast].brain.add(found)
        for contrast, found in self.foreground.items():
            intensities[contrast].foreground.add(found)


def to_store(measured: Measured) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """All counts end to end in three arrays, because each array of a record costs half a millisecond."""
    named = [(part, c, found) for part in ("brain", "foreground") for c, found in getattr(measured, part).items()]
    index = [[part, contrast, found.values.size] for part, contrast, found in named]
    arrays = {
        name: np.concatenate([getattr(found, name) for *_, found in named]) for name in ("values", "counts", "moments")
    }
    data = {"row": measured.row, "index": index, "content": measured.content, "agreement": measured.agreement}
    return data, arrays | {"coarse": measured.coarse}


def from_stored(data: dict[str, Any], arrays: dict[str, np.ndarray]) -> Measured | None:
    """The inverse of `to_store`; None if the record does not hold that."""
    parts: dict[str, dict[str, Counts]] = {"brain": {}, "foreground": {}}
    try:
        lengths = [length for *_, length in data["index"]]
        cuts = np.cumsum(lengths)[:-1]
        values, counts = np.split(arrays["values"], cuts), np.split(arrays["counts"], cuts)
        moments = arrays["moments"].reshape(len(lengths), -1)
        for (part, modality, _), *found in zip(data["index"], values, counts, moments, strict=True):
            parts[part][modality] = Counts(*found)
            if not parts[part][modality].is_sound():
                return None
        brain, foreground = parts["brain"], parts["foreground"]
        return Measured(data["row"], brain, foreground, arrays["coarse"], data["content"], data["agreement"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
