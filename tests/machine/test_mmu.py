# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from machine import Bank, PageTableBuilder, PhysicalMemory, translate
from machine.mmu import (
    BUS_PAGE,
    BUS_TABLE,
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    CR4_PSE,
    EFER_LMA,
    EFER_NXE,
    FETCH,
    NON_CANONICAL,
    NOT_PRESENT,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    PROTECTION,
    PTE_A,
    PTE_D,
    PTE_NX,
    PTE_P,
    PTE_RW,
    PTE_US,
    READ,
    RESERVED,
    WRITE,
    page_fault_error,
    translate_as,
    walk,
)
from machine.topology import GIB, MIB

CR0 = CR0_PG | CR0_WP
EFER = EFER_LMA | EFER_NXE
HIGH = 0xFFFF_8880_0000_0000


class Tables:
    """Page tables in a memory with a hole at [64 MiB, 128 MiB)."""

    def __init__(self) -> None:
        banks = [Bank(0, 64 * MIB, "low"), Bank(128 * MIB, 256 * MIB, "high")]
        self.memory = PhysicalMemory(banks)
        frames = iter(range(0x10000, 0x90000, 4096))
        self.builder = PageTableBuilder(self.memory, lambda: next(frames))

    def walk(self, va: int, access: int = READ, user: int = False, **registers: int) -> int:
        state = {"cr0": CR0, "cr3": self.builder.root, "cr4": 0, "efer": EFER} | registers
        return walk(self.memory, va, access, bool(user), **state)

    def entry(self, va: int) -> tuple[int, int]:
        """Address and value of the entry that maps `va`."""
        found = translate(self.memory, self.builder.root, va)
        assert found
        return found.entries[-1], self.memory.read_u64(found.entries[-1])


@pytest.fixture
def tables() -> Tables:
    return Tables()


@pytest.mark.parametrize("size", [4096, 2 * MIB, GIB])
def test_a_page_of_every_size_is_found_and_cut_into_4_kib_translations(size: int) -> None:
    memory = PhysicalMemory([Bank(0, 4 * GIB, "all")])
    frames = iter(range(0x10000, 0x90000, 4096))
    builder = PageTableBuilder(memory, lambda: next(frames))
    builder.map(HIGH + GIB, GIB, size)
    inside = size - 4096
    page = walk(memory, HIGH + GIB + inside, READ, False, CR0, builder.root, 0, EFER)
    assert page == GIB + inside | PROT_READ | PROT_EXEC
    found = translate(memory, builder.root, HIGH + GIB + inside + 5)
    assert found is not None
    assert (found.phys, found.page_size) == (GIB + inside + 5, size)


def test_accessed_is_set_on_every_level_and_dirty_only_by_a_write(tables: Tables) -> None:
    tables.builder.map(0x400000, 0x200000, 4096)
    assert tables.walk(0x400000) == 0x200000 | PROT_READ | PROT_EXEC
    found = translate(tables.memory, tables.builder.root, 0x400000)
    assert found is not None
    values = [tables.memory.read_u64(slot) for slot in found.entries]
    assert all(value & PTE_A for value in values)
    assert not values[-1] & PTE_D
    assert tables.walk(0x400000, WRITE) == 0x200000 | PROT_READ | PROT_WRITE | PROT_EXEC
    assert tables.entry(0x400000)[1] & PTE_D


def test_a_refused_access_marks_nothing(tables: Tables) -> None:
    tables.builder.map(0x400000, 0x200000, 4096, PTE_P)
    assert tables.walk(0x400000, WRITE) == PROTECTION
    found = translate(tables.memory, tables.builder.root, 0x400000)
    assert found is not None
    assert not any(tables.memory.read_u64(slot) & (PTE_A | PTE_D) for slot in found.entries)


