# SPDX-License-Identifier: GPL-2.0-only
"""Guard pages, owners and poison end to end: from the boot parameter to the finding."""

from __future__ import annotations

import pytest

from allocator.check import check_frames
from allocator.check.context import Check
from allocator.debug_guardpage import page_ext_word, page_is_guard
from allocator.kernel import Kernel
from allocator.kernel_globals import G_STATIC_KEYS, KEY_PAGE_POISONING
from allocator.layout import PAGE_OFFSET
from allocator.mmzone import NR_FREE_PAGES
from allocator.page_owner import page_owner_of
from allocator.vmstat import zone_page_state_snapshot

from .scribbler import Scribbler, scribbler

GUARDS = "debug_pagealloc=on debug_guardpage_minorder=3"


@pytest.fixture
def poisoned() -> Scribbler:
    return scribbler("2x64M", "page_poison=1")


def free_frame(guest: Scribbler) -> int:
    """Frame of a small free block, which the next request of order 0 will get."""
    page = guest.kernel.alloc_pages("GFP_KERNEL", nid=0)
    assert page is not None
    guest.kernel.free_pages(page)
    return page.pfn


def test_memory_freed_at_boot_is_poisoned(poisoned: Scribbler) -> None:
    check = Check(poisoned.machine.memory)
    assert check.keys & KEY_PAGE_POISONING
    for index in (int(i) for i in check.free_blocks.heads[:50]):
        pfn = check.frames.pfn(index)
        assert poisoned.machine.memory.read(pfn << 12, 4096) == b"\xaa" * 4096
    assert check_frames(poisoned.machine.memory).sound


def test_a_write_to_a_free_page_is_found_to_the_byte(poisoned: Scribbler) -> None:
    pfn = free_frame(poisoned)
    poisoned.write((PAGE_OFFSET + (pfn << 12) + 0x120, -0x5555555555555556 ^ 0xFF00))
    (finding,) = check_frames(poisoned.machine.memory).findings
    assert (finding.rule, finding.frame, finding.address) == ("poison", pfn, (pfn << 12) + 0x121)
    assert "byte 0x121 is 0x55, not 0xaa" in finding.message


def test_the_allocator_reports_the_same_write_when_it_hands_the_page_out(
    poisoned: Scribbler,
) -> None:
    pfn = free_frame(poisoned)
    poisoned.write((PAGE_OFFSET + (pfn << 12), 0))
    page = poisoned.kernel.alloc_pages("GFP_KERNEL", nid=0)
    assert page is not None
    assert page.pfn == pfn
    assert any("pagealloc: memory corruption" in line for line in poisoned.kernel.log)
    assert check_frames(poisoned.machine.memory).sound


def test_without_the_parameter_contents_are_nobodys_business() -> None:
    guest = scribbler("2x64M")
    guest.write((PAGE_OFFSET + (free_frame(guest) << 12), 12345))
    assert guest.m[G_STATIC_KEYS] & KEY_PAGE_POISONING == 0
    assert check_frames(guest.machine.memory).sound


def test_guards_are_held_back_uncounted_and_come_back() -> None:
    guest = scribbler("1x64M", GUARDS)
    kernel, m = guest.kernel, guest.m
    zone = kernel.zone(0, "DMA32")
    free = zone_page_state_snapshot(m, zone.word, NR_FREE_PAGES)
    page = kernel.alloc_pages("GFP_KERNEL")
    assert page is not None
    guards = Check(guest.machine.memory).guards
    assert sorted(guards.order.tolist())[-3:] == [0, 1, 2]
    for order in range(3):
        buddy = (page.pfn ^ 1 << order) & -(1 << order)
        assert page_is_guard(m, buddy, kernel.page(buddy).word, order)
    assert check_frames(guest.machine.memory).sound
    # what the per-cpu list took came in blocks of eight: the page asked for and its guards
    missing = free - zone_page_state_snapshot(m, zone.word, NR_FREE_PAGES)
    assert missing >= 8
    assert missing % 8 == 0
    kernel.free_pages(page)
    kernel.drain_all_pages()
    kernel.fold_vm_stats()
    assert not page_is_guard(m, page.pfn ^ 1, kernel.page(page.pfn ^ 1).word, 0)
    assert check_frames(guest.machine.memory).sound


def test_guards_need_debug_pagealloc_and_a_minorder() -> None:
    for append in ("debug_guardpage_minorder=3", "debug_pagealloc=on"):
        guest = scribbler("1x64M", append)
        assert page_ext_word(guest.m, 0x2000) == -1
        assert guest.kernel.alloc_pages("GFP_KERNEL") is not None
        assert not Check(guest.machine.memory).guards.heads.size


def test_an_owner_is_there_while_the_page_is() -> None:
    guest = scribbler("1x64M", "page_owner=on")
    kernel: Kernel = guest.kernel
    page = kernel.alloc_pages("GFP_ATOMIC", order=2)
    assert page is not None
    assert page_owner_of(guest.m, page.pfn)[:2] == (2, 0x480020)
    kernel.free_pages(page, order=2)
    assert page_owner_of(guest.m, page.pfn)[0] == -1


def test_with_owners_the_order_of_a_plain_block_is_known() -> None:
    guest = scribbler("1x64M", "page_owner=on")
    kernel = guest.kernel
    block = kernel.alloc_pages("GFP_KERNEL", order=1)
    assert block is not None
    first, second = kernel.split_page(block, 1)
    guest.m[second.word + 6] = 0xFFFFFFFF  # looks like the second half of an order-1 block
    assert second.pfn in check_frames(guest.machine.memory).frame_numbers
    assert first.pfn not in check_frames(guest.machine.memory).frame_numbers
