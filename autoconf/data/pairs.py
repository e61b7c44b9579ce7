"""A predicted mask and the truth that it is compared with, and what the values of both mean. `score` writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autoconf.errors import AutoconfError
from autoconf.output import to_json

NIFTI = (".nii.gz", ".nii")
PROBABILITY = "_probability"  # end of the names of probability maps
Regions = dict[str, tuple[int, ...]]  # wt, tc, et -> label values
Values = tuple[int, ...] | None  # label values; None: any above 0
FILE = "pairs.json"  # beside the scores


@dataclass(frozen=True)
class Pair:
    """One case to score. pred is None where the prediction is missing, flair where no image is known."""

    case: str
    pred: str | None
    truth: str
    flair: str | None = None
    patient: str = ""
    regions: Regions | None = None  # what the true mask's values mean; None: not said, the values decide
    family: str = ""  # a key of autoconf.data.labels.FAMILIES, for values that nobody explained
    read_as: Mapping[str, tuple[Values, Values]] = field(default_factory=dict)  # region -> of truth, of prediction

    @property
    def probability(self) -> str | None:
        """Path of the probability map beside the predicted mask, if there is one."""
        if self.pred is None or not self.pred.lower().endswith(NIFTI):
            return None
        end = next(end for end in NIFTI if self.pred.lower().endswith(end))
        return if_there(self.pred[: -len(end)] + PROBABILITY + self.pred[-len(end) :])


def if_there(path: str) -> str | None:
    """The path, if a file is there."""
    return path if os.path.isfile(path) else None


def pairs_text(pairs: Sequence[Pair]) -> str:
    """JSON of the pairs that were scored: their files, absolute, and the label values of each region in both masks."""
    plain = []
    for pair in pairs:
        files = {name: os.path.abspath(path) for name in ("truth", "pred", "flair") if (path := getattr(pair, name))}
        regions = {region: {"truth": truth, "pred": pred} for region, (truth, pred) in pair.read_as.items()}
        plain.append({"case": pair.case, "patient": pair.patient} | files | {"regions": regions})
    return to_json(plain)


def read_pairs(path: str) -> list[Pair]:
    """What `pairs_text` wrote. Raises AutoconfError for a file that is not there, or holds something else."""
    try:
        with open(path, encoding="utf-8") as stream:
            return [_pair(item) for item in json.load(stream)]
    except FileNotFoundError:
        raise AutoconfError(f"{path} is not there. Score again.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AutoconfError(f"{path}: is damaged ({type(error).__name__}: {error}). Score again.") from None


def _pair(item: dict[str, Any]) -> Pair:
    texts = {name: item[name] for name in ("case", "patient", "truth", "pred", "flair") if item.get(name) is not None}
    if not all(isinstance(text, str) for text in texts.values()):
        raise TypeError("a name or path is no text")
    read_as = {region: (_values(of["truth"]), _values(of["pred"])) for region, of in item["regions"].items()}
    return Pair(**{"pred": None} | texts, read_as=read_as)


def _values(values: Any) -> Values:
    return None if values is None else tuple(int(value) for value in values)
