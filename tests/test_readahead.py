"""Scans prepared beside the network: in order, each once, no further ahead than asked, errors and all."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from helpers_bundles import scripts

readahead = scripts("unetr3d", "readahead")


class Scans(torch.utils.data.Dataset):
    """Remembers which thread made what, and refuses the item at `bad`."""

    def __init__(self, count: int, bad: int = -1) -> None:
        self.count, self.bad = count, bad
        self.made: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        self.made.append((index, threading.get_ident()))
        if index == self.bad:
            raise SystemExit("unetr3d: scan 2 is damaged. Copy it again.")
        return {"image": torch.full((1, 2, 2, 2), float(index)), "case": f"case{index}"}


@pytest.mark.parametrize("workers", [0, 1, 3, 10])
def test_all_items_come_in_order_as_batches_of_one_and_again(workers):
    loader = readahead.ReadAhead(Scans(5), workers)
    assert len(loader) == 5
    for _ in range(2):
        found = list(loader)
        assert [batch["case"] for batch in found] == [[f"case{i}"] for i in range(5)]
        assert [float(batch["image"].mean()) for batch in found] == [0, 1, 2, 3, 4] and found[0]["image"].ndim == 5


def test_no_thread_reads_without_workers_and_others_read_with():
    for workers, elsewhere in ((0, False), (1, True)):
        scans = Scans(3)
        list(readahead.ReadAhead(scans, workers))
        assert {thread != threading.get_ident() for _, thread in scans.made} == {elsewhere}


def test_it_reads_no_further_ahead_than_it_has_threads():
    scans = Scans(10)
    walk = iter(readahead.ReadAhead(scans, 2))
    next(walk)
    limit = time.monotonic() + 5
    while len(scans.made) < 3 and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(scans.made) == 3  # the one in hand, and two
    walk.close()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_refusal_comes_when_its_turn_is_there(workers):
    walk = iter(readahead.ReadAhead(Scans(5, bad=2), workers))
    assert next(walk)["case"] == ["case0"] and next(walk)["case"] == ["case1"]
    with pytest.raises(SystemExit, match="scan 2 is damaged"):
        next(walk)
