"""Prepare the next scans while the network works on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from monai.data import list_data_collate
from torch.utils.data import Dataset

from .speed import keep_freed_memory


class ReadAhead:
    """The items of a dataset one by one, in order, as batches of one; the next `num_workers` are being made meanwhile.

    In threads: unpacking and torch release Python's lock, a volume of 140 MB needs not be sent between processes, and
    what a thread refuses reaches the user as one line. 0: no thread, each item is made when it is asked for.
    """

    batch_size = 1

    def __init__(self, dataset: Dataset, num_workers: int) -> None:
        self.dataset = dataset
        self.num_workers = num_workers

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[dict]:
        keep_freed_memory()
        if self.num_workers == 0:
            yield from (list_data_collate([self.dataset[i]]) for i in range(len(self)))
            return
        pool = ThreadPoolExecutor(self.num_workers)
        waiting: deque = deque()
        try:
            for index in range(len(self)):
                waiting.append(pool.submit(self.dataset.__getitem__, index))
                if len(waiting) > self.num_workers:
                    yield list_data_collate([waiting.popleft().result()])
            while waiting:
                yield list_data_collate([waiting.popleft().result()])
        finally:
            pool.shutdown(cancel_futures=True)
