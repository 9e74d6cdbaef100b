# SPDX-License-Identifier: GPL-2.0-only
"""The hypercalls of processes: what a system call would be (mm/mmap.c, kernel/fork.c ...).

Each call is that of Linux with the same arguments and errnos, on behalf of the process that is
current on the CPU; whoever calls first becomes one (`GuestProcesses.ensure`). Numbers begin at 32;
`firmware/scripts/include/numalab.inc` says the same to the assembler. Addresses are those of the
process, lengths bytes, node masks one word of bits.
"""

from __future__ import annotations

from collections.abc import Callable

from .call_numbers import PROCESS_CALLS
from .fault import READ, WRITE, access_process, fatal_signal
from .fork import copy_process, find_task
from .guest_calls import EFAULT, EINVAL
from .guest_process import GuestProcesses
from .layout import (
    CPU_BLOCKS,
    CPU_FORKING,
    CPU_NEED_RESCHED,
    CPU_WORDS,
    TASK,
    TASK_FATAL_SIGNAL,
    TASK_MM,
    TASK_OOM_SCORE_ADJ,
    TASK_PID,
    TASK_STATE,
)
from .madvise import do_madvise
from .mbind import MPOL_MF_MOVE, do_mbind
from .mempolicy import set_mempolicy
from .mlock import MCL_CURRENT, do_mlock, do_mlockall, do_munlock, do_munlockall
from .mm_struct import (
    NR_OPEN,
    TASK_EXIT_CODE,
    TASK_FILES,
    TASK_GUEST,
    TASK_INTERRUPTIBLE,
    TASK_PARENT,
    TASK_WAIT_FOR,
    VM_LOCKED,
    VMA_FLAGS,
)
from .mmap import MAP_ANONYMOUS, MAP_NONBLOCK, MAP_POPULATE, do_mmap
from .move_pages import move_pages
from .mprotect import do_mprotect
from .munmap import do_munmap
from .populate import brk, mm_populate, mremap, populate_all
from .signals import death_of
from .vma import find_vma, vma_va, vma_word

ESRCH, EBADF, ENOMEM = 3, 9, 12
MOVE_PAGES_MAX = 4096
"""Pages of one MOVE_PAGES."""

OOM_SCORE_ADJ_MAX = 1000


Answer = tuple[int, int]
MODE_FLAGS = 0xC000
"""Bits of a policy's mode that are its flags (MPOL_MODE_FLAGS)."""


