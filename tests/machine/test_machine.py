# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from machine import VCPU, Fault, Machine, Topology, UsageError, Verdict

RING = "66ba4c4e 66ef"  # mov dx, 0x4e4c; out dx, ax
SPIN = "ebfe"


def test_the_debug_exit_ends_the_run_with_qemus_code(guest: Callable[..., Any]) -> None:
    machine = guest().start("b005 e6f4 b041 e6e9 f4")
    stop = machine.run()
    assert (stop.kind, stop.code, stop.cpu, stop.rip) == ("exit", 11, 0, 0x100004)
    assert stop.instructions == 2
    assert machine.console.output == b""


def test_halting_for_good_is_no_error(guest: Callable[..., Any]) -> None:
    stop = guest().start("f4").run()
    assert (stop.kind, stop.code, stop.message) == ("halt", 0, "all CPUs have halted")


def test_a_machine_without_a_running_cpu_says_so(guest: Callable[..., Any]) -> None:
    stop = guest().machine.run()
    assert (stop.kind, stop.message, stop.instructions) == ("halt", "no CPU is running", 0)


def test_a_spinning_guest_is_ended_by_its_budget_exactly(guest: Callable[..., Any]) -> None:
    stop = guest().start(SPIN).run(max_instructions=123_456)
    assert (stop.kind, stop.code, stop.instructions) == ("budget", 75, 123_456)
    assert stop.message == "budget of 123,456 instructions spent at rip 0x100000 on cpu 0"


def test_a_spinning_guest_is_ended_by_the_wall_clock(guest: Callable[..., Any]) -> None:
    stop = guest().start(SPIN).run(timeout=0.02)
    assert (stop.kind, stop.code) == ("timeout", 75)
    assert stop.instructions > 0


def test_a_fault_carries_code_message_and_registers(guest: Callable[..., Any]) -> None:
    stop = guest().start("b85a000000 0f0b").run()
    assert (stop.kind, stop.code, stop.rip) == ("fault", 76, 0x100005)
    assert stop.message.startswith("cpu 0 at rip 0x100005: exception 6 (#UD")
    assert stop.registers["rax"] == 0x5A


def two_cpus(g: Any) -> Machine:
    """Each CPU writes its letter 30 times, with a little work between, and halts."""
    for cpu, letter in ((0, "41"), (1, "42")):
        g.start(f"b91e000000 b0{letter} e6e9 90909090 ffc9 75f6 f4", cpu, 0x100000 + 0x1000 * cpu)
    machine: Machine = g.machine
    return machine


def test_cpus_take_turns_of_one_quantum_in_the_order_of_their_ids(
    guest: Callable[..., Any],
) -> None:
    machine = two_cpus(guest(quantum=72))  # 2 instructions, then 7 a letter: ten letters a turn
    assert machine.run().kind == "halt"
    text = machine.console.text
    assert text.startswith("A" * 10 + "B" * 10)
    assert text.count("A") == text.count("B") == 30


@pytest.mark.parametrize("budget", [1, 5, 71, 72, 73, 1000])
def test_cutting_a_run_into_budgets_changes_nothing(guest: Callable[..., Any], budget: int) -> None:
    whole, cut = two_cpus(guest(quantum=72)), two_cpus(guest(quantum=72))
    whole.run()
    while cut.run(max_instructions=budget).kind == "budget":
        pass
    assert cut.console.output == whole.console.output
    assert [cpu.retired for cpu in cut.cpus] == [cpu.retired for cpu in whole.cpus]
    assert cut.clock.now == whole.clock.now == sum(cpu.retired for cpu in cut.cpus)
    assert cut.memory.read(0, 0x200000) == whole.memory.read(0, 0x200000)


def test_the_second_cpu_runs_on_the_same_ram(guest: Callable[..., Any]) -> None:
    g = guest()
    # CPU 0 waits for a word that CPU 1 writes: pause; cmp dword [0x3000], 7; jne; hlt
    g.start("f390 833c250030000007 75f4 f4", 0)
    g.start("c704250030000007000000 f4", 1, 0x101000)
    stop = g.machine.run(max_instructions=100_000)
    assert stop.kind == "halt"
    assert g.machine.cpus[0].retired < 2 * g.machine.quantum


def test_a_cpu_in_a_pause_loop_takes_short_turns(guest: Callable[..., Any]) -> None:
    g = guest(quantum=1000)
    g.start("f390 ebfc", 0)
    g.start(SPIN, 1, 0x101000)
    g.machine.run(max_instructions=20_000)
    assert g.machine.cpus[0].retired < 3000 < g.machine.cpus[1].retired


def test_a_yield_hands_the_rest_of_the_quantum_on(guest: Callable[..., Any]) -> None:
    g = guest(quantum=1000)
    g.start(f"{RING} b041 e6e9 f4", 0)
    g.start("b042 e6e9 f4", 1, 0x101000)
    g.machine.doorbell.handler = lambda cpu, value: Verdict.YIELD
    assert g.machine.run().kind == "halt"
    assert g.machine.console.output == b"BA"


def test_a_stopped_cpu_never_runs_its_next_instruction(guest: Callable[..., Any]) -> None:
    g = guest()
    g.start(f"{RING} b041 e6e9 f4")
    g.machine.doorbell.handler = lambda cpu, value: Verdict.STOP_CPU
    stop = g.machine.run()
    assert (stop.kind, stop.instructions, g.machine.cpus[0].state) == ("halt", 2, "stopped")
    assert g.machine.console.output == b""


