# SPDX-License-Identifier: GPL-2.0-only
"""allocator/pc_run.py: when is a guest done?"""

from __future__ import annotations

import pytest

from allocator.pc_boot import boot_pc
from allocator.pc_run import run_pc
from machine import Machine, Stop, Topology
from machine.drive import Drive


def booted(code: str, numa: str = "1x32M") -> Machine:
    """A PC at a boot sector of this machine code."""
    machine = Machine(Topology.parse(numa))
    image = bytes.fromhex(code).ljust(510, b"\0") + b"\x55\xaa"
    boot_pc(machine, Drive(image, floppy=False))
    return machine


def run(code: str, **limits: int) -> Stop:
    return run_pc(booted(code), limits.get("budget", 10_000_000), limits.get("seconds", 3600))


HOOK_TIMER = "c70670003c7cc70672000000"  # INT 1Ch to 0000:7C3C


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("faf4", "halt"),
        ("ebfe", "loop"),
        ("faebfe", "loop"),
        ("e9fdff", "loop"),
        ("f4ebfd", "idle"),  # hlt; jmp
        ("b400cd16ebfa", "idle"),  # waits for a key
        (HOOK_TIMER + "ebfe", "idle"),  # with a handler that does nothing
        ("b80300e7f4", "exit"),
        ("ea0000ffff", "reset"),
        ("40ebfd", "budget"),  # counts for ever
    ],
)
def test_every_way_to_end_has_its_name(code: str, kind: str) -> None:
    stop = run(code.ljust(0x3C * 2, "0") + "cf" if HOOK_TIMER in code else code)
    assert stop.kind == kind, stop
    assert stop.code == {"budget": 75, "exit": 7}.get(kind, 0)


def test_a_guest_that_only_faults_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allocator.pc_run.STORM", 5_000)
    stop = run("0f0b")  # UD2: the BIOS's handler leads back to it
    assert (stop.kind, stop.code, stop.instructions) == ("loop", 0, 20_000)
    assert "nothing but exceptions at" in stop.message


def test_a_guest_that_handles_its_exceptions_and_works_in_between_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("allocator.pc_run.STORM", 1_000)
    # INT 6 to a handler that skips the UD2; eight instructions between two of them
    handler = "558bec834602025dcf"
    code = "c7061800207cc7061a0000000f0b" + "40" * 12 + "ebf0"
    assert run(code.ljust(0x20 * 2, "0") + handler, budget=60_000).kind == "budget"


def test_a_jump_to_itself_ends_where_an_interrupt_of_the_guests_own_ends_it() -> None:
    # The handler counts to 40 ticks, more than two seconds, and exits.
    handler = "fe062005803e200528720431c0e7f4cf"
    stop = run((HOOK_TIMER + "ebfe").ljust(0x3C * 2, "0") + handler)
    assert (stop.kind, stop.code) == ("exit", 1)


def test_a_guest_that_goes_on_showing_something_is_not_idle() -> None:
    # INT 1Ch writes a character a tick; the limit is the guest's own time.
    handler = "50b8410ecd1058cf"
    stop = run((HOOK_TIMER + "f4ebfd").ljust(0x3C * 2, "0") + handler, seconds=30)
    assert (stop.kind, stop.code) == ("budget", 75)
    assert "30 s of the guest's time" in stop.message


@pytest.mark.parametrize("code", ["ebfe", "f4ebfd", "b400cd16ebfa"])
def test_it_ends_at_the_same_instruction_in_every_run_however_often_it_is_looked_at(
    code: str,
) -> None:
    seen = []
    for patience in (None, 0.0):
        machine = booted(code)
        turn = None if patience is None else (lambda done: 0.0)
        stop = run_pc(machine, 10_000_000, turn=turn)
        seen.append((stop, machine.clock.now, machine.memory.read(0x400, 0x100)))
    assert seen[0] == seen[1]


def test_the_owner_can_end_it() -> None:
    stop = run_pc(booted("40ebfd"), turn=lambda done: None if done else 0.0)
    assert stop.kind == "timeout"


def test_the_budget_is_met_exactly() -> None:
    assert run("40ebfd", budget=12_345).instructions == 12_345
