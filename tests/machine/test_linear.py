# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from machine import Machine, PageTableBuilder, Topology
from machine.linear import CpuException, LinearMemory
from machine.mmu import PTE_P, PTE_RW


def space() -> tuple[Machine, LinearMemory]:
    machine = Machine(Topology.parse("1x32M"))
    frames = iter(range(0x10000, 0x40000, 4096))
    tables = PageTableBuilder(machine.memory, lambda: next(frames))
    tables.map(0, 0, 2 << 20)
    tables.map(0x40000000, 0x300000, 4096, PTE_P | PTE_RW)
    tables.map(0x40001000, 0x100000, 4096, PTE_P)
    tables.map(0x40002000, 0x80000000, 4096, PTE_P | PTE_RW)
    cpu = machine.cpus[0]
    cpu.start(0x1000, 0x4000, tables.root)
    cpu.hidden.load()
    return machine, LinearMemory(machine.memory, cpu.ram)


def test_an_access_may_cross_pages_that_lie_apart() -> None:
    machine, linear = space()
    hidden = machine.cpus[0].hidden
    machine.memory.write(0x300FFE, b"\x11\x22")
    machine.memory.write(0x100000, b"\x33\x44")
    assert linear.read(hidden, 0x40000FFE, 4) == 0x44332211


def test_a_write_that_is_not_allowed_in_part_is_not_done_at_all() -> None:
    machine, linear = space()
    hidden = machine.cpus[0].hidden
    with pytest.raises(CpuException) as caught:
        linear.write(hidden, 0x40000FFE, 4, 0xFFFFFFFF, False)
    assert (caught.value.vector, caught.value.error, caught.value.address) == (14, 3, 0x40001000)
    assert machine.memory.read(0x300FFE, 2) == b"\0\0"
    linear.write(hidden, 0x40000FF0, 8, -2, False)
    assert machine.memory.read_u64(0x300FF0) == (1 << 64) - 2


@pytest.mark.parametrize(
    ("va", "user", "vector", "error"),
    [
        (0x50000000, False, 14, 0),
        (0x50000000, True, 14, 4),
        (0x40000000, True, 14, 5),
        (0x8000_0000_0000_0000, False, 13, 0),
    ],
)
def test_what_is_refused_says_why(va: int, user: bool, vector: int, error: int) -> None:
    machine, linear = space()
    with pytest.raises(CpuException) as caught:
        linear.read(machine.cpus[0].hidden, va, 1, user)
    assert (caught.value.vector, caught.value.error) == (vector, error)


def test_a_hole_reads_as_ones_and_swallows_writes() -> None:
    machine, linear = space()
    hidden = machine.cpus[0].hidden
    linear.write(hidden, 0x40002000, 4, 0, False)
    assert linear.read(hidden, 0x40002000, 4) == 0xFFFFFFFF


def test_gate_a20_folds_the_odd_megabytes() -> None:
    machine, linear = space()
    machine.memory.write(0x5000, b"low")
    linear.a20 = ~(1 << 20)
    assert linear.read(machine.cpus[0].hidden, 0x105000, 3).to_bytes(3, "little") == b"low"
