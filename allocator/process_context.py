# SPDX-License-Identifier: GPL-2.0-only
"""The registers of a guest process that is not running, in its task_struct.

A switch between processes of a CPU takes everything a program can see out of the CPU and puts it
into words of guest RAM, and back later: general, control, segment and FPU registers as
`machine.registers` saves them, and the words of the CPU's mailbox that hold a request and its
answer. A fork writes the same words for the child, whose answer is 0 and whose CR3 is its own.
"""

from __future__ import annotations

from functools import cache

from machine import VCPU

from .layout import MAILBOX_WORDS, MAILBOXES, signed, unsigned
from .mm_struct import TASK_MAILBOX, TASK_REGS, TASK_SAVED_REGS

BOX_WORDS = 10
"""Words of a mailbox that belong to the process: number, arguments, result, errno."""
STACK_WORD = 9

Places = tuple[tuple[str, int, int], ...]


@cache
def register_places(shape: tuple[tuple[str, int], ...]) -> Places:
    """Where each register lies: name, word, bytes (0: a number), for states of this shape."""
    places = []
    at = 0
    for name, size in shape:
        places.append((name, at, size))
        at += (size + 7) // 8 or 1
    if at > TASK_REGS:
        raise ValueError(f"the registers take {at} words, a task has room for {TASK_REGS}")
    return tuple(places)


def _places(state: dict[str, int | bytes]) -> Places:
    return register_places(
        tuple((name, len(v) if isinstance(v, bytes) else 0) for name, v in state.items())
    )


def save_registers(m: memoryview, task: int, vcpu: VCPU, cr3: int | None = None) -> None:
    """The CPU's registers into the task; with `cr3` in place of its own if given."""
    state = vcpu.regs.save()
    if cr3 is not None:
        state["cr3"] = cr3
    base = task + TASK_SAVED_REGS
    for name, at, size in _places(state):
        value = state[name]
        if isinstance(value, bytes):
            for n in range(0, size, 8):
                m[base + at + n // 8] = signed(int.from_bytes(value[n : n + 8], "little"))
        else:
            m[base + at] = signed(value)


def load_registers(m: memoryview, task: int, vcpu: VCPU) -> None:
    """What save_registers() put into the task back into the CPU. Between slices only."""
    state = vcpu.regs.save()
    base = task + TASK_SAVED_REGS
    for name, at, size in _places(state):
        if size:
            words = (size + 7) // 8
            raw = b"".join(unsigned(m[base + at + n]).to_bytes(8, "little") for n in range(words))
            state[name] = raw[:size]
        else:
            state[name] = unsigned(m[base + at])
    vcpu.regs.load(state)
    vcpu.flush_tlb()


def save_mailbox(m: memoryview, task: int, cpu: int) -> None:
    """The request and its answer in the CPU's mailbox into the task."""
    box = MAILBOXES + cpu * MAILBOX_WORDS
    for n in range(STACK_WORD):
        m[task + TASK_MAILBOX + n] = m[box + n]


def load_mailbox(m: memoryview, task: int, cpu: int) -> None:
    """What save_mailbox() put into the task back into the CPU's mailbox."""
    box = MAILBOXES + cpu * MAILBOX_WORDS
    for n in range(STACK_WORD):
        m[box + n] = m[task + TASK_MAILBOX + n]
