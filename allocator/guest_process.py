# SPDX-License-Identifier: GPL-2.0-only
"""Processes on virtual CPUs: which one runs, and what becomes of their faults.

The code that a boot image starts with becomes the first process, init with process id 1, at its
first call that needs one; what other CPUs start becomes a process of its own, a child of init. All
of them go on where they are, in their own address space now. A fork makes another process on the
same CPU. Each CPU has a queue of processes that could run, in guest RAM, and goes on to the next
one when the current one yields, waits or ends: a process is never interrupted, so runs repeat
exactly.

Before every slice `schedule` is asked (see `Machine.schedule`): it drops stale translations, gives
a forked child its registers, and switches if there is reason to. `fault` is the machine's fault
handler: a page fault that can be served is, anything else kills the process, and the machine with
it when that was init.
"""

from __future__ import annotations

from functools import partial

from machine import VCPU, Fault, Machine, UsageError
from machine.machine import EXIT_FAULT

from .daemons import Daemons
from .exit import ECHILD, do_exit, do_wait, release_task
from .fault import (
    PF_USER,
    SI_KERNEL,
    SIGSEGV,
    bad_area,
    do_page_fault,
    fatal_signal,
    first_touch,
    granted,
)
from .flusher import writeback_tick
from .fork import copy_process
from .guest_calls import BOX_ARGS, BOX_ERRNO, BOX_RESULT
from .kernel_base import DAMAGE
from .kernel_globals import G_CHILD_REAPER, G_LAST_PID, G_MM_INIT_DONE, G_PANIC, G_TLB_GEN
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_FORKING,
    CPU_NEED_RESCHED,
    CPU_RUNQUEUE,
    CPU_WORDS,
    INIT_TASKS,
    MAILBOX_WORDS,
    MAILBOXES,
    PAGE_OFFSET,
    TASK,
    TASK_COMM,
    TASK_FATAL_SIGNAL,
    TASK_MM,
    TASK_PID,
    TASK_STATE,
    TASK_WORDS,
    signed,
    unsigned,
)
from .list_head import list_add_tail, list_del, list_init
from .mm_init import INIT_PID, mm_init
from .mm_struct import (
    MM_PGD,
    TASK_EXIT_CODE,
    TASK_FAULT_CODE,
    TASK_FAULT_IP,
    TASK_GUEST,
    TASK_INTERRUPTIBLE,
    TASK_MAILBOX,
    TASK_ON_RQ,
    TASK_PARENT,
    TASK_RUN_LIST,
    TASK_RUNNING,
    TASK_WAIT_FOR,
)
from .pgtable import TASK_SIZE
from .process_context import load_mailbox, load_registers, save_mailbox, save_registers
from .signals import VECTOR_SIGNALS, death_of, describe
from .timekeeping import enter_kernel, leave_kernel
from .vma import vma_va, vma_word

EAGAIN, ENOMEM = 11, 12
TASK_CPU = TASK["cpu"]
LOAD_CR3 = 2
"""In need_resched: the process that runs has got an address space, nobody else's turn has come."""


def comm_words(name: bytes) -> tuple[int, int]:
    """A task's name as the two words of `comm`; cut to 15 bytes."""
    raw = name[:15].ljust(16, b"\0")
    low, high = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
    return signed(low), signed(high)


def task_comm(m: memoryview, task: int) -> str:
    """A task's name."""
    words = (unsigned(m[task + TASK_COMM + n]).to_bytes(8, "little") for n in range(2))
    return b"".join(words).split(b"\0")[0].decode("ascii", "replace")


def set_comm(m: memoryview, task: int, name: str) -> None:
    """Names a task."""
    m[task + TASK_COMM], m[task + TASK_COMM + 1] = comm_words(name.encode("ascii", "replace"))


