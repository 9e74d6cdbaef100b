# SPDX-License-Identifier: GPL-2.0-only
"""Memory that goes away under the processes: blocks taken offline, and frames that are bad.

What is in a block that goes offline moves elsewhere, byte by byte. A bad frame is never seen again;
who has lost bytes with it dies of SIGBUS, at once or when it touches them.
"""

from __future__ import annotations

from typing import ClassVar

from allocator.errors import BadRequest
from allocator.memory_failure import SIGBUS
from allocator.mm_types import PAGE_MAPPING_ANON, PG_HWPOISON
from tests.allocator.owners_model import PAGE
from tests.allocator.torture_pressure import PressureOperations

BLOCK = 1024
"""Frames that go offline together: as many as the largest free block has."""
MAX_OFFLINE = 3
MAX_BAD = 12


class HotplugOperations(PressureOperations):
    """Offline, online and hardware errors."""

    WEIGHTS: ClassVar[dict[str, int]] = {"offline": 2, "online": 2, "poison": 1}

    def set_up(self) -> None:
        super().set_up()
        self.offline: list[int] = []
        self.bad: list[int] = []

    def expected_signals(self) -> tuple[int, ...]:
        return (*super().expected_signals(), SIGBUS) if self.bad else super().expected_signals()

    def end(self) -> None:
        """All blocks come back, for good."""
        while self.offline:
            self.kernel.online_pages(self.offline.pop(), BLOCK)
        super().end()

    def settle(self) -> list[int]:
        """Bad frames count as if they were free: they are where they should be."""
        free = super().settle()
        for pfn in self.bad:
            page = self.kernel.page(pfn)
            for i, zone in enumerate(self.kernel.zones):
                free[i] += (zone.nid, zone.name) == (page.nid, page.zone)
        return free

    def op_offline(self) -> None:
        """A block of memory goes offline, unless something in it cannot be moved."""
        if len(self.offline) < MAX_OFFLINE:
            zone = self.random.choice([z for z in self.kernel.zones if z.name != "DMA"])
            first = -(-zone.start_pfn // BLOCK) * BLOCK
            end = zone.start_pfn + zone.spanned_pages
            start = self.random.randrange(first, end - BLOCK + 1, BLOCK)
            try:
                self.kernel.offline_pages(start, BLOCK)
            except BadRequest:
                # pages that cannot be moved, reserved frames, or a block that is offline already
                self.count("stayed online")
            else:
                self.count("went offline")
                self.offline.append(start)

    def op_online(self) -> None:
        """A block comes back."""
        if self.offline:
            start = self.random.choice(self.offline)
            self.offline.remove(start)
            self.kernel.online_pages(start, BLOCK)

    def op_poison(self) -> None:
        """A frame of a process turns out to be bad; whoever maps it dies, as its bytes are lost."""
        if len(self.bad) >= MAX_BAD:
            return
        shadow = self.someone()
        for number in self.some_pages(shadow, 1):
            page = shadow.process.page(number * PAGE)
            if page is None or page.mapping & PAGE_MAPPING_ANON == 0:
                continue
            try:
                self.kernel.memory_failure(page.pfn, kill=True)
            except BadRequest:
                self.count("poisoned in use")
            if self.kernel.page(page.pfn).flags & PG_HWPOISON:
                self.bad.append(page.pfn)