class ProcessCalls:
    """Answers the calls of `PROCESS_CALLS` for the processes of `guests`. `table` has a function by
    number: of the CPU and the word index of the first argument, giving result and errno. `yields`
    is set by a call after which the CPU is to be scheduled anew."""

    def __init__(self, guests: GuestProcesses) -> None:
        self.guests = guests
        self.m = guests.m
        self.yields = False
        calls: dict[str, Callable[[int, int, int], Answer]] = {
            "MMAP": self._mmap,
            "MUNMAP": self._munmap,
            "MPROTECT": self._mprotect,
            "MADVISE": self._madvise,
            "MLOCK": self._mlock,
            "MUNLOCK": self._munlock,
            "MLOCKALL": self._mlockall,
            "MUNLOCKALL": self._munlockall,
            "MREMAP": self._mremap,
            "BRK": self._brk,
            "MBIND": self._mbind,
            "SET_MEMPOLICY": self._set_mempolicy,
            "MOVE_PAGES": self._move_pages,
            "SET_OOM_SCORE_ADJ": self._set_oom_score_adj,
            "FORK": self._fork,
            "EXIT_PROCESS": self._exit,
            "WAIT": self._wait,
            "GETPID": self._getpid,
            "GETPPID": self._getppid,
            "SCHED_YIELD": self._yield,
        }
        self.table = {PROCESS_CALLS[name]: self._for_process(call) for name, call in calls.items()}

    def for_processes(
        self, calls: dict[int, Callable[[int, int, int], Answer]]
    ) -> dict[int, Callable[[int, int], Answer]]:
        """Other calls on behalf of the current process, by number, made ready for the table."""
        return {number: self._for_process(call) for number, call in calls.items()}

    def _for_process(self, call: Callable[[int, int, int], Answer]) -> Callable[[int, int], Answer]:
        def serve(cpu: int, a: int) -> Answer:
            before = self.guests.current(cpu)
            task = before or self.guests.ensure(cpu)
            if task < 0:
                return 0, -task
            self.yields = before == 0
            answer = call(cpu, task, a)
            self.guests.leave(cpu)
            if self.guests.current(cpu) == task and self.m[task + TASK_FATAL_SIGNAL]:
                self.guests.kill(cpu, task, fatal_signal(self.m, task), death_of(self.m, task))
                self.yields = True
            return answer

        return serve

    def _mm(self, task: int) -> int:
        return vma_word(self.m[task + TASK_MM])

    # --- memory -----------------------------------------------------------------------------------

    def _mmap(self, cpu: int, task: int, a: int) -> Answer:
        m = self.m
        addr, length, prot, flags, fd, offset = (m[a + n] for n in range(6))
        file = 0
        if flags & MAP_ANONYMOUS == 0:
            file = vma_word(m[task + TASK_FILES + fd]) if 0 <= fd < NR_OPEN else 0
            if file == 0:
                return 0, EBADF
        if offset & 4095:
            return 0, EINVAL
        mm = self._mm(task)
        rc = do_mmap(m, cpu, mm, file, addr, length, prot, flags, offset >> 12)
        if rc < 0:
            return 0, -rc
        populate = flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE
        if populate or m[find_vma(m, mm, rc) + VMA_FLAGS] & VM_LOCKED:
            mm_populate(m, cpu, mm, rc, length)
        return rc, 0

    def _munmap(self, cpu: int, task: int, a: int) -> Answer:
        return _result(do_munmap(self.m, cpu, self._mm(task), self.m[a], self.m[a + 1]))

    def _mprotect(self, cpu: int, task: int, a: int) -> Answer:
        m = self.m
        return _result(do_mprotect(m, cpu, self._mm(task), m[a], m[a + 1], m[a + 2]))

    def _madvise(self, cpu: int, task: int, a: int) -> Answer:
        m = self.m
        return _result(do_madvise(m, cpu, self._mm(task), m[a], m[a + 1], m[a + 2]))

    def _mlock(self, cpu: int, task: int, a: int) -> Answer:
        m, mm = self.m, self._mm(task)
        rc = do_mlock(m, cpu, mm, m[a], m[a + 1], VM_LOCKED)
        if rc == 0:
            rc = mm_populate(m, cpu, mm, m[a] & -4096, m[a + 1] + (m[a] & 4095))
        return _result(-ENOMEM if rc == -EFAULT else rc)

    def _munlock(self, cpu: int, task: int, a: int) -> Answer:
        return _result(do_munlock(self.m, cpu, self._mm(task), self.m[a], self.m[a + 1]))

    def _mlockall(self, cpu: int, task: int, a: int) -> Answer:
        mm = self._mm(task)
        rc = do_mlockall(self.m, cpu, mm, self.m[a])
        if rc == 0 and self.m[a] & MCL_CURRENT:
            populate_all(self.m, cpu, mm)
        return _result(rc)

    def _munlockall(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        return _result(do_munlockall(self.m, cpu, self._mm(task)))

    def _mremap(self, cpu: int, task: int, a: int) -> Answer:
        addr, old_len, new_len, flags, new = (self.m[a + n] for n in range(5))
        return _result(mremap(self.m, cpu, self._mm(task), addr, old_len, new_len, flags, new))

    def _brk(self, cpu: int, task: int, a: int) -> Answer:
        m, mm = self.m, self._mm(task)
        return brk(m, cpu, mm, m[a]), 0

    def _set_mempolicy(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        mode = self.m[a]
        return _result(
            set_mempolicy(self.m, task, mode & ~MODE_FLAGS, mode & MODE_FLAGS, self.m[a + 1])
        )

    def _mbind(self, cpu: int, task: int, a: int) -> Answer:
        m = self.m
        start, length, mode, nodes, flags = (m[a + n] for n in range(5))
        return _result(do_mbind(m, cpu, self._mm(task), start, length, mode, nodes, flags))

    def _move_pages(self, cpu: int, task: int, a: int) -> Answer:
        count, addresses, nodes, status = (self.m[a + n] for n in range(4))
        if not 0 <= count <= MOVE_PAGES_MAX:
            return 0, EINVAL
        pages = self.read_words(cpu, task, addresses, count)
        targets = self.read_words(cpu, task, nodes, count) if nodes else None
        if pages is None or (nodes and targets is None):
            return 0, EFAULT
        rc, found = move_pages(self.m, cpu, task, pages, targets, MPOL_MF_MOVE)
        for n, word in enumerate(found):
            at = access_process(self.m, cpu, task, status + 8 * n, WRITE)
            if at < 0:
                return 0, EFAULT
            self.m[at >> 3] = word
        return _result(rc)

    def _set_oom_score_adj(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        pid, score = self.m[a], self.m[a + 1]
        whom = find_task(self.m, pid) if pid else task
        if whom == 0:
            return 0, ESRCH
        if not -OOM_SCORE_ADJ_MAX <= score <= OOM_SCORE_ADJ_MAX:
            return 0, EINVAL
        self.m[whom + TASK_OOM_SCORE_ADJ] = score
        return 0, 0

    def read_words(self, cpu: int, task: int, address: int, count: int) -> list[int] | None:
        """`count` words of the process at `address`; None if it may not read them."""
        words = []
        for n in range(count):
            at = access_process(self.m, cpu, task, address + 8 * n, READ) if not address & 7 else -1
            if at < 0:
                return None
            words.append(self.m[at >> 3])
        return words

    # --- processes --------------------------------------------------------------------------------

    def _fork(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        m = self.m
        child = copy_process(m, cpu, task, task)
        if child < 0:
            return 0, -child
        m[child + TASK_GUEST] = 1
        m[child + TASK["cpu"]] = cpu
        m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_FORKING] = vma_va(child)
        self.yields = True
        return m[child + TASK_PID], 0

    def _exit(self, cpu: int, task: int, a: int) -> Answer:
        m = self.m
        code = (m[a] & 0xFF) << 8
        self.yields = True
        if m[task + TASK_PID] == 1:
            m[task + TASK_EXIT_CODE] = code
            self.guests.init_exits(cpu, code)
        else:
            self.guests.exit(cpu, task, code)
        return 0, 0

    def _wait(self, cpu: int, task: int, a: int) -> Answer:
        m = self.m
        wanted = m[a]
        pid, status, errno = self.guests.reap(cpu, task, wanted)
        if pid == 0 and errno == 0:
            m[task + TASK_STATE] = TASK_INTERRUPTIBLE
            m[task + TASK_WAIT_FOR] = wanted
            m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NEED_RESCHED] = 1
            self.yields = True
            return 0, 0
        m[a] = status
        return pid, errno

    def _getpid(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        return self.m[task + TASK_PID], 0

    def _getppid(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        parent = vma_word(self.m[task + TASK_PARENT])
        return (self.m[parent + TASK_PID] if parent else 0), 0

    def _yield(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        self.m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NEED_RESCHED] = 1
        self.yields = True
        return 0, 0


def _result(rc: int) -> Answer:
    return (0, -rc) if rc < 0 else (rc, 0)
