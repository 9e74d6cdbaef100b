# SPDX-License-Identifier: GPL-2.0-only
"""The emulated RAM that a recording is replayed in.

The recorded map must stay as it was, so nothing of ours lies in the RAM that the recorded kernel
could hand out: the static kernel data sits inside the recorded kernel image (physical 16 MiB), and
everything else - memmap, pageblock bits, nodes, pagesets, a large trace ring - in one extra bank
above the map, the arena. `Guest` bundles that memory with the few words the replay itself needs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from machine.errors import ImageError
from machine.physmem import Bank, PhysicalMemory

from ..boot_context import Arena
from ..kernel_globals import G_TRACE_BASE, G_TRACE_HEAD, G_TRACE_MASK, G_TRACE_SIZE, KERNEL_BASE
from ..layout import (
    KERNEL_IMAGE_SIZE,
    MAX_PHYSMEM_BITS,
    NODE_DATA,
    NR_MEM_SECTIONS,
    PAGE_OFFSET,
    PFN_SECTION_SHIFT,
    RECORD_WORDS,
    SECTION_PAGES,
    SECTION_SHIFT,
)
from ..list_head import list_init
from ..mm_types import STRUCT_PAGE_WORDS
from ..mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MAX_ORDER,
    Z_PRESENT,
    Z_SPANNED,
    Z_START_PFN,
    ZONE_WORDS,
)

RING_RECORDS = 1 << 17
RING_BYTES = RING_RECORDS * RECORD_WORDS * 8
SCRATCH_BYTES = 2 << 20

Words = npt.NDArray[np.int64]


class Guest:
    """RAM with a page allocator's state in it, and the replay's own ring and list head.

    `m` is the word array of the hot functions, `q` NumPy's view of the same words, `scratch` the
    word index of a list head that belongs to no one, with memory of the replay's own behind it.
    """

    def __init__(self, memory: PhysicalMemory, ring: int) -> None:
        """`ring`: physical address of RING_BYTES + SCRATCH_BYTES that the replay may use."""
        self.memory = memory
        self.m = memory.words
        self.q: Words = memory.q
        self.ring = ring >> 3
        self.scratch = (ring + RING_BYTES) >> 3
        self.m[G_TRACE_BASE] = self.ring
        self.m[G_TRACE_SIZE] = RING_RECORDS
        self.m[G_TRACE_HEAD] = 0
        self.m[G_TRACE_MASK] = 0
        list_init(self.m, self.scratch)

    def node(self, nid: int) -> int:
        """Word index of node `nid`'s pglist_data, -1 if there is no such node."""
        if not 0 <= nid < MAX_NUMNODES or self.m[NODE_DATA + nid] == 0:
            return -1
        word: int = (self.m[NODE_DATA + nid] - PAGE_OFFSET) >> 3
        return word

    def zone(self, nid: int, zid: int) -> int:
        """Word index of zone `zid` of node `nid`. Raises ImageError if there is none."""
        node = self.node(nid)
        if node < 0 or not 0 <= zid < MAX_NR_ZONES:
            raise ImageError(f"the recording names zone {nid}:{zid}, which does not exist")
        return node + zid * ZONE_WORDS

    def zones(self) -> list[tuple[int, int, int]]:
        """(node, zone index, word index) of every zone that has pages."""
        return [
            (nid, zid, z)
            for nid in range(MAX_NUMNODES)
            if self.node(nid) >= 0
            for zid in range(MAX_NR_ZONES)
            if self.m[(z := self.zone(nid, zid)) + Z_PRESENT]
        ]

    def pfn_valid(self, pfn: int) -> bool:
        """True if the frame has a struct page."""
        section = pfn >> PFN_SECTION_SHIFT
        return 0 <= section < NR_MEM_SECTIONS and self.m[SECTION_PAGES + (section << 2)] != 0

    def page(self, pfn: int) -> int:
        """Word index of the struct page of `pfn`. Raises ImageError if it has none."""
        if not self.pfn_valid(pfn):
            raise ImageError(f"the recording names frame {pfn:#x}, which has no struct page")
        word: int = (
            self.m[SECTION_PAGES + (pfn >> PFN_SECTION_SHIFT << 2)] + pfn * STRUCT_PAGE_WORDS
        )
        return word

    def block(self, pfn: int, order: int) -> int:
        """Word index of a block's first struct page. Raises ImageError for an impossible block."""
        if not 0 <= order < MAX_ORDER:
            raise ImageError(f"the recording names a block of order {order}")
        self.page(pfn + (1 << order) - 1)
        return self.page(pfn)

    def section_bases(self) -> Words:
        """For every section, the word that plus 8 * pfn gives the struct page; 0 if absent."""
        return self.q[SECTION_PAGES : SECTION_PAGES + 4 * NR_MEM_SECTIONS : 4]

    def page_words(self, pfns: Words) -> Words:
        """Word indices of the struct pages of many frames, which all must be valid."""
        bases = self.section_bases()[pfns >> PFN_SECTION_SHIFT]
        return np.asarray(bases + pfns * STRUCT_PAGE_WORDS, dtype=np.int64)

    def column(self, start: int, length: int, word: int) -> Words:
        """Word `word` of `length` struct pages from frame `start` on, 0 where absent."""
        out = np.zeros(length, dtype=np.int64)
        bases = self.section_bases()
        pfn = start
        while pfn < start + length:
            stop = min(start + length, (pfn >> PFN_SECTION_SHIFT) + 1 << PFN_SECTION_SHIFT)
            base = int(bases[pfn >> PFN_SECTION_SHIFT])
            if base:
                first = base + pfn * STRUCT_PAGE_WORDS + word
                last = base + stop * STRUCT_PAGE_WORDS
                out[pfn - start : stop - start] = self.q[first:last:STRUCT_PAGE_WORDS]
            pfn = stop
        return out

    def span(self, z: int) -> tuple[int, int]:
        """First frame and number of frames of the zone at word `z`."""
        return self.m[z + Z_START_PFN], self.m[z + Z_SPANNED]


def replay_memory(max_pfn: int, arena_bytes: int) -> tuple[PhysicalMemory, Arena]:
    """RAM from 0 to `max_pfn` rounded up to a section, and the arena above it.

    The holes of the recorded map are RAM here too: no request ever reaches them, and a host page
    that is never written costs nothing. Raises ImageError for a map that cannot be right.
    """
    top = ((max_pfn + (1 << PFN_SECTION_SHIFT) - 1) >> PFN_SECTION_SHIFT) << SECTION_SHIFT
    arena_bytes = (arena_bytes + 0xFFFFF) & ~0xFFFFF
    if max_pfn <= (KERNEL_BASE + KERNEL_IMAGE_SIZE) >> 12 or top > 1 << MAX_PHYSMEM_BITS:
        raise ImageError(f"no kernel runs in memory that ends at frame {max_pfn}")
    memory = PhysicalMemory(
        [Bank(0, top, "recorded map"), Bank(top, top + arena_bytes, "replay arena")]
    )
    return memory, Arena(top, top + arena_bytes)
