# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator import e820_setup as e820
from allocator.kernel_globals import KERNEL_BASE
from allocator.layout import KERNEL_IMAGE_SIZE
from machine import BringUpError
from tests.allocator.bringup_support import MIB, context, parse

RANGE = st.tuples(st.integers(0, 40), st.integers(0, 20), st.sampled_from([1, 2, 3, 4]))


@settings(max_examples=80, deadline=None)
@given(st.lists(RANGE, min_size=2, max_size=12))
def test_update_gives_each_address_the_highest_type_and_no_overlap(
    ranges: list[tuple[int, int, int]],
) -> None:
    table = e820.E820Table(ranges, context().printk)
    table.update()
    for addr in range(64):
        want = max((t for a, s, t in ranges if a <= addr < a + s), default=None)
        found = [t for a, s, t in table.entries if a <= addr < a + s]
        assert found == ([] if want is None else [want])
    ends = [(a, a + s) for a, s, _ in table.entries]
    assert ends == sorted(ends)
    for (_, end, kind), (start, _, following) in zip(
        [(a, a + s, t) for a, s, t in table.entries],
        table.entries[1:],
        strict=False,
    ):
        assert end < start or kind != following


@settings(max_examples=80, deadline=None)
@given(RANGE, st.lists(RANGE, min_size=1, max_size=6))
def test_remove_and_retype_cut_exactly_the_range(
    cut: tuple[int, int, int], ranges: list[tuple[int, int, int]]
) -> None:
    start, size, kind = cut
    for new in (0, 9):
        table = e820.E820Table(ranges, context().printk)
        (table.update_type(start, size, kind, new) if new else table.remove(start, size, kind))
        for addr in range(64):
            want = sorted(
                (new if start <= addr < start + size and t == kind else t)
                for a, s, t in ranges
                if a <= addr < a + s
            )
            found = sorted(t for a, s, t in table.entries if a <= addr < a + s)
            assert found == [t for t in want if t]


def test_exactmap_replaces_the_firmwares_map_and_is_printed() -> None:
    params, _ = parse("memmap=exactmap,640K@0,60M@1M")
    ctx = context()
    table = e820.memory_setup([(0, MIB, 1), (MIB, 30 * MIB, 1)], ctx.printk)
    e820.apply_user_map(table, params)
    assert table.entries == [[0, 640 << 10, 1], [MIB, 60 * MIB, 1]]
    assert any(
        "user: [mem 0x0000000000100000-0x0000000003cfffff] usable" in x for x in ctx.printk.lines
    )


def test_a_map_that_leaves_nothing_stops_the_boot() -> None:
    ctx = context()
    with pytest.raises(BringUpError, match="no usable e820 map"):
        e820.memory_setup([(0, MIB, 1)], ctx.printk)
    table = e820.memory_setup([(0, MIB, 1), (MIB, 30 * MIB, 1)], ctx.printk)
    with pytest.raises(BringUpError, match="Invalid user supplied memory map"):
        e820.apply_user_map(table, parse("memmap=exactmap")[0])


def test_kernel_image_is_ram_whatever_the_map_says() -> None:
    ctx = context()
    table = e820.E820Table([(0, MIB, 1), (MIB, 8 * MIB, 1)], ctx.printk)
    e820.add_kernel_range(table)
    assert table.mapped_all(KERNEL_BASE, KERNEL_BASE + KERNEL_IMAGE_SIZE, e820.E820_TYPE_RAM)
    assert any("not marked as E820_TYPE_RAM" in line for line in ctx.printk.lines)


def test_bios_areas_are_never_ram() -> None:
    table = e820.E820Table([(0, MIB, 1), (MIB, 8 * MIB, 1)], context().printk)
    e820.trim_bios_range(table)
    assert table.entries == [[0, 4096, 2], [4096, 0x9F000, 1], [MIB, 8 * MIB, 1]]


@pytest.mark.parametrize(
    ("kib", "segment", "start"),
    [(639, 0x9FC0, 0x9F000), (512, 0, 512 << 10), (512, 0x7000, 0x70000), (3, 0x10, 0x9F000)],
)
def test_bios_regions_start_at_the_ebda_if_it_is_sane(kib: int, segment: int, start: int) -> None:
    ctx = context()
    ctx.memory.write_u16(0x413, kib)
    ctx.memory.write_u16(0x40E, segment)
    e820.reserve_bios_regions(ctx.memory, ctx.mb)
    assert ctx.mb.reserved.regions() == [[start, MIB, 0, 64]]


def test_last_page_of_ram_is_below_the_limit_asked_for() -> None:
    table = e820.E820Table(
        [(0, MIB, 1), (1 << 32, MIB + 100, 1), (1 << 40, MIB, 2)], context().printk
    )
    assert table.end_pfn(e820.MAX_ARCH_PFN) == (1 << 20) + 256
    assert table.end_pfn(1 << 20) == 256