@pytest.mark.parametrize(
    ("flags", "access", "user", "cr0", "allowed"),
    [
        (PTE_RW, WRITE, False, CR0, True),
        (0, READ, False, CR0, True),
        (0, WRITE, False, CR0, False),
        (0, WRITE, False, CR0_PG, True),  # CR0.WP off: the kernel writes anywhere
        (PTE_US, WRITE, True, CR0_PG, False),
        (PTE_RW, READ, True, CR0, False),
        (PTE_RW | PTE_US, WRITE, True, CR0, True),
        (PTE_NX, FETCH, False, CR0, False),
        (PTE_NX, READ, False, CR0, True),
        (0, FETCH, False, CR0, True),
    ],
)
def test_permissions_are_those_of_the_manual(
    tables: Tables, flags: int, access: int, user: bool, cr0: int, allowed: bool
) -> None:
    tables.builder.map(0x400000, 0x200000, 4096, PTE_P | flags)
    result = tables.walk(0x400000, access, user, cr0=cr0)
    assert (result == PROTECTION) is not allowed
    assert (result > 0) is allowed


def test_a_restriction_at_any_level_holds_for_all_below(tables: Tables) -> None:
    tables.builder.map(0x400000, 0x200000, 4096, PTE_RW | PTE_US)
    top = tables.builder.root
    tables.memory.write_u64(top, tables.memory.read_u64(top) & ~PTE_RW | PTE_NX)
    assert tables.walk(0x400000, WRITE) == PROTECTION
    assert tables.walk(0x400000, FETCH) == PROTECTION
    assert tables.walk(0x400000, READ, user=True) > 0


def test_nx_is_a_reserved_bit_while_efer_nxe_is_off(tables: Tables) -> None:
    tables.builder.map(0x400000, 0x200000, 4096, PTE_NX)
    assert tables.walk(0x400000, READ, efer=EFER_LMA) == RESERVED


@pytest.mark.parametrize("bit", [46, 51])
def test_address_bits_the_cpu_does_not_have_are_reserved(tables: Tables, bit: int) -> None:
    tables.builder.map(0x400000, 0x200000, 4096)
    slot, value = tables.entry(0x400000)
    tables.memory.write_u64(slot, value | 1 << bit)
    assert tables.walk(0x400000) == RESERVED


def test_a_misaligned_large_page_and_ps_in_the_top_level_are_reserved(tables: Tables) -> None:
    tables.builder.map(0x400000, 0x200000, 2 * MIB)
    slot, value = tables.entry(0x400000)
    tables.memory.write_u64(slot, value | 0x2000)
    assert tables.walk(0x400000) == RESERVED
    tables.memory.write_u64(slot, value)
    top = tables.builder.root
    tables.memory.write_u64(top, tables.memory.read_u64(top) | 1 << 7)
    assert tables.walk(0x400000) == RESERVED


@pytest.mark.parametrize("va", [1 << 47, 0xFFFF_7FFF_FFFF_F000, 1 << 63])
def test_a_non_canonical_address_is_no_address(tables: Tables, va: int) -> None:
    assert tables.walk(va) == NON_CANONICAL
    assert translate(tables.memory, tables.builder.root, va) is None


def test_a_hole_behind_the_tables_is_a_bus_error(tables: Tables) -> None:
    tables.builder.map(0x400000, 64 * MIB, 4096)
    assert tables.walk(0x400000) == BUS_PAGE
    assert tables.walk(0x400000, cr3=64 * MIB) == BUS_TABLE
    assert tables.walk(0x400000, cr3=1 << 45) == BUS_TABLE
    assert tables.walk(0x800000) == NOT_PRESENT


def test_ram_above_a_hole_is_reached(tables: Tables) -> None:
    tables.builder.map(HIGH, 128 * MIB, 2 * MIB)
    assert tables.walk(HIGH + 0x1000) == 128 * MIB + 0x1000 | PROT_READ | PROT_EXEC


def test_without_paging_addresses_are_physical(tables: Tables) -> None:
    assert tables.walk(0x5000, cr0=0, efer=0) == 0x5000 | 7
    assert tables.walk(64 * MIB, cr0=0, efer=0) == BUS_PAGE


