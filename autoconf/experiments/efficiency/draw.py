"""Which patients keep their labels, and the datalists of each run: no run is shown a label that it may not have."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from autoconf.data.datalist import UNLABELLED, Case, Datalist
from autoconf.data.split import TESTING


def order(data: Datalist, fold: int, seed: int) -> list[str]:
    """All labelled patients outside the fold, as a hash of seed and name orders them; the first N are a draw of N.

    So draws are nested, and depend on nothing but the seed and who is there.
    """
    names = {case.patient for case in data.learning(fold)}
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())


def drawn(data: Datalist, fold: int, seed: int, size: int) -> list[Case]:
    """The labelled cases of a draw of `size` patients."""
    chosen = set(order(data, fold, seed)[:size])
    return [case for case in data.learning(fold) if case.patient in chosen]


def with_labels_of(data: Datalist, fold: int, seed: int, size: int) -> Datalist:
    """A training: the draw, and the fold that it is scored on. Nothing else is listed."""
    return data.with_cases(drawn(data, fold, seed, size) + data.validating(fold))


def without_labels(data: Datalist) -> Datalist:
    """A training on images alone: all of them, without a mask; the bundle leaves out those of the fold."""
    training = [replace(case.without_truth(), fold=case.fold) for case in data.training]
    return data.with_cases(training + _unlabelled(data))


def to_mark(data: Datalist) -> Datalist:
    """Every scan as one that needs a pseudo-mask; `patient_side` says of which fold it is."""
    labelled = [replace(case.without_truth(), section=UNLABELLED, patient_side=case.fold) for case in data.training]
    return data.with_cases(labelled + _unlabelled(data))


def marked(data: Datalist, masks: Datalist, fold: int) -> Datalist:
    """A training on pseudo-masks: those of `masks`, what became of `to_mark`, and the fold to validate on.

    Those of the fold itself are taken out, as the bundle would: by their `patient_side`.
    """
    others = [case for case in masks.unlabelled if case.patient_side != fold]
    return data.with_cases(data.validating(fold) + others)


def _unlabelled(data: Datalist) -> list[Case]:
    return [case.without_truth() for case in data.unlabelled if case.patient_side != TESTING]
