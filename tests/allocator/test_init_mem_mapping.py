# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from allocator.init_main import Booted, start_kernel
from allocator.layout import PAGE_OFFSET, page_va, unsigned
from machine import translate
from tests.allocator.bringup_support import MIB, booted_machine


@pytest.fixture(scope="module")
def kernel() -> Booted:
    return start_kernel(booted_machine("node,cpus=0,mem=3G", "node,cpus=1,mem=3G"))


def phys(k: Booted, va: int) -> int | None:
    found = translate(k.memory, k.pgd, unsigned(va))
    return None if found is None else found.phys


def test_all_memory_is_in_the_direct_map_and_low_memory_at_identity(kernel: Booted) -> None:
    for start, end, _, _ in _memory(kernel):
        for addr in (start, (start + end) // 2, end - 1):
            assert phys(kernel, PAGE_OFFSET + addr) == addr
            assert phys(kernel, addr) == addr


def test_identity_mapped_code_can_run_and_be_written(kernel: Booted) -> None:
    found = translate(kernel.memory, kernel.pgd, 0x100000)
    assert found is not None
    assert found.executable
    assert found.writable
    assert not found.user


def test_every_struct_page_is_in_the_vmemmap(kernel: Booted) -> None:
    m = kernel.m
    from tests.allocator.bringup_support import page_word

    for start, end, _, _ in _memory(kernel):
        for pfn in (start >> 12, (end - 1) >> 12):
            assert phys(kernel, page_va(pfn)) == page_word(m, pfn) << 3


def test_holes_are_not_mapped(kernel: Booted) -> None:
    assert phys(kernel, PAGE_OFFSET + 0xF000_0000) is None
    assert phys(kernel, page_va(0xF0000)) is None
    assert phys(kernel, PAGE_OFFSET + (64 << 30)) is None


def test_firmware_tables_are_mapped(kernel: Booted) -> None:
    tables = next(a for a, s, t in kernel.e820 if t == 2 and a > MIB)
    assert phys(kernel, tables) == tables
    assert phys(kernel, 0xF5A00) == 0xF5A00


def test_large_pages_are_used_and_can_be_forbidden() -> None:
    for append, size in (("", 1 << 30), ("nogbpages", 2 << 20)):
        k = start_kernel(booted_machine("1x3G", append=append))
        found = translate(k.memory, k.pgd, unsigned(PAGE_OFFSET + (1 << 30)))
        assert found is not None
        assert found.page_size == size


def _memory(k: Booted) -> list[list[int]]:
    from allocator.memblock import Memblock

    return Memblock(k.m).memory.regions()
