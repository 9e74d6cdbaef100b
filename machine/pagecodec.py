# SPDX-License-Identifier: GPL-2.0-only
"""RAM pages packed for a snapshot, up to 1,024 at a time.

Most of a kernel's RAM is arrays of 64-byte structs that differ little from their neighbours, so
each word is XORed with the one 64 bytes before it in the page, and only what is not zero then is
kept, with a bit map of where it was. A chunk, all little-endian:

    u32 pages   u32 runs   u32 words   u32 stored
    `stored` bytes, a zlib stream of
        runs x (u64 first frame, u64 frames)     ascending, `pages` frames in all
        pages x 64 bytes                         bit n: word n of the page is not zero (after XOR)
        words x u64                              those words, in order

The lengths follow from the numbers in front, which have upper limits: a reader knows beforehand how
much will come out and takes no more. `snapshot` puts the chunks into a file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from machine.errors import SnapshotError
from machine.ramhistory import WORDS, frames_of

if TYPE_CHECKING:
    from machine.physmem import PhysicalMemory
    from machine.ramhistory import Frames, Pages

CHUNK = 1024
"""Pages of a chunk, at most."""
HEADER = struct.Struct("<4I")
_LEVEL = 1
_STRIDE = 8
_SCAN = 4096
"""Pages looked at at a time for ones that are not zero."""


def used_pages(memory: PhysicalMemory) -> Iterator[tuple[Frames, Pages]]:
    """All pages of RAM and storage that are not zero, ascending, at most `CHUNK` at a time. Takes
    time by what has been touched, whatever the size of the machine."""
    rows = memory.rows
    waiting: list[Frames] = []
    count = 0
    for start, end in memory.touched(0, memory.end):
        for first in range(start >> 12, end >> 12, _SCAN):
            part = rows[first : min(first + _SCAN, end >> 12)]
            found = np.flatnonzero(part.any(axis=1)) + first
            waiting.append(found)
            count += len(found)
            if count >= CHUNK:
                frames = np.concatenate(waiting)
                whole = count - count % CHUNK
                for at in range(0, whole, CHUNK):
                    yield frames[at : at + CHUNK], rows[frames[at : at + CHUNK]]
                waiting, count = [frames[whole:]], count - whole
    if count:
        frames = np.concatenate(waiting)
        yield frames, rows[frames]


def pack(frames: Frames, pages: Pages) -> bytes:
    """One chunk: its header and what follows."""
    mixed = pages.copy()
    mixed[:, _STRIDE:] ^= pages[:, :-_STRIDE]
    present = mixed != 0
    breaks = np.flatnonzero(np.diff(frames) != 1) + 1
    first = np.concatenate(([0], breaks))
    runs = np.stack((frames[first], np.diff(np.append(first, len(frames)))), axis=1)
    values = mixed[present]
    raw = b"".join(
        (
            runs.astype("<u8").tobytes(),
            np.packbits(present, bitorder="little").tobytes(),
            values.astype("<i8", copy=False).tobytes(),
        )
    )
    stored = zlib.compress(raw, _LEVEL)
    return HEADER.pack(len(frames), len(runs), len(values), len(stored)) + stored


def check_header(header: bytes) -> tuple[int, int, int, int]:
    """Pages, runs, words and stored bytes of the chunk that begins so. Raises `SnapshotError`."""
    pages, runs, words, stored = HEADER.unpack(header)
    sound = 1 <= runs <= pages <= CHUNK and words <= WORDS * pages
    if not sound or stored > longest(_raw_length(pages, runs, words)):
        raise SnapshotError("a chunk of RAM has an impossible size")
    return pages, runs, words, stored


def longest(raw: int) -> int:
    """Bytes that `raw` bytes can take when compressed, generously."""
    return raw + raw // 1000 + 64


def inflate(stored: bytes, raw: int) -> bytes:
    """What zlib made of exactly `raw` bytes. Raises `SnapshotError`; never makes more of it."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(stored, raw) if raw else b""
        rest = unpacker.decompress(unpacker.unconsumed_tail if raw else stored, 1)
    except zlib.error as error:
        raise SnapshotError(f"compressed data is damaged ({error})") from None
    if len(data) != raw or rest or not unpacker.eof or unpacker.unused_data:
        raise SnapshotError("compressed data has another length than announced")
    return data


def unpack(header: bytes, stored: bytes) -> tuple[Frames, Pages]:
    """The frames and pages of one chunk; frames ascend, none is negative. Raises
    `SnapshotError`."""
    count, runs, words, _ = check_header(header)
    raw = inflate(stored, _raw_length(count, runs, words))
    spans = np.frombuffer(raw, dtype="<u8", count=2 * runs).reshape(-1, 2)
    if (spans >> np.uint64(40)).any():
        raise SnapshotError("a chunk of RAM names impossible frames")
    starts = spans[:, 0].astype(np.int64)
    lengths = spans[:, 1].astype(np.int64)
    ends = starts + lengths
    if (lengths < 1).any() or lengths.sum() != count or (starts[1:] < ends[:-1]).any():
        raise SnapshotError("the frames of a chunk of RAM are not in order")
    frames = frames_of([(int(a) << 12, int(b) << 12) for a, b in np.stack((starts, ends), axis=1)])
    map_at = 16 * runs
    bits = np.frombuffer(raw, dtype=np.uint8, count=64 * count, offset=map_at)
    present = np.unpackbits(bits, bitorder="little").astype(bool)
    if int(present.sum()) != words:
        raise SnapshotError("a chunk of RAM contradicts its map")
    mixed = np.zeros(count * WORDS, dtype=np.int64)
    mixed[present] = np.frombuffer(raw, dtype="<i8", count=words, offset=map_at + 64 * count)
    structs = mixed.reshape(count, WORDS // _STRIDE, _STRIDE)
    np.bitwise_xor.accumulate(structs, axis=1, out=structs)
    return frames, structs.reshape(count, WORDS)


def _raw_length(pages: int, runs: int, words: int) -> int:
    return 16 * runs + WORDS // 8 * pages + 8 * words
