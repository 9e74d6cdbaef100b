# SPDX-License-Identifier: GPL-2.0-only
"""All page tables of all processes as arrays: what maps which frame, and what is swapped out.

The processes are found through the list of tasks, their tables from the top down, a level at a time
with NumPy. No pointer is followed that does not lead to a frame with a struct page; what does is a
finding, and the entry is left out. `Mappings` holds the entries themselves, so that other checkers
can count them by frame, by process or by swap slot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..kernel_globals import G_MM_INIT_DONE, G_TASKS
from ..layout import NR_MEM_SECTIONS, PFN_SECTION_SHIFT, TASK_MM
from ..mm_struct import MM_PGD, MM_WORDS, PROCESS_WORDS, TASK_TASKS
from ..pgtable import ADDRESS_MASK, PFN_MASK, PTE_P, PTE_PROTNONE, PTE_PSE, PTE_SPECIAL

if TYPE_CHECKING:
    from .context import Check

Ids = npt.NDArray[np.int64]
MAX_TASKS = 1 << 16
LEVELS = (39, 30, 21)
PRESENT = PTE_P | PTE_PROTNONE


def frame_indices(check: Check, pfns: Ids) -> Ids:
    """Array indices of frames, -1 for those without a struct page."""
    frames = check.frames
    section = pfns >> PFN_SECTION_SHIFT
    good = (pfns >= 0) & (section < NR_MEM_SECTIONS)
    slot = np.where(good, frames.slot[np.where(good, section, 0)], -1)
    index = slot << PFN_SECTION_SHIFT | pfns & ((1 << PFN_SECTION_SHIFT) - 1)
    return np.asarray(np.where(slot >= 0, index, -1), dtype=np.int64)


@dataclass
class Mappings:
    """Entries of page tables: each one's user address, process (a number in `mms`) and value."""

    check: Check
    mms: list[int] = field(default_factory=list)
    """Word indices of the address spaces."""
    tables: Ids = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Frames of all tables of all processes, one entry for every way that leads there."""
    leaves: Ids = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Those of `tables` that are of the lowest level."""
    addresses: Ids = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    owners: Ids = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    values: Ids = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    words: Ids = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Where each entry lies."""
    huge: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    """True for entries that map 2 MiB."""

    @cached_property
    def present(self) -> npt.NDArray[np.bool_]:
        """Entries that map a page which is counted (zero pages are not)."""
        return np.asarray((self.values & PRESENT != 0) & (self.values & PTE_SPECIAL == 0))

    @cached_property
    def frames(self) -> Ids:
        """Array index of the (first) frame of every present entry, -1 for the others."""
        values = np.where(self.values & PTE_P != 0, self.values, ~self.values)
        pfns = values >> 12 & PFN_MASK
        pfns = np.where(self.huge, pfns & ~511, pfns)
        return np.where(self.present, frame_indices(self.check, pfns), -1)

    def counts(self, huge: bool) -> Ids:
        """How many present entries, small ones or huge ones, map each frame of the arrays."""
        at = self.frames[(self.frames >= 0) & (self.huge == huge)]
        return np.bincount(at, minlength=self.check.frames.size)

    @cached_property
    def small_counts(self) -> Ids:
        """counts() of small entries."""
        return self.counts(False)

    @cached_property
    def huge_counts(self) -> Ids:
        """counts() of huge entries, at the first frame."""
        return self.counts(True)

    @cached_property
    def swapped(self) -> npt.NDArray[np.bool_]:
        """Entries that are neither empty nor present."""
        return np.asarray((self.values != 0) & (self.values & PRESENT == 0))


def read_tasks(check: Check) -> list[int]:
    """Word indices of all processes' tasks; stops at a pointer that leads nowhere."""
    m = check.m
    tasks: list[int] = []
    seen: set[int] = set()
    at = m[G_TASKS]
    while len(tasks) < MAX_TASKS:
        node = check.structure(at, 2)
        if node == G_TASKS:
            return tasks
        task = node - TASK_TASKS
        if node < 0 or node in seen or not check.is_ram(task, PROCESS_WORDS):
            check.add("task-list", "tasks", "the list of processes is broken", G_TASKS)
            return tasks
        seen.add(node)
        tasks.append(task)
        at = m[node]
    return tasks


