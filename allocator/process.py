# SPDX-License-Identifier: GPL-2.0-only
"""`Process`: a process for Python, with its system calls and its memory.

    shell = kernel.create_process("sh")
    heap = shell.mmap(1 << 20)
    shell.write(heap, b"hello")
    child = shell.fork()
    child.read(heap, 5)

Calls are those of Linux with Linux's arguments; a refusal raises SystemCallError with the errno.
Reading and writing is what the process itself would do: it faults pages in, copies what is shared
after a fork, and a fault that cannot be served kills the process and raises ProcessKilled. All
state is in guest RAM; an object here is a process id and the kernel it belongs to.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import madvise, mmap
from .errors import BadRequest, SystemCallError
from .exit import do_exit, do_wait, release_task
from .fault import (
    FETCH,
    READ,
    SI_USER,
    SIGKILL,
    WRITE,
    bad_area,
    user_entry,
)
from .fork import copy_process, find_task
from .guest_process import set_comm
from .layout import (
    TASK,
    TASK_FATAL_SIGNAL,
    TASK_MM,
    TASK_OOM_SCORE_ADJ,
    TASK_PID,
)
from .mbind import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, do_mbind
from .mempolicy import (
    set_mempolicy,
)
from .mlock import (
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    do_mlock,
    do_mlockall,
    do_munlock,
    do_munlockall,
)
from .mm_struct import (
    EXIT_ZOMBIE,
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_LOCKED_VM,
    MM_PGTABLES_BYTES,
    MM_RSS,
    MM_SHMEMPAGES,
    MM_SWAPENTS,
    MM_TOTAL_VM,
    TASK_EXIT_CODE,
    TASK_EXIT_STATE,
    TASK_MAJ_FLT,
    TASK_MIN_FLT,
    VM_LOCKED,
    VMA_FLAGS,
)
from .move_pages import move_pages
from .mprotect import do_mprotect
from .mremap import MREMAP_FIXED, MREMAP_MAYMOVE
from .munmap import do_munmap
from .pgtable import PTE_P, pte_pfn
from .populate import brk, mm_populate, mremap, populate_all
from .process_terms import ADVICE, MODES, Area, areas, protection_bits
from .unmapped_area import MAP_FIXED
from .views import Page
from .vma import find_vma

if TYPE_CHECKING:
    from .kernel import Kernel
from .process_base import ProcessBase, oops


class Process(ProcessBase):
    """The process with id `pid` of `kernel`."""

    @property
    def areas(self) -> list[Area]:
        """Its areas by address."""
        with oops("looking at areas"):
            return list(areas(self.m, self.mm))

    @property
    def maps(self) -> str:
        """Its areas as /proc/pid/maps shows them."""
        return "".join(f"{area}\n" for area in self.areas)

    @property
    def counters(self) -> dict[str, int]:
        """Pages by kind (anon, file, shmem, swap, locked, total), bytes of page tables, faults."""
        m, mm, task = self.m, self.mm, self.task
        return {
            "anon": m[mm + MM_RSS + MM_ANONPAGES],
            "file": m[mm + MM_RSS + MM_FILEPAGES],
            "shmem": m[mm + MM_RSS + MM_SHMEMPAGES],
            "swap": m[mm + MM_RSS + MM_SWAPENTS],
            "locked": m[mm + MM_LOCKED_VM],
            "total": m[mm + MM_TOTAL_VM],
            "pgtables": m[mm + MM_PGTABLES_BYTES],
            "minflt": m[task + TASK_MIN_FLT],
            "majflt": m[task + TASK_MAJ_FLT],
        }

    def page(self, address: int) -> Page | None:
        """The frame that is mapped at `address`, None for none. Faults nothing in."""
        mm = self.mm
        with oops("looking for a page"):
            at = user_entry(self.m, mm, address)
        if at == 0 or self.m[at] & PTE_P == 0:
            return None
        pfn = pte_pfn(self.m[at])
        if self.m[at] & 0x80:
            pfn = (pfn & ~511) + (address >> 12 & 511)
        return Page(self.m, pfn)

    # --- memory calls -----------------------------------------------------------------------------

    def mmap(
        self,
        length: int,
        prot: str | int = "rw",
        *,
        address: int = 0,
        file: Any = None,
        offset: int = 0,
        shared: bool = False,
        fixed: bool = False,
        populate: bool = False,
        flags: int = 0,
    ) -> int:
        """Maps `length` bytes, of `file` from byte `offset` on or of nothing: the address.

        `address` is a wish, or where it must be if `fixed`; `flags` adds MAP_ bits.
        """
        bits = flags | (mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE)
        bits |= MAP_FIXED if fixed else 0
        bits |= mmap.MAP_POPULATE if populate else 0
        word = 0
        if file is None:
            bits |= mmap.MAP_ANONYMOUS
        else:
            word = file if isinstance(file, int) else file.word
        if offset & 4095:
            self._check(-errno.EINVAL, "mmap")
        mm = self.mm
        args = (mm, word, address, length, protection_bits(prot), bits, offset >> 12)
        start = self._check(self._run(mmap.do_mmap, *args), "mmap")
        if populate or self.m[find_vma(self.m, mm, start) + VMA_FLAGS] & VM_LOCKED:
            self._run(mm_populate, mm, start, length)
        return start

    def munmap(self, address: int, length: int) -> None:
        """Unmaps `length` bytes from `address` on."""
        self._check(self._run(do_munmap, self.mm, address, length), "munmap")

    def mprotect(self, address: int, length: int, prot: str | int) -> None:
        """Gives `length` bytes from `address` on another protection."""
        bits = protection_bits(prot)
        self._check(self._run(do_mprotect, self.mm, address, length, bits), "mprotect")

    def madvise(self, address: int, length: int, advice: str | int) -> None:
        """Advice by name ("dontneed", "hugepage") or number."""
        if isinstance(advice, str):
            if advice not in ADVICE:
                raise BadRequest(f"no advice {advice!r}: {', '.join(ADVICE)}")
            advice = ADVICE[advice]
        self._check(self._run(madvise.do_madvise, self.mm, address, length, advice), "madvise")

    def mlock(self, address: int, length: int) -> None:
        """Locks `length` bytes from `address` on in memory, and faults them in."""
        mm = self.mm
        self._check(self._run(do_mlock, mm, address, length, VM_LOCKED), "mlock")
        rc = self._run(mm_populate, mm, address & -4096, length + (address & 4095))
        self._check(-errno.ENOMEM if rc == -errno.EFAULT else rc, "mlock")

    def munlock(self, address: int, length: int) -> None:
        """Unlocks `length` bytes from `address` on."""
        self._check(self._run(do_munlock, self.mm, address, length), "munlock")

    def mlockall(self, current: bool = True, future: bool = False, on_fault: bool = False) -> None:
        """Locks all there is (`current`) or will be (`future`) in memory; `on_fault`: page by page
        as they are touched."""
        mm = self.mm
        bits = (MCL_CURRENT if current else 0) | (MCL_FUTURE if future else 0)
        bits |= MCL_ONFAULT if on_fault else 0
        self._check(self._run(do_mlockall, mm, bits), "mlockall")
        if current:
            self._run(populate_all, mm)

    def munlockall(self) -> None:
        """Unlocks all there is, and what will be."""
        self._check(self._run(do_munlockall, self.mm), "munlockall")

    def mremap(
        self,
        address: int,
        length: int,
        new_length: int,
        may_move: bool = False,
        new_address: int | None = None,
        flags: int = 0,
    ) -> int:
        """Gives the mapping of `length` bytes at `address` another length, elsewhere if it
        `may_move` and must, or at `new_address`: where it is. `flags` adds MREMAP_ bits."""
        bits = flags | (MREMAP_MAYMOVE if may_move else 0)
        if new_address is not None:
            bits |= MREMAP_MAYMOVE | MREMAP_FIXED
        args = (self.mm, address, length, new_length, bits, new_address or 0)
        return self._check(self._run(mremap, *args), "mremap")

    def brk(self, address: int = 0) -> int:
        """Moves the end of the heap to `address` if that can be; where it is then."""
        return int(self._run(brk, self.mm, address))

    def set_mempolicy(self, mode: str, nodes: Sequence[int] = (), flags: int = 0) -> None:
        """Where its pages should come from: one of MODES, and nodes for it."""
        if mode not in MODES:
            raise BadRequest(f"no policy {mode!r}: {', '.join(MODES)}")
        mask = sum(1 << nid for nid in set(nodes))
        rc = set_mempolicy(self.m, self.task, MODES[mode], flags, mask)
        self._check(rc, "set_mempolicy")

    def mbind(
        self,
        address: int,
        length: int,
        mode: str,
        nodes: Sequence[int] = (),
        mode_flags: int = 0,
        flags: int = 0,
    ) -> None:
        """A policy for the pages of `length` bytes from `address` on; `flags`: MPOL_MF_ bits for
        those that are there already."""
        if mode not in MODES:
            raise BadRequest(f"no policy {mode!r}: {', '.join(MODES)}")
        mask = sum(1 << nid for nid in set(nodes))
        args = (self.mm, address, length, MODES[mode] | mode_flags, mask, flags)
        self._check(self._run(do_mbind, *args), "mbind")

    def move_pages(
        self, addresses: Sequence[int], nodes: Sequence[int] | None = None, all_users: bool = False
    ) -> list[int]:
        """Moves the page at each address to a node, or looks where it is: node or negative errno of
        each. `all_users`: pages that others map, too."""
        flags = MPOL_MF_MOVE_ALL if all_users else MPOL_MF_MOVE
        rc, status = self._run(move_pages, self.task, addresses, nodes, flags)
        self._check(rc, "move_pages")
        return list(status)

    @property
    def oom_score_adj(self) -> int:
        """How readily the OOM killer chooses it: -1000 (never) to 1000."""
        return self.m[self.task + TASK_OOM_SCORE_ADJ]

    @oom_score_adj.setter
    def oom_score_adj(self, score: int) -> None:
        if not -1000 <= score <= 1000:
            self._check(-errno.EINVAL, f"oom_score_adj {score}")
        self.m[self.task + TASK_OOM_SCORE_ADJ] = score

    # --- its memory -------------------------------------------------------------------------------

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes from `address` on, as the process reads them."""
        return b"".join(
            self.kernel.memory.read(at, size) for at, size in self._pieces(address, length, READ)
        )

    def write(self, address: int, data: bytes) -> None:
        """Puts `data` at `address`, as the process writes it."""
        done = 0
        for at, size in self._pieces(address, len(data), WRITE):
            self.kernel.memory.write(at, data[done : done + size])
            done += size

    def touch(self, address: int, length: int = 1, write: bool = True) -> None:
        """One access to every page of `length` bytes from `address` on."""
        for _ in self._pieces(address, length, WRITE if write else READ):
            pass

    def execute(self, address: int) -> None:
        """Fetches the instruction at `address`: dies of it if that may not be executed."""
        for _ in self._pieces(address, 1, FETCH):
            pass

    # --- processes --------------------------------------------------------------------------------

    def fork(self) -> Process:
        """A child like it, whose memory is its own from now on."""
        task = self.task
        if self.m[task + TASK_MM] == 0:
            self._check(-errno.ESRCH, "fork")
        child = self._check(self._run(copy_process, task, task), "fork")
        return Process(self.kernel, self.m[child + TASK_PID])

    def exit(self, status: int = 0) -> None:
        """Ends it. Its parent can ask for the status; without one it is gone at once. Raises
        SystemCallError (EPERM) for a process that guest code runs."""
        self.mm  # noqa: B018  # must be alive
        if self.in_guest:
            self._check(-errno.EPERM, f"exit of process {self.pid}, which the guest runs")
        self._run(do_exit, self.task, (status & 0xFF) << 8)

    def kill(self) -> None:
        """SIGKILL from outside (kernel/signal.c, complete_signal): it dies when it would run next,
        and until then may take from the memory reserves what it needs to end. Raises
        SystemCallError (ESRCH) if it has ended."""
        self.mm  # noqa: B018  # must be alive
        bad_area(self.m, self.task, 0, SIGKILL, SI_USER)
        self.m[self.task + TASK_FATAL_SIGNAL] = 1

    def wait(self, pid: int = -1) -> tuple[int, int] | None:
        """Process id and exit code ((status << 8) | signal) of a child that has ended, which is
        gone then; None if none has. Raises SystemCallError (ECHILD) if there is no such child."""
        task = self.task
        with oops("wait"):
            child = do_wait(self.m, task, pid)
        self._check(child, "wait")
        if child == 0:
            return None
        found = self.m[child + TASK_PID], self.m[child + TASK_EXIT_CODE]
        self._run(release_task, child)
        return found

    @property
    def is_zombie(self) -> bool:
        """True when it has ended and nobody has waited for it yet."""
        task = find_task(self.m, self.pid)
        return task != 0 and self.m[task + TASK_EXIT_STATE] == EXIT_ZOMBIE


def new_process(kernel: Kernel, name: str, cpu: int, task: int) -> Process:
    """A process like the idle task `task` of `cpu`, named `name`; see Kernel.create_process."""
    m = kernel.m
    child = copy_process(m, cpu, task, 0)
    if child < 0:
        code = errno.errorcode.get(-child, str(-child))
        raise SystemCallError(f"create_process: {code} ({os.strerror(-child)})", -child)
    set_comm(m, child, name)
    m[child + TASK["cpu"]] = cpu
    return Process(kernel, m[child + TASK_PID])
