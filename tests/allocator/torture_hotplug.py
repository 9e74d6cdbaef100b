# SPDX-License-Identifier: GPL-2.0-only
"""Memory that goes away under the processes: blocks taken offline, and frames that are bad.

What is in a block that goes offline moves elsewhere, byte by byte. A bad frame is never seen again;
who has lost bytes with it dies of SIGBUS, at once or when it touches them. A file's page is read
again from the disk, and nothing is lost if it was clean.
"""

from __future__ import annotations

import errno
import struct
from typing import ClassVar

from allocator.errors import BadRequest, SystemCallError
from allocator.memory_failure import SIGBUS
from allocator.mm_types import PAGE_MAPPING_ANON, PG_HWPOISON
from tests.allocator.owners_files import FileModel, FileOperations
from tests.allocator.owners_model import PAGE
from tests.allocator.torture_pressure import PressureOperations

BLOCK = 1024
"""Frames that go offline together: as many as the largest free block has."""
MAX_OFFLINE = 3
MAX_BAD = 150


class HotplugOperations(PressureOperations, FileOperations):
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
        """A frame of a process or file turns out to be bad."""
        if len(self.bad) < MAX_BAD:
            self.random.choice([self.poison_process, self.poison_file])()

    def poison_process(self) -> None:
        """Whoever maps the frame dies, as its bytes are lost."""
        shadow = self.someone()
        for number in self.some_pages(shadow, 1):
            page = shadow.process.page(number * PAGE)
            if page is not None and page.mapping & PAGE_MAPPING_ANON:
                self.poison(page.pfn)

    def poison_file(self) -> None:
        """What has been written back is read again; of a dirty page the bytes on the disk are left,
        and who maps it dies."""
        if not self.files:
            return
        model = self.random.choice(self.files)
        clean = self.random.random() < 0.5
        if clean:
            model.file.fsync()
        pages = model.file.pages
        if not pages:
            return
        index = self.random.choice(list(pages))
        # taken out of the file even if somebody else holds a reference, as a pagevec may
        self.poison(pages[index].pfn)
        self.count("poisoned file page")
        self.lose_errors(model)
        words = model.words(index)
        raw = model.file.read(PAGE, index * PAGE).ljust(PAGE, b"\0")
        found = {i: word for i, word in enumerate(struct.unpack("<512Q", raw)) if word}
        if clean:
            assert found == {i: word for i, word in words.items() if word}, f"page {index}"
        words.clear()
        words.update(found)

    def lose_errors(self, model: FileModel) -> None:
        """The next fsync tells that bytes were lost; the one after that does not."""
        try:
            model.file.fsync()
        except SystemCallError as refusal:
            if refusal.errno != errno.EIO:
                raise
            model.file.fsync()

    def poison(self, pfn: int) -> None:
        """A bad frame."""
        try:
            self.kernel.memory_failure(pfn, kill=True)
        except BadRequest:
            self.count("poisoned in use")
        if self.kernel.page(pfn).flags & PG_HWPOISON:
            self.bad.append(pfn)
