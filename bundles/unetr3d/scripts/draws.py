"""Crops that come out the same whichever process cuts them, now or after a stop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

SEEDS = 1 << 62  # that there are


class Draw(NamedTuple):
    """What a sampler asks a data set for: an item, and the seed of all that is drawn by chance of it."""

    index: int
    seed: int


class Draws(Sampler[Draw]):
    """Another sampler's order, each index with a seed of its own.

    The seeds come from this process's generator, once per epoch, as a shuffle does: how many processes load data, and
    what each of them has drawn before, changes nothing.
    """

    def __init__(self, order: Sampler[int]) -> None:
        self.order = order

    def __len__(self) -> int:
        return len(self.order)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(int(torch.randint(SEEDS, ())))
        for index in self.order:
            yield Draw(index, int(torch.randint(SEEDS, (), generator=generator)))


@contextlib.contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Inside, torch's generator of this process's CPU begins with that seed; afterwards it is as it was."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs too
    try:
        yield
    finally:
        torch.set_rng_state(before)
