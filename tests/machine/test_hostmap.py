# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from machine import hostmap
from machine.hostmap import PAGE

SIZE = 1024 * PAGE
METHODS = ["scan", "pagemap"]


@pytest.fixture
def fd() -> Iterator[int]:
    fd = os.memfd_create("test")
    os.ftruncate(fd, SIZE)
    yield fd
    os.close(fd)


def usable(method: str) -> None:
    try:
        if hostmap._works(method):
            return
    except OSError:
        pass
    pytest.skip(f"this host has no {method}")


@pytest.mark.parametrize("method", METHODS)
def test_private_pages_are_those_written_and_no_others(fd: int, method: str) -> None:
    usable(method)
    os.pwrite(fd, b"\x01" * (100 * PAGE), 0)
    address = hostmap.map_file(fd, SIZE, private=True)
    try:
        pages = hostmap.as_pages(address, SIZE)
        assert int(pages[:, 0].sum()) != 0  # reading makes no page private
        assert hostmap.private_runs(method, address, SIZE) == []
        for page in (0, 7, 8, 9, 700, 1023):
            pages[page, 5] = 1
        expected = [(0, 1), (7, 10), (700, 701), (1023, 1024)]
        runs = [(start * PAGE, end * PAGE) for start, end in expected]
        assert hostmap.private_runs(method, address, SIZE) == runs
        hostmap.drop_pages(address + 7 * PAGE, 2 * PAGE)
        assert pages[8, 5] == int.from_bytes(b"\x01" * 8, "little")
        runs[1] = (9 * PAGE, 10 * PAGE)
        assert hostmap.private_runs(method, address, SIZE) == runs
    finally:
        hostmap.unmap(address, SIZE)


def test_scanning_finds_more_regions_than_fit_one_answer(fd: int) -> None:
    usable("scan")
    size = 20_000 * PAGE
    os.ftruncate(fd, size)
    address = hostmap.map_file(fd, size, private=True)
    try:
        hostmap.as_pages(address, size)[::2, 0] = 1
        runs = [(page * PAGE, (page + 1) * PAGE) for page in range(0, 20_000, 2)]
        assert hostmap.private_runs("scan", address, size) == runs
    finally:
        hostmap.unmap(address, size)


def test_a_moved_mapping_shows_the_same_file_in_both_places(fd: int) -> None:
    address = hostmap.map_file(fd, SIZE, private=False)
    hostmap.as_pages(address, SIZE)[3, 3] = 33
    try:
        moved = hostmap.move_mapping(address, SIZE)
    except OSError:
        pytest.skip("this host moves no shared mapping")
    assert moved != address
    for here, there in ((address, moved), (moved, address)):
        assert hostmap.as_pages(here, SIZE)[3, 3] == hostmap.as_pages(there, SIZE)[3, 3]
        hostmap.as_pages(here, SIZE)[3, 3] += 1
    assert hostmap.as_pages(moved, SIZE)[3, 3] == 35
    hostmap.unmap(address, SIZE)
    hostmap.unmap(moved, SIZE)


def test_data_runs_are_cut_to_the_range_asked_for(fd: int) -> None:
    os.pwrite(fd, b"x", 10 * PAGE)
    os.pwrite(fd, b"x" * (4 * PAGE), 20 * PAGE)
    found = [(10 * PAGE, 11 * PAGE), (20 * PAGE, 24 * PAGE)]
    assert hostmap.data_runs(fd, 0, SIZE) == found
    assert hostmap.data_runs(fd, 21 * PAGE, 22 * PAGE) == [(21 * PAGE, 22 * PAGE)]
    assert hostmap.data_runs(fd, 11 * PAGE, 20 * PAGE) == []
    assert hostmap.data_runs(fd, 30 * PAGE, SIZE) == []


def test_runs_are_merged_in_any_order() -> None:
    assert hostmap.merge_runs([(8, 9), (0, 2), (2, 4), (3, 5)]) == [(0, 5), (8, 9)]


def test_a_refused_call_is_an_os_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        hostmap.map_file(-1, PAGE, private=False)
    with pytest.raises(OSError, match=r"Bad address|Invalid argument"):
        hostmap.move_mapping(PAGE, PAGE)
