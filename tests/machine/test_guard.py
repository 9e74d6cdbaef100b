# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from machine.guard import Guard

GDT, TSS, FAR = 0x110000, 0x112000, 0x102000
USER_CODE = 0x101000


def descriptors(*entries: int) -> bytes:
    return b"".join(entry.to_bytes(8, "little") for entry in entries)


def user_calls_through_a_gate(guest: Callable[..., Any], ltr: str, entry: str) -> Any:
    """`ltr` in kernel mode, then user mode, then a call through a gate to kernel code `entry`."""
    g = guest()
    gate = 0x3000 | 0x10 << 16 | 0xEC00 << 32 | 0x10 << 48  # 0x10:0x103000, from user mode
    tss = 0x67 | (TSS & 0xFFFFFF) << 16 | 0x89 << 40
    code, user, data = 0x00AF9B000000FFFF, 0x00AFFB000000FFFF, 0x00CFF3000000FFFF
    g.put(descriptors(0, code, code, data, user, data, gate, 0, tss, 0), GDT)
    g.put((0x80000).to_bytes(8, "little"), TSS + 4)
    g.put("ff1c2500201000", USER_CODE)
    g.put((0).to_bytes(4, "little") + (0x33).to_bytes(2, "little"), FAR)
    g.put(entry, 0x103000)
    machine = g.start(f"{ltr} 6a2b 6800000800 6a02 6a23 6800101000 48cf")
    machine.cpus[0].regs.gdtr_base = GDT
    machine.cpus[0].regs.gdtr_limit = 0x4F
    return machine


def test_a_null_task_register_is_a_fault_and_not_the_end_of_the_process(
    guest: Callable[..., Any],
) -> None:
    stop = user_calls_through_a_gate(guest, "31c0 0f00d8", "f4").run(1000)
    assert stop.kind == "fault"
    assert "#TS" in stop.message
    assert (stop.rip, stop.instructions) == (USER_CODE, 8)


def test_a_real_task_register_works_and_counts_as_one_instruction(
    guest: Callable[..., Any],
) -> None:
    machine = user_calls_through_a_gate(guest, "b840000000 0f00d8", "90f4")
    stop = machine.run(1000)
    assert (stop.kind, stop.rip, stop.instructions) == ("halt", 0x103002, 11)
    assert machine.cpus[0].regs.tr_selector == 0x40


def test_the_count_is_the_same_however_the_run_is_cut(guest: Callable[..., Any]) -> None:
    machine = user_calls_through_a_gate(guest, "b840000000 0f00d8", "90f4")
    steps: list[Any] = []
    while not steps or steps[-1].kind == "budget":
        steps.append(machine.run(1))
    assert sum(step.instructions for step in steps) == 11
    assert len({step.rip for step in steps[:-1]}) == 10


def test_code_that_merely_looks_like_ltr_is_undisturbed(guest: Callable[..., Any]) -> None:
    # mov eax, 0xd8000f: the bytes of LTR inside an immediate, in a loop of 50
    machine = guest().start("b932000000 b80f00d890 ffc9 75f7 f4")
    stop = machine.run(1000)
    assert (stop.kind, stop.instructions) == ("halt", 1 + 50 * 3 + 1)
    assert machine.cpus[0].regs.rax == 0x90D8000F


def test_the_apic_base_is_read_and_written_for_the_engine(guest: Callable[..., Any]) -> None:
    # mov ecx, 0x1b; rdmsr; mov rbx, rax; and ah, 0xf7; wrmsr; rdmsr; hlt
    machine = guest().start("b91b000000 0f32 4889c3 80e4f7 0f30 0f32 f4")
    stop = machine.run(100)
    regs = machine.cpus[0].regs
    assert (stop.kind, stop.instructions) == ("halt", 7)
    assert (regs.rbx, regs.rax, regs.rdx) == (0xFEE00900, 0xFEE00100, 0)


def test_other_msrs_are_the_engines(guest: Callable[..., Any]) -> None:
    # wrmsr of the page attribute table, and back
    machine = guest().start("b977020000 b806040706 ba06040706 0f30 31c0 31d2 0f32 f4")
    stop = machine.run(100)
    assert (stop.kind, stop.instructions) == ("halt", 8)
    assert machine.cpus[0].regs.rax == 0x06070406


def test_the_time_stamp_counter_can_be_set(guest: Callable[..., Any]) -> None:
    machine = guest().start("b910000000 31c0 ba01000000 0f30 0f31 90 f4")
    machine.run(100)
    regs = machine.cpus[0].regs
    assert regs.rdx == 1
    assert regs.rax == 2  # the WRMSR itself, and the RDTSC


