# SPDX-License-Identifier: GPL-2.0-only
"""machine/board.py: the hardware put together, reset, and saved."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from machine import Machine, Topology, UsageError

RING = "66ba4c4e 66ef"  # mov dx, 0x4e4c; out dx, ax
SPIN = "ebfe"
WAIT = "f390 ebfc"


def two_cpus(g: Any) -> Machine:
    """Each CPU writes its letter 30 times, with a little work between, and halts."""
    for cpu, letter in ((0, "41"), (1, "42")):
        g.start(f"b91e000000 b0{letter} e6e9 90909090 ffc9 75f6 f4", cpu, 0x100000 + 0x1000 * cpu)
    machine: Machine = g.machine
    return machine


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


def test_importing_the_hardware_loads_neither_engine_nor_numpy() -> None:
    code = (
        "import sys, machine; machine.Machine(machine.Topology.parse('2x128M'));"
        "sys.exit('unicorn' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def boot(code: str, topology: str = "1x32M", **registers: int) -> Machine:
    """A machine in real mode at 0:0x1000."""
    machine = Machine(Topology.parse(topology))
    machine.memory.write(0x1000, bytes.fromhex(code))
    machine.cpus[0].start_real(0, 0x1000, sp=0x8000, **registers)
    return machine


def test_a_reset_ends_the_run_or_boots_again() -> None:
    machine = boot("b0fe e664 f4")  # the keyboard controller's pulse
    stop = machine.run()
    assert (stop.kind, stop.code, stop.instructions) == ("reset", 0, 2)
    assert "reset the machine" in stop.message
    machine = boot("b0fe e664 f4")
    machine.no_reboot = False
    machine.a20 = False
    machine.apics.apics[0].firmware_setup()
    machine.memory.write(0x3000, b"\xb0B\xe6\xe9\xfa\xf4")
    machine.on_reset = lambda: machine.cpus[0].start_real(0, 0x3000)
    stop = machine.run()
    assert (stop.kind, machine.console.text, machine.a20) == ("halt", "B", True)
    assert machine.apics.apics[0].svr == 0xFF


def test_timers_controllers_and_address_line_20_are_saved() -> None:
    first = boot("fb f4")
    first.a20 = False
    first.open_bus = True
    first.irq.set(4, 1)
    first.apics.apics[0].write(0x380, 500)
    first.apics.apics[0].write(0x320, 0x40)
    first.run(max_instructions=1)
    second = Machine(Topology.parse("1x32M"))
    second.memory.u8[:] = first.memory.u8
    second.load(first.save())
    assert second.save() == first.save()
    assert (second.a20, second.open_bus) == (False, True)
    assert second.events.next == first.events.next
    with pytest.raises(UsageError):
        second.load(first.save() | {"timers": {"nobody": 1}})
