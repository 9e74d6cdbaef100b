# SPDX-License-Identifier: GPL-2.0-only
"""Hypercalls: how guest code asks the kernel for pages.

A CPU writes a number and up to six arguments into its mailbox, a page of guest RAM, and rings the
doorbell with one OUT. `Hypercalls` answers: it reads the words, calls the allocator on behalf of
that CPU, and leaves a result and an errno (0, or one of Linux's) before the CPU's next
instruction. The mailbox is the whole interface; no register is looked at. Where the doorbell and
the mailbox are, CPUID tells (leaf 0x40000001).

    word 0 number    words 1-6 arguments    word 7 result    word 8 errno    word 9 stack

The last word is the kernel's to fill in: the upper end of the stack that bring-up set aside for the
CPU, used when it is started without one. Behind them lies a ring for many requests at once; it, and
all calls that need nothing but RAM, are `allocator.guest_calls`'. Here are those that need the
machine, and the connection to it.

Nothing a guest puts there is believed. A number, order, node, mask, frame, address or count that
makes no sense gets an errno, one call never does more than a bounded amount of work, and
an allocator whose structures the guest has overwritten stops the machine with a fault instead of
raising. The tables at the top are the ABI; `firmware/scripts/include/numalab.inc` says the same to
the assembler, and a test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING

from firmware.boot_params import BOOT_PARAMS
from machine import Machine, Verdict
from machine.machine import EXIT_FAULT
from machine.walk import ram_table

from . import guest_calls
from .call_numbers import FILE_CALLS, HOTPLUG_CALLS, PRESSURE_CALLS, PROCESS_CALLS
from .engine import ENDED, Engine, current_engine, failure
from .guest_calls import (
    BOX_ARGS,
    BOX_ERRNO,
    BOX_RESULT,
    BOX_STACK,
    EBUSY,
    EFAULT,
    EINVAL,
    ENOMEM,
    ENOSYS,
    NEEDS_MACHINE,
    PROCESS_CALLS_FIRST,
    PROCESS_CALLS_LAST,
    SERVED,
    SERVED_LATER,
    cpu_is_online,
    ram_address,
    serve_mailbox,
)
from .guest_process import GuestProcesses
from .kernel_globals import G_CLOCK, G_PGD
from .layout import MAILBOX_WORDS, MAILBOXES, mailbox_phys, signed, unsigned
from .long_calls import CallEnded, long_calls
from .mmzone import NR_CPUS
from .native import attach_native
from .timekeeping import enter_kernel, leave_kernel

if TYPE_CHECKING:
    from .process_calls import ProcessCalls

ERRNO = {
    "EPERM": 1,
    "ENOENT": 2,
    "ESRCH": 3,
    "EINTR": 4,
    "EIO": 5,
    "ENXIO": 6,
    "EBADF": 9,
    "ECHILD": 10,
    "EAGAIN": 11,
    "ENOMEM": ENOMEM,
    "EACCES": 13,
    "EFAULT": EFAULT,
    "EBUSY": EBUSY,
    "EEXIST": 17,
    "ENODEV": 19,
    "EINVAL": EINVAL,
    "EMFILE": 24,
    "EFBIG": 27,
    "ENOSPC": 28,
    "EROFS": 30,
    "ENOSYS": ENOSYS,
    "EOVERFLOW": 75,
    "EOPNOTSUPP": 95,
}

MAILBOX = {
    "NUMBER": guest_calls.BOX_NUMBER,
    **{f"ARG{n}": BOX_ARGS + n - 1 for n in range(1, 7)},
    "RESULT": BOX_RESULT,
    "ERRNO": BOX_ERRNO,
    "STACK": BOX_STACK,
}
"""Word offsets in the mailbox."""

RING_LAYOUT = {
    "RING_SQ_HEAD": guest_calls.SQ_HEAD,
    "RING_SQ_TAIL": guest_calls.SQ_TAIL,
    "RING_CQ_HEAD": guest_calls.CQ_HEAD,
    "RING_CQ_TAIL": guest_calls.CQ_TAIL,
    "RING_SQ": guest_calls.SQ_ENTRIES,
    "RING_CQ": guest_calls.CQ_ENTRIES,
    "SQE_NUMBER": guest_calls.SQE_NUMBER,
    **{f"SQE_ARG{n}": guest_calls.SQE_ARGS + n - 1 for n in range(1, 7)},
    "SQE_USER": guest_calls.SQE_USER,
    "SIZEOF_SQE": guest_calls.SQE_WORDS,
    "CQE_USER": guest_calls.CQE_USER,
    "CQE_RESULT": guest_calls.CQE_RESULT,
    "CQE_ERRNO": guest_calls.CQE_ERRNO,
    "CQE_NUMBER": guest_calls.CQE_NUMBER,
    "SIZEOF_CQE": guest_calls.CQE_WORDS,
}
"""Words of the ring: its indexes and arrays in the mailbox page, fields and sizes of entries."""
RING_ENTRIES = guest_calls.RING_ENTRIES

HYPERCALLS = {
    "ALLOC_PAGES": guest_calls.ALLOC_PAGES,  # gfp, order, nid (-1: this CPU's), nodemask  -> PFN
    "FREE_PAGES": guest_calls.FREE_PAGES,  # pfn, order    -> 0, or 1 when references are left
    "ALLOC_BULK": guest_calls.ALLOC_BULK,  # gfp, order, nid, count, buffer     -> blocks got
    "FREE_BULK": guest_calls.FREE_BULK,  # order, count, buffer               -> blocks freed
    "START_CPU": guest_calls.START_CPU,  # cpu, rip, rsp (0: its first stack), RDI     -> 0
    "YIELD": guest_calls.YIELD,  # the rest of the quantum goes to the other CPUs
    "PRINT": guest_calls.PRINT,  # address, length     -> bytes put on the console
    "EXIT": guest_calls.EXIT,  # code: the machine stops
    "INFO": guest_calls.INFO,  # what, argument     -> see INFO
    "DRAIN_ALL_PAGES": guest_calls.DRAIN_ALL_PAGES,  # per-cpu lists go back to the buddy lists
    "RING": guest_calls.RING,  # serve the ring     -> requests served
    **PROCESS_CALLS,
    **FILE_CALLS,
    **PRESSURE_CALLS,
    **HOTPLUG_CALLS,
}
INFO = {
    "NR_CPUS": guest_calls.INFO_NR_CPUS,
    "NR_NODES": guest_calls.INFO_NR_NODES,  # highest node id + 1
    "NODE_MASK": guest_calls.INFO_NODE_MASK,  # nodes that have a pglist_data
    "THIS_NODE": guest_calls.INFO_THIS_NODE,  # node of the CPU that asks
    "FREE_PAGES": guest_calls.INFO_FREE_PAGES,  # of node `argument`, deltas of all CPUs included
    "CLOCK": guest_calls.INFO_CLOCK,  # modelled ns since power-on
    "PGLIST_DATA": guest_calls.INFO_PGLIST_DATA,  # guest virtual address of node `argument`'s
}

BULK_MAX = guest_calls.BULK_MAX
PRINT_MAX = 4096
"""Bytes of one PRINT."""
EXIT_CODE_MAX = 255
_ADDRESS_MASK = 0x3FFF_FFFF_F000

Answer = tuple[int, int]
"""Result and errno."""


def _break_call(thread: int) -> None:
    """team.break_call(), which few machines need."""
    from .team import break_call

    break_call(thread)


class RunawayCallError(Exception):
    """Raised inside a hypercall that goes round in a damaged list."""


DAMAGE = (IndexError, ValueError, OverflowError, ZeroDivisionError, RunawayCallError, CallEnded)
"""What the allocator raises when a guest has overwritten its structures."""


class Hypercalls:
    """The kernel's side of the doorbell of one machine. `install` connects it.

    `calls` counts the requests that reached Python, `serving` is the number of the one being served
    (0: none); whoever runs the machine can tell from them that a call does not come to an end, and
    may raise `RunawayCallError` inside it from a signal handler (`inside`, `progress`).
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.memory = machine.memory
        self.m = machine.memory.words
        self.ram = memoryview(ram_table(machine.memory))
        self.calls = 0
        self.serving = 0
        self.serve: Callable[[int, int], int] = self._serve
        """Serves the mailbox of a CPU at a clock time, as `serve_mailbox` does."""
        self._verdict = Verdict.CONTINUE
        self._engine: Engine | None = None
        table: dict[str, Callable[[int, int], Answer]] = {
            "START_CPU": self._start_cpu,
            "YIELD": self._yield,
            "PRINT": self._print,
            "EXIT": self._exit,
        }
        self._table = {HYPERCALLS[name]: call for name, call in table.items()}
        self.processes = GuestProcesses(machine)
        self.processes.damage += DAMAGE

    @cached_property
    def process_calls(self) -> ProcessCalls:
        """The calls on behalf of a process. They come into the table, and their modules into
        memory, at the first of them: most guests make none."""
        from .file_calls import FileCalls
        from .hotplug_calls import HotplugCalls
        from .pressure_calls import PressureCalls
        from .process_calls import ProcessCalls

        calls = ProcessCalls(self.processes)
        self._table |= calls.table
        for other in (FileCalls(self.processes), PressureCalls(self.m), HotplugCalls(self.m)):
            self._table |= calls.for_processes(other.table)
        return calls

    def _serve(self, cpu: int, now: int) -> int:
        return serve_mailbox(self.m, self.ram, cpu, now)

    def install(self, stacks: Sequence[int] = (), engine: Engine | None = None) -> None:
        """Answer the machine's doorbell from now on, and let CPUID name the mailboxes; with
        `engine`'s code (that of the process, if left out) also inside the CPUs.

        `stacks`: guest virtual addresses of the upper ends of the CPUs' first stacks, by CPU; left
        out when RAM knows them already. The machine's clock goes on where bring-up left the
        kernel's.
        """
        for cpu, stack in enumerate(stacks):
            self.m[MAILBOXES + cpu * MAILBOX_WORDS + BOX_STACK] = signed(stack)
        clock = self.machine.clock
        clock.advance(self.m[G_CLOCK] - clock.now)
        self.machine.mailbox_address = mailbox_phys
        self.machine.doorbell.handler = self.ring
        self.processes.install()
        self._engine = engine or current_engine()
        attach_native(self.machine, self._engine)
        self.machine.beside = self._side_by_side
        self.machine.break_call = _break_call

    def _side_by_side(self) -> AbstractContextManager[object]:
        """Around a run with CPUs in threads. Compiled code serves them side by side, as a team;
        interpreted, it serves one at a time, under the machine's lock."""
        compiled = self._engine is not None and self._engine.name == "compiled"
        if not compiled or not self._engine:
            return nullcontext()
        from .team import Team

        return Team(self.m, self._engine)

    @property
    def inside(self) -> bool:
        """True in a signal handler that interrupts a request being served, by Python or not."""
        return self.serving != 0 or self.processes.busy or long_calls.polling

    @property
    def progress(self) -> tuple[int, int]:
        """Differs for every request and fault that was served by Python or took compiled code
        long."""
        return self.calls + self.processes.entries, long_calls.count

    def ring(self, cpu: int, value: int) -> Verdict:  # noqa: ARG002
        """CPU `cpu` wants the request in its mailbox served (the value it wrote means nothing).

        Never raises for anything a guest can do."""
        if not 0 <= cpu < NR_CPUS:
            return Verdict.CONTINUE
        number = self.m[MAILBOXES + cpu * MAILBOX_WORDS]
        if not PROCESS_CALLS_FIRST <= number <= PROCESS_CALLS_LAST:
            return self._ring(cpu, number)
        with self.machine.alone():
            return self._ring(cpu, number)

    def _ring(self, cpu: int, number: int) -> Verdict:
        m = self.m
        box = MAILBOXES + cpu * MAILBOX_WORDS
        self.calls += 1
        self._verdict = Verdict.CONTINUE
        self.serving = number or -1
        said = self.machine.cpus[cpu].take_answer() if cpu < len(self.machine.cpus) else SERVED
        if self.machine.in_threads and said != SERVED_LATER:
            m[G_CLOCK] = self.machine.clock.now  # what it says now is another CPU's time
        else:
            enter_kernel(self.machine)
        try:
            if self._answer(cpu, said) == NEEDS_MACHINE:
                acting = self.process_calls if number >= PROCESS_CALLS_FIRST else None
                call = self._table.get(number)
                result, errno = call(cpu, box + BOX_ARGS) if call else (0, ENOSYS)
                m[box + BOX_RESULT] = signed(result)
                m[box + BOX_ERRNO] = errno
                if acting and acting.yields:
                    acting.yields = False
                    self._verdict = Verdict.YIELD
        except DAMAGE as error:
            self._oops(cpu, number, error)
        finally:
            self.serving = 0
            leave_kernel(self.machine)
        return self._verdict

    def _answer(self, cpu: int, said: int) -> int:
        """What the request needs beyond RAM. Compiled code in the CPU has `said` the first word."""
        if said <= ENDED:
            raise failure("serve_mailbox", said)
        return said or self.serve(cpu, self.machine.clock.now)

    def _oops(self, cpu: int, number: int, error: Exception) -> None:
        """The allocator ran into what the guest made of its structures."""
        name = next(name for name, known in HYPERCALLS.items() if known == number)
        why = f"the allocator's structures are damaged ({error})"
        self.machine.stop("fault", EXIT_FAULT, f"cpu {cpu} in hypercall {name}: {why}")

    # --- the calls that need the machine: `a` is the word index of the first argument -----------

    def _start_cpu(self, cpu: int, a: int) -> Answer:
        m = self.m
        target, rip, rsp, arg = m[a], m[a + 1], m[a + 2], m[a + 3]
        known = target < len(self.machine.cpus) and cpu_is_online(m, target)
        if not known or not -(1 << 47) <= rip < 1 << 47:
            return 0, EINVAL
        vcpu = self.machine.cpus[target]
        if target == cpu or vcpu.state != "stopped":
            return 0, EBUSY
        vcpu.start(
            rip=unsigned(rip),
            rsp=unsigned(rsp or m[MAILBOXES + target * MAILBOX_WORDS + BOX_STACK]),
            cr3=m[G_PGD] & _ADDRESS_MASK,
            rdi=unsigned(arg),
            rsi=BOOT_PARAMS,
        )
        return 0, 0

    def _yield(self, cpu: int, a: int) -> Answer:  # noqa: ARG002
        self._verdict = Verdict.YIELD
        return 0, 0

    def _print(self, cpu: int, a: int) -> Answer:  # noqa: ARG002
        address, length = self.m[a], self.m[a + 1]
        if not 0 <= length <= PRINT_MAX:
            return 0, EINVAL
        if length:
            phys = ram_address(self.ram, address, length)
            if phys < 0:
                return 0, EFAULT
            self.machine.console.write(bytes(self.memory.bytes[phys : phys + length]))
        return length, 0

    def _exit(self, cpu: int, a: int) -> Answer:
        code = self.m[a]
        # What does not fit into an exit status must not turn into success.
        code = code if 0 <= code <= EXIT_CODE_MAX else EXIT_CODE_MAX
        self.machine.stop("exit", code, f"cpu {cpu} asked to exit with {self.m[a]}")
        return 0, 0
