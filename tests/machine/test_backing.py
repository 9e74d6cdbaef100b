# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from machine import Bank, PhysicalMemory, hostmap
from machine.topology import GIB, MIB

needs_overlay = pytest.mark.skipif(not hostmap.find_method(), reason="plain memory on this host")


def make(size: int = 8 * MIB) -> PhysicalMemory:
    return PhysicalMemory([Bank(0, size, "ram")])


def in_child(action: object) -> int:
    """Exit code of a forked child that runs `action`; 0 if that returned True."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if action() is True else 2  # type: ignore[operator]
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@needs_overlay
def test_an_overlay_leaves_addresses_contents_and_the_base_alone() -> None:
    memory = make()
    memory.words[0x1000] = 17
    address, view = memory.host_address(), memory.q
    memory.backing.overlay()
    assert memory.host_address() == address
    assert view[0x1000] == memory.words[0x1000] == 17
    memory.words[0x1000] = 18
    assert memory.backing.base().reshape(-1)[0x1000] == 17
    assert memory.backing.written() == [(0x8000, 0x9000)]
    memory.backing.settle(memory.backing.written())
    assert view[0x1000] == 17


@needs_overlay
def test_an_overlay_works_where_no_mapping_can_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: int, size: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(hostmap, "move_mapping", refuse)
    memory = make()
    memory.words[5] = 1
    memory.backing.overlay()
    memory.words[5] += 1
    assert (memory.words[5], memory.backing.base()[0, 5]) == (2, 1)


@pytest.mark.parametrize("overlay", [False, True])
def test_touched_tells_what_was_written_and_skips_the_rest(overlay: bool) -> None:
    memory = make(4 * GIB)
    memory.bytes[5 * MIB] = 1
    if overlay and memory.backing.fd >= 0:
        memory.backing.overlay()
    memory.bytes[3 * GIB] = 1
    touched = memory.touched()
    for at in (5 * MIB, 3 * GIB):
        assert any(start <= at < end for start, end in touched)
    if memory.backing.method:
        assert sum(end - start for start, end in touched) <= 16 * MIB
        assert memory.touched(5 * MIB, 5 * MIB + 4096) == [(5 * MIB, 5 * MIB + 4096)]
        assert memory.touched(3 * GIB + 4 * MIB) == []


@pytest.mark.parametrize("held", ["nothing", "overlay", "checkpoint"])
def test_after_a_fork_neither_side_sees_the_writes_of_the_other(held: str) -> None:
    memory = make()
    memory.words[0], memory.words[512] = 1, 2
    if held == "overlay" and memory.backing.fd >= 0:
        memory.backing.overlay()
    if held == "checkpoint":
        memory.checkpoint()
    memory.words[1024] = 3
    go, gone = os.pipe()

    def child() -> bool:
        memory.words[0] = 100
        os.read(go, 1)  # the parent has written by now
        seen = (memory.words[0], memory.words[512], memory.words[1024], memory.words[2048])
        moment = memory.checkpoint()
        memory.words[0] = memory.words[4096] = 7
        memory.rewind(moment)
        return seen == (100, 2, 3, 0) and (memory.words[0], memory.words[4096]) == (100, 0)

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if child() else 2
        finally:
            os._exit(code)
    memory.words[512], memory.words[2048] = 200, 5
    moment = memory.checkpoint()
    memory.words[512] = 201
    memory.rewind(moment)
    os.write(gone, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(go)
    os.close(gone)
    words = [memory.words[n] for n in (0, 512, 1024, 2048)]
    assert words == [1, 200, 3, 5]


def test_a_child_can_go_back_to_a_checkpoint_from_before_the_fork() -> None:
    memory = make()
    memory.words[0] = 1
    first = memory.checkpoint()
    memory.words[0] = 2
    second = memory.checkpoint()
    memory.words[0] = 3

    def child() -> bool:
        memory.rewind(second)
        two = memory.words[0] == 2
        memory.rewind(first)
        return two and memory.words[0] == 1

    assert in_child(child) == 0
    assert memory.words[0] == 3
    memory.rewind(first)
    assert memory.words[0] == 1


@needs_overlay
def test_files_and_windows_are_given_back_with_the_memory() -> None:
    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("numalab-ram")

    gc.collect()
    before = opened(), mapped()
    memory = make()
    memory.backing.overlay()
    assert (opened(), mapped()) == (before[0] + 1, before[1] + 2)
    del memory
    gc.collect()
    assert (opened(), mapped()) == before


def test_without_a_memory_file_ram_is_plain_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, flags: int = 0) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", refuse)
    memory = make()
    assert memory.backing.fd == -1
    memory.words[9] = 9
    moment = memory.checkpoint()
    memory.words[9] = 10
    memory.rewind(moment)
    assert memory.words[9] == 9


@pytest.mark.parametrize("forked", [False, True])
def test_clearing_ends_in_fresh_ram_whatever_was_held(forked: bool) -> None:
    memory = make()
    memory.words[3] = 1
    moment = memory.checkpoint()
    memory.words[4] = 1
    if forked:
        assert in_child(lambda: True) == 0
    memory.clear()
    assert (memory.words[3], memory.words[4]) == (0, 0)
    memory.rewind(moment)
    assert (memory.words[3], memory.words[4]) == (1, 0)
    memory.history.discard(moment)
    memory.clear()
    assert memory.words[3] == 0
    if memory.backing.fd >= 0:
        assert memory.touched(0, 4096) in ([], [(0, 4096)])
        assert not memory.backing.overlaid