class GuestProcesses:
    """The processes that run on the CPUs of `machine`. `deaths` has a line for each that a fault
    has killed, for people; `busy` is True while a fault is served or processes are switched,
    `entries` counts the faults."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.m = machine.memory.words
        self.deaths: list[str] = []
        self.daemons = Daemons(self.m)
        self.damage: tuple[type[Exception], ...] = (*DAMAGE, UsageError)
        """What the kernel raises when a guest has overwritten its structures."""
        self.busy = False
        self.entries = 0
        self._tlb_seen = self.m[G_TLB_GEN]

    def install(self) -> None:
        """Serves the machine's faults and schedules its CPUs, if the kernel in it has processes.
        At the first process at the latest."""
        if self.m[G_MM_INIT_DONE]:
            self.machine.fault_handler = self.fault
            for vcpu in self.machine.cpus:
                vcpu.page_fault = partial(self.quick_fault, vcpu.cpu_id)
            self.machine.schedule = self.schedule

    # --- who runs ---------------------------------------------------------------------------------

    def current(self, cpu: int) -> int:
        """The process that is current on `cpu`, 0 if that is the idle task."""
        task = vma_word(self.m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT])
        return task if self.m[task + TASK_MM] else 0

    def ensure(self, cpu: int) -> int:
        """The process that is current on `cpu`; what runs there becomes one if it is none yet.
        -ENOMEM if there is no memory for that."""
        m = self.m
        task = self.current(cpu)
        if task:
            return task
        if mm_init(m, cpu):
            return -ENOMEM
        self.install()
        idle = INIT_TASKS + cpu * TASK_WORDS
        reaper = vma_word(m[G_CHILD_REAPER])
        task = copy_process(m, cpu, idle, reaper)
        if task < 0:
            return task
        set_comm(m, task, "init" if reaper == 0 else f"cpu{cpu}")
        if reaper == 0:
            m[G_CHILD_REAPER] = vma_va(task)
            m[G_LAST_PID] = max(m[G_LAST_PID] - 1, INIT_PID)
            m[task + TASK_PID] = INIT_PID
        m[task + TASK_GUEST] = 1
        m[task + TASK_CPU] = cpu
        block = CPU_BLOCKS + cpu * CPU_WORDS
        m[block + CPU_CURRENT] = vma_va(task)
        m[block + CPU_NEED_RESCHED] = LOAD_CR3
        return task

    def enqueue(self, task: int) -> None:
        """The process could run: it goes to the end of its CPU's queue, and an idle CPU wakes."""
        m = self.m
        cpu = m[task + TASK_CPU]
        block = CPU_BLOCKS + cpu * CPU_WORDS
        node = task + TASK_RUN_LIST
        m[task + TASK_STATE] = TASK_RUNNING
        m[task + TASK_ON_RQ] = 1
        list_add_tail(m, node, PAGE_OFFSET + (node << 3), block + CPU_RUNQUEUE)
        if self.current(cpu) == 0:
            m[block + CPU_NEED_RESCHED] = 1
            if cpu < len(self.machine.cpus):
                self.machine.cpus[cpu].wake()

    def dequeue(self, cpu: int) -> int:
        """Takes the next process out of the CPU's queue; 0 if it is empty."""
        m = self.m
        head = CPU_BLOCKS + cpu * CPU_WORDS + CPU_RUNQUEUE
        if m[head] == PAGE_OFFSET + (head << 3):
            return 0
        node = vma_word(m[head])
        list_del(m, node)
        list_init(m, node)
        m[node - TASK_RUN_LIST + TASK_ON_RQ] = 0
        return node - TASK_RUN_LIST

    # --- the machine's hooks ----------------------------------------------------------------------

    def drop_stale_translations(self) -> None:
        """CPUs forget what they know of page tables that have lost something."""
        gen = self.m[G_TLB_GEN]
        if gen != self._tlb_seen:
            self._tlb_seen = gen
            self.machine.flush_tlbs()

    def leave(self, cpu: int) -> None:
        """On the way out of the kernel: the daemons' turn, those with a fatal signal die."""
        self.daemons.turn(cpu)
        current = self.current(cpu)
        for task in self.daemons.victims():
            if task != current and self.m[task + TASK_GUEST]:
                self.kill(cpu, task, fatal_signal(self.m, task), death_of(self.m, task))
        if self.daemons.panic:
            self.machine.stop("fault", EXIT_FAULT, f"cpu {cpu}: {self.daemons.panic}")
        self.drop_stale_translations()

    def schedule(self, vcpu: VCPU) -> bool:
        """Before a slice of `vcpu`: puts the process on it that is to run. False if none could."""
        self.busy = True
        try:
            return self._schedule(vcpu)
        except self.damage as error:
            why = f"the kernel's structures are damaged ({error})"
            self.machine.stop("fault", EXIT_FAULT, f"cpu {vcpu.cpu_id} between processes: {why}")
            return False
        finally:
            self.busy = False

    def _schedule(self, vcpu: VCPU) -> bool:
        m, cpu = self.m, vcpu.cpu_id
        self.drop_stale_translations()
        block = CPU_BLOCKS + cpu * CPU_WORDS
        if m[block + CPU_FORKING]:
            self._start_child(vcpu, vma_word(m[block + CPU_FORKING]))
            m[block + CPU_FORKING] = 0
        if m[block + CPU_NEED_RESCHED] == 0:
            return True
        switch = m[block + CPU_NEED_RESCHED] != LOAD_CR3
        m[block + CPU_NEED_RESCHED] = 0
        old = self.current(cpu)
        runnable = old and m[old + TASK_STATE] == TASK_RUNNING
        new = self.dequeue(cpu) if switch else 0
        if new == 0 and runnable:
            vcpu.regs.cr3 = self._cr3(old)
            vcpu.flush_tlb()
            return True
        if old:
            save_registers(m, old, vcpu, self._cr3(old))
            save_mailbox(m, old, cpu)
            if runnable:
                self.enqueue(old)
        if new == 0:
            m[block + CPU_CURRENT] = PAGE_OFFSET + (INIT_TASKS + cpu * TASK_WORDS << 3)
            vcpu.state = "halted"
            return False
        m[block + CPU_CURRENT] = vma_va(new)
        load_registers(m, new, vcpu)
        load_mailbox(m, new, cpu)
        return True

    def _cr3(self, task: int) -> int:
        return self.m[vma_word(self.m[task + TASK_MM]) + MM_PGD] - PAGE_OFFSET

    def _start_child(self, vcpu: VCPU, child: int) -> None:
        """A forked child gets the registers of its parent, with an answer of its own."""
        m = self.m
        save_registers(m, child, vcpu, self._cr3(child))
        save_mailbox(m, child, vcpu.cpu_id)
        m[child + TASK_MAILBOX + BOX_RESULT] = 0
        m[child + TASK_MAILBOX + BOX_ERRNO] = 0
        self.enqueue(child)

    def quick_fault(self, cpu: int, va: int, code: int) -> int:
        """Serves the most frequent fault at once, without leaving the engine: the first touch of an
        anonymous page. What a walk says then; -1 for any other fault, which comes to `fault`."""
        m = self.m
        self.busy = True
        self.entries += 1
        try:
            task = self.current(cpu)
            if task == 0 or va >= TASK_SIZE:
                return -1
            entry = first_touch(m, cpu, task, va, code)
            if entry == 0 or m[G_TLB_GEN] != self._tlb_seen:
                return -1
            self.daemons.turn(cpu)
            return -1 if m[G_PANIC] or m[G_TLB_GEN] != self._tlb_seen else granted(entry)
        except self.damage:
            return -1
        finally:
            self.busy = False

    def fault(self, vcpu: VCPU, fault: Fault) -> bool:
        """The machine's fault handler: as _fault(), but a fault of the machine where the guest has
        overwritten the kernel's structures."""
        self.busy = True
        self.entries += 1
        try:
            return self._fault(vcpu, fault)
        except self.damage as error:
            why = f"the kernel's structures are damaged ({error})"
            self.machine.stop("fault", EXIT_FAULT, f"cpu {vcpu.cpu_id} in a page fault: {why}")
            return True
        finally:
            self.busy = False

    def _fault(self, vcpu: VCPU, fault: Fault) -> bool:
        """Serves a fault of the current process, or ends it. False if there is no process, or the
        guest has handlers of its own for what is not ours."""
        m, cpu = self.m, vcpu.cpu_id
        task = self.current(cpu)
        if task == 0:
            return False
        if fault.va is not None:
            code = fault.error_code or 0
            va = signed(fault.va)
            enter_kernel(self.machine)
            writeback_tick(m, cpu)
            sp = signed(vcpu.regs.rsp) if code & PF_USER else 0
            signal = do_page_fault(m, cpu, task, va, code, sp)
            self.leave(cpu)
            leave_kernel(self.machine)
            if signal == 0:
                return True
        else:
            signal = VECTOR_SIGNALS.get(fault.vector or 0, SIGSEGV)
            signal = bad_area(m, task, signed(fault.rip), signal, SI_KERNEL)
            va = signed(fault.rip)
        if vcpu.regs["idtr_limit"] and not m[task + TASK_FATAL_SIGNAL]:
            return False
        m[task + TASK_FAULT_IP] = signed(fault.rip)
        self.kill(cpu, task, signal, describe(signal, m[task + TASK_FAULT_CODE], va))
        return True

    # --- the ends of processes --------------------------------------------------------------------

    def kill(self, cpu: int, task: int, signal: int, why: str) -> None:
        """Ends a process with a signal; the machine, too, if it is init."""
        m = self.m
        name = f"{task_comm(m, task)}[{m[task + TASK_PID]}]"
        line = f"{name}: {why}, rip {unsigned(m[task + TASK_FAULT_IP]):#x}"
        self.deaths.append(line)
        if vma_word(m[G_CHILD_REAPER]) == task:
            panic = f"Kernel panic - not syncing: Attempted to kill init! exitcode={signal:#010x}"
            self.machine.stop("fault", EXIT_FAULT, f"cpu {cpu}: {panic} ({line})")
            return
        self.exit(cpu, task, signal)

    def init_exits(self, cpu: int, code: int) -> None:
        """init has ended by itself, which no kernel survives."""
        panic = f"Kernel panic - not syncing: Attempted to kill init! exitcode={code:#010x}"
        self.machine.stop("fault", EXIT_FAULT, f"cpu {cpu}: {panic}")

    def exit(self, cpu: int, task: int, code: int) -> None:
        """Ends a process of a CPU, which goes on to the next one, and tells its parent if that is
        waiting."""
        m = self.m
        block = CPU_BLOCKS + cpu * CPU_WORDS
        if self.current(cpu) == task:
            m[block + CPU_CURRENT] = PAGE_OFFSET + (INIT_TASKS + cpu * TASK_WORDS << 3)
            m[block + CPU_NEED_RESCHED] = 1
        parent = vma_word(m[task + TASK_PARENT])
        do_exit(m, cpu, task, code)
        if parent and m[parent + TASK_STATE] == TASK_INTERRUPTIBLE:
            pid, status, errno = self.reap(cpu, parent, m[parent + TASK_WAIT_FOR])
            if pid or errno:
                self._answer_wait(parent, pid, status, errno)

    def _answer_wait(self, parent: int, pid: int, status: int, errno: int) -> None:
        """What a process waited for has come: it could run again."""
        m = self.m
        where = m[parent + TASK_CPU]
        there = self.current(where) == parent  # its CPU has not gone on to another one yet
        box = MAILBOXES + where * MAILBOX_WORDS if there else parent + TASK_MAILBOX
        m[box + BOX_RESULT], m[box + BOX_ARGS], m[box + BOX_ERRNO] = pid, status, errno
        if there:
            m[parent + TASK_STATE] = TASK_RUNNING
        else:
            self.enqueue(parent)

    def reap(self, cpu: int, parent: int, wanted: int) -> tuple[int, int, int]:
        """A dead child of `parent` (`wanted`: its process id, -1 for any): its process id and exit
        code, and it is gone. (0, 0, 0) if none has died, (0, 0, ECHILD) if there is none."""
        m = self.m
        child = do_wait(m, parent, wanted)
        if child == -ECHILD:
            return 0, 0, ECHILD
        if child == 0:
            return 0, 0, 0
        pid, status = m[child + TASK_PID], m[child + TASK_EXIT_CODE]
        release_task(m, cpu, child)
        return pid, status, 0
