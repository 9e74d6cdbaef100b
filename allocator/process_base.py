# SPDX-License-Identifier: GPL-2.0-only
"""What `Process` stands on: which task it is, and how its calls and accesses are run.

A call runs as the process on its CPU, after which the daemons have their turn; a process with a
fatal signal pending dies before it. An access faults in page after page (`access_process`) and is
tried again where a daemon has taken the page meanwhile. Damaged structures become KernelOops.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import BadRequest, KernelOops, ProcessKilled, SystemCallError
from .exit import do_exit
from .fault import (
    access_process,
    fatal_signal,
)
from .fork import find_task
from .guest_process import task_comm
from .kernel_base import DAMAGE
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    TASK,
    TASK_FATAL_SIGNAL,
    TASK_MM,
    signed,
    unsigned,
    va_of_word,
)
from .mm_struct import (
    TASK_EXIT_STATE,
    TASK_FAULT_ADDRESS,
    TASK_FAULT_CODE,
    TASK_GUEST,
)
from .signals import describe
from .vma import vma_word

if TYPE_CHECKING:
    from .kernel import Kernel

MAX_TURNS = 16
"""How often an access is tried again because a daemon had its turn after it."""


class ProcessBase:
    """The process with id `pid` of `kernel`, without its calls."""

    def __init__(self, kernel: Kernel, pid: int) -> None:
        self.kernel = kernel
        self.m = kernel.m
        self.pid = pid

    def __repr__(self) -> str:
        return f"<Process {self.pid}>"

    # --- what it is -------------------------------------------------------------------------------

    @property
    def task(self) -> int:
        """Word index of its task_struct. Raises SystemCallError (ESRCH) when it is gone."""
        with oops("looking for a process"):
            task = find_task(self.m, self.pid)
        if task == 0:
            raise SystemCallError(f"there is no process {self.pid}", errno.ESRCH)
        return task

    @property
    def alive(self) -> bool:
        """True until it has ended."""
        task = find_task(self.m, self.pid)
        return task != 0 and self.m[task + TASK_EXIT_STATE] == 0

    @property
    def mm(self) -> int:
        """Word index of its mm_struct. Raises SystemCallError (ESRCH) when it has ended."""
        mm = vma_word(self.m[self.task + TASK_MM])
        if mm == 0:
            raise SystemCallError(f"process {self.pid} has ended", errno.ESRCH)
        return mm

    @property
    def name(self) -> str:
        """The name of its program."""
        return task_comm(self.m, self.task)

    @property
    def cpu(self) -> int:
        """The CPU that it runs on."""
        return self.m[self.task + TASK["cpu"]]

    @property
    def in_guest(self) -> bool:
        """True for a process that a CPU of the machine runs: only its own code can end it."""
        return bool(self.m[self.task + TASK_GUEST])

    # --- plumbing ---------------------------------------------------------------------------------

    def _pieces(self, address: int, length: int, access: int) -> Iterator[tuple[int, int]]:
        """Physical address and length of each piece of a range, in order, page by page."""
        task = self.task
        if self.m[task + TASK_MM] == 0:
            self._check(-errno.ESRCH, "access")
        if length < 0:
            raise BadRequest(f"length {length} is negative")
        end = address + length
        while address < end:
            at = self._access(task, address, access)
            if at < 0:
                self._die(task, -at, address)
            size = min(4096 - (address & 4095), end - address)
            yield at, size
            address += size

    def _access(self, task: int, address: int, access: int) -> int:
        """access_process() until nobody has had a turn since: kswapd may take the page again before
        the process gets to it."""
        daemons, at = self.kernel.daemons, 0
        for _ in range(MAX_TURNS):
            turns = daemons.turns
            at = int(self._run(access_process, task, address, access))
            if at < 0 or daemons.turns == turns:
                return at
        return at

    def _die(self, task: int, signal: int, address: int) -> None:
        """The end of an access that cannot be. What guest code runs does not die of ours."""
        if self.m[task + TASK_GUEST]:
            self._check(-errno.EFAULT, f"access to {unsigned(address):#x} of process {self.pid}")
        code = self.m[task + TASK_FAULT_CODE]
        message = f"process {self.pid} ({self.name}): {describe(signal, code, address)}"
        cpu = self.cpu
        with self._current(cpu), oops("the death of a process"):
            do_exit(self.m, cpu, task, signal)
        raise ProcessKilled(message, signal, code, unsigned(address))

    @contextmanager
    def running(self) -> Iterator[int]:
        """The process is the current task of its CPU, whose number this gives, for calls of the
        kernel that are about "the task of a CPU": cpusets, memory cgroups, policies."""
        cpu = self.cpu
        with self._current(cpu):
            yield cpu

    @contextmanager
    def _current(self, cpu: int) -> Iterator[None]:
        where = CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT
        before, mine = self.m[where], va_of_word(find_task(self.m, self.pid))
        self.m[where] = mine
        try:
            yield
        finally:
            self.m[where] = before

    def _run(self, function: Any, *args: Any) -> Any:
        """Runs a kernel function on the process's CPU as the process."""
        cpu, task = self.cpu, self.task
        self._die_if_killed(task)
        words = [word_of(arg) if isinstance(arg, int) else arg for arg in args]
        try:
            with self._current(cpu), oops(function.__name__):
                result = function(self.m, cpu, *words)
                self.kernel.daemons.turn(cpu)
        finally:
            self.kernel.read_reports()
        self.kernel.daemons.check_panic()
        return result

    def _die_if_killed(self, task: int) -> None:
        """What the OOM killer has chosen, or a bad frame has hit, dies before it does anything
        else, of the signal that was sent to it."""
        if self.m[task + TASK_FATAL_SIGNAL] and self.m[task + TASK_MM]:
            signal = fatal_signal(self.m, task)
            self._die(task, signal, self.m[task + TASK_FAULT_ADDRESS])

    def _check(self, rc: int, what: str) -> int:
        if rc < 0:
            name = errno.errorcode.get(-rc, str(-rc))
            raise SystemCallError(f"{what}: {name} ({os.strerror(-rc)})", -rc)
        return rc


@contextmanager
def oops(what: str) -> Iterator[None]:
    """Damaged structures become KernelOops."""
    try:
        yield
    except DAMAGE as error:
        raise KernelOops(f"{what}: the kernel followed a damaged pointer ({error})") from None


def word_of(value: int) -> int:
    """A number as a register of the process would hold it, signed. Raises BadRequest."""
    if not -(1 << 63) <= value < 1 << 64:
        raise BadRequest(f"{value:#x} does not fit into 64 bits")
    return signed(value)
