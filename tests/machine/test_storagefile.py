# SPDX-License-Identifier: GPL-2.0-only
"""A file of the host behind storage: what goes in comes out, and only what differs is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from machine import InputError, OutputError
from machine.physmem import Bank, PhysicalMemory
from machine.storagefile import StorageFile, merge

PAGE = 4096
START = 1 << 20


@pytest.fixture
def memory() -> PhysicalMemory:
    return PhysicalMemory([Bank(0, START, "ram")], 1 << 20)


def page(memory: PhysicalMemory, number: int) -> bytes:
    return memory.rows[START // PAGE + number].tobytes()


def test_storage_is_filled_from_the_file_and_nothing_else_is_touched(
    memory: PhysicalMemory, tmp_path: Path
) -> None:
    path = tmp_path / "d"
    path.write_bytes(b"\1" * PAGE + bytes(PAGE) + b"\3" * PAGE + b"tail" * 128)
    memory.rows[START // PAGE + 1 : START // PAGE + 4] = 9
    file = StorageFile(path)
    file.load(memory, START)
    assert file.size == 3 * PAGE
    assert [page(memory, n)[0] for n in range(4)] == [1, 0, 3, 9]
    memory.rows[START // PAGE : START // PAGE + 3] = 5
    file.write(memory, START, [(1, 2)])
    held = path.read_bytes()
    assert [held[n * PAGE] for n in range(4)] == [1, 5, 3, ord("t")]
    file.write_differences(memory, START)
    held = path.read_bytes()
    assert [held[n * PAGE] for n in range(4)] == [5, 5, 5, ord("t")]
    file.close()
    file.close()
    assert not file.is_open


def test_differences_reach_holes_on_either_side(memory: PhysicalMemory, tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.touch()
    os.truncate(path, 64 * PAGE)
    with path.open("r+b") as outside:
        outside.seek(40 * PAGE)
        outside.write(b"x")
    file = StorageFile(path)
    memory.rows[START // PAGE + 3] = 3
    file.write_differences(memory, START)
    held = path.read_bytes()
    assert (held[3 * PAGE], held[40 * PAGE]) == (3, 0)


def test_a_pipe_and_a_locked_file_are_refused(memory: PhysicalMemory, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        StorageFile(tmp_path / "pipe")
    path = tmp_path / "d"
    path.write_bytes(bytes(PAGE))
    readers = [StorageFile(path, read_only=True) for _ in range(2)]
    with pytest.raises(InputError, match="in use"):
        StorageFile(path)
    with pytest.raises(OutputError, match="d: "):
        readers[0].write(memory, START, [(0, 1)])


def test_runs_become_whole_pages_below_the_limit() -> None:
    runs = [(1, 2), (PAGE - 1, PAGE + 1), (5 * PAGE, 9 * PAGE), (20 * PAGE, 21 * PAGE)]
    assert merge(runs, 8 * PAGE) == [(0, 2 * PAGE), (5 * PAGE, 8 * PAGE)]
