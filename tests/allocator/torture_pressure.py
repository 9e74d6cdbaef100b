# SPDX-License-Identifier: GPL-2.0-only
"""Processes that want more memory than there is: swap, control groups, compaction, the OOM killer.

A process may be killed for its memory in any operation, its own or somebody else's. That is an
expected outcome: it must die of SIGKILL as soon as it runs, and is dropped from the model; what the
others see must not change. A process that is refused memory (ENOMEM) gives up and exits.
"""

from __future__ import annotations

import errno
from typing import ClassVar

import pytest

from allocator.errors import BadRequest, ProcessKilled, SystemCallError
from allocator.gfp import GFP_KERNEL
from allocator.kcompactd import compact_one_node
from allocator.kernel_globals import G_THP_FLAGS
from allocator.kernel_policy import MemCgroup
from allocator.layout import (
    MEM_CGROUPS,
    NODE_DATA,
    TASK_FATAL_SIGNAL,
    TASK_MEMCG,
    va_of_word,
    word_of_va,
)
from allocator.memcg import reclaim_from_memcg
from tests.allocator.owners_model import PAGE, WORDS, MappedPage, Shadow, World

SIGKILL = 9
MAX_GROUPS = 4
MAX_AREAS = 2
LARGE = 1000
"""Pages of one large area at most."""


