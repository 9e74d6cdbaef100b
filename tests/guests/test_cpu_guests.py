# SPDX-License-Identifier: GPL-2.0-only
"""Guests that try out the processor, from boot sector to halt, whole and in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine import Machine
from machine.snapshot import load_snapshot, save_snapshot

from .cpu_guests import CPUS, EXPECTED, GUESTS, image
from .on_machine import booted

BUDGET = 3_000_000
every_guest = pytest.mark.parametrize("name", GUESTS)


def begin(name: str, quantum: int = 10_000) -> Machine:
    machine = booted(image(name), f"1x64M,cpus={CPUS.get(name, 1)}").machine
    machine.quantum = quantum
    return machine


def finish(machine: Machine) -> tuple[object, ...]:
    """Everything that must be the same however a run is cut."""
    stop = machine.run(BUDGET)
    assert stop.kind == "halt", stop
    cpus = [cpu.save() for cpu in machine.cpus]
    return bytes(machine.serial.output), cpus, machine.clock.now, machine.memory.read(0, 1 << 20)


@every_guest
def test_a_guest_says_what_it_should_and_the_same_each_time(name: str) -> None:
    first, second = finish(begin(name)), finish(begin(name))
    assert first[0] == EXPECTED[name]
    assert first == second


@every_guest
@pytest.mark.parametrize("budget", [997, 13])
def test_interrupts_come_at_the_same_instruction_however_the_run_is_cut(
    name: str, budget: int
) -> None:
    whole, cut = finish(begin(name)), begin(name)
    if name == "SMP" and budget == 13:
        budget = 331  # its CPUs wait for each other for long
    while cut.run(max_instructions=budget).kind == "budget":
        pass
    assert finish(cut) == whole


@every_guest
def test_a_snapshot_in_mid_run_carries_mode_timers_and_controllers(
    name: str, tmp_path: Path
) -> None:
    whole, machine = finish(begin(name)), begin(name)
    path = tmp_path / "guest.snap"
    for _ in range(60):
        if machine.run(max_instructions=701).kind != "budget":
            break
    before = bytes(machine.serial.output)
    save_snapshot(machine, path)
    loaded = load_snapshot(path)
    for cpu, other in zip(machine.cpus, loaded.cpus, strict=True):
        assert cpu.mode == other.mode
    # The handlers of the BIOS are the owner's; these guests need it only to be loaded.
    assert finish(loaded) == whole
    assert whole[0].startswith(before)


@every_guest
def test_a_checkpoint_in_mid_run_can_be_gone_back_to(name: str) -> None:
    machine = begin(name)
    machine.run(max_instructions=33_000)
    moment = machine.checkpoint()
    first = finish(machine)
    moment.rewind()
    assert finish(machine) == first


@pytest.mark.parametrize("quantum", [50, 999, 1_000_000])
def test_the_order_of_other_cpus_does_not_depend_on_the_quantum(quantum: int) -> None:
    assert finish(begin("SMP", quantum))[0] == EXPECTED["SMP"]
