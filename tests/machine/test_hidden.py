# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from typing import Any

import pytest

from machine import BringUpError, Machine, Topology
from machine import hidden as module
from machine.hidden import (
    CS,
    DF,
    GDTR,
    IDTR,
    IF,
    LDTR,
    RBX,
    SS,
    TR,
    HiddenState,
)


def long_mode_cpu(code: str = "f4") -> Any:
    machine = Machine(Topology.parse("1x32M"))
    machine.memory.write(0x5000, (0x6003).to_bytes(8, "little"))
    machine.memory.write(0x6000, (0x7003).to_bytes(8, "little"))
    machine.memory.write(0x7000, (0x83).to_bytes(8, "little"))
    machine.memory.write(0x1000, bytes.fromhex(code))
    machine.cpus[0].start(0x1000, 0x4000, 0x5000)
    return machine.cpus[0]


def test_the_copy_shows_what_the_registers_show() -> None:
    cpu = long_mode_cpu()
    regs, hidden = cpu.regs, cpu.hidden
    regs.rbx, regs.rflags = 0x1234567812345678, 0xAD7
    hidden.load()
    assert hidden.gpr(RBX) == regs.rbx
    assert (hidden.rip, hidden.rsp) == (0x1000, 0x4000)
    assert hidden.rflags == regs.rflags == 0xAD7
    assert [hidden.control(n) for n in (0, 3, 4)] == [regs.cr0, regs.cr3, regs.cr4]
    assert hidden.efer == regs.efer
    assert (hidden.mode, hidden.cpl, hidden.paging, hidden.code64) == ("long", 0, True, True)


def test_nothing_changes_before_the_copy_is_stored_and_all_of_it_then() -> None:
    cpu = long_mode_cpu()
    regs, hidden = cpu.regs, cpu.hidden
    hidden.load()
    hidden.set_gpr(RBX, 7)
    hidden.rip, hidden.rsp = 0x2000, -8
    hidden.rflags = 0x8D7 | DF | IF
    hidden.set_segment(TR, 0x28, 0xFFFF_8000_0000_1000, 0x67, 0x8B00)
    hidden.set_control(2, 0xCAFE)
    assert (regs.rbx, regs.rip) == (0, 0x1000)
    hidden.store()
    assert (regs.rbx, regs.rip, regs.rsp) == (7, 0x2000, (1 << 64) - 8)
    assert regs.rflags == 0x8D7 | DF | IF
    assert (regs.tr_selector, regs.tr_base, regs.cr2) == (0x28, 0xFFFF_8000_0000_1000, 0xCAFE)


def test_flags_that_were_stored_are_there_when_the_cpu_runs() -> None:
    cpu = long_mode_cpu("9c 58 f4")  # pushf; pop rax
    cpu.hidden.load()
    cpu.hidden.rflags = 0x8D7 | DF | IF
    cpu.hidden.store()
    cpu.run_slice(10)
    assert cpu.regs.rax == cpu.regs.rflags == 0x8D7 | DF | IF


@pytest.mark.parametrize("number", [CS, SS, LDTR, TR, GDTR, IDTR])
def test_every_segment_register_can_be_changed_alone(number: int) -> None:
    cpu = long_mode_cpu()
    hidden = cpu.hidden
    hidden.load()
    before = [hidden.segment(n) for n in range(10)]
    after = (0x33, 0x123456, 0x789, before[number][3])
    hidden.set_segment(number, *after)
    hidden.store()
    hidden.load()
    before[number] = after
    assert [hidden.segment(n) for n in range(10)] == before


@pytest.mark.parametrize(
    ("flags", "mode", "runs"),
    [
        (0x00AF9B00, "long", 3),  # dec eax is a prefix there: 48 ffc0 = inc rax
        (0x00CF9B00, "compatibility", 4),
    ],
)
def test_the_mode_follows_the_code_segment_and_code_runs_in_it(
    flags: int, mode: str, runs: int
) -> None:
    cpu = long_mode_cpu("90 48 ffc0 f4")
    hidden = cpu.hidden
    hidden.load()
    hidden.set_segment(CS, 8, 0, 0xFFFFFFFF, flags)
    hidden.store()
    assert cpu.mode == mode
    assert cpu.run_slice(10)[1] == runs


def test_the_privilege_level_is_that_of_the_stack_segment() -> None:
    cpu = long_mode_cpu()
    hidden = cpu.hidden
    hidden.load()
    hidden.set_segment(CS, 0x33, 0, 0xFFFFFFFF, 0x00AFFB00)
    hidden.set_segment(SS, 0x2B, 0, 0xFFFFFFFF, 0x00CFF300)
    hidden.store()
    hidden.load()
    assert hidden.cpl == 3


def test_the_shadow_of_sti_is_seen() -> None:
    cpu = long_mode_cpu("fb 90 90 f4")
    seen = []
    for _ in range(3):
        cpu.run_slice(1)
        cpu.hidden.load()
        seen.append(cpu.hidden.inhibited)
    assert seen == [True, False, False]


def test_an_exception_is_told_with_its_error_code_and_forgotten_on_request() -> None:
    cpu = long_mode_cpu("b820000000 8ed8")  # a selector beyond the empty GDT
    cpu.run_slice(10)
    hidden = cpu.hidden
    hidden.load()
    assert hidden.error_code == 0  # dealt with already
    for _ in range(3):
        cpu.resume()
        cpu.run_slice(10)
        assert cpu.fault is not None
        assert cpu.fault.vector == 13  # and no double fault


def test_another_unicorn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RIP", 120)
    module._find_layout.cache_clear()
    try:
        with pytest.raises(BringUpError, match="unknown places"):
            module._find_layout()
    finally:
        module._find_layout.cache_clear()


def test_reset_is_the_same_whatever_was_before() -> None:
    states = []
    for code in ("f4", "b807000000 d9e8 0f22d0 f4"):
        cpu = long_mode_cpu(code)
        cpu.run_slice(10)
        hidden: HiddenState = cpu.hidden
        hidden.reset(long_mode=False)
        hidden.store()
        hidden.load()
        assert hidden.mode == "real"
        states.append(bytes(hidden._bytes[hidden._regs :]))
    assert states[0] == states[1]
