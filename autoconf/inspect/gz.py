"""Decompress gzip fast: python-isal, and one buffer of the right size from the start."""

from __future__ import annotations

from isal import isal_zlib

GZIP = 31  # zlib's `wbits` for a gzip header and trailer: the CRC-32 and the length are verified
MAGIC = b"\x1f\x8b"


def gunzip(data: bytes, expected: int) -> bytes:
    """The content of a whole gzip file, of all its members; zeros after the last one are padding, as in `gzip`.

    expected: bytes that the content should have. A wrong one costs time, not correctness: with the right one the
    content is written once, in place; without it, buffers double and are copied, at nearly twice the time.
    Raises ValueError for what is damaged or no gzip, EOFError for what ends too early.
    """
    parts = []
    while data or not parts:
        if parts and data[:2] != MAGIC:
            raise ValueError("something follows the gzip stream")
        part, data = _member(data, expected)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _member(data: bytes, expected: int) -> tuple[bytes, bytes]:
    """The content of the first member, and what follows it."""
    stream = isal_zlib.decompressobj(wbits=GZIP)
    parts = []
    try:
        while not stream.eof and data:
            parts.append(stream.decompress(data, max(expected, 1) + 1))  # one byte more, to see that nothing follows
            data = stream.unconsumed_tail
            if not parts[-1] and not stream.eof:
                break
    except isal_zlib.error as error:
        if "checksum" in str(error).lower():
            raise ValueError("CRC check failed: the content is not what was once stored") from error
        raise ValueError(f"damaged: {error}") from error
    if not stream.eof:
        raise EOFError("the file ends before the end of its gzip stream")
    return parts[0] if len(parts) == 1 else b"".join(parts), stream.unused_data.lstrip(b"\0")
