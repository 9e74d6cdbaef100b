# SPDX-License-Identifier: GPL-2.0-only
"""Who has work when the kernel has been entered: kswapd, kcompactd, victims of the OOM killer.

The daemons have no CPU of their own: they get their turn before whoever entered the kernel goes on.
That nothing waits for them must be cheap to see, as it is asked after every fault: the words to
look at are found once, they never move.
"""

from __future__ import annotations

from .errors import KernelOops
from .kernel_globals import (
    G_CLOCK,
    G_MM_INIT_DONE,
    G_NR_CPU_IDS,
    G_NUM_POISONED_PAGES,
    G_PANIC,
    G_TASKS,
)
from .kswapd import run_daemons
from .kswapd_wake import KSWAPD_ASLEEP, KSWAPD_NAPS
from .layout import (
    CPU_BLOCKS,
    CPU_EVENTS,
    CPU_WORDS,
    NODE_DATA,
    PAGE_OFFSET,
    TASK_FATAL_SIGNAL,
    TASK_MM,
    word_of_va,
)
from .mm_struct import TASK_TASKS
from .mmzone import MAX_NUMNODES, ND_KCOMPACTD_WOKEN, ND_KSWAPD_NAP_END, ND_KSWAPD_STATE
from .slowpath_sleep import PANIC_TEXT
from .vm_events import VM_EVENT_NAMES

OOM_KILL = CPU_EVENTS + VM_EVENT_NAMES.index("oom_kill")


class Daemons:
    """The daemons of the kernel whose words are `m`."""

    def __init__(self, m: memoryview) -> None:
        self.m = m
        self._nodes = [word_of_va(va) for va in m[NODE_DATA : NODE_DATA + MAX_NUMNODES] if va]
        self._kills = self._causes()
        self.turns = 0
        """How many turns they have had."""

    @property
    def pending(self) -> bool:
        """True if kswapd or kcompactd of some node has been woken, or kswapd's nap is over."""
        m = self.m
        for nd in self._nodes:
            state = m[nd + ND_KSWAPD_STATE]
            if state == KSWAPD_NAPS and m[G_CLOCK] < m[nd + ND_KSWAPD_NAP_END]:
                state = KSWAPD_ASLEEP
            if state or m[nd + ND_KCOMPACTD_WOKEN]:
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

    def _causes(self) -> int:
        m = self.m
        oom = sum(m[CPU_BLOCKS + cpu * CPU_WORDS + OOM_KILL] for cpu in range(m[G_NR_CPU_IDS]))
        return oom + m[G_NUM_POISONED_PAGES]

    def victims(self) -> list[int]:
        """Processes with a fatal signal that still live, when the OOM killer has killed or a frame
        gone bad since the last time."""
        kills = self._causes()
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
