# SPDX-License-Identifier: GPL-2.0-only
"""What processes have mapped, read from their page tables (for `owner` and `numastat -p`).

Everything is read as it lies in RAM and nothing is believed further than a table reaches: entries
that lead out of RAM are passed over, so damaged tables cost a line and not the reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..kernel_globals import G_MM_INIT_DONE, G_TASKS
from ..layout import PAGE_OFFSET, TASK_COMM, TASK_MM, TASK_PID, unsigned, va_of_word, word_of_va
from ..mm_struct import MM_PGD, TASK_STACK, TASK_TASKS
from ..pgtable import PTE_P, PTE_PSE, pte_pfn

LEVELS = ("PTE", "PMD", "PUD", "PGD")
MAX_TASKS = 1 << 16
SPAN = (12, 21, 30, 39)


@dataclass(frozen=True)
class Mapped:
    """A frame at a user address; `pages` 512 for a huge page."""

    pfn: int
    address: int
    pages: int
    writable: bool


def tasks(m: memoryview) -> Iterator[int]:
    """Word indices of all processes, oldest first."""
    if not m[G_MM_INIT_DONE]:
        return
    va = m[G_TASKS]
    for _ in range(MAX_TASKS):
        w = word_of_va(va)
        if va == va_of_word(G_TASKS) or not 0 <= w < len(m):
            return
        yield w - TASK_TASKS
        va = m[w]


def task_name(m: memoryview, task: int) -> str:
    """A task's name."""
    words = (unsigned(m[task + TASK_COMM + n]).to_bytes(8, "little") for n in range(2))
    return b"".join(words).split(b"\0")[0].decode("ascii", "replace")


def task_pid(m: memoryview, task: int) -> int:
    """A task's process id."""
    return m[task + TASK_PID]


def stack_pfn(m: memoryview, task: int) -> int:
    """First frame of a task's kernel stack, -1 without one."""
    va = m[task + TASK_STACK]
    return (va - PAGE_OFFSET) >> 12 if va else -1


def page_tables(m: memoryview, task: int) -> Iterator[tuple[int, int]]:
    """(PFN, level) of the tables that belong to a process alone; level 0 is the lowest."""
    for pfn, level, _ in _tables(m, task):
        yield pfn, level


def mapped_pages(m: memoryview, task: int) -> Iterator[Mapped]:
    """All frames that a process has mapped, by address."""
    for pfn, level, first in _tables(m, task):
        if level > 1:
            continue
        for i in range(512):
            entry = m[(pfn << 9) + i]
            if entry & PTE_P and (level == 0 or entry & PTE_PSE):
                address = first + (i << SPAN[level])
                pages = 1 if level == 0 else 512
                yield Mapped(pte_pfn(entry), address, pages, entry & 2 != 0)


def _tables(m: memoryview, task: int) -> Iterator[tuple[int, int, int]]:
    """PFN, level and first address of every table of a process's own."""
    va = m[task + TASK_MM]
    mm = word_of_va(va) if va else 0
    if not 0 < mm < len(m):
        return
    pgd = (m[mm + MM_PGD] - PAGE_OFFSET) >> 12
    if not 0 < pgd << 9 < len(m) - 512:
        return
    seen = {pgd}
    yield pgd, 3, 0
    waiting = [(pgd, 3, 0)]
    while waiting:
        table, level, first = waiting.pop()
        # slot 0 is the identity map, the upper half the kernel's: both are shared
        for i in range(1, 256) if level == 3 else range(512):
            entry = m[(table << 9) + i]
            if not entry & PTE_P or (level < 3 and entry & PTE_PSE):
                continue
            pfn = pte_pfn(entry)
            if pfn in seen or not 0 < pfn << 9 < len(m) - 512:
                continue
            seen.add(pfn)
            found = (pfn, level - 1, first + (i << SPAN[level]))
            yield found
            if level > 1:
                waiting.append(found)
