# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from allocator.init_main import start_kernel
from allocator.kernel_globals import KERNEL_BASE
from allocator.memblock import Memblock
from firmware.boot_params import set_ramdisk
from machine import BringUpError
from tests.allocator.bringup_support import MIB, booted_machine


def test_image_placed_by_the_firmware_stays_reserved() -> None:
    machine = booted_machine("1x64M")
    set_ramdisk(machine.memory, 0x100000, 0x2345)
    k = start_kernel(machine)
    mb = Memblock(k.m)
    assert mb.is_region_reserved(0x100000, 0x3000)
    assert not mb.is_region_reserved(0x103000, 0x1000)


def test_image_over_the_kernel_is_refused() -> None:
    machine = booted_machine("1x64M")
    set_ramdisk(machine.memory, KERNEL_BASE - 0x1000, 0x2000)
    with pytest.raises(BringUpError, match="overlaps the kernel"):
        start_kernel(machine)


def test_low_memory_bios_and_boot_params_are_reserved() -> None:
    mb = Memblock(start_kernel(booted_machine("1x64M")).m)
    for base, size in ((0, 0x10000), (0x90000, 0x1800), (0x99000, 0x67000)):
        assert not any(lo < base + size and base < hi for lo, hi, _ in mb.free_mem_ranges())


def test_damaged_numa_tables_cost_the_nodes_not_the_boot() -> None:
    machine = booted_machine("2x64M")
    from firmware import find_table

    table = find_table(machine.memory, "SRAT")
    assert table is not None
    machine.memory.write_u32(table.address + 4, 0xFFFFFF)
    k = start_kernel(machine)
    assert any("No NUMA configuration found" in line for line in k.log)


def test_invented_ram_is_refused() -> None:
    with pytest.raises(BringUpError, match=r"claims RAM at 0x40000000-0x43ffffff"):
        start_kernel(booted_machine("1x64M", append="memmap=64M@1G"))


def test_mem_limits_memory() -> None:
    k = start_kernel(booted_machine("2x64M", append="mem=48M"))
    assert Memblock(k.m).end_of_dram() == 48 * MIB


def test_too_little_memory_is_one_line() -> None:
    with pytest.raises(BringUpError) as info:
        start_kernel(booted_machine("1x64M", append="memmap=exactmap,64K@64K,64K@16M"))
    assert "\n" not in str(info.value)
