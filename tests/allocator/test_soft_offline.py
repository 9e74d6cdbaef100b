# SPDX-License-Identifier: GPL-2.0-only
"""Soft offline: the frame goes, what was in it stays."""

from __future__ import annotations

import pytest

from allocator.check import check_frames
from allocator.errors import BadRequest
from allocator.kernel import Kernel
from allocator.kernel_globals import G_NUM_POISONED_PAGES
from allocator.mm_types import PG_HWPOISON
from allocator.views import Page
from tests.allocator.processes import MIB, PAGE, boot

WORDS = b"not one byte of this is lost"


def poisoned(page: Page) -> bool:
    return page.flags & PG_HWPOISON != 0


def soft(kernel: Kernel, page: Page) -> None:
    """Takes the frame out of use, and looks that everything else is as it should be."""
    count = kernel.m[G_NUM_POISONED_PAGES]
    kernel.soft_offline_page(page.pfn)
    assert poisoned(page)
    assert kernel.m[G_NUM_POISONED_PAGES] == count + 1
    report = check_frames(kernel.memory)
    assert report.sound, str(report)


def never_given_out(kernel: Kernel, pfn: int) -> None:
    """All memory is taken without this frame."""
    seen = set()
    while page := kernel.alloc_pages("GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN|__GFP_MEMALLOC", 0):
        seen.add(page.pfn)
    assert len(seen) > 1000
    assert pfn not in seen


def test_an_anonymous_page_moves_and_its_frame_is_never_used_again() -> None:
    kernel = boot("1x64M")
    proc = kernel.create_process("test")
    at = proc.mmap(16 * PAGE, "rw")
    for i in range(16):
        proc.write(at + i * PAGE, WORDS + bytes([i]))
    kernel.lru_add_drain_all()
    old = proc.page(at + 5 * PAGE)
    assert old is not None
    soft(kernel, old)
    new = proc.page(at + 5 * PAGE)
    assert new is not None
    assert new.pfn != old.pfn
    for i in range(16):
        assert proc.read(at + i * PAGE, len(WORDS) + 1) == WORDS + bytes([i])
    # its neighbours are freed and merge around it
    proc.exit()
    kernel.drain_all_pages()
    report = check_frames(kernel.memory)
    assert report.sound, str(report)
    never_given_out(kernel, old.pfn)


def test_a_page_that_two_processes_share_moves_under_both() -> None:
    kernel = boot("1x64M")
    proc = kernel.create_process("test")
    at = proc.mmap(PAGE, "rw")
    proc.write(at, WORDS)
    child = proc.fork()
    kernel.lru_add_drain_all()
    old = proc.page(at)
    assert old is not None
    soft(kernel, old)
    assert proc.page(at) is None or proc.page(at) != old
    for who in (proc, child):
        assert who.read(at, len(WORDS)) == WORDS
    assert proc.alive
    assert child.alive


def test_a_clean_page_of_a_file_is_dropped_and_read_again() -> None:
    kernel = boot("1x64M")
    file = kernel.create_file("file", data=WORDS)
    kernel.sync()
    kernel.lru_add_drain_all()
    old = file.pages[0]
    soft(kernel, old)
    assert file.pages == {}
    assert file.read(offset=0) == WORDS
    assert file.pages[0].pfn != old.pfn
    assert any(f"soft_offline: {old.pfn:#x}: invalidated" in line for line in kernel.log)


def test_a_dirty_page_of_a_file_moves_and_is_written_later() -> None:
    kernel = boot("1x64M")
    file = kernel.create_file("file", data=WORDS)
    kernel.lru_add_drain_all()
    old = file.pages[0]
    soft(kernel, old)
    assert file.pages[0].pfn != old.pfn
    file.fsync()
    kernel.drop_caches()
    assert file.read(offset=0) == WORDS


def test_a_mapped_page_of_a_file_moves_under_its_mapping() -> None:
    kernel = boot("1x64M")
    file = kernel.create_file("file", data=WORDS)
    proc = kernel.create_process("test")
    at = proc.mmap(PAGE, "rw", file=file, shared=True)
    proc.write(at, b"NOT")
    kernel.lru_add_drain_all()
    old = proc.page(at)
    assert old is not None
    soft(kernel, old)
    assert proc.read(at, len(WORDS)) == b"NOT" + WORDS[3:]
    assert file.read(offset=0) == b"NOT" + WORDS[3:]


def test_a_free_frame_is_only_marked() -> None:
    kernel = boot("1x64M")
    kernel.mm_init()
    page = kernel.alloc_pages("GFP_KERNEL", 3)
    assert page is not None
    kernel.free_pages(page, 3)
    soft(kernel, kernel.page(page.pfn + 3))
    assert any(f"__get_any_page: {page.pfn + 3:#x} free buddy page" in s for s in kernel.log)
    never_given_out(kernel, page.pfn + 3)


@pytest.mark.parametrize("part", [0, 5, 511])
def test_a_huge_page_is_split_and_only_the_frame_goes(part: int) -> None:
    kernel = boot("1x64M")
    kernel.transparent_hugepage("always")
    proc = kernel.create_process("test")
    at = proc.mmap(4 * MIB, "rw")
    huge = (at + 2 * MIB - 1) & -(2 * MIB)
    for i in range(512):
        proc.write(huge + i * PAGE, i.to_bytes(8, "little"))
    kernel.lru_add_drain_all()
    old = proc.page(huge + part * PAGE)
    first = proc.page(huge)
    assert old is not None
    assert first is not None
    assert old.pfn == first.pfn + part
    soft(kernel, old)
    for i in range(512):
        assert proc.read(huge + i * PAGE, 8) == i.to_bytes(8, "little")
        page = proc.page(huge + i * PAGE)
        assert page is not None
        assert (page.pfn == first.pfn + i) is (i != part)


def test_what_cannot_be_taken_out_of_use_is_refused_and_stays_as_it_is() -> None:
    kernel = boot("1x64M")
    kernel.mm_init()
    kept = kernel.alloc_pages("GFP_KERNEL", 0)
    assert kept is not None
    for pfn, errno in ((1 << 40, "ENXIO"), (kept.pfn, "EIO"), (0x1000, "EIO")):
        with pytest.raises(BadRequest, match=errno):
            kernel.soft_offline_page(pfn)
    assert not poisoned(kept)
    assert kernel.m[G_NUM_POISONED_PAGES] == 0
    free = kernel.alloc_pages("GFP_KERNEL", 3)
    assert free is not None
    kernel.free_pages(free, 3)
    kernel.soft_offline_page(free.pfn)
    with pytest.raises(BadRequest, match="EBUSY"):
        kernel.soft_offline_page(free.pfn)


def test_a_page_that_is_held_stays_where_it_is() -> None:
    kernel = boot("1x64M")
    proc = kernel.create_process("test")
    at = proc.mmap(PAGE, "rw")
    proc.write(at, WORDS)
    kernel.lru_add_drain_all()
    page = proc.page(at)
    assert page is not None
    kernel.get_page(page)
    with pytest.raises(BadRequest, match="EIO"):
        kernel.soft_offline_page(page.pfn)
    kernel.put_page(page)
    assert proc.read(at, len(WORDS)) == WORDS
    assert not poisoned(page)
    assert any("migration failed" in line and "(uptodate" in line for line in kernel.log)
    report = check_frames(kernel.memory)
    assert report.sound, str(report)
