# SPDX-License-Identifier: GPL-2.0-only
"""The registers of a process that does not run, in RAM."""

from __future__ import annotations

import pytest

from allocator.boot_image import Guest, boot_image
from allocator.guest_calls import BOX_RESULT
from allocator.layout import MAILBOXES
from allocator.mm_struct import TASK_REGS
from allocator.process_context import (
    load_mailbox,
    load_registers,
    register_places,
    save_mailbox,
    save_registers,
)
from firmware import load_script
from machine import Machine, Topology

TASK = 0x3F00000 // 8  # words of RAM that nothing uses


def running() -> Guest:
    script = '.include "numalab.inc"\n.globl _start\n_start: 1: jmp 1b\n'
    guest = boot_image(Machine(Topology.parse("1x64M")), load_script(script))
    guest.machine.run(100)
    return guest


def test_registers_come_back_to_the_bit() -> None:
    guest = running()
    vcpu, m = guest.machine.cpus[0], guest.machine.memory.words
    regs = vcpu.regs
    regs.rax, regs.r15, regs.rflags = (1 << 64) - 1, 0x8000000000000000, 0x246
    regs["fs_base"] = 0x7FFF12345678
    before = regs.save()
    save_registers(m, TASK, vcpu)
    for name in ("rax", "rbx", "r15", "rsp", "fs_base"):
        regs[name] = 0x1111
    assert regs.save() != before
    load_registers(m, TASK, vcpu)
    assert regs.save() == before


def test_a_child_gets_another_cr3() -> None:
    guest = running()
    vcpu, m = guest.machine.cpus[0], guest.machine.memory.words
    was = vcpu.regs.cr3
    save_registers(m, TASK, vcpu, was + 0x1000)
    load_registers(m, TASK, vcpu)
    assert vcpu.regs.cr3 == was + 0x1000


def test_the_mailbox_comes_back_but_for_the_stack_word() -> None:
    guest = running()
    m = guest.machine.memory.words
    for n in range(10):
        m[MAILBOXES + n] = 100 + n
    save_mailbox(m, TASK, 0)
    for n in range(10):
        m[MAILBOXES + n] = 0
    load_mailbox(m, TASK, 0)
    assert m[MAILBOXES : MAILBOXES + 10].tolist() == [*range(100, 109), 0]
    assert m[MAILBOXES + BOX_RESULT] == 107


def test_registers_that_do_not_fit_are_an_error_not_an_overflow() -> None:
    assert register_places((("a", 0), ("b", 10), ("c", 16))) == (
        ("a", 0, 0),
        ("b", 1, 10),
        ("c", 3, 16),
    )
    with pytest.raises(ValueError, match="room for"):
        register_places(tuple((f"r{n}", 0) for n in range(TASK_REGS + 1)))
