# SPDX-License-Identifier: GPL-2.0-only
"""Scheduling and faults of guest processes, seen from the kernel."""

from __future__ import annotations

import pytest

from allocator.boot_image import Guest, boot_image
from allocator.check import check_frames
from allocator.guest_process import comm_words, set_comm, task_comm
from allocator.kernel import Kernel
from allocator.kernel_globals import G_CHILD_REAPER
from allocator.layout import CPU_BLOCKS, CPU_NEED_RESCHED, CPU_RUNQUEUE, va_of_word
from allocator.mm_struct import MM_RB, TASK_ON_RQ
from allocator.resume import resume
from firmware import load_script
from machine import Machine, Topology
from machine.snapshot import load_snapshot, save_snapshot

BUDGET = 5_000_000
COUNT = """
    hypercall HC_FORK
    mov r12, rax
    mov ebx, 3
1:  print_decimal r12
    hypercall HC_SCHED_YIELD
    dec ebx
    jnz 1b
    test r12, r12
    jz 2f
    hypercall HC_WAIT, -1
    print "."
    exit 0
2:  hypercall HC_EXIT_PROCESS, 0
3:  jmp 3b
"""


def guest(body: str, topology: str = "1x64M") -> Guest:
    text = f'.include "numalab.inc"\n.globl _start\n_start: numalab_init\n{body}\n'
    return boot_image(Machine(Topology.parse(topology)), load_script(text))


def test_processes_of_a_cpu_take_turns_in_order() -> None:
    made = guest(COUNT)
    assert made.machine.run(BUDGET).kind == "exit"
    assert made.machine.console.text == "202020."


def test_the_queue_is_first_in_first_out_and_in_ram() -> None:
    made = guest("hypercall HC_GETPID\n1: jmp 1b")
    made.machine.run(100_000)
    guests = made.hypercalls.processes
    kernel = Kernel.attach(made.machine.memory)
    tasks = [kernel.create_process(f"p{n}").task for n in range(3)]
    for task in tasks:
        guests.enqueue(task)
        assert kernel.m[task + TASK_ON_RQ] == 1
    assert [guests.dequeue(0) for _ in range(4)] == [*tasks, 0]
    head = CPU_BLOCKS + CPU_RUNQUEUE
    assert kernel.m[head] == va_of_word(head)


def test_names_fit_into_two_words() -> None:
    made = guest("hypercall HC_GETPID\n1: jmp 1b")
    made.machine.run(100_000)
    m, task = made.machine.memory.words, made.hypercalls.processes.current(0)
    assert task_comm(m, task) == "init"
    assert m[G_CHILD_REAPER] == va_of_word(task)
    set_comm(m, task, "0123456789abcdefgh")
    assert task_comm(m, task) == "0123456789abcde"
    assert comm_words(b"") == (0, 0)


def test_a_cpu_whose_processes_all_wait_is_idle_until_one_can_run() -> None:
    body = """
    hypercall HC_GETPID
    lea rcx, [rip + second]
    hypercall HC_START_CPU, 1, rcx, 0, 0
3:  hypercall HC_YIELD
    lea rcx, [rip + flag]
    cmp qword ptr [rcx], 0
    je 3b
    hypercall HC_WAIT, -1
    print "woken"
    exit 0
second:
    numalab_init
    hypercall HC_GETPID
    lea rcx, [rip + flag]
    mov qword ptr [rcx], 1
    mov ebx, 20000
1:  dec ebx
    jnz 1b
    print "done "
    hypercall HC_EXIT_PROCESS, 0
2:  jmp 2b
    .data
flag: .quad 0
    .text
    """
    made = guest(body, "2x64M")
    assert made.machine.run(BUDGET).kind == "exit"
    assert made.machine.console.text == "done woken"


def test_everybody_waiting_for_nobody_halts_the_machine() -> None:
    body = """
    hypercall HC_FORK
    test rax, rax
    jz 1f
    hypercall HC_WAIT, -1
    exit 0
1:  hypercall HC_FORK
    test rax, rax
    jz 2f
    hypercall HC_WAIT, -1
2:  cli
    hlt
    """
    assert guest(body).machine.run(BUDGET).kind == "halt"


@pytest.mark.parametrize("budget", [90, 170, 260, 333])
def test_a_snapshot_in_the_middle_goes_on_as_if_nothing_had_been(
    budget: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("snapshot") / "state"
    first = guest(COUNT)
    assert first.machine.run(budget).kind == "budget"
    save_snapshot(first.machine, path)
    other = load_snapshot(path)
    resume(other)
    assert other.run(BUDGET).kind == first.machine.run(BUDGET).kind == "exit"
    assert other.console.text == first.machine.console.text
    assert check_frames(other.memory).sound


def test_overwritten_structures_end_in_a_fault_of_the_machine() -> None:
    body = "hypercall HC_MMAP, 0, 8192, 3, 0x22, -1, 0\nmov rbx, rax\nhypercall HC_YIELD\n"
    made = guest(body + "1: mov [rbx], rax\nadd rbx, 4096\njmp 1b")
    made.machine.run(3000)
    m = made.machine.memory.words
    task = made.hypercalls.processes.current(0)
    kernel = Kernel.attach(made.machine.memory)
    m[kernel.process(1).mm + MM_RB] = 1 << 60
    m[CPU_BLOCKS + CPU_NEED_RESCHED] = 0
    assert task
    stop = made.machine.run(BUDGET)
    assert stop.kind == "fault"
