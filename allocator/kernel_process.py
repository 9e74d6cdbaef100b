# SPDX-License-Identifier: GPL-2.0-only
"""The Kernel's processes: making them, finding them, and what all of them share.

A part of `Kernel`. The first process sets up what processes need (`mm_init`); until then the
allocator is that of a kernel that has none. What a single process can do, `Process` says.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, cast

from .daemons import Daemons
from .errors import BadRequest, OutOfMemory
from .fork import find_task
from .huge_memory import (
    THP_ALWAYS,
    THP_DEFRAG_DIRECT,
    THP_DEFRAG_KHUGEPAGED,
    THP_DEFRAG_KSWAPD,
    THP_DEFRAG_KSWAPD_OR_MADV,
    THP_DEFRAG_MADV,
    THP_MADVISE,
    THP_USE_ZERO_PAGE,
)
from .kernel_base import KernelBase
from .kernel_globals import G_MM_INIT_DONE, G_TASKS, G_THP_FLAGS
from .layout import INIT_TASKS, TASK_PID, TASK_WORDS, va_of_word
from .mm_init import mm_init
from .mm_struct import TASK_TASKS
from .process import Process, new_process
from .swap import lru_add_drain_all
from .swap_disk import add_swap, remove_swap
from .vma import vma_word

if TYPE_CHECKING:
    from .kernel import Kernel

THP_ENABLED = {"always": THP_ALWAYS, "madvise": THP_MADVISE, "never": 0}
THP_DEFRAG = {
    "always": THP_DEFRAG_DIRECT,
    "defer": THP_DEFRAG_KSWAPD,
    "defer+madvise": THP_DEFRAG_KSWAPD_OR_MADV,
    "madvise": THP_DEFRAG_MADV,
    "never": 0,
}


class KernelProcess(KernelBase):
    """Processes and their settings."""

    @cached_property
    def daemons(self) -> Daemons:
        """kswapd and its kind, which get their turn after calls of processes."""
        return Daemons(self.m)

    @property
    def _kernel(self) -> Kernel:
        """The whole facade that this is a part of."""
        return cast("Kernel", self)

    def create_process(self, name: str = "a.out", cpu: int = 0) -> Process:
        """A process with an empty address space and no parent, on `cpu`.

        Raises SystemCallError (ENOMEM, EAGAIN) or OutOfMemory.
        """
        self._check_cpu(cpu)
        self.mm_init(cpu)
        return new_process(self._kernel, name, cpu, INIT_TASKS + cpu * TASK_WORDS)

    def mm_init(self, cpu: int = 0) -> None:
        """Sets up what owns memory, if that has not been done. Raises OutOfMemory."""
        if mm_init(self.m, cpu):
            raise OutOfMemory("there is no memory for caches and processes")

    @property
    def processes(self) -> list[Process]:
        """All processes in the order of their creation, those too that wait to be waited for."""
        found: list[Process] = []
        if self.m[G_MM_INIT_DONE]:
            va = self.m[G_TASKS]
            while va != va_of_word(G_TASKS):
                found.append(Process(self._kernel, self.m[vma_word(va) - TASK_TASKS + TASK_PID]))
                va = self.m[vma_word(va)]
        return found

    def process(self, pid: int) -> Process:
        """The process with this id. Raises BadRequest if there is none."""
        if not self.m[G_MM_INIT_DONE] or find_task(self.m, pid) == 0:
            raise BadRequest(f"there is no process {pid}")
        return Process(self._kernel, pid)

    def transparent_hugepage(
        self, enabled: str, defrag: str = "madvise", use_zero_page: bool = True
    ) -> None:
        """/sys/kernel/mm/transparent_hugepage: `enabled` "always", "madvise" or "never", `defrag`
        the same or "defer", "defer+madvise". Raises BadRequest."""
        if enabled not in THP_ENABLED or defrag not in THP_DEFRAG:
            raise BadRequest(f"transparent huge pages cannot be {enabled!r} with {defrag!r}")
        flags = THP_ENABLED[enabled] | THP_DEFRAG[defrag] | THP_DEFRAG_KHUGEPAGED
        self.m[G_THP_FLAGS] = flags | (THP_USE_ZERO_PAGE if use_zero_page else 0)

    def swapon(self, pages: int, priority: int = -1, name: str = "swap", cpu: int = 0) -> int:
        """Makes a disk of `pages` pages swap space and uses it: the area's number. Its first
        page is the header. Raises BadRequest (EINVAL, ENOMEM, EBUSY)."""
        self._check_cpu(cpu)
        self.mm_init(cpu)
        kind = add_swap(self.m, cpu, pages, priority, name.encode("ascii", "replace"))
        self._check_errno(kind, f"swapon of {pages} pages")
        return kind

    def swapoff(self, area: int, cpu: int = 0) -> None:
        """Ends the use of swap area `area`, and its disk; what is in it comes back into memory.
        Raises BadRequest (EINVAL: no such area; ENOMEM, EIO: it stays in use)."""
        self._check_cpu(cpu)
        self.mm_init(cpu)
        self._check_errno(remove_swap(self.m, cpu, area), f"swapoff of area {area}")

    def lru_add_drain_all(self) -> None:
        """Empties the pagevecs of all CPUs."""
        if self.m[G_MM_INIT_DONE]:
            lru_add_drain_all(self.m)