def test_a_handler_can_end_the_run_and_start_a_cpu(guest: Callable[..., Any]) -> None:
    g = guest()
    g.put("b042 e6e9 b801000000 66ba4c4e 66ef", 0x101000)

    def handler(cpu: int, value: int) -> Verdict:
        if cpu == 0:
            g.machine.cpus[1].start(0x101000, 0x8F000, g.tables.root)
        else:
            g.machine.stop("exit", 42, "done")
        return Verdict.CONTINUE

    g.machine.doorbell.handler = handler
    g.start(f"{RING} {SPIN}")
    stop = g.machine.run(max_instructions=100_000)
    assert (stop.kind, stop.code, stop.cpu, stop.message) == ("exit", 42, 1, "done")
    assert g.machine.console.output == b"B"


def test_a_ring_without_a_handler_is_a_floating_port(guest: Callable[..., Any]) -> None:
    machine = guest().start(f"{RING} 66ed f4")
    assert machine.run().kind == "halt"
    assert machine.doorbell.rings == 1
    assert machine.cpus[0].regs.rax & 0xFFFF == 0xFFFF


def test_code_rewritten_by_a_hypercall_runs_anew_before_the_next_instruction(
    guest: Callable[..., Any],
) -> None:
    g = guest()
    machine: Machine = g.machine

    def handler(cpu: int, value: int) -> Verdict:
        machine.memory.write(0x100007, b"\x42")
        machine.code_written(0x100007, 1)
        return Verdict.CONTINUE

    machine.doorbell.handler = handler
    g.start(f"{RING} b041 e6e9 f4")  # the handler turns mov al, 0x41 into mov al, 0x42
    assert machine.run().instructions == 5
    assert machine.console.output == b"B"


def test_page_tables_changed_by_a_hypercall_hold_after_a_flush(guest: Callable[..., Any]) -> None:
    g = guest()
    machine: Machine = g.machine
    machine.memory.write(0x5000, b"old")
    machine.memory.write(0x6000, b"new")
    g.tables.map(1 << 32, 0x5000, 4096)

    def handler(cpu: int, value: int) -> Verdict:
        g.tables.map(1 << 32, 0x6000, 4096)
        machine.flush_tlbs()
        return Verdict.CONTINUE

    machine.doorbell.handler = handler
    load = "a00000000001000000 e6e9"
    g.start(f"{load} {RING} {load} f4")
    assert machine.run().kind == "halt"
    assert machine.console.output == b"on"


def test_a_fault_handler_can_resolve_and_the_access_is_tried_again(
    guest: Callable[..., Any],
) -> None:
    g = guest()
    machine: Machine = g.machine
    seen: list[int] = []

    def handler(cpu: VCPU, fault: Fault) -> bool:
        assert fault.va is not None
        seen.append(fault.va)
        g.tables.map(fault.va & ~0xFFF, 0x300000 + 0x1000 * len(seen), 4096)
        return True

    machine.fault_handler = handler
    # store to five pages from 4 GiB on
    g.start("48bb0000000001000000 b905000000 48890b 4881c300100000 ffc9 75f2 f4")
    stop = machine.run()
    assert (stop.kind, stop.instructions) == ("halt", 2 + 5 * 4 + 1)
    assert seen == [(1 << 32) + 0x1000 * n for n in range(5)]
    assert machine.memory.read_u64(0x301000) == 5


def test_a_fault_handler_that_resolves_nothing_cannot_hang_the_machine(
    guest: Callable[..., Any],
) -> None:
    machine = guest().start("48a10000000001000000")
    machine.fault_handler = lambda cpu, fault: True
    assert machine.run().kind == "fault"


def test_the_tsc_is_the_modelled_clock(guest: Callable[..., Any]) -> None:
    machine = guest().start("9090 0f31 f4")
    machine.clock.advance(1 << 33)
    machine.run()
    regs = machine.cpus[0].regs
    assert (regs.rdx << 32 | regs.rax) == (1 << 33) + 3


def test_a_saved_machine_goes_on_exactly(guest: Callable[..., Any]) -> None:
    whole, first, second = (two_cpus(guest(quantum=72)) for _ in range(3))
    whole.run()
    first.run(max_instructions=200)
    second.memory.u8[:] = first.memory.u8
    second.load(first.save())
    second.run()
    assert second.console.output == whole.console.output
    assert second.save() == whole.save()


def test_a_state_of_another_machine_is_refused(guest: Callable[..., Any]) -> None:
    saved = guest("2x64M").machine.save()
    none: dict[str, object] = {}
    for broken in (none, saved | {"turn": 9}, saved | {"left": -1}, saved | {"devices": {}}):
        with pytest.raises(UsageError):
            guest("2x64M").machine.load(broken)
    with pytest.raises(UsageError, match="number of CPUs"):
        guest("3x64M").machine.load(saved)


def test_two_runs_are_byte_identical(guest: Callable[..., Any]) -> None:
    machines = [two_cpus(guest(quantum=31)) for _ in range(2)]
    for machine in machines:
        machine.run()
    assert machines[0].save() == machines[1].save()
    assert machines[0].memory.read(0, 1 << 24) == machines[1].memory.read(0, 1 << 24)


def test_misuse_is_refused(guest: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="quantum"):
        Machine(Topology.parse("1x32M"), quantum=0)
    with pytest.raises(UsageError, match="'nap'"):
        guest().machine.stop("nap", 0)
    g = guest()
    g.machine.doorbell.handler = lambda cpu, value: g.machine.run() and Verdict.CONTINUE
    g.start(f"{RING} f4")
    with pytest.raises(UsageError, match="running already"):
        g.machine.run()


def test_importing_the_hardware_loads_neither_engine_nor_numpy() -> None:
    code = (
        "import sys, machine; machine.Machine(machine.Topology.parse('2x128M'));"
        "sys.exit('unicorn' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
