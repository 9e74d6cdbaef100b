# SPDX-License-Identifier: GPL-2.0-only
"""Guest programs that ask for pages as fast as they can, through the mailbox and through the ring.

Both exit with 0; every request that is refused makes the exit code 1. `rounds` is how often their
loop runs.
"""

from __future__ import annotations

from allocator.boot_image import Guest, boot_image
from firmware import load_script
from machine import Machine, Topology

BATCH = 16
"""Allocations, and as many frees, of one doorbell of the ring program."""


def mailbox(rounds: int, order: int = 0) -> str:
    """One block allocated and freed a round: two requests."""
    return f"""
    mov     r12d, {rounds}
1:  hypercall HC_ALLOC_PAGES, GFP_KERNEL, {order}, -1, 0
    jnz     9f
    hypercall HC_FREE_PAGES, rax, {order}
    jnz     9f
    dec     r12d
    jnz     1b
    exit    0
9:  exit    1
"""


def ring(rounds: int, order: int = 0) -> str:
    """BATCH blocks allocated and those of the round before freed: 2 * BATCH requests, one doorbell.

    Submissions have their slots for good, as there are just as many a round as the ring has; only
    the frames to be freed change.
    """
    fill = []
    for slot in range(BATCH):
        alloc, free = (f"r15 + RING_SQ + SIZEOF_SQE * {n}" for n in (slot, BATCH + slot))
        fill += [
            f"mov qword ptr [{alloc} + SQE_NUMBER], HC_ALLOC_PAGES",
            f"mov qword ptr [{alloc} + SQE_ARG1], GFP_KERNEL",
            f"mov qword ptr [{alloc} + SQE_ARG2], {order}",
            f"mov qword ptr [{alloc} + SQE_ARG3], -1",
            f"mov qword ptr [{alloc} + SQE_USER], {slot}",
            f"mov qword ptr [{free} + SQE_NUMBER], HC_INFO",
            f"mov qword ptr [{free} + SQE_USER], {BATCH + slot}",
        ]
    hand_over = []
    for slot in range(BATCH):
        free = f"r15 + RING_SQ + SIZEOF_SQE * {BATCH + slot}"
        done = f"r15 + RING_CQ + SIZEOF_CQE * {slot}"
        hand_over += [
            f"mov rax, [{done} + CQE_RESULT]",
            f"mov [{free} + SQE_ARG1], rax",
            f"or rbx, [{done} + CQE_ERRNO]",
            f"or rbx, [{done} + CQE_ERRNO + {BATCH} * SIZEOF_CQE]",
        ]
    frees = []
    for slot in range(BATCH):
        free = f"r15 + RING_SQ + SIZEOF_SQE * {BATCH + slot}"
        frees += [
            f"mov qword ptr [{free} + SQE_NUMBER], HC_FREE_PAGES",
            f"mov qword ptr [{free} + SQE_ARG2], {order}",
        ]
    return "\n    ".join(
        [
            "xor ebx, ebx",
            *fill,
            f"mov r12d, {rounds}",
            "1: add qword ptr [r15 + RING_SQ_TAIL], RING_ENTRIES",
            "hypercall HC_RING",
            "jnz 9f",
            "cmp rax, RING_ENTRIES",
            "jne 9f",
            *hand_over,
            "add qword ptr [r15 + RING_CQ_HEAD], RING_ENTRIES",
            "test r13d, r13d",
            "jnz 2f",
            "inc r13d",
            *frees,
            "2: dec r12d",
            "jnz 1b",
            "test rbx, rbx",
            "jnz 9f",
            "exit 0",
            "9: exit 1\n",
        ]
    )


def boot_program(body: str, numa: str = "2x64M") -> Guest:
    """A machine about to run `body`."""
    text = f'    .include "numalab.inc"\n    .globl _start\n_start:\n    numalab_init\n    {body}\n'
    return boot_image(Machine(Topology.parse(numa)), load_script(text))
