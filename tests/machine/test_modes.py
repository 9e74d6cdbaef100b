# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from machine import Machine, Topology, UsageError


def machine() -> Machine:
    return Machine(Topology.parse("1x32M"))


def test_a_cpu_that_was_never_started_has_no_mode() -> None:
    assert machine().cpus[0].mode == "off"


def test_real_mode_begins_as_firmware_leaves_it() -> None:
    cpu = machine().cpus[0]
    cpu.start_real(0x1234, 0x56, dx=0x80, sp=0x7C00, ss=0x10, es=0x20)
    regs = cpu.regs
    assert cpu.mode == "real"
    assert (regs.cs, regs.cs_base, regs.cs_limit, regs.rip) == (0x1234, 0x12340, 0xFFFF, 0x56)
    assert (regs.ss_base, regs.es_base, regs.ds_base) == (0x100, 0x200, 0)
    assert (regs.rdx, regs.rsp, regs.rflags) == (0x80, 0x7C00, 0x202)
    assert (regs.cr0, regs.cr4, regs.efer) == (0x10, 0, 0)
    assert (regs.idtr_base, regs.idtr_limit) == (0, 0x3FF)
    assert cpu.linear("cs", 0x56) == 0x12396


def test_multiboot_begins_in_flat_protected_mode() -> None:
    cpu = machine().cpus[0]
    cpu.start_protected(0x100000, eax=0x2BADB002, ebx=0x9500)
    regs = cpu.regs
    assert cpu.mode == "protected 32"
    assert (regs.rax, regs.rbx, regs.rip, regs.rflags) == (0x2BADB002, 0x9500, 0x100000, 2)
    assert (regs.cr0, regs.ds_base, regs.ds_limit) == (0x11, 0, 0xFFFFFFFF)
    assert regs.get_many(("rax", "rbx")) == (0x2BADB002, 0x9500)


def test_long_mode_is_long_mode() -> None:
    cpu = machine().cpus[0]
    cpu.start(0x100000, 0x8000, 0x1000)
    assert cpu.mode == "long"
    assert cpu.regs.cs_flags >> 21 & 1


def test_only_general_registers_can_be_given() -> None:
    with pytest.raises(UsageError, match="r99"):
        machine().cpus[0].start_real(0, 0, **{"99": 1})


@pytest.mark.parametrize("mode", ["real", "protected 32", "long"])
def test_a_cpu_of_any_mode_can_be_saved_and_loaded(mode: str) -> None:
    first, second = machine(), machine()
    cpu = first.cpus[0]
    if mode == "real":
        cpu.start_real(0x100, 0x10)
    elif mode == "long":
        cpu.start(0x100000, 0x8000, 0x1000)
    else:
        cpu.start_protected(0x100000)
    other = second.cpus[0]
    other.load(cpu.save())
    assert other.mode == mode
    assert other.save() == cpu.save()


@pytest.mark.parametrize(
    ("name", "value"),
    [("reg_cr0", 0x80000000), ("reg_efer", 0x400), ("reg_efer", 0x100), ("reg_cr4", 0)],
)
def test_a_mode_that_no_cpu_has_is_refused(name: str, value: int) -> None:
    cpu = machine().cpus[0]
    cpu.start(0x100000, 0x8000, 0x1000)
    with pytest.raises(UsageError, match="no CPU has this mode"):
        machine().cpus[0].load(cpu.save() | {name: value})
