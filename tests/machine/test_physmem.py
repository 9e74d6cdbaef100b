# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path

import pytest

from machine import Bank, BusError, PhysicalMemory, Topology, TopologyError
from machine.topology import GIB, MIB


@pytest.fixture
def memory() -> PhysicalMemory:
    return PhysicalMemory([Bank(0, 2 * MIB, "low"), Bank(4 * MIB, 5 * MIB, "high")])


def test_fresh_ram_is_zero_and_all_views_show_the_same_bytes(memory: PhysicalMemory) -> None:
    assert memory.read(0, 4096) == bytes(4096)
    memory.write_u64(0x1000, 0x8877_6655_4433_2211)
    assert memory.read(0x1000, 8) == bytes.fromhex("1122334455667788")
    assert memory.words[0x1000 >> 3] == 0x8877_6655_4433_2211 - (1 << 64)
    assert memory.q[0x1000 >> 3] == memory.words[0x1000 >> 3]
    assert memory.bytes[0x1007] == memory.u8[0x1007] == 0x88
    memory.q[0x200] = -1
    assert memory.read_u64(0x1000) == (1 << 64) - 1


def test_sized_reads_and_writes_agree_at_any_alignment(memory: PhysicalMemory) -> None:
    memory.write_u64(0x1003, -2)
    assert memory.read_u64(0x1003) == (1 << 64) - 2
    memory.write_u32(0x2001, 0xAABBCCDD)
    memory.write_u16(0x2001, 0x1122)
    memory.write_u8(0x2004, 0x1FF)
    assert memory.read_u32(0x2001) == 0xFFBB1122
    assert (memory.read_u16(0x2003), memory.read_u8(0x2001)) == (0xFFBB, 0x22)


@pytest.mark.parametrize(
    ("address", "size"),
    [(2 * MIB, 1), (2 * MIB - 4, 8), (4 * MIB - 1, 2), (5 * MIB - 1, 2), (-1, 1), (1 << 70, 8)],
)
def test_an_access_that_leaves_ram_is_a_bus_error_and_writes_nothing(
    memory: PhysicalMemory, address: int, size: int
) -> None:
    assert not memory.is_ram(address, size)
    with pytest.raises(BusError) as caught:
        memory.read(address, size)
    assert (caught.value.address, caught.value.size) == (address, size)
    with pytest.raises(BusError, match=f"{address:#x}".replace("-", "-?")):
        memory.write(address, b"\xff" * size)
    assert memory.read(2 * MIB - 4, 4) == bytes(4)


def test_banks_that_touch_are_one_stretch_of_ram() -> None:
    memory = PhysicalMemory([Bank(0x1000, 0x2000, "b"), Bank(0, 0x1000, "a")])
    memory.write(0xFFE, b"abcd")
    assert memory.read(0xFFE, 4) == b"abcd"
    assert memory.extents == ((0, 0x2000),)


@pytest.mark.parametrize(
    "banks",
    [
        [],
        [Bank(0, 0, "empty")],
        [Bank(0, 100, "odd")],
        [Bank(0, 8192, "a"), Bank(4096, 12288, "b")],
        [Bank(-4096, 4096, "negative")],
    ],
)
def test_impossible_banks_are_refused(banks: list[Bank]) -> None:
    with pytest.raises(TopologyError):
        PhysicalMemory(banks)


def test_untouched_ram_costs_nothing() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    memory = PhysicalMemory.for_topology(Topology.parse("4x256G"))
    memory.write(memory.size - 8, b"12345678")
    assert memory.size > 1024 * GIB
    assert resident() - before < 16 * MIB


def test_clearing_gives_zeroes_through_the_same_views(memory: PhysicalMemory) -> None:
    memory.write(0x3000, b"x" * 4096)
    view = memory.q
    memory.clear()
    assert memory.read(0x3000, 4096) == bytes(4096)
    assert view[0x3000 >> 3] == 0


def test_the_host_address_is_that_of_the_byte(memory: PhysicalMemory) -> None:
    import ctypes

    memory.write(0x1234, b"numalab")
    assert ctypes.string_at(memory.host_address(0x1234), 7) == b"numalab"
    with pytest.raises(BusError):
        memory.host_address(memory.size)


def test_zeroing_a_range_leaves_the_rest_and_touches_nothing_new(memory: PhysicalMemory) -> None:
    for at in (0x2FF8, 0x3000, 0x4FF8, 0x5000):
        memory.write_u64(at, 1)
    before = memory.touched()
    memory.zero(0x3000, 0x5000)
    assert [memory.read_u64(at) for at in (0x2FF8, 0x3000, 0x4FF8, 0x5000)] == [1, 0, 0, 1]
    memory.zero(0x100000, 0x200000)
    assert memory.touched() == before


def test_a_moment_of_ram_alone_can_be_gone_back_to(memory: PhysicalMemory) -> None:
    memory.write_u64(0x1000, 5)
    moment = memory.checkpoint()
    memory.write_u64(0x1000, 6)
    memory.rewind(moment)
    assert (memory.read_u64(0x1000), memory.rewinds) == (5, 1)


# --- storage --------------------------------------------------------------------------------------
def test_storage_lies_behind_ram_and_only_words_reach_it() -> None:
    memory = PhysicalMemory([Bank(0, 1 << 20, "ram")], storage=1 << 20)
    assert (memory.size, memory.end) == (1 << 20, 2 << 20)
    memory.words[(2 << 20 >> 3) - 1] = 77
    assert len(memory.words) == 2 << 20 >> 3
    assert len(memory.bytes) == len(memory.u8) == 1 << 20
    assert len(memory.q) == 1 << 20 >> 3
    assert memory.rows.shape == (512, 512)
    assert not memory.is_ram(1 << 20)
    assert memory.is_backed(1 << 20, 1 << 20)
    assert not memory.is_backed((1 << 20) - 8, 16), "half RAM, half storage"
    assert not memory.is_backed(2 << 20)
    with pytest.raises(BusError):
        memory.read(1 << 20, 1)


def test_storage_must_be_whole_pages() -> None:
    for storage in (-4096, 100):
        with pytest.raises(TopologyError, match="storage"):
            PhysicalMemory([Bank(0, 1 << 20, "ram")], storage)


def test_a_power_cycle_leaves_storage_alone() -> None:
    memory = PhysicalMemory([Bank(0, 1 << 20, "ram")], storage=1 << 20)
    disk = 1 << 20 >> 3
    memory.words[0] = memory.words[disk] = 5
    memory.clear()
    assert (memory.words[0], memory.words[disk]) == (0, 5)


def test_checkpoints_hold_storage_too() -> None:
    memory = PhysicalMemory([Bank(0, 1 << 20, "ram")], storage=1 << 20)
    disk = 1 << 20 >> 3
    memory.words[disk] = 1
    held = memory.checkpoint()
    memory.words[disk] = 2
    memory.rewind(held)
    assert memory.words[disk] == 1
