# SPDX-License-Identifier: GPL-2.0-only
"""The hypercalls that put memory under pressure, or help it: swap, compaction, control groups.

What an administrator does with swapon(8), /sys/devices/system/node/nodeN/compact and the files of a
memory control group. They are served on behalf of the current process, as those of `process_calls`;
numbers begin at 80. Sizes are pages, groups are known by number, the root being 0.
"""

from __future__ import annotations

from collections.abc import Callable

from machine import UsageError

from .call_numbers import PRESSURE_CALLS
from .fork import find_task
from .gfp import GFP_KERNEL
from .guest_calls import EINVAL
from .kcompactd import compact_one_node
from .layout import (
    MAX_MEM_CGROUPS,
    MEM_CGROUP_WORDS,
    MEM_CGROUPS,
    NODE_DATA,
    TASK_MEMCG,
    va_of_word,
    word_of_va,
)
from .memcg import (
    MC_ID,
    MC_MEMORY,
    PC_USAGE,
    memcg_create,
    memcg_set_max,
    reclaim_from_memcg,
)
from .memcg_tree import memcg_online, memcg_remove
from .mmzone import MAX_NUMNODES
from .swap_disk import add_swap

ESRCH, EBUSY, ENOMEM, ENOSPC = 3, 16, 12, 28
MIN_SWAP_PAGES = 2
Answer = tuple[int, int]


class PressureCalls:
    """Answers the calls of `PRESSURE_CALLS` on the word array `m`; `table` has them by number."""

    def __init__(self, m: memoryview) -> None:
        self.m = m
        calls: dict[str, Callable[[int, int, int], Answer]] = {
            "SWAPON": self._swapon,
            "COMPACT_NODE": self._compact_node,
            "MEMCG_CREATE": self._memcg_create,
            "MEMCG_SET_MAX": self._memcg_set_max,
            "MEMCG_ATTACH": self._memcg_attach,
            "MEMCG_USAGE": self._memcg_usage,
        }
        self.table = {PRESSURE_CALLS[name]: call for name, call in calls.items()}

    def _group(self, number: int) -> int:
        """Word index of a control group, 0 if there is none of that number."""
        if not 0 <= number < MAX_MEM_CGROUPS:
            return 0
        word = MEM_CGROUPS + number * MEM_CGROUP_WORDS
        return word if number == 0 or self.m[word + MC_ID] else 0

    def _swapon(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        pages, priority = self.m[a], self.m[a + 1]
        if not MIN_SWAP_PAGES <= pages < 1 << 32 or not -1 <= priority <= 32767:
            return 0, EINVAL
        kind = add_swap(self.m, cpu, pages, priority, b"swap")
        return (kind, 0) if kind >= 0 else (0, -kind)

    def _compact_node(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        nid = self.m[a]
        if not 0 <= nid < MAX_NUMNODES or self.m[NODE_DATA + nid] == 0:
            return 0, EINVAL
        compact_one_node(self.m, cpu, word_of_va(self.m[NODE_DATA + nid]))
        return 0, 0

    def _memcg_create(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        parent = self._group(self.m[a])
        if parent == 0:
            return 0, EINVAL
        try:
            word = memcg_create(self.m, parent)
        except UsageError:
            return 0, ENOSPC
        if memcg_online(self.m, cpu, word):
            memcg_remove(self.m, cpu, word)
            return 0, ENOMEM
        return (word - MEM_CGROUPS) // MEM_CGROUP_WORDS, 0

    def _memcg_set_max(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        word, pages = self._group(self.m[a]), self.m[a + 1]
        if word == 0 or self.m[a] == 0 or pages < 0:
            return 0, EINVAL
        # what is charged beyond the new limit is reclaimed, as long as there is progress
        while not memcg_set_max(self.m, word, MC_MEMORY, pages):
            if not reclaim_from_memcg(self.m, cpu, word, 1, GFP_KERNEL, 1):
                return 0, EBUSY
        return 0, 0

    def _memcg_attach(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        pid, word = self.m[a], self._group(self.m[a + 1])
        target = find_task(self.m, pid) if pid else task
        if target <= 0:
            return 0, ESRCH
        if word == 0:
            return 0, EINVAL
        self.m[target + TASK_MEMCG] = va_of_word(word)
        return 0, 0

    def _memcg_usage(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        word = self._group(self.m[a])
        return (self.m[word + MC_MEMORY + PC_USAGE], 0) if word else (0, EINVAL)
