# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from machine import Checkpoint, Machine, UsageError, Verdict, hostmap

# Counts at 0x200000, prints a digit, and patches its own `mov al` to print the next one.
COUNTER = (
    "ff0425 00002000"  # inc dword [0x200000]
    "b030"  # mov al, '0' (the immediate is at 0x100008)
    "e6e9"  # out 0xe9, al
    "fe0425 08001000"  # inc byte [0x100008]
    "803c25 08001000 3a"  # cmp byte [0x100008], ':'
    "75e4"  # jne start
    "f4"
)


@pytest.fixture(autouse=True, params=["", "as the host allows"])
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(hostmap, "find_method", lambda: "")


def everything(machine: Machine) -> tuple[Any, ...]:
    low = machine.memory.read(0, 0x300000)
    return machine.save(), low, [cpu.fault for cpu in machine.cpus]


def test_code_that_patches_itself_runs_the_same_after_every_rewind(
    guest: Callable[..., Any],
) -> None:
    machine = guest().start(COUNTER)
    machine.run(max_instructions=17)
    before = everything(machine)
    moment = machine.checkpoint()
    machine.run()
    after = everything(machine)
    assert machine.console.text == "0123456789"
    for _ in range(3):
        machine.rewind(moment)
        assert everything(machine) == before
        assert machine.run().kind == "halt"
        assert everything(machine) == after


def test_nested_checkpoints_restore_their_own_moments(guest: Callable[..., Any]) -> None:
    machine = guest().start(COUNTER)
    states, moments = [], []
    for _ in range(4):
        machine.run(max_instructions=6)
        states.append(everything(machine))
        moments.append(machine.checkpoint())
    for n in (3, 1, 1, 0):
        machine.run()
        moments[n].rewind()
        assert everything(machine) == states[n]
    assert [moment.alive for moment in moments] == [True, False, False, False]
    with pytest.raises(UsageError, match="has ended"):
        moments[2].rewind()


def test_changed_page_tables_are_forgotten_by_the_cpus(guest: Callable[..., Any]) -> None:
    g = guest()
    g.put(b"\x2a", 0x250000)
    g.put(b"\x15", 0x450000)
    g.tables.map(0x4000_0000, 0x250000, 4096)
    machine = g.start("8a042500000040 e6e9 ebf5")  # mov al, [0x40000000]; out 0xe9, al; loop
    machine.run(max_instructions=3)
    moment = machine.checkpoint()
    g.tables.map(0x4000_0000, 0x450000, 4096)
    for cpu in machine.cpus:
        cpu.flush_tlb()
    machine.run(max_instructions=3)
    moment.rewind()
    machine.run(max_instructions=3)
    assert machine.console.output == b"\x2a\x2a"


def test_cpus_go_back_to_before_they_were_started_or_restarted(guest: Callable[..., Any]) -> None:
    g = guest(quantum=5)
    machine = g.start("ffc0 ebfc")  # inc eax; loop
    machine.run(max_instructions=4)
    first = machine.checkpoint()
    g.start("ffc3 ebfc", cpu=1, at=0x110000)
    machine.run(max_instructions=20)
    rax, engine = machine.cpus[0].regs.rax, machine.cpus[0]._engine
    second = machine.checkpoint()
    g.start("f4", cpu=0, at=0x120000)
    machine.run(max_instructions=20)
    second.rewind()
    assert (machine.cpus[0].regs.rax, machine.cpus[0]._engine) == (rax, engine)
    first.rewind()
    assert machine.cpus[1].state == "stopped"
    with pytest.raises(UsageError, match="has not been started"):
        _ = machine.cpus[1].regs
    machine.run(max_instructions=2)
    assert machine.cpus[0].regs.rax == 3


def test_hidden_registers_come_back_as_well(guest: Callable[..., Any]) -> None:
    machine = guest().start("ebfe")
    machine.run(max_instructions=2)
    regs = machine.cpus[0].regs
    before = regs.save()
    moment = machine.checkpoint()
    for name in ("rax", "r15", "cr2", "fs_base", "kernel_gs_base", "lstar", "star", "dr0", "fpcw"):
        regs[name] = 0x123
    regs.gdtr_base = regs.idtr_limit = 0x456
    assert regs.save() != before
    moment.rewind()
    assert regs.save() == before


def test_a_stop_that_was_asked_for_is_part_of_the_moment(guest: Callable[..., Any]) -> None:
    machine = guest().start("ebfe")
    machine.stop("exit", 5, "asked")
    moment = machine.checkpoint()
    for _ in range(2):
        assert (machine.run().kind, machine.run(max_instructions=3).kind) == ("exit", "budget")
        moment.rewind()


def test_a_with_block_is_undone_even_when_it_raises(guest: Callable[..., Any]) -> None:
    machine = guest().start(COUNTER)
    before = everything(machine)

    def fail() -> None:
        with machine.checkpoint() as moment:
            moments.append(moment)
            machine.run()
            raise ZeroDivisionError

    moments: list[Checkpoint] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert everything(machine) == before
    assert not moments[0].alive
    assert machine.memory.history.levels == []


def test_a_running_machine_is_refused(guest: Callable[..., Any]) -> None:
    machine = guest().start("66ba4c4e 66ef f4")
    outside = machine.checkpoint()
    refused = []

    def ring(cpu: int, value: int) -> Verdict:
        for attempt in (machine.checkpoint, outside.rewind, machine.save):
            with pytest.raises(UsageError, match="only between two runs"):
                attempt()
            refused.append(attempt)
        return Verdict.CONTINUE

    machine.doorbell.handler = ring
    assert machine.run().kind == "halt"
    assert len(refused) == 3


def test_another_machines_checkpoint_is_refused(guest: Callable[..., Any]) -> None:
    one, other = guest().machine, guest().machine
    with pytest.raises(UsageError, match="another machine's"):
        one.rewind(other.checkpoint())


def test_a_checkpoint_nobody_refers_to_is_dropped(guest: Callable[..., Any]) -> None:
    machine = guest().machine
    for _ in range(10):
        machine.checkpoint()
        machine.memory.words[0] += 1
    gc.collect()
    kept = machine.checkpoint()
    assert len(machine.memory.history.levels) == 1
    assert kept.alive
    kept.discard()
    kept.discard()
    assert not kept.alive
