"""Lesion by lesion, by the rule of the BraTS 2023 challenges.

Source: the organisers' description, https://www.synapse.org/Synapse:syn51156910 (thread 10357), and docs/scoring.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from autoconf.data.volumes import bounding_box
from autoconf.score.surfaces import distances, hd95

STEPS = 3  # of the dilation that joins what belongs to one lesion
SMALLEST = 50.0  # mm3 (images: pixels); lesions up to this size do not count


@dataclass(frozen=True)
class Lesions:
    """The counted lesions of one case and what the prediction made of them.

    found: (Dice, HD95) of each lesion with a predicted object. missed: lesions without. false: objects that belong to
    no lesion. objects: all predicted objects. worst: the HD95 of a missed or false one.
    """

    found: tuple[tuple[float, float], ...]
    missed: int
    false: int
    objects: int
    worst: float

    @property
    def true(self) -> int:
        """How many lesions count."""
        return len(self.found) + self.missed

    @property
    def dice(self) -> float:
        """Mean over counted lesions and false objects, 0 for missed and false ones; 1 if there are none of either."""
        total = self.true + self.false
        return sum(dice for dice, _ in self.found) / total if total else 1.0

    @property
    def hd95(self) -> float:
        """Mean over counted lesions and false objects, `worst` for missed and false ones; 0 if there are none."""
        total = self.true + self.false
        charged = self.worst * (self.missed + self.false)
        return (sum(distance for _, distance in self.found) + charged) / total if total else 0.0

    @property
    def f1(self) -> float:
        """2 found / (2 found + missed + false); 1 if there is nothing to find and nothing was."""
        total = 2 * len(self.found) + self.missed + self.false
        return 2 * len(self.found) / total if total else 1.0


def match(pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float], worst: float, whole: float) -> Lesions:
    """Find the lesions of `truth` and the objects of `pred`, and score each lesion with the objects that touch it.

    pred, truth: boolean, one shape, two or three axes. spacing: mm per axis (pixels: 1). worst: HD95 of a miss.
    whole: HD95 of the two masks, which is also that of a single lesion with all objects; distances are what costs.
    """
    pred, truth = np.pad(pred, STEPS), np.pad(truth, STEPS)
    every_neighbour = ndimage.generate_binary_structure(truth.ndim, truth.ndim)
    # A connected object of the dilated truth is the dilation of one lesion alone, so it says what touches the lesion.
    reach, lesions = ndimage.label(dilate(truth, STEPS), every_neighbour)
    objects, count = ndimage.label(pred, every_neighbour)
    touched = _touching(reach, objects, lesions, count)
    voxels = np.bincount(reach[truth], minlength=lesions + 1)
    counted = [lesion for lesion in range(1, lesions + 1) if voxels[lesion] * math.prod(spacing) > SMALLEST]
    boxes, boxes_of_objects = ndimage.find_objects(reach), ndimage.find_objects(objects)
    found = []
    for lesion in counted:
        if not touched[lesion]:
            continue
        box = _around([boxes[lesion - 1], *(boxes_of_objects[one - 1] for one in touched[lesion])])
        true = truth[box] & (reach[box] == lesion)
        predicted = np.isin(objects[box], touched[lesion])
        both = np.count_nonzero(true & predicted)
        dice = 2 * both / (np.count_nonzero(true) + np.count_nonzero(predicted))
        alone = lesions == 1 and len(touched[lesion]) == count
        found.append((dice, whole if alone else hd95(*distances(predicted, true, spacing), worst)))
    belonging = set(itertools.chain.from_iterable(touched))
    return Lesions(tuple(found), len(counted) - len(found), count - len(belonging), count, worst)


def dilate(mask: np.ndarray, steps: int) -> np.ndarray:
    """Grow a mask by all neighbours that share a face or an edge (in 2D: an edge or a corner), `steps` times.

    Does not grow over the edge of the array. Computed where the mask lies, which may be a small part of it.
    """
    grown = np.zeros_like(mask)
    near = bounding_box(mask, steps)
    grown[near] = ndimage.binary_dilation(mask[near], ndimage.generate_binary_structure(mask.ndim, 2), steps)
    return grown


def _touching(reach: np.ndarray, objects: np.ndarray, lesions: int, count: int) -> list[list[int]]:
    """For each lesion (0 is none) the objects that have a voxel within its reach."""
    there = (reach > 0) & (objects > 0)
    pair = reach[there].astype(np.int64) * (count + 1) + objects[there]
    touched: list[list[int]] = [[] for _ in range(lesions + 1)]
    for found in np.unique(pair[np.diff(pair, prepend=-1) != 0]):  # neighbours are mostly equal: less to sort
        lesion, one = divmod(int(found), count + 1)
        touched[lesion].append(one)
    return touched


def _around(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    """The smallest box that holds all boxes."""
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides)) for sides in zip(*boxes, strict=True)
    )
