# SPDX-License-Identifier: GPL-2.0-only
"""Transparent huge pages: when, from where, and how they come apart."""

from __future__ import annotations

import pytest

from allocator import huge_memory as thp
from allocator.gfp import (
    GFP_DIRECT_RECLAIM_BIT,
    GFP_KSWAPD_RECLAIM_BIT,
    GFP_NORETRY_BIT,
    GFP_TRANSHUGE,
    GFP_TRANSHUGE_LIGHT,
)
from allocator.huge_pmd_split import split_huge_pmd
from allocator.kernel import Kernel
from allocator.kernel_globals import G_HUGE_ZERO_PAGE, G_HUGE_ZERO_REFS, G_THP_FLAGS
from allocator.mm_struct import VM_HUGEPAGE, VM_NOHUGEPAGE, VMA_FLAGS
from allocator.pgtable import mm_find_pmd, pmd_trans_huge
from allocator.process import Process
from allocator.vma import find_vma

from .processes import MIB, PAGE, boot, events, settle, sound

HUGE = 2 * MIB


def huge(enabled: str = "always") -> tuple[Kernel, Process, int]:
    """A process with 4 MiB of which the first aligned 2 MiB begin at the address."""
    kernel = boot("1x128M")
    proc = kernel.create_process("huge")
    kernel.transparent_hugepage(enabled)
    start = proc.mmap(4 * MIB)
    return kernel, proc, -(-start // HUGE) * HUGE


def is_huge(proc: Process, address: int) -> bool:
    pmd = mm_find_pmd(proc.m, proc.mm, address)
    return bool(pmd) and pmd_trans_huge(proc.m[pmd])


@pytest.mark.parametrize(
    ("settings", "flags", "enabled"),
    [
        (0, VM_HUGEPAGE, False),
        (thp.THP_ALWAYS, 0, True),
        (thp.THP_ALWAYS, VM_NOHUGEPAGE, False),
        (thp.THP_MADVISE, 0, False),
        (thp.THP_MADVISE, VM_HUGEPAGE, True),
        (thp.THP_MADVISE, VM_NOHUGEPAGE, False),
    ],
)
def test_who_may_have_huge_pages(settings: int, flags: int, enabled: bool) -> None:
    kernel = boot()
    kernel.m[G_THP_FLAGS] = settings
    vma = 1 << 20
    kernel.m[vma + VMA_FLAGS] = flags
    assert thp.transparent_hugepage_enabled(kernel.m, vma) == enabled


@pytest.mark.parametrize(
    ("settings", "madvised", "gfp"),
    [
        (thp.THP_DEFRAG_DIRECT, False, GFP_TRANSHUGE | GFP_NORETRY_BIT),
        (thp.THP_DEFRAG_DIRECT, True, GFP_TRANSHUGE),
        (thp.THP_DEFRAG_KSWAPD, True, GFP_TRANSHUGE_LIGHT | GFP_KSWAPD_RECLAIM_BIT),
        (thp.THP_DEFRAG_KSWAPD_OR_MADV, False, GFP_TRANSHUGE_LIGHT | GFP_KSWAPD_RECLAIM_BIT),
        (thp.THP_DEFRAG_KSWAPD_OR_MADV, True, GFP_TRANSHUGE_LIGHT | GFP_DIRECT_RECLAIM_BIT),
        (thp.THP_DEFRAG_MADV, False, GFP_TRANSHUGE_LIGHT),
        (thp.THP_DEFRAG_MADV, True, GFP_TRANSHUGE_LIGHT | GFP_DIRECT_RECLAIM_BIT),
        (0, True, GFP_TRANSHUGE_LIGHT),
    ],
)
def test_how_hard_a_fault_tries(settings: int, madvised: bool, gfp: int) -> None:
    kernel = boot()
    kernel.m[G_THP_FLAGS] = settings
    vma = 1 << 20
    kernel.m[vma + VMA_FLAGS] = VM_HUGEPAGE if madvised else 0
    assert thp.alloc_hugepage_direct_gfpmask(kernel.m, vma) == gfp


def test_the_first_write_maps_two_mebibytes_at_once() -> None:
    kernel, proc, start = huge()
    proc.write(start + 5 * PAGE, b"in the middle")
    assert is_huge(proc, start)
    assert proc.counters["anon"] == 512
    assert events(kernel, "thp_fault_alloc") == 1
    page = proc.page(start + 5 * PAGE)
    assert page is not None
    assert page.pfn % 512 == 5
    assert proc.read(start + 300 * PAGE, 8) == bytes(8)
    sound(kernel)


def test_an_area_too_small_or_forbidden_gets_small_pages() -> None:
    kernel, proc, start = huge()
    proc.madvise(start, HUGE, "nohugepage")
    proc.write(start, b"x")
    small = proc.mmap(2 * HUGE - PAGE, address=(1 << 40) + PAGE, fixed=True)
    proc.write(small, b"x")
    assert not is_huge(proc, start)
    assert proc.counters["anon"] == 2
    sound(kernel)


def test_reading_maps_the_huge_zero_page_and_writing_replaces_it() -> None:
    kernel, proc, start = huge()
    assert proc.read(start, 4) == bytes(4)
    assert is_huge(proc, start)
    assert proc.counters["anon"] == 0
    assert kernel.m[G_HUGE_ZERO_PAGE]
    references = kernel.m[G_HUGE_ZERO_REFS]
    proc.write(start, b"data")
    assert proc.counters["anon"] == 512
    assert kernel.m[G_HUGE_ZERO_REFS] == references - 1
    sound(kernel)


def test_a_forked_huge_page_is_copied_whole_by_the_first_and_kept_by_the_last() -> None:
    kernel, proc, start = huge()
    proc.write(start, b"parent")
    child = proc.fork()
    assert child.page(start) == proc.page(start)
    child.write(start + PAGE, b"child")
    assert is_huge(child, start)
    assert child.read(start, 6) == b"parent"
    frame = proc.page(start)
    proc.write(start + PAGE, b"other")
    assert proc.page(start) == frame
    sound(kernel)


def test_without_a_block_a_copy_is_made_of_small_pages() -> None:
    kernel, proc, start = huge()
    proc.write(start, b"parent")
    proc.write(start + 511 * PAGE, b"last")
    child = proc.fork()
    kernel.transparent_hugepage("never")
    child.write(start + PAGE, b"child")
    assert not is_huge(child, start)
    assert child.counters["anon"] == 512
    assert child.read(start + 511 * PAGE, 4) == b"last"
    assert proc.read(start + PAGE, 5) == bytes(5)
    assert is_huge(proc, start)
    sound(kernel)


def test_taking_a_piece_away_splits_the_entry_and_the_rest_stays() -> None:
    kernel, proc, start = huge()
    proc.write(start, b"a" * HUGE)
    proc.munmap(start + 10 * PAGE, PAGE)
    assert not is_huge(proc, start)
    assert proc.counters["anon"] == 511
    assert events(kernel, "thp_split_pmd") == 1
    assert proc.read(start + 11 * PAGE, 1) == b"a"
    sound(kernel)


def test_changing_the_protection_of_all_or_a_part() -> None:
    kernel, proc, start = huge()
    proc.write(start, b"keep")
    proc.mprotect(start, HUGE, "r")
    assert is_huge(proc, start)
    proc.mprotect(start, HUGE, "rw")
    proc.write(start, b"kept")
    proc.mprotect(start + PAGE, PAGE, "r")
    assert not is_huge(proc, start)
    assert proc.read(start, 4) == b"kept"
    sound(kernel)


def test_locked_huge_pages_are_unlocked_whole_and_in_pieces() -> None:
    kernel, proc, start = huge()
    proc.mlock(start, HUGE)
    assert is_huge(proc, start)
    sound(kernel)
    proc.munlock(start, HUGE // 2)
    sound(kernel)
    proc.munlock(start, HUGE)
    assert proc.counters["locked"] == 0
    sound(kernel)


def test_every_frame_comes_back() -> None:
    kernel = boot("1x128M")
    kernel.transparent_hugepage("always", use_zero_page=False)
    for _ in range(2):
        free = settle(kernel)
        proc = kernel.create_process("huge")
        start = -(-proc.mmap(8 * MIB) // HUGE) * HUGE
        proc.touch(start, 3 * HUGE)
        child = proc.fork()
        child.munmap(start + 5 * PAGE, HUGE)
        proc.munmap(start + 9 * PAGE, PAGE)
        child.touch(start, 4 * PAGE)
        child.exit()
        proc.exit()
    assert settle(kernel) == free


def test_reclaim_splits_huge_pages_and_keeps_every_byte() -> None:
    kernel = boot("1x40M")
    kernel.swapon(20000)
    kernel.transparent_hugepage("always")
    proc = kernel.create_process("huge")
    start = -(-proc.mmap(12 * MIB) // HUGE) * HUGE
    for n in range(4):
        proc.write(start + n * HUGE, bytes([n + 1]) * HUGE)
    proc.munmap(start + 6 * PAGE, HUGE - 6 * PAGE)
    proc.munmap(start + HUGE + 9 * PAGE, HUGE - 9 * PAGE)
    kernel.transparent_hugepage("never")
    hog = kernel.create_process("hog")
    large = hog.mmap(9000 * PAGE)
    for n in range(0, 9000, 500):
        hog.touch(large + n * PAGE, 500 * PAGE)
        sound(kernel)
    assert events(kernel, "thp_split_page") > 0
    assert proc.counters["swap"] > 0
    assert proc.read(start, 6 * PAGE) == b"\1" * 6 * PAGE
    assert proc.read(start + HUGE, 9 * PAGE) == b"\2" * 9 * PAGE
    assert proc.read(start + 2 * HUGE, 2 * HUGE) == b"\3" * HUGE + b"\4" * HUGE
    sound(kernel)


@pytest.mark.parametrize(
    ("setting", "allocates"), [("always", "alloc_huge"), ("never", "alloc_pages_vma")]
)
def test_an_entry_that_is_split_while_its_page_is_copied_is_left_to_the_next_try(
    monkeypatch: pytest.MonkeyPatch, setting: str, allocates: str
) -> None:
    kernel, proc, start = huge()
    proc.write(start, b"parent")
    child = proc.fork()
    kernel.transparent_hugepage(setting)
    split_first(monkeypatch, allocates, child, start)
    child.write(start + 2, b"i")
    assert not is_huge(child, start)
    assert is_huge(proc, start)
    assert (proc.read(start, 6), child.read(start, 6)) == (b"parent", b"paient")
    sound(kernel)


def test_an_entry_that_is_split_while_it_is_inherited_is_inherited_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel, proc, start = huge()
    proc.write(start, b"parent")
    split_first(monkeypatch, "pte_alloc_one", proc, start)
    child = proc.fork()
    assert not is_huge(child, start)
    assert child.read(start, 6) == b"parent"
    assert child.counters["anon"] == 512
    sound(kernel)


def split_first(monkeypatch: pytest.MonkeyPatch, name: str, proc: Process, start: int) -> None:
    """Before huge_memory calls its allocator `name`, an entry of `proc` is split as by reclaim."""
    allocate = getattr(thp, name)

    def reclaim(*args: int) -> int:
        if is_huge(proc, start):
            pmd = mm_find_pmd(proc.m, proc.mm, start)
            split_huge_pmd(proc.m, 0, find_vma(proc.m, proc.mm, start), pmd, start)
        return int(allocate(*args))

    monkeypatch.setattr(thp, name, reclaim)