def test_two_level_paging_outside_long_mode(tables: Tables) -> None:
    memory = tables.memory
    memory.write_u32(0x20000 + 4 * 1, 0x21000 | 3)
    memory.write_u32(0x21000 + 4 * 2, 0x5000 | 1)
    memory.write_u32(0x20000 + 4 * 2, 0x400000 | 0x83)
    state = {"cr3": 0x20000, "efer": 0, "cr4": CR4_PSE}
    assert tables.walk(0x402000, **state) == 0x5000 | PROT_READ | PROT_EXEC
    assert tables.walk(0x402000, WRITE, **state) == PROTECTION
    assert tables.walk(0x803000, WRITE, **state) == 0x403000 | 7
    assert tables.walk(0x403000, **state) == NOT_PRESENT
    assert memory.read_u32(0x20004) & PTE_A


def test_pae_paging_outside_long_mode(tables: Tables) -> None:
    memory = tables.memory
    memory.write_u64(0x20020, 0x21000 | 1)
    memory.write_u64(0x21008, 0x400000 | 0x83)
    state = {"cr3": 0x20020, "efer": 0, "cr4": CR4_PAE}
    assert tables.walk(0x201000, WRITE, **state) == 0x401000 | 7
    assert tables.walk(0x40000000, **state) == NOT_PRESENT
    memory.write_u64(0x20020, 0x21000 | 3)
    assert tables.walk(0x201000, **state) == RESERVED


def test_translate_reports_rights_and_changes_nothing(tables: Tables) -> None:
    tables.builder.map(0x400000, 0x200000, 4096, PTE_US | PTE_NX)
    before = tables.memory.read(0, MIB)
    found = translate(tables.memory, tables.builder.root, 0x400123)
    assert found is not None
    assert (found.writable, found.user, found.executable) == (False, True, False)
    assert len(found.entries) == 4
    assert tables.memory.read(0, MIB) == before


def tables_32(memory: PhysicalMemory) -> None:
    """Two levels at 0x10000: 4 MiB at 0 and above 4 GiB (PSE-36), a page at 8 MiB, read-only."""
    memory.write_u32(0x10000, 0x83)
    memory.write_u32(0x10004, 0x83 | 1 << 13)
    memory.write_u32(0x10008, 0x11007)
    memory.write_u32(0x11004, 0x5005)


def test_people_see_what_two_levels_of_tables_map() -> None:
    memory = PhysicalMemory([Bank(0, 1 << 25, "low")])
    tables_32(memory)
    pse = (1 << 31 | 1, 0x10000, 0x10, 0)
    found = translate_as(memory, *pse, 0x123456)
    assert found is not None
    assert (found.phys, found.page_size, found.entries) == (0x123456, 1 << 22, (0x10000,))
    found = translate_as(memory, *pse, 0x412345)
    assert found is not None
    assert found.phys == 1 << 32 | 0x12345
    found = translate_as(memory, *pse, 0x801234)
    assert found is not None
    assert (found.phys, found.writable, found.user) == (0x5234, False, True)
    assert translate_as(memory, *pse, 0x802000) is None
    assert translate_as(memory, *pse, 0xC00000) is None


def test_people_see_what_pae_maps_and_nothing_changes_without_paging() -> None:
    memory = PhysicalMemory([Bank(0, 1 << 25, "low")])
    memory.write_u64(0x10020, 0x11001)  # the table of four need be aligned to 32 bytes only
    memory.write_u64(0x11008, 0x600083)
    pae = (1 << 31 | 1, 0x10020, 0x20, 0)
    found = translate_as(memory, *pae, 0x212345)
    assert found is not None
    assert (found.phys, found.entries) == (0x612345, (0x10020, 0x11008))
    assert translate_as(memory, *pae, 0x40000000) is None
    memory.write_u64(0x10028, 0x11003)  # a reserved bit
    assert translate_as(memory, *pae, 0x40200000) is None
    found = translate_as(memory, 1, 0x10020, 0x20, 0, 0x1_2345_6789)
    assert found is not None
    assert found.phys == 0x23456789


@pytest.mark.parametrize(
    ("code", "access", "user", "error"),
    [
        (NOT_PRESENT, READ, False, 0),
        (NOT_PRESENT, WRITE, True, 6),
        (PROTECTION, FETCH, True, 0x15),
        (RESERVED, READ, False, 9),
    ],
)
def test_the_error_code_says_access_and_reason(
    code: int, access: int, user: bool, error: int
) -> None:
    assert page_fault_error(code, access, user) == error
