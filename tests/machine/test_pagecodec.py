# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import random
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine import Bank, PhysicalMemory, SnapshotError
from machine.pagecodec import CHUNK, HEADER, inflate, longest, pack, unpack, used_pages
from machine.topology import MIB


def split(chunk: bytes) -> tuple[bytes, bytes]:
    return chunk[: HEADER.size], chunk[HEADER.size :]


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(0, (1 << 40) - 1), min_size=1, max_size=8),
    st.integers(0, 2**32),
    st.sampled_from(["random", "structs", "sparse", "zero", "ones"]),
)
def test_pages_come_back_as_they_were(frames: set[int], seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    shape = (len(frames), 512)
    pages = rng.integers(-(1 << 63), (1 << 63) - 1, shape, dtype=np.int64)
    if kind == "structs":
        pages[:, 8:] = np.tile(pages[:, :8], 63)
    elif kind == "sparse":
        pages[rng.random(shape) < 0.98] = 0
    elif kind != "random":
        pages[:] = 0 if kind == "zero" else -1
    numbers = np.array(sorted(frames), dtype=np.int64)
    found, data = unpack(*split(pack(numbers, pages)))
    assert np.array_equal(found, numbers)
    assert np.array_equal(data, pages)


def test_structs_that_resemble_each_other_take_little_room() -> None:
    pages = np.zeros((64, 512), dtype=np.int64)
    pages[:, 0::8] = 0x0100_0000_0000_0000
    pages[:, 6::8] = 0xFFFF_FF7F
    assert len(pack(np.arange(64), pages)) < 64 * 4096 // 200


def test_used_pages_are_all_those_with_something_in_them_in_full_chunks() -> None:
    memory = PhysicalMemory([Bank(0, 32 * MIB, "a"), Bank(64 * MIB, 72 * MIB, "b")])
    rng = random.Random(1)
    ours = sorted({*rng.sample(range(8192), 3000), *range(16384, 16400)})
    for frame in ours:
        memory.words[(frame << 9) + rng.randrange(512)] = 1
    memory.words[5 << 9] = 1
    memory.words[5 << 9] = 0  # touched, and nothing in it
    ours = [frame for frame in ours if frame != 5 or memory.read(5 << 12, 4096).strip(b"\0")]
    chunks = list(used_pages(memory))
    assert [frame for frames, _ in chunks for frame in frames.tolist()] == ours
    assert all(len(frames) == CHUNK for frames, _ in chunks[:-1])
    for frames, pages in chunks:
        assert all(
            pages[n].tobytes() == memory.read(frame << 12, 4096)
            for n, frame in enumerate(frames.tolist())
        )


def hostile(pages: int, runs: int, words: int, raw: bytes) -> tuple[bytes, bytes]:
    stored = zlib.compress(raw)
    return HEADER.pack(pages, runs, words, len(stored)), stored


def test_a_chunk_that_contradicts_itself_is_refused() -> None:
    one = struct.pack("<2Q", 5, 1)
    empty = bytes(64)
    cases = {
        "impossible size": [
            (HEADER.pack(0, 0, 0, 10), b""),
            (HEADER.pack(CHUNK + 1, 1, 0, 10), b""),
            (HEADER.pack(1, 2, 0, 10), b""),
            (HEADER.pack(1, 1, 513, 10), b""),
            (HEADER.pack(1, 1, 0, 1 << 31), b""),
        ],
        "impossible frames": [
            hostile(1, 1, 0, struct.pack("<2Q", 1 << 40, 1) + empty),
            hostile(1, 1, 0, struct.pack("<2Q", 5, 1 << 63) + empty),
        ],
        "not in order": [
            hostile(1, 1, 0, struct.pack("<2Q", 5, 2) + empty),
            hostile(1, 1, 0, struct.pack("<2Q", 5, 0) + empty),
            hostile(2, 2, 0, struct.pack("<4Q", 5, 1, 5, 1) + 2 * empty),
            hostile(2, 2, 0, struct.pack("<4Q", 9, 1, 5, 1) + 2 * empty),
        ],
        "contradicts its map": [hostile(1, 1, 1, one + empty + bytes(8))],
        "another length": [
            hostile(1, 1, 0, one + empty + b"x"),
            hostile(1, 1, 0, one + empty[:-1]),
        ],
        "damaged": [(HEADER.pack(1, 1, 0, 20), b"\xff" * 20)],
    }
    for reason, chunks in cases.items():
        for chunk in chunks:
            with pytest.raises(SnapshotError, match=reason):
                unpack(*chunk)


def test_a_decompression_bomb_stops_at_the_announced_length() -> None:
    bomb = zlib.compress(bytes(200 * MIB), 9)
    assert len(bomb) < MIB
    with pytest.raises(SnapshotError, match="another length"):
        inflate(bomb, 100)
    with pytest.raises(SnapshotError, match="another length"):
        inflate(bomb, 0)


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000])
def test_no_compressed_data_is_longer_than_allowed(size: int) -> None:
    raw = random.Random(size).randbytes(size)
    assert len(zlib.compress(raw, 1)) <= longest(size)
    assert inflate(zlib.compress(raw, 1), size) == raw
