# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from machine.cpuid import cpuid


def test_the_hypervisor_leaves_tell_signature_port_and_mailbox() -> None:
    eax, *text = cpuid(3, 4, 0x4000_0000, 0, 0x12_3456_7000)
    assert eax == 0x4000_0001
    assert struct.pack("<3I", *text) == b"numalab\0\0\0\0\0"
    assert cpuid(3, 4, 0x4000_0001, 0, 0x12_3456_7000) == (0x4E4C, 0x3456_7000, 0x12, 3)


@pytest.mark.parametrize("leaf", [2, 7, 0x10, 0x4000_0002, 0x8000_0009, 0xFFFF_FFFF])
def test_leaves_that_do_not_exist_are_zero(leaf: int) -> None:
    assert cpuid(0, 1, leaf, 0, None) == (0, 0, 0, 0)


def test_every_cpu_has_its_own_apic_id() -> None:
    assert [cpuid(n, 4, 1, 0, None)[1] >> 24 for n in range(4)] == [0, 1, 2, 3]
    assert [cpuid(n, 4, 0xB, 0, None)[3] for n in range(4)] == [0, 1, 2, 3]


def test_random_numbers_that_cannot_be_repeated_are_not_offered() -> None:
    assert not cpuid(0, 1, 1, 0, None)[2] >> 30 & 1
    assert not cpuid(0, 1, 7, 0, None)[1] >> 18 & 1


# popcnt, crc32 (SSE4.2), aesenc, pclmulqdq, pshufb (SSSE3), cmpxchg16b, lahf
FEATURES = "f3480fb8c3 f2480f38f1c3 660f38dcc1 660f3a44c100 660f3800c1 9f f4"


def test_the_cpu_executes_what_it_claims(guest: Callable[..., Any]) -> None:
    stop = guest().start(FEATURES).run()
    assert (stop.kind, stop.instructions) == ("halt", 7)


def test_the_guest_sees_these_answers(guest: Callable[..., Any]) -> None:
    g = guest()
    g.machine.mailbox_address = lambda cpu: 0x5000 + 0x1000 * cpu
    machine = g.start("b801000040 0fa2 f4")
    machine.run()
    regs = machine.cpus[0].regs
    assert (regs.rax, regs.rbx, regs.rcx, regs.rdx) == (0x4E4C, 0x5000, 0, 0)
