# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
