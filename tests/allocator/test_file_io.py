# SPDX-License-Identifier: GPL-2.0-only
"""Bytes in and out of files: random access agrees with an array of bytes."""

from __future__ import annotations

import random

import pytest

from allocator.file_io import name_words
from allocator.flusher import sync_inodes, writeback_tick
from allocator.fs import EBADF, EINVAL, FMODE_READ, FMODE_WRITE
from allocator.kernel_globals import G_CLOCK
from allocator.pagecache import drop_caches
from allocator.truncate import do_truncate
from tests.allocator.disk import Disk


def test_names_become_words() -> None:
    words = name_words(b"notes")
    assert words is not None
    assert b"".join(word.to_bytes(8, "little") for word in words) == b"notes".ljust(56, b"\0")
    assert name_words(b"\xff" * 55) is not None
    for name in (b"", b"a/b", b"a\0", b"x" * 56):
        assert name_words(name) is None


def test_the_mode_and_the_numbers_are_checked() -> None:
    disk = Disk()
    disk.file("f", b"abc")
    reader, writer = disk.open("f", FMODE_READ), disk.open("f", FMODE_WRITE)
    assert disk.write(reader, 0, b"x") == -EBADF
    assert disk.read(writer, 0, 1) == -EBADF
    assert disk.read(reader, -1, 1) == disk.read(reader, 0, -1) == -EINVAL
    assert disk.write(writer, -1, b"x") == -EINVAL
    assert disk.read(reader, 3, 10) == disk.read(reader, 99, 10) == b""
    assert disk.write(writer, 5, b"") == 0


@pytest.mark.parametrize("seed", range(3))
def test_random_access_agrees_with_an_array_of_bytes(seed: int) -> None:
    disk = Disk(nodes=2, cpus=2)
    m, rng = disk.m, random.Random(seed)
    files = [(disk.file(f"f{i}"), bytearray()) for i in range(3)]
    for _ in range(500):
        file, model = rng.choice(files)
        pos, what = rng.randrange(120_000), rng.random()
        if what < 0.45:
            data = rng.randbytes(rng.choice((1, 8, 300, 4096, 20_000)))
            assert disk.write(file, pos, data) == len(data)
            model.extend(bytes(max(pos - len(model), 0)))
            model[pos : pos + len(data)] = data
        elif what < 0.85:
            count = rng.choice((1, 100, 5000, 50_000))
            assert disk.read(file, pos, count) == bytes(model[pos : pos + count])
        elif what < 0.9:
            assert do_truncate(m, 0, disk.inode(file), pos) == 0
            model.extend(bytes(max(pos - len(model), 0)))
            del model[pos:]
        elif what < 0.93:
            sync_inodes(m, 0)
        elif what < 0.96:
            drop_caches(m, 0, rng.choice((1, 2, 3)))
        else:
            m[G_CLOCK] += rng.randrange(10**10)
            writeback_tick(m, 0)
    for file, model in files:
        assert disk.read(file, 0, 1 << 20) == bytes(model)