class PressureOperations(World):
    """Operations that use memory up, and those that an administrator helps with."""

    WEIGHTS: ClassVar[dict[str, int]] = {
        "fill": 10,
        "large": 12,
        "group": 2,
        "join": 2,
        "limit": 3,
        "compact": 1,
        "score": 2,
        "kill": 1,
        "policy": 2,
        "swap_on": 2,
        "swap_off": 1,
    }
    MAX_PROCESSES = 10

    def set_up(self) -> None:
        super().set_up()
        self.groups: list[MemCgroup] = []
        self.areas: list[int] = []
        self.acting: Shadow | None = None
        self.kernel.swapoff(self.kernel.swapon(64))
        self.all_pages = sum(zone.managed_pages for zone in self.kernel.zones)
        self.MAX_PAGES = 2 * self.all_pages

    def someone(self) -> Shadow:
        self.acting = super().someone()
        return self.acting

    def count(self, what: str) -> None:
        """One more outcome of that kind."""
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- running ----------------------------------------------------------------------------------

    def step(self) -> None:
        """One operation, whoever dies of it."""
        thp = self.kernel.m[G_THP_FLAGS]
        try:
            super().step()
        except ProcessKilled as death:
            self.mourn(death)
        except SystemCallError as refusal:
            self.give_up(refusal)
        self.kernel.m[G_THP_FLAGS] = thp
        self.bury_victims()

    def mourn(self, death: ProcessKilled) -> None:
        """The process that acted has died in the operation."""
        self.done += 1
        assert self.acting is not None
        assert not self.acting.process.alive, str(death)
        assert death.signal in self.expected_signals(), str(death)
        self.count("killed acting")
        self.bury(self.acting)

    def expected_signals(self) -> tuple[int, ...]:
        """What a process may die of without having done wrong."""
        return (SIGKILL,)

    def give_up(self, refusal: SystemCallError) -> None:
        """The process that acted has been refused memory. It may not know what was done and what
        not, so it ends."""
        self.done += 1
        assert refusal.errno == errno.ENOMEM, str(refusal)
        assert self.acting is not None
        self.count("gave up")
        if not self.is_victim(self.acting):
            self.leave(self.acting)

    def is_victim(self, shadow: Shadow) -> bool:
        """True if the process has been killed and does not know it yet."""
        return self.kernel.m[shadow.process.task + TASK_FATAL_SIGNAL] != 0

    def bury_victims(self) -> None:
        """Whoever has been killed dies as soon as it runs."""
        for shadow in list(self.shadows):
            if shadow in self.shadows and self.is_victim(shadow):
                self.see_off(shadow)

    def see_off(self, shadow: Shadow) -> None:
        """A process that has been killed runs once more."""
        with pytest.raises(ProcessKilled) as death:
            shadow.process.touch(PAGE)
        assert death.value.signal in self.expected_signals()
        self.count("killed")
        self.bury(shadow)

    def bury(self, shadow: Shadow) -> None:
        """As ever, but the parent may have been killed as well."""
        parent = shadow.parent
        if parent is None or not self.is_victim(parent):
            super().bury(shadow)
            return
        shadow.parent = None
        super().bury(shadow)
        self.see_off(parent)

    def end(self) -> None:
        """Swap space goes when the processes have gone, groups when nothing is charged to them."""
        while self.shadows:
            self.leave(self.shadows[-1])
        while self.areas:
            self.kernel.swapoff(self.areas.pop())
        super().end()

    def settle(self) -> list[int]:
        """No group stays; its lists lie in slabs."""
        super().settle()
        while self.groups:
            self.groups.pop().remove()
        return super().settle()

    # --- using memory up --------------------------------------------------------------------------

    def op_large(self) -> None:
        """A large area."""
        shadow = self.someone()
        pages = self.random.randrange(LARGE)
        if sum(len(s.pages) for s in self.shadows) + pages > self.MAX_PAGES or pages == 0:
            return
        start = shadow.process.mmap(pages * PAGE)
        for page in range(start // PAGE, start // PAGE + pages):
            shadow.pages[page] = MappedPage("rw")

    def op_fill(self) -> None:
        """A word into each page from some page on."""
        shadow = self.someone()
        if not shadow.pages:
            return
        word = self.random.randrange(WORDS)
        first = self.random.choice(list(shadow.pages))
        for page in range(first, first + LARGE):
            mapped = shadow.pages.get(page)
            if mapped is None:
                break
            if "w" in mapped.prot:
                value = self.random.getrandbits(63)
                shadow.process.write(page * PAGE + 8 * word, value.to_bytes(8, "little"))
                mapped.words[word] = value

    # --- administration ---------------------------------------------------------------------------

    def op_group(self) -> None:
        """A new control group, perhaps below another."""
        if len(self.groups) < MAX_GROUPS:
            parent = self.random.choice([None, *self.groups])
            self.groups.append(self.kernel.create_memcg(parent))

    def op_join(self) -> None:
        """A process joins a group; what it is charged for already stays where it was."""
        shadow = self.someone()
        group = self.random.choice([None, *self.groups])
        word = group.word if group else MEM_CGROUPS
        self.kernel.m[shadow.process.task + TASK_MEMCG] = va_of_word(word)

    def op_limit(self) -> None:
        """A group gets another limit; what is charged beyond it is reclaimed if that can be."""
        if not self.groups:
            return
        group = self.random.choice(self.groups)
        cpu = self.random.randrange(self.kernel.nr_cpus)
        pages = self.random.choice([1 << 30, self.random.randrange(100, self.all_pages // 4)])
        while True:
            try:
                group.limit(pages)
                break
            except BadRequest:
                if not reclaim_from_memcg(self.kernel.m, cpu, group.word, 1, GFP_KERNEL, 1):
                    self.count("limit refused")
                    break

    def op_compact(self) -> None:
        """A node is compacted."""
        node = self.random.choice(self.kernel.nodes)
        cpu = self.random.randrange(self.kernel.nr_cpus)
        compact_one_node(self.kernel.m, cpu, word_of_va(self.kernel.m[NODE_DATA + node.nid]))

    def op_score(self) -> None:
        """A process is liked more or less by the OOM killer."""
        self.someone().process.oom_score_adj = self.random.randrange(-300, 301)

    def op_kill(self) -> None:
        """A process is killed: it dies as soon as it runs."""
        if len(self.shadows) > 1:
            self.someone().process.kill()

    def op_policy(self) -> None:
        """A process wants its pages from some nodes."""
        shadow = self.someone()
        nodes = [node.nid for node in self.kernel.nodes]
        mode = self.random.choice(["default", "default", "preferred", "bind", "interleave"])
        chosen = self.random.sample(nodes, self.random.randrange(1, len(nodes) + 1))
        if mode == "preferred":
            chosen = chosen[:1]
        shadow.process.set_mempolicy(mode, [] if mode == "default" else chosen)

    def op_swap_on(self) -> None:
        """More swap space."""
        if len(self.areas) < MAX_AREAS:
            pages = self.random.choice([300, 1000, self.all_pages // 2])
            try:
                self.areas.append(self.kernel.swapon(pages, self.random.choice([-1, -1, 5])))
            except BadRequest as refusal:
                # no memory for the map of its slots
                if "ENOMEM" not in str(refusal):
                    raise
                self.count("swapon refused")

    def op_swap_off(self) -> None:
        """Less swap space, if there is room for what is in it."""
        if self.areas and self.random.random() < 0.3:
            area = self.random.choice(self.areas)
            try:
                self.kernel.swapoff(area)
            except BadRequest:
                self.count("swapoff refused")
            else:
                self.areas.remove(area)
