# SPDX-License-Identifier: GPL-2.0-only
"""The hypercalls that take frames away: memory offline, online again, and gone bad.

What an administrator does with /sys/devices/system/memory/*/state and hard_offline_page. They are
served on behalf of the current process, as those of `process_calls`; numbers begin at 86.
"""

from __future__ import annotations

from collections.abc import Callable

from .call_numbers import HOTPLUG_CALLS
from .memory_failure import MF_ACTION_REQUIRED, MF_MUST_KILL, memory_failure
from .memory_hotplug import EINVAL, offline_pages, online_pages

MAX_PAGES = 1 << 30
Answer = tuple[int, int]


class HotplugCalls:
    """Answers the calls of `HOTPLUG_CALLS` on the word array `m`; `table` has them by number."""

    def __init__(self, m: memoryview) -> None:
        self.m = m
        calls: dict[str, Callable[[int, int, int], Answer]] = {
            "OFFLINE": self._offline,
            "ONLINE": self._online,
            "MEMORY_FAILURE": self._memory_failure,
        }
        self.table = {HOTPLUG_CALLS[name]: call for name, call in calls.items()}

    def _range(self, a: int) -> tuple[int, int]:
        """(first PFN, pages) of a call, (0, 0) if no machine has such a range."""
        start, pages = self.m[a], self.m[a + 1]
        good = 0 <= start < MAX_PAGES and 0 < pages <= MAX_PAGES
        return (start, pages) if good else (0, 0)

    def _offline(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        return 0, -offline_pages(self.m, cpu, *self._range(a))

    def _online(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        return 0, -online_pages(self.m, cpu, *self._range(a))

    def _memory_failure(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        pfn, flags = self.m[a], self.m[a + 1]
        if flags & ~(MF_ACTION_REQUIRED | MF_MUST_KILL):
            return 0, EINVAL
        return 0, -memory_failure(self.m, cpu, pfn, flags)
