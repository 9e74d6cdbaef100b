# SPDX-License-Identifier: GPL-2.0-only
"""Who has work when the kernel has been entered: kswapd, kcompactd, victims of the OOM killer.

The daemons have no CPU of their own: they get their turn before whoever entered the kernel goes on.
That nothing waits for them must be cheap to see, as it is asked after every fault: the words to
look at are found once, they never move.
"""

from __future__ import annotations

from .errors import KernelOops
from .kswapd import run_daemons
from .layout import (
    CPU_BLOCKS,
    CPU_EVENTS,
    CPU_WORDS,
    G_MM_INIT_DONE,
    G_NR_CPU_IDS,
    G_PANIC,
    G_TASKS,
    MAX_NUMNODES,
    NODE_DATA,
    PAGE_OFFSET,
    TASK_FATAL_SIGNAL,
    TASK_MM,
    word_of_va,
)
from .mm_struct import TASK_TASKS
from .mmzone import MAX_NR_ZONES, ND_KCOMPACTD_ORDER, ND_KSWAPD_CLASSZONE
from .slowpath_sleep import PANIC_TEXT
from .vm_events import VM_EVENT_NAMES

OOM_KILL = CPU_EVENTS + VM_EVENT_NAMES.index("oom_kill")


class Daemons:
    """The daemons of the kernel whose words are `m`."""

    def __init__(self, m: memoryview) -> None:
        self.m = m
        self._nodes = [word_of_va(va) for va in m[NODE_DATA : NODE_DATA + MAX_NUMNODES] if va]
        self._kills = self._oom_kills()
        self.turns = 0
        """How many turns they have had."""

    @property
    def pending(self) -> bool:
        """True if kswapd or kcompactd of some node has been woken."""
        m = self.m
        for nd in self._nodes:
            if m[nd + ND_KSWAPD_CLASSZONE] < MAX_NR_ZONES or m[nd + ND_KCOMPACTD_ORDER] > 0:
                return bool(m[G_MM_INIT_DONE])
        return False

    def turn(self, cpu: int) -> None:
        """Gives those that have been woken their turn, on `cpu`."""
        if self.pending:
            self.turns += 1
            run_daemons(self.m, cpu)

    @property
    def panic(self) -> str:
        """Why the kernel has given up, "" if it has not."""
        number = self.m[G_PANIC]
        return PANIC_TEXT.get(number, f"panic {number}") if number else ""

    def check_panic(self) -> None:
        """Raises KernelOops if the kernel has given up."""
        if self.m[G_PANIC]:
            raise KernelOops(self.panic)

    def _oom_kills(self) -> int:
        blocks = range(self.m[G_NR_CPU_IDS])
        return sum(self.m[CPU_BLOCKS + cpu * CPU_WORDS + OOM_KILL] for cpu in blocks)

    def victims(self) -> list[int]:
        """Processes that the OOM killer has chosen since the last time and that still live."""
        kills = self._oom_kills()
        if kills == self._kills:
            return []
        self._kills = kills
        m, found = self.m, []
        va = m[G_TASKS]
        while va != PAGE_OFFSET + (G_TASKS << 3):
            task = word_of_va(va) - TASK_TASKS
            if m[task + TASK_FATAL_SIGNAL] and m[task + TASK_MM]:
                found.append(task)
            va = m[task + TASK_TASKS]
        return found
