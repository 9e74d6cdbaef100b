# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

STAR, LSTAR, SFMASK, EFER = 0xC0000081, 0xC0000082, 0xC0000084, 0xC0000080


def start(guest: Callable[..., Any], code: str) -> Any:
    g = guest("1x64M")
    g.put("4889e3 f4", 0x102000)  # mov rbx, rsp; hlt
    return g.start(code)


def test_syscall_enters_the_kernel_and_keeps_where_it_came_from(guest: Callable[..., Any]) -> None:
    machine = start(guest, "90 0f05 f4")
    regs = machine.cpus[0].regs
    regs.star, regs.lstar, regs.sfmask = 0x33 << 48 | 0x10 << 32, 0x102000, 0x255
    regs.rflags = 0xAD7
    stop = machine.run()
    assert (stop.kind, stop.rip, stop.instructions) == ("halt", 0x102004, 4)
    assert (regs.rcx, regs.r11) == (0x100003, 0xAD7)
    assert regs.rflags == 0xAD7 & ~0x255 | 2
    assert (regs.cs, regs.ss, machine.cpus[0].mode) == (0x10, 0x18, "long")


def test_sysenter_takes_all_three_from_its_msrs(guest: Callable[..., Any]) -> None:
    machine = start(guest, "0f34")
    regs = machine.cpus[0].regs
    regs.sysenter_cs, regs.sysenter_eip, regs.sysenter_esp = 0x10, 0x102000, 0x12345000
    assert machine.run().kind == "halt"
    assert (regs.rbx, regs.cs, regs.ss) == (0x12345000, 0x10, 0x18)


@pytest.mark.parametrize(
    ("code", "prepare", "vector", "rip"),
    [
        ("90 0f05", {"efer": 0xD00}, 6, 0x100001),
        ("90 0f34", {"sysenter_cs": 0}, 13, 0x100001),
        ("90 0f34", {"sysenter_cs": 3}, 13, 0x100001),
    ],
)
def test_a_call_that_is_not_set_up_is_an_exception_at_the_instruction(
    guest: Callable[..., Any], code: str, prepare: dict[str, int], vector: int, rip: int
) -> None:
    machine = start(guest, code)
    for name, value in prepare.items():
        machine.cpus[0].regs[name] = value
    stop = machine.run()
    assert (stop.kind, stop.rip, stop.instructions) == ("fault", rip, 1)
    assert machine.cpus[0].fault.vector == vector


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_a_call_counts_as_one_instruction(guest: Callable[..., Any], budget: int) -> None:
    machine = start(guest, "90 0f05 f4")
    machine.cpus[0].regs.star, machine.cpus[0].regs.lstar = 0x10 << 32, 0x102000
    total = 0
    while (stop := machine.run(max_instructions=budget)).kind == "budget":
        total += stop.instructions
    assert total + stop.instructions == 4
