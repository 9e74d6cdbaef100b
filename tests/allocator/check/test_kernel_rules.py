# SPDX-License-Identifier: GPL-2.0-only
"""Static data: globals, and the frames that the kernel's own structures occupy."""

from __future__ import annotations

from allocator.check import check_frames
from allocator.check.context import Check
from allocator.check.kernel_rules import own_ranges
from allocator.kernel_globals import G_MAGIC, G_TRACE_SIZE, KERNEL_BASE
from allocator.mm_types import COUNTS_BUDDY, COUNTS_FREE, P_COUNTS, P_FLAGS, P_NEXT, P_PRIVATE
from tests.allocator.machines import boot


def test_the_kernels_own_structures_are_all_known() -> None:
    check = Check(boot("2x64M").memory)
    names = [what for _, _, what in own_ranges(check)]
    assert names[0] == "the kernel's static data"
    assert {"pglist_data of node 1", "pagesets of 0:DMA32", "struct pages of section 0"} <= {*names}


def test_a_frame_of_the_kernel_on_a_free_list_is_found() -> None:
    kernel = boot("1x64M")
    zone = kernel.zone(0, "DMA32")
    victim = kernel.page(KERNEL_BASE >> 12)
    area = kernel.page(zone.free_list(10, 1)[0])
    nxt = kernel.m[area.word + P_NEXT]
    va = victim.address - (1 << 64) + 8
    for offset, value in (
        (P_FLAGS, kernel.m[victim.word] & ~(1 << 12)),
        (P_COUNTS, COUNTS_BUDDY),
        (P_PRIVATE, 10),
        (P_NEXT, nxt),
        (P_NEXT + 1, area.address - (1 << 64) + 8),
    ):
        kernel.m[victim.word + offset] = value
    kernel.m[area.word + P_NEXT] = va
    for page in (kernel.page(victim.pfn + i) for i in range(1, 1024)):
        kernel.m[page.word + P_COUNTS] = COUNTS_FREE
        kernel.m[page.word] &= ~(1 << 12)
    findings = check_frames(kernel.memory, strict=True).findings
    assert ("own-frames", victim.pfn) in {(f.rule, f.frame) for f in findings}


def test_magic_and_ring_are_named_by_their_words() -> None:
    kernel = boot("1x64M")
    for word, rule in ((G_MAGIC, "magic"), (G_TRACE_SIZE, "trace-ring")):
        before, kernel.m[word] = kernel.m[word], 77
        assert (rule, word << 3) in {
            (f.rule, f.address) for f in check_frames(kernel.memory, strict=True).findings
        }
        kernel.m[word] = before
    assert check_frames(kernel.memory, strict=True).sound
