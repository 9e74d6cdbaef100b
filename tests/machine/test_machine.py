# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

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


WAIT = "f390 ebfc"


def start_waiting(guest: Callable[..., Any], cpus: int) -> Machine:
    g = guest(f"1x64M,cpus={cpus}")
    for cpu in range(cpus):
        g.start(WAIT, cpu, 0x100000 + 0x1000 * cpu)
    machine: Machine = g.machine
    return machine


def test_turns_grow_to_a_quantum_while_all_cpus_wait(
    guest: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = start_waiting(guest, 3)
    limits: list[int] = []
    run_slice = VCPU.run_slice

    def noting(cpu: VCPU, limit: int) -> Any:
        limits.append(limit)
        return run_slice(cpu, limit)

    monkeypatch.setattr(VCPU, "run_slice", noting)
    machine.run(max_instructions=100_000)
    turns = [64 << n // 3 for n in range(24)]
    assert limits[:24] == turns
    assert set(limits[24:-1]) == {10_000}


def test_a_cpu_that_works_keeps_the_turns_of_those_that_wait_short(
    guest: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = start_waiting(guest, 3)
    machine.cpus[1].regs.rip = 0x10A000
    machine.memory.write(0x10A000, bytes.fromhex("48ffc0 ebfb"))
    limits: list[int] = []
    run_slice = VCPU.run_slice

    def noting(cpu: VCPU, limit: int) -> Any:
        limits.append(limit)
        return run_slice(cpu, limit)

    monkeypatch.setattr(VCPU, "run_slice", noting)
    machine.run(max_instructions=100_000)
    assert set(limits[:-1]) == {64, 10_000}


def test_how_a_wait_of_all_cpus_is_cut_makes_no_difference(guest: Callable[..., Any]) -> None:
    whole, pieces = start_waiting(guest, 3), start_waiting(guest, 3)
    whole.run(max_instructions=50_000)
    for _ in range(50):
        pieces.run(max_instructions=1000)
    assert pieces.save() == whole.save()
    again = start_waiting(guest, 3)
    again.load(pieces.save())
    for machine in (whole, again):
        machine.run(max_instructions=12_345)
    assert again.save() == whole.save()


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


def boot(code: str, topology: str = "1x32M", **registers: int) -> Machine:
    """A machine in real mode at 0:0x1000."""
    machine = Machine(Topology.parse(topology))
    machine.memory.write(0x1000, bytes.fromhex(code))
    machine.cpus[0].start_real(0, 0x1000, sp=0x8000, **registers)
    return machine


def test_a_halted_machine_jumps_to_the_next_event() -> None:
    machine = boot("fb f4 b041 e6e9 fa f4")
    machine.memory.write_u32(0x40 * 4, 0x2000)
    machine.memory.write(0x2000, b"\xcf")
    apic = machine.apics.apics[0]
    apic.firmware_setup()
    times: list[int] = []

    def tick() -> None:
        times.append(machine.clock.now)
        apic.accept(0, 0x40, False)

    machine.events.timer("test", tick).set(1_000_000_007)
    stop = machine.run()
    assert (stop.kind, times, machine.console.text) == ("halt", [1_000_000_007], "A")
    assert stop.instructions == 7


def test_a_slice_ends_exactly_at_an_event() -> None:
    machine = boot("ebfe")
    times: list[tuple[int, int]] = []

    def tick() -> None:
        times.append((machine.clock.now, machine.cpus[0].retired))
        if len(times) < 4:
            timer.set(machine.clock.now + 12_345)

    timer = machine.events.timer("test", tick)
    timer.set(3)
    machine.run(max_instructions=100_000)
    assert times == [(3 + 12_345 * n, 3 + 12_345 * n) for n in range(4)]


def test_an_event_set_from_a_port_ends_the_slice_in_time() -> None:
    machine = boot(f"{RING.replace('66', '')} ebfe")
    times: list[int] = []
    timer = machine.events.timer("test", lambda: times.append(machine.cpus[0].retired))

    def handler(_cpu: int, _value: int) -> Verdict:
        timer.set(machine.clock.now + 10)
        machine.clock.advance(4)
        return Verdict.CONTINUE

    machine.doorbell.handler = handler
    machine.run(max_instructions=100)
    assert times == [8]  # two instructions, four for the ring, six of the loop


def test_events_that_wake_nobody_do_not_go_on_for_ever() -> None:
    machine = boot("fb f4")
    timer = machine.events.timer("test", lambda: timer.set(machine.clock.now + 1))
    timer.set(1)
    assert machine.run().kind == "halt"


def test_a_halt_with_interrupts_off_is_for_good_whatever_is_armed() -> None:
    machine = boot("fa f4")
    machine.events.timer("test", lambda: None).set(10**9)
    assert machine.run().kind == "halt"
    assert machine.clock.now == 2


def test_a_triple_fault_resets_a_machine_that_may_boot_again() -> None:
    boots: list[int] = []
    machine = Machine(Topology.parse("1x32M"))
    machine.memory.write(0x1000, b"\x0f\x0b")
    machine.memory.write(0x3000, b"\xfa\xf4")
    machine.cpus[0].start_protected(0x1000)

    def again() -> None:
        boots.append(machine.clock.now)
        machine.cpus[0].start_real(0, 0x3000)

    machine.on_reset, machine.no_reboot = again, False
    assert machine.run().kind == "halt"
    assert len(boots) == 1


def test_a_jump_to_itself_ends_the_run_if_asked_for() -> None:
    machine = boot("fa ebfe")
    assert machine.run(max_instructions=1000).kind == "budget"
    machine.stop_on_loop = True
    stop = machine.run(max_instructions=5_000_000)
    assert (stop.kind, stop.code, stop.rip) == ("loop", 0, 0x1001)


def test_with_interrupts_on_a_jump_to_itself_has_to_last() -> None:
    machine = boot("fb ebfe")
    machine.stop_on_loop = True
    assert machine.run(max_instructions=100_000_000).kind == "budget"
    stop = machine.run(max_instructions=400_000_000)
    assert stop.kind == "loop"
    assert 250_000_000 <= machine.clock.now < 300_000_000


def test_who_schedules_is_asked_before_every_slice_and_may_change_registers(
    guest: Callable[..., Any],
) -> None:
    machine = guest().start("ffc0 ebfc")  # inc eax; jmp back
    seen: list[int] = []

    def schedule(vcpu: VCPU) -> bool:
        seen.append(vcpu.regs.rax)
        vcpu.regs.rax = 1000
        return True

    machine.schedule = schedule
    for _ in range(3):
        machine.run(max_instructions=10)
    assert seen == [0, 1005, 1005]


def test_a_cpu_with_nothing_to_run_halts_when_its_scheduler_says_so(
    guest: Callable[..., Any],
) -> None:
    machine = guest().start(SPIN)

    def schedule(vcpu: VCPU) -> bool:
        vcpu.state = "halted"
        return False

    machine.schedule = schedule
    assert machine.run().kind == "halt"


def test_a_page_can_be_served_in_the_middle_of_the_instruction(guest: Callable[..., Any]) -> None:
    # mov rax, [4 GiB] twice; hlt
    machine = guest().start("48a10000000001000000 48a10000000001000000 f4")
    machine.memory.write_u64(0x3000, 0x4711)
    asked: list[tuple[int, int]] = []

    def serve(va: int, code: int) -> int:
        asked.append((va, code))
        return 0x3000 | 3

    machine.cpus[0].page_fault = serve
    assert machine.run().kind == "halt"
    assert machine.cpus[0].regs.rax == 0x4711
    assert asked == [(1 << 32, 0)]


def test_what_is_not_served_at_once_is_a_fault_as_ever(guest: Callable[..., Any]) -> None:
    machine = guest().start("48a10000000001000000 f4")
    machine.cpus[0].page_fault = lambda va, code: -1
    stop = machine.run()
    assert stop.kind == "fault"
    assert "read of 0x100000000: page not present" in stop.message
