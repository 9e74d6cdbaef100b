# SPDX-License-Identifier: GPL-2.0-only
"""The trace ring and the log ring: what the allocator did, in fixed-size records in guest RAM.

The hot path never formats anything. Where the kernel has a tracepoint, or where a person may later
ask why, it appends one record of sixteen words to a ring: time, event, CPU and up to thirteen
numbers. `m[G_TRACE_MASK]` has a bit for every event; a clear bit costs one test, as a static key
does. Warnings and bad-page reports go to a ring of their own, the log ring, which is always on.

Readers (`tracepoints` for text, `explain`, the recorded-kernel comparison) decode records after the
fact with `EVENTS`, the one table that names every event's fields.

    word 0 time in ns    word 1 event    word 2 cpu    words 3-13 arguments

Words 14 and 15 of one of the kernel's own tracepoints are preempt_count and pid.
"""

from __future__ import annotations

from .kernel_globals import G_CLOCK, G_LOG_HEAD, G_TRACE_BASE, G_TRACE_HEAD, G_TRACE_SIZE
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_PREEMPT_COUNT,
    CPU_WORDS,
    LOG_RECORDS,
    LOG_RING,
    PAGE_OFFSET,
    RECORD_WORDS,
    TASK_COMM,
    TASK_MEMS_ALLOWED,
    TASK_PID,
)
from .spinlock import add_to_word

# Tracepoints of the kmem group (include/trace/events/kmem.h)
from .trace_events import (
    EV_COMPACTION_BEGIN,
    EV_MM_PAGE_ALLOC_EXTFRAG,
    LOG_COMM,
    LOG_MEMS,
    LOG_PID,
    LOG_RAW_PAGE,
)


def trace(
    m: memoryview,
    ev: int,
    cpu: int,
    a0: int,
    a1: int,
    a2: int,
    a3: int,
    a4: int,
    a5: int,
    a6: int,
) -> None:
    """Appends one record of at most seven arguments to the trace ring. Hot."""
    head = m[G_TRACE_HEAD]
    r = m[G_TRACE_BASE] + (head & (m[G_TRACE_SIZE] - 1)) * RECORD_WORDS
    m[r] = m[G_CLOCK]
    m[r + 1] = ev
    m[r + 2] = cpu
    m[r + 3] = a0
    m[r + 4] = a1
    m[r + 5] = a2
    m[r + 6] = a3
    m[r + 7] = a4
    m[r + 8] = a5
    m[r + 9] = a6
    if ev <= EV_MM_PAGE_ALLOC_EXTFRAG or ev >= EV_COMPACTION_BEGIN:
        # what the kernel keeps in struct trace_entry
        block = CPU_BLOCKS + cpu * CPU_WORDS
        m[r + 14] = m[block + CPU_PREEMPT_COUNT]
        va = m[block + CPU_CURRENT]
        m[r + 15] = m[((va - PAGE_OFFSET) >> 3) + TASK_PID] if va else 0
    m[G_TRACE_HEAD] = head + 1


def trace_more(m: memoryview, a7: int, a8: int, a9: int, a10: int) -> None:
    """Adds arguments eight to eleven to the record that `trace` appended last. Hot."""
    r = m[G_TRACE_BASE] + ((m[G_TRACE_HEAD] - 1) & (m[G_TRACE_SIZE] - 1)) * RECORD_WORDS
    m[r + 10] = a7
    m[r + 11] = a8
    m[r + 12] = a9
    m[r + 13] = a10


def log_record(
    m: memoryview, kind: int, cpu: int, a0: int, a1: int, a2: int, a3: int, a4: int, a5: int
) -> None:
    """Appends one record to the log ring, which holds the last LOG_RECORDS reports. Hot.

    Behind the arguments it notes who is current: pid, nodes allowed, name.
    """
    head = add_to_word(m, G_LOG_HEAD, 1)
    r = LOG_RING + (head & (LOG_RECORDS - 1)) * RECORD_WORDS
    m[r] = m[G_CLOCK]
    m[r + 1] = kind
    m[r + 2] = cpu
    m[r + 3] = a0
    m[r + 4] = a1
    m[r + 5] = a2
    m[r + 6] = a3
    m[r + 7] = a4
    m[r + 8] = a5
    va = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT]
    if va:
        task = (va - PAGE_OFFSET) >> 3
        m[r + LOG_PID] = m[task + TASK_PID]
        m[r + LOG_MEMS] = m[task + TASK_MEMS_ALLOWED]
        m[r + LOG_COMM] = m[task + TASK_COMM]
        m[r + LOG_COMM + 1] = m[task + TASK_COMM + 1]


def log_task(
    m: memoryview, kind: int, cpu: int, task: int, a0: int, a1: int, a2: int, a3: int, a4: int
) -> None:
    """Appends a log record about the task at word `task`, whose pid and name it notes. Hot."""
    log_record(m, kind, cpu, a0, a1, a2, a3, a4, 0)
    r = LOG_RING + ((m[G_LOG_HEAD] - 1) & (LOG_RECORDS - 1)) * RECORD_WORDS
    m[r + LOG_PID] = m[task + TASK_PID]
    m[r + LOG_COMM] = m[task + TASK_COMM]
    m[r + LOG_COMM + 1] = m[task + TASK_COMM + 1]


def log_words(m: memoryview, kind: int, cpu: int, a0: int, src: int, count: int) -> None:
    """Appends a log record of one number and at most 12 words copied from word `src`. Hot."""
    head = add_to_word(m, G_LOG_HEAD, 1)
    r = LOG_RING + (head & (LOG_RECORDS - 1)) * RECORD_WORDS
    m[r] = m[G_CLOCK]
    m[r + 1] = kind
    m[r + 2] = cpu
    m[r + 3] = a0
    for i in range(count):
        m[r + 4 + i] = m[src + i]


def log_raw_page(m: memoryview, cpu: int, pfn: int, p: int) -> None:
    """Logs the eight words of the struct page at word `p`. Hot.

    Follows the record of a report about `pfn`, so that the dump shows the page as it was then.
    """
    log_words(m, LOG_RAW_PAGE, cpu, pfn, p, 8)
