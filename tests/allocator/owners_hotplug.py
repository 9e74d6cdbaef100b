# SPDX-License-Identifier: GPL-2.0-only
"""Random lives of processes on a machine whose memory comes and goes.

Pages are swapped out one by one, swap areas are given up and taken into use again, blocks of memory
go offline under the processes and come back. Now and then the frame of a page goes bad: the page is
unmapped afterwards, and its frame never comes back.
"""

from __future__ import annotations

from typing import ClassVar

from allocator.errors import BadRequest
from allocator.layout import SECTION_PAGES
from allocator.mm_types import PG_HEAD, PG_LRU, PG_SWAPBACKED
from tests.allocator.owners_model import PAGE, World
from tests.allocator.process_support import page_out

BLOCK = 1024


class Hotplug(World):
    """A world in which frames are not for ever."""

    WEIGHTS: ClassVar[dict[str, int]] = {"swap_out": 12, "swapoff": 1, "offline": 3, "bad": 1}
    SWAP_PAGES = 4096

    def set_up(self) -> None:
        """Swap first: what it needs is part of what is there for good."""
        self.area = self.kernel.swapon(self.SWAP_PAGES)
        self.offline: list[int] = []
        super().set_up()

    def op_swap_out(self) -> None:
        """Some pages of a process go to swap."""
        shadow, m = self.someone(), self.kernel.m
        self.kernel.lru_add_drain_all()
        for page in self.some_pages(shadow):
            frame = shadow.process.page(page * PAGE)
            if frame is None:
                continue
            p = m[SECTION_PAGES + (frame.pfn >> 15 << 2)] + (frame.pfn << 3)
            if m[p] & (PG_HEAD | PG_LRU | PG_SWAPBACKED) == PG_LRU | PG_SWAPBACKED:
                page_out(m, p)

    def op_swapoff(self) -> None:
        """Everything comes back from swap; then it is used again."""
        self.kernel.swapoff(self.area)
        assert self.kernel.swapon(self.SWAP_PAGES) == self.area

    def op_offline(self) -> None:
        """A block of memory goes away if it can, or one comes back."""
        if self.offline and self.random.random() < 0.6:
            self.kernel.online_pages(self.offline.pop(), BLOCK)
            return
        frames = self.machine.memory.banks[-1].end >> 12
        block = self.random.randrange(frames // BLOCK) * BLOCK
        try:
            self.kernel.offline_pages(block, BLOCK)
        except BadRequest:
            return
        self.offline.append(block)

    def op_bad(self) -> None:
        """The frame of a page that only one process has goes bad."""
        shadow = self.someone()
        self.kernel.lru_add_drain_all()
        for page in self.some_pages(shadow, 1):
            frame = shadow.process.page(page * PAGE)
            if frame is None or frame.mapcount != 0 or frame.refcount != 1:
                continue
            zone = next(
                i for i, z in enumerate(self.kernel.zones) if z.start_pfn <= frame.pfn < z.end_pfn
            )
            self.kernel.memory_failure(frame.pfn)
            shadow.process.munmap(page * PAGE, PAGE)
            del shadow.pages[page]
            self.baseline[zone] -= 1

    def end(self) -> None:
        """All memory is online before the frames are counted."""
        while self.offline:
            self.kernel.online_pages(self.offline.pop(), BLOCK)
        super().end()
