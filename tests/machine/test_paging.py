# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine import Bank, PageTableBuilder, PhysicalMemory, UsageError, translate
from machine.mmu import PTE_NX, PTE_RW, PTE_US
from machine.topology import GIB, MIB

HIGH = 0xFFFF_8880_0000_0000


def builder(size: int = 64 * MIB) -> tuple[PhysicalMemory, PageTableBuilder]:
    memory = PhysicalMemory([Bank(0, size, "ram")])
    frames = iter(range(0x100000, 0x1000000, 4096))
    return memory, PageTableBuilder(memory, lambda: next(frames))


def test_the_largest_pages_that_fit_are_used() -> None:
    memory, tables = builder()
    start = GIB - 2 * MIB - 4096
    tables.map(HIGH + start, start, GIB + 4 * MIB + 8192)
    sizes = {}
    for at in (start, GIB - 2 * MIB, GIB, 2 * GIB, 2 * GIB + 2 * MIB):
        found = translate(memory, tables.root, HIGH + at)
        assert found is not None
        assert found.phys == at
        sizes[at] = found.page_size
    assert list(sizes.values()) == [4096, 2 * MIB, GIB, 2 * MIB, 4096]
    assert translate(memory, tables.root, HIGH + start - 1) is None
    assert translate(memory, tables.root, HIGH + 2 * GIB + 2 * MIB + 4096) is None


def test_max_page_limits_the_size() -> None:
    memory, tables = builder()
    tables.map(0, 0, 4 * MIB, max_page=4096)
    found = translate(memory, tables.root, 2 * MIB)
    assert found is not None
    assert found.page_size == 4096


def test_64_gib_are_mapped_with_a_handful_of_tables() -> None:
    _, tables = builder()
    tables.map(HIGH, 0, 64 * GIB)
    assert tables.tables == 2


@given(
    st.lists(
        st.tuples(st.integers(0, 2100), st.integers(0, 2100), st.integers(1, 1100), st.booleans()),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=25, deadline=None)
def test_later_mappings_replace_earlier_ones_and_leave_the_rest(
    stretches: list[tuple[int, int, int, bool]],
) -> None:
    memory, tables = builder()
    tables.map(HIGH, 0, GIB)
    expected: dict[int, tuple[int, bool]] = {}
    for page, frame, count, writable in stretches:
        flags = PTE_RW if writable else PTE_NX | PTE_US
        tables.map(HIGH + page * 4096, frame * 4096, count * 4096, flags)
        expected |= {page + n: (frame + n, writable) for n in range(count)}
    for page in range(0, 3300, 7):
        found = translate(memory, tables.root, HIGH + page * 4096 + 9)
        frame, writable = expected.get(page, (page, True))
        assert found is not None
        assert (found.phys, found.writable) == (frame * 4096 + 9, writable)


def test_splitting_a_gigabyte_keeps_every_byte_where_it_was() -> None:
    memory, tables = builder()
    tables.map(HIGH, GIB, GIB, PTE_RW | PTE_NX)
    tables.map(HIGH + 0x1000, 0x5000, 4096)
    for offset, phys in (
        (0, GIB),
        (0x1000, 0x5000),
        (0x2000, GIB + 0x2000),
        (GIB - 1, 2 * GIB - 1),
    ):
        found = translate(memory, tables.root, HIGH + offset)
        assert found is not None
        assert found.phys == phys
        assert found.executable is (offset == 0x1000)


def test_dirty_frames_make_clean_tables() -> None:
    memory = PhysicalMemory([Bank(0, 16 * MIB, "ram")])
    memory.write(0x100000, b"\xff" * MIB)
    frames = iter(range(0x100000, 0x200000, 4096))
    tables = PageTableBuilder(memory, lambda: next(frames))
    tables.map(0x400000, 0, 4096)
    assert translate(memory, tables.root, 0x401000) is None


@pytest.mark.parametrize(
    ("va", "pa", "size"),
    [
        (1, 0, 4096),
        (0, 1, 4096),
        (0, 0, 1),
        (1 << 47, 0, 4096),
        ((1 << 47) - 4096, 0, 8192),
        ((1 << 64) - 4096, 0, 8192),
        (0, 1 << 46, 4096),
        (0, 0, -4096),
    ],
)
def test_what_cannot_be_mapped_is_refused(va: int, pa: int, size: int) -> None:
    _, tables = builder()
    with pytest.raises(UsageError):
        tables.map(va, pa, size)


def test_the_last_page_of_the_address_space_can_be_mapped() -> None:
    memory, tables = builder()
    tables.map((1 << 64) - 4096, 0x3000, 4096)
    found = translate(memory, tables.root, (1 << 64) - 1)
    assert found is not None
    assert found.phys == 0x3FFF