def test_cr8_is_the_priority_of_the_local_apic(guest: Callable[..., Any]) -> None:
    # mov eax, 9; mov cr8, rax; xor eax, eax; mov r9, cr8; hlt
    machine = guest().start("b809000000 440f22c0 31c0 450f20c1 f4")
    stop = machine.run(100)
    assert (stop.kind, stop.instructions) == ("halt", 5)
    assert machine.apics.apics[0].tpr == 0x90
    assert machine.cpus[0].regs.r9 == 9


def test_cr8_takes_no_more_than_four_bits(guest: Callable[..., Any]) -> None:
    machine = guest().start("b810000000 440f22c0 f4")
    machine.run(100)
    assert machine.apics.apics[0].tpr == 0


def with_interrupt(guest: Callable[..., Any], code: str) -> Any:
    """A guest in which vector 0x40 counts in EBP and says so on the console; one is waiting."""
    g = guest("1x64M")
    g.put(descriptors(0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF), GDT)
    handler = 0x103000
    gate = handler & 0xFFFF | 0x10 << 16 | 0x8E00 << 32 | (handler >> 16) << 48
    g.put(descriptors(gate, 0), 0x111000 + 0x400)
    g.machine.memory.write_u64(4, 0x70000)  # the stack of ring 0, in the TSS at 0
    g.put("ffc5 50 b049 e6e9 58 48cf", handler)
    machine = g.start(code)
    regs = machine.cpus[0].regs
    regs.gdtr_base, regs.gdtr_limit = GDT, 0x1F
    regs.idtr_base, regs.idtr_limit = 0x111000, 0xFFF
    apic = machine.apics.apics[0]
    apic.firmware_setup()
    apic.accept(0, 0x40, False)
    return machine


# Each says "a", lets interrupts in for exactly one instruction boundary or more, and says "b".
OPENERS = {
    "sti": ("b061 e6e9 fb b062 e6e9 f4", "aIb"),
    "sti and cli at once": ("b061 e6e9 fb fa b062 e6e9 f4", "ab"),
    "popf": ("b061 e6e9 6802020000 9d b062 e6e9 f4", "aIb"),
    "popf that leaves them off, then on": (
        "b061 e6e9 6802000000 9d b063 e6e9 6802020000 9d b062 e6e9 f4",
        "acIb",
    ),
    "popf with a prefix": ("b061 e6e9 66680202 669d b062 e6e9 f4", "aIb"),
    "iret": (
        "b061 e6e9 6a18 6800000800 6802020000 6a10 6a00 48c70424 1e001000 48cf b062 e6e9 f4",
        "aIb",
    ),
    "sysret": ("b061 e6e9 b91c001000 41bb02020000 eb08 9090909090909090 480f07 f4 f4 f4", "aI"),
    "an immediate that looks like sti": ("b061 e6e9 b8fb9dcf00 b062 e6e9 f4", "ab"),
}


@pytest.mark.parametrize("name", OPENERS)
@pytest.mark.parametrize("budget", [1000, 1])
def test_an_interrupt_is_taken_right_where_the_flag_comes_on(
    guest: Callable[..., Any], name: str, budget: int
) -> None:
    code, said = OPENERS[name]
    machine = with_interrupt(guest, code)
    for _ in range(60):
        if machine.run(max_instructions=budget).kind != "budget":
            break
    assert machine.console.text == said


def test_flags_saved_and_restored_in_a_loop_do_not_stop_while_an_interrupt_waits(
    guest: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    step = Guard.step
    monkeypatch.setattr(Guard, "step", lambda guard: steps.append(1) or step(guard))
    machine = with_interrupt(guest, "b9e8030000 9c 9d ffc9 75fa fb 90 f4")
    assert machine.run(10_000).kind == "halt"
    assert machine.console.text == "I"
    assert len(steps) < 5


def test_ltr_is_watched_however_much_else_there_is(
    guest: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machine.guard._MAX_WATCHED", 0)
    stop = user_calls_through_a_gate(guest, "31c0 0f00d8", "f4").run(1000)
    assert (stop.kind, "#TS" in stop.message) == ("fault", True)
    code, _ = OPENERS["sti"]
    machine = with_interrupt(guest, code)
    machine.run(max_instructions=3)
    machine.run(max_instructions=100)
    assert machine.console.text == "aIb"  # a slice ended at the flag
