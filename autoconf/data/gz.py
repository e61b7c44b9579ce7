"""Decompress gzip files fast: python-isal, into memory that is used again."""

from __future__ import annotations

import os
import zlib

import numpy as np
from isal import igzip, isal_zlib

MOST = 1032  # bytes that one byte of gzip can hold; source: zlib.net/zlib_tech.html
CHUNK = 1 << 19  # bytes at once: isal's own buffer; it stays in the processor's cache


class Memory:
    """Bytes that one file after another is written into: memory fresh from the system costs as much time as half the
    decompression. What was taken before is overwritten by what is taken next."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def take(self, size: int) -> np.ndarray:
        """(size,) uint8 array of any content."""
        if self._bytes.size < size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size]


def gunzip(path: str, size: int, memory: Memory | None = None) -> np.ndarray:
    """The first `size` bytes of the content, (size,) uint8. All of the file is decompressed and its checksums verified,
    over all members, with zeros after the last one as padding, as Python's gzip does.

    Raises ValueError or OSError for what is damaged or no gzip, EOFError for what ends too early.
    """
    packed = os.path.getsize(path)
    if size > MOST * packed:
        raise EOFError(f"its header promises {size} bytes, more than its {packed} can hold")
    with igzip.open(path) as file:  # a directory or a missing file is an error before memory is taken
        content = (memory or Memory()).take(size)
        view, filled = memoryview(content.data), 0
        try:
            while chunk := file.read1(CHUNK):
                part = chunk[: size - filled]
                view[filled : filled + len(part)] = part
                filled += len(part)
        except (isal_zlib.error, zlib.error) as error:  # type: ignore[misc] # isal's types do not say it is one
            raise ValueError(f"damaged: {error}") from error
    if filled < size:
        raise EOFError(f"its header promises {size} bytes, it holds {filled}")
    return content
