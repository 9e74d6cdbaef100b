# SPDX-License-Identifier: GPL-2.0-only
"""What mm/memory-failure.c prints, to the letter.

A record of the log ring holds a message's number, the frame and up to two numbers; `failure_line`
makes the kernel's line of it.
"""

from __future__ import annotations

from .layout import unsigned
from .trace import log_record, log_task
from .trace_events import LOG_MEMORY_FAILURE

# enum mf_result
MF_IGNORED = 0
MF_FAILED = 1
MF_DELAYED = 2
MF_RECOVERED = 3
ACTION_NAMES = ("Ignored", "Failed", "Delayed", "Recovered")

# enum mf_action_page_type, those that occur here
MSG_KERNEL = 0
MSG_KERNEL_HIGH_ORDER = 1
MSG_SLAB = 2
MSG_DIFFERENT_COMPOUND = 3
MSG_HUGE = 5
MSG_UNMAP_FAILED = 8
MSG_DIRTY_SWAPCACHE = 9
MSG_CLEAN_SWAPCACHE = 10
MSG_DIRTY_MLOCKED_LRU = 11
MSG_CLEAN_MLOCKED_LRU = 12
MSG_DIRTY_UNEVICTABLE_LRU = 13
MSG_CLEAN_UNEVICTABLE_LRU = 14
MSG_DIRTY_LRU = 15
MSG_CLEAN_LRU = 16
MSG_TRUNCATED_LRU = 17
MSG_BUDDY = 18
MSG_BUDDY_2ND = 19
MSG_UNKNOWN = 21
PAGE_TYPES = {
    MSG_KERNEL: "reserved kernel page",
    MSG_KERNEL_HIGH_ORDER: "high-order kernel page",
    MSG_SLAB: "kernel slab page",
    MSG_DIFFERENT_COMPOUND: "different compound page after locking",
    MSG_HUGE: "huge page",
    MSG_UNMAP_FAILED: "unmapping failed page",
    MSG_DIRTY_SWAPCACHE: "dirty swapcache page",
    MSG_CLEAN_SWAPCACHE: "clean swapcache page",
    MSG_DIRTY_MLOCKED_LRU: "dirty mlocked LRU page",
    MSG_CLEAN_MLOCKED_LRU: "clean mlocked LRU page",
    MSG_DIRTY_UNEVICTABLE_LRU: "dirty unevictable LRU page",
    MSG_CLEAN_UNEVICTABLE_LRU: "clean unevictable LRU page",
    MSG_DIRTY_LRU: "dirty LRU page",
    MSG_CLEAN_LRU: "clean LRU page",
    MSG_TRUNCATED_LRU: "already truncated LRU page",
    MSG_BUDDY: "free buddy page",
    MSG_BUDDY_2ND: "free buddy page (2nd try)",
    MSG_UNKNOWN: "unknown page",
}

# messages
SAY_ACTION = 0
SAY_REFERENCED = 1
SAY_OUTSIDE = 2
SAY_ALREADY = 3
SAY_KILLING = 4
SAY_FORCIBLY = 5
SAY_CLEAN = 6
SAY_SWAPCACHE = 7
SAY_NOT_UNMAPPED = 8
SAY_NOT_ANON_THP = 9
SAY_NOT_SPLIT = 10
SAY_UNKNOWN = 11
SAY_SOFT_ALREADY = 12
SAY_SOFT_FREE = 13
SAY_SOFT_NO_REFERENCE = 14
SAY_SOFT_NOT_LRU = 15
SAY_SOFT_NOT_ANON_THP = 16
SAY_SOFT_NOT_SPLIT = 17
SAY_SOFT_INVALIDATED = 18
SAY_SOFT_MIGRATION = 19
SAY_SOFT_ISOLATION = 20


def say(
    m: memoryview, cpu: int, message: int, pfn: int, a: int = 0, b: int = 0, c: int = 0
) -> None:
    """Leaves a message about frame `pfn` in the log; `b` is page flags for those of soft offline,
    `c` references."""
    log_record(m, LOG_MEMORY_FAILURE, cpu, message, pfn, a, b, c, 0)


def say_about_task(m: memoryview, cpu: int, message: int, pfn: int, task: int) -> None:
    """Leaves a message about a frame and the task at word `task`."""
    log_task(m, LOG_MEMORY_FAILURE, cpu, task, message, pfn, 0, 0, 0)


def page_type(number: int) -> str:
    """A page type in words, whatever the number."""
    return PAGE_TYPES.get(number, f"type {number}")


def failure_line(args: tuple[int, ...], pid: int, comm: str, names: str) -> str:
    """The line of a record with numbers `args`, about process `pid` called `comm`; `names`: of the
    page flags in the fourth number, as %pGp prints them."""
    message, frame, a, b = args[0], f"{unsigned(args[1]):#x}", args[2], args[3]
    hard, soft = f"Memory failure: {frame}: ", f"soft offline: {frame}"
    flags = f"type {unsigned(b):x}"
    lines = {
        SAY_REFERENCED: f"{hard}{page_type(a)} still referenced by {b} users",
        SAY_OUTSIDE: f"{hard}memory outside kernel control",
        SAY_ALREADY: f"{hard}already hardware poisoned",
        SAY_KILLING: f"{hard}Killing {comm}:{pid} due to hardware memory corruption",
        SAY_FORCIBLY: (
            f"{hard}forcibly killing {comm}:{pid} because of failure to unmap corrupted page"
        ),
        SAY_CLEAN: f"{hard}corrupted page was clean: dropped without side effects",
        SAY_SWAPCACHE: f"{hard}keeping poisoned page in swap cache",
        SAY_NOT_UNMAPPED: f"{hard}failed to unmap page (mapcount={a})",
        SAY_NOT_ANON_THP: f"{hard}non anonymous thp",
        SAY_NOT_SPLIT: f"{hard}thp split failed",
        SAY_UNKNOWN: f"{hard}Unknown page state",
        SAY_SOFT_ALREADY: f"{soft} page already poisoned",
        SAY_SOFT_FREE: f"__get_any_page: {frame} free buddy page",
        SAY_SOFT_NO_REFERENCE: f"__get_any_page: {frame}: unknown zero refcount page {flags}",
        SAY_SOFT_NOT_LRU: f"soft_offline: {frame}: unknown non LRU page {flags} ({names})",
        SAY_SOFT_NOT_ANON_THP: f"{soft}: non anonymous thp",
        SAY_SOFT_NOT_SPLIT: f"{soft}: thp split failed",
        SAY_SOFT_INVALIDATED: f"soft_offline: {frame}: invalidated",
        SAY_SOFT_MIGRATION: f"{soft}: migration failed {a}, {flags} ({names})",
        SAY_SOFT_ISOLATION: (
            f"{soft}: isolation failed: {a}, page count {args[4]}, {flags} ({names})"
        ),
    }
    if message == SAY_ACTION:
        done = ACTION_NAMES[b] if 0 <= b < len(ACTION_NAMES) else f"{b}"
        return f"{hard}recovery action for {page_type(a)}: {done}"
    return lines.get(message, f"{hard}message {message}")
