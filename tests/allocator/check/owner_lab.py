# SPDX-License-Identifier: GPL-2.0-only
"""A machine with a bit of everything that pages of processes can be, for tests of the rules."""

from __future__ import annotations

from allocator.huge_memory import THP_ALWAYS
from allocator.kernel_globals import G_THP_FLAGS
from allocator.munmap import do_munmap
from tests.allocator.process_support import PAGE, Lab, fresh_lab

HUGE = 512 * PAGE


class OwnerLab:
    """Two processes, parent and child: shared and own pages, a huge page cut by an unmapping, pages
    swapped out, pages in the swap cache, pages waiting in pagevecs."""

    def __init__(self) -> None:
        lab: Lab = fresh_lab("2x256M")
        self.lab, self.m = lab, lab.m
        lab.swap(2048)
        self.m[G_THP_FLAGS] |= THP_ALWAYS
        self.parent = lab.process()
        self.at = lab.map(self.parent, 40)
        at = lab.map(self.parent, 1536)
        self.huge = (at + HUGE - 1) // HUGE * HUGE
        for i in range(40):
            lab.poke(self.parent, self.at + i * PAGE, i)
        lab.poke(self.parent, self.huge, 1)
        self.child = lab.fork(self.parent)
        for i in range(10):
            lab.poke(self.child, self.at + i * PAGE, 100 + i)
        with lab.acting(self.child):
            assert do_munmap(self.m, 0, lab.mm(self.child), self.huge + 8 * PAGE, 5 * PAGE) == 0
        for i in (20, 21, 22, 30):
            assert lab.page_out(lab.page(self.parent, self.at + i * PAGE))
        lab.peek(self.parent, self.at + 21 * PAGE)
        lab.poke(self.child, self.at + 22 * PAGE, 7)

    def page(self, i: int) -> int:
        """Struct page of page `i` of the parent."""
        return self.lab.page(self.parent, self.at + i * PAGE)

    def broken(self) -> set[str]:
        """Ids of the rules that do not hold."""
        return {finding.rule for finding in self.lab.check().findings}