def read_mms(check: Check) -> list[int]:
    """Word indices of the address spaces of all processes, each once."""
    found: dict[int, None] = {}
    for task in read_tasks(check):
        va = check.m[task + TASK_MM]
        mm = check.structure(va, MM_WORDS) if va else 0
        if mm < 0:
            check.add("task-mm", "tasks", "mm of a process leads nowhere", task + TASK_MM)
        elif mm:
            found[mm] = None
    return list(found)


class _Walk:
    """One level of all processes' tables: the tables' first words, addresses and processes."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self.words = np.zeros(0, dtype=np.int64)
        self.base = np.zeros(0, dtype=np.int64)
        self.owner = np.zeros(0, dtype=np.int64)

    def entries(self, shift: int) -> tuple[Ids, Ids, Ids, Ids]:
        """(words, addresses, processes, values) of the entries that are not 0."""
        offsets = np.arange(512, dtype=np.int64)
        words = (self.words[:, None] + offsets).ravel()
        base = (self.base[:, None] + (offsets << shift)).ravel()
        owner = np.repeat(self.owner, 512)
        values = np.asarray(self.check.q[words], dtype=np.int64)
        used = values != 0
        return words[used], base[used], owner[used], values[used]

    def descend(self, words: Ids, base: Ids, owner: Ids, values: Ids) -> Ids:
        """Goes down through table entries; the frames of the tables below."""
        check = self.check
        pfns = (values & ADDRESS_MASK) >> 12
        at = frame_indices(check, pfns)
        ram = at >= 0
        ram[ram] = check.frames.ram[at[ram]]
        for i in np.flatnonzero(~ram)[:8].tolist():
            text = f"entry of address {int(base[i]):#x} leads to a table outside RAM"
            check.add("table-entry", f"process {int(owner[i])}", text, int(words[i]))
        self.words, self.base, self.owner = pfns[ram] << 9, base[ram], owner[ram]
        return at[ram]


def read_mappings(check: Check) -> Mappings:
    """Reads the page tables of all processes."""
    found = Mappings(check)
    if not check.m[G_MM_INIT_DONE]:
        return found
    found.mms = read_mms(check)
    tops = [check.structure(check.m[mm + MM_PGD], 512, 4096) for mm in found.mms]
    for mm, top in zip(found.mms, tops, strict=True):
        if top < 0:
            check.add("task-mm", "tasks", "pgd of an mm is no page of RAM", mm + MM_PGD)
    walk = _Walk(check)
    walk.words = np.array([top for top in tops if top >= 0], dtype=np.int64)
    walk.owner = np.flatnonzero(np.array(tops, dtype=np.int64) >= 0).astype(np.int64)
    walk.base = np.zeros(walk.words.size, dtype=np.int64)
    tables = [frame_indices(check, walk.words >> 9)]
    parts = []
    for shift in LEVELS:
        words, base, owner, values = walk.entries(shift)
        if shift == LEVELS[0]:
            # slot 0 is the identity map, the upper half the kernel's: every process has them
            own = (words & 511 > 0) & (words & 511 < 256)
            words, base, owner, values = words[own], base[own], owner[own], values[own]
        leaf = values & PTE_PSE != 0 if shift == LEVELS[-1] else np.zeros(words.size, np.bool_)
        leaf |= values & PTE_P == 0
        parts.append((words[leaf], base[leaf], owner[leaf], values[leaf], True))
        below = walk.descend(words[~leaf], base[~leaf], owner[~leaf], values[~leaf])
        tables.append(below)
        found.leaves = below
    parts.append((*walk.entries(12), False))
    found.tables = np.concatenate(tables)
    found.words = np.concatenate([part[0] for part in parts])
    found.addresses = np.concatenate([part[1] for part in parts])
    found.owners = np.concatenate([part[2] for part in parts])
    found.values = np.concatenate([part[3] for part in parts])
    found.huge = np.concatenate([np.full(part[0].size, part[4]) for part in parts])
    return found
