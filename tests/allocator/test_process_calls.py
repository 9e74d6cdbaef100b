# SPDX-License-Identifier: GPL-2.0-only
"""The hypercalls of processes as a table, and calls that need memory of the process."""

from __future__ import annotations

from allocator.boot_image import boot_image
from allocator.guest_calls import PROCESS_CALLS_FIRST, PROCESS_CALLS_LAST
from allocator.process_calls import PROCESS_CALLS
from firmware import load_script
from machine import Machine, Topology


def run(body: str, topology: str = "2x64M") -> str:
    text = f'.include "numalab.inc"\n.globl _start\n_start: numalab_init\n{body}\nexit 0\n'
    guest = boot_image(Machine(Topology.parse(topology)), load_script(text))
    assert set(guest.hypercalls.process_calls.table) == set(PROCESS_CALLS.values())
    stop = guest.machine.run(5_000_000)
    assert (stop.kind, stop.code) == ("exit", 0), stop.message
    return guest.machine.console.text


def test_numbers_are_unique_and_in_their_range() -> None:
    numbers = list(PROCESS_CALLS.values())
    assert len(set(numbers)) == len(numbers)
    assert all(PROCESS_CALLS_FIRST <= number < 64 <= PROCESS_CALLS_LAST for number in numbers)


def test_a_guest_moves_its_pages_and_reads_where_they_are() -> None:
    text = run("""
    hypercall HC_MMAP, 0, 8 * 4096, 3, 0x22, -1, 0
    mov rbx, rax
    mov qword ptr [rbx], 7
    lea r12, [rbx + 4096]           # addresses, nodes, status: a page of the process
    mov [r12], rbx
    mov qword ptr [r12 + 64], 1
    lea r13, [r12 + 64]
    lea r14, [r12 + 128]
    hypercall HC_MOVE_PAGES, 1, r12, 0, r14
    print_decimal [r14]
    hypercall HC_MOVE_PAGES, 1, r12, r13, r14
    print_decimal [r14]
    print_decimal [rbx]
    """)
    assert text == "017"


def test_a_guest_binds_memory_and_interleaves() -> None:
    text = run("""
    hypercall HC_MMAP, 0, 8 * 4096, 3, 0x22, -1, 0
    mov rbx, rax
    hypercall HC_MBIND, rbx, 4096, MPOL_BIND, 2, 0
    jnz 9f
    mov qword ptr [rbx], 1
    lea r12, [rbx + 4096]
    mov [r12], rbx
    hypercall HC_MOVE_PAGES, 1, r12, 0, r12
    print_decimal [r12]
    hypercall HC_SET_MEMPOLICY, MPOL_INTERLEAVE, 3
    jnz 9f
    hypercall HC_SET_MEMPOLICY, MPOL_DEFAULT, 0
9:  print_decimal rdx
    """)
    assert text == "10"


def test_the_heap_of_a_guest_moves() -> None:
    text = run("""
    hypercall HC_BRK, 0
    mov rbx, rax
    lea rcx, [rbx + 0x3000]
    hypercall HC_BRK, rcx
    sub rax, rbx
    print_hex rax
    mov byte ptr [rbx + 0x2fff], 1
    hypercall HC_BRK, rbx
    cmp rax, rbx
    jne 9f
    print " back"
9:
    """)
    assert text == "0x3000 back"


def test_a_child_inherits_its_oom_score_and_parent() -> None:
    text = run("""
    hypercall HC_SET_OOM_SCORE_ADJ, 0, -500
    print_decimal rdx
    hypercall HC_SET_OOM_SCORE_ADJ, 0, 2000
    print_decimal rdx
    hypercall HC_FORK
    test rax, rax
    jnz 1f
    hypercall HC_GETPPID
    print " parent "
    print_decimal rax
    hypercall HC_EXIT_PROCESS, 9
1:  hypercall HC_WAIT, rax
    print " status "
    mov rax, [r15 + MAILBOX_ARG1]
    print_hex rax
    """)
    assert text == "022 parent 1 status 0x900"
