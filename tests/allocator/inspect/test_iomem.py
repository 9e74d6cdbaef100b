# SPDX-License-Identifier: GPL-2.0-only
"""allocator/inspect/iomem.py: the tree of a booted machine; form in test_recorded.py."""

from __future__ import annotations

import pytest

from allocator.inspect.iomem import Resource, iomem, kernel_e820, ram_alignment, resource_tree
from allocator.kernel_globals import G_CLOCK
from allocator.layout import KERNEL_IMAGE_SIZE
from firmware import BOOT_PARAMS
from machine import BringUpError
from tests.allocator.machines import boot


def test_a_booted_machine_shows_ram_rom_kernel_and_apics() -> None:
    kernel = boot("2x64M")
    assert iomem(kernel.memory).text.splitlines() == [
        "00000000-00000fff : Reserved",
        "00001000-0009fbff : System RAM",
        "0009fc00-0009ffff : Reserved",
        "000f0000-000fffff : Reserved",
        "  000f0000-000fffff : System ROM",
        "00100000-07fdffff : System RAM",
        f"  01000000-{0x1000000 + KERNEL_IMAGE_SIZE - 1:08x} : Kernel data",
        "07fe0000-07ffffff : Reserved",
        "fec00000-fec003ff : IOAPIC 0",
        "fee00000-fee00fff : Local APIC",
        "fffc0000-ffffffff : Reserved",
        "fd00000000-ffffffffff : Reserved",
    ]


def test_looking_takes_no_modelled_time_and_changes_no_ram() -> None:
    kernel = boot("1x64M")
    before = bytes(kernel.memory.bytes)
    clock = kernel.m[G_CLOCK]
    iomem(kernel.memory)
    assert kernel.m[G_CLOCK] == clock
    assert bytes(kernel.memory.bytes) == before


def test_the_command_line_is_part_of_the_map() -> None:
    from allocator import start_kernel
    from firmware import power_on
    from machine import Machine, Topology

    machine = Machine(Topology.parse("1x64M"))
    power_on(machine, "mem=48M")
    start_kernel(machine)
    ram = [(a, a + size) for a, size, kind in kernel_e820(machine.memory) if kind == 1]
    assert ram[-1][1] == 48 << 20


def test_without_boot_params_there_is_no_map() -> None:
    kernel = boot("1x64M")
    kernel.memory.write(BOOT_PARAMS, bytes(4096))
    with pytest.raises(BringUpError, match="no setup header"):
        iomem(kernel.memory)


def test_ragged_ends_are_rounded_by_where_they_are() -> None:
    assert [ram_alignment(a) for a in (0x9F000, 2 << 20, 200 << 20)] == [
        64 << 10,
        1 << 20,
        64 << 20,
    ]


def test_equal_ranges_nest_by_when_they_were_claimed() -> None:
    low = resource_tree([(0xF0000, 0x10000, 2)], [(0xF0000, 0xFFFFF, "System ROM")])
    assert low == [
        Resource(0xF0000, 0xFFFFF, "Reserved", [Resource(0xF0000, 0xFFFFF, "System ROM")])
    ]
    high = resource_tree([(0xB0000000, 0x1000, 2)], [(0xB0000000, 0xB0000FFF, "window")])
    assert (high[0].name, high[0].children[0].name) == ("window", "Reserved")
