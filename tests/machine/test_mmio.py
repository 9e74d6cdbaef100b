# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from machine import UsageError
from machine.bus import State
from machine.mmio import PAGE, MmioBus


class Scratch:
    """Remembers accesses; reads give the offset."""

    name = "scratch"

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int, int]] = []
        self.on_write: Callable[[], None] = lambda: None

    def mmio_read(self, cpu_id: int, offset: int, size: int) -> int:
        return 0x1111_1111_0000_0000 | offset

    def mmio_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self.seen.append((cpu_id, offset, size, value))
        self.on_write()

    def save(self) -> State:
        return {}

    def load(self, state: State) -> None:
        pass


BASE = 0xFED40000


def test_pages_that_are_taken_or_torn_are_refused() -> None:
    bus = MmioBus()
    bus.attach(BASE, 2 * PAGE, Scratch())
    for base, size, reason in (
        (BASE + PAGE, PAGE, "belongs to scratch"),
        (BASE + 1, PAGE, "whole pages"),
        (0, 0, "whole pages"),
        (1 << 33, 1 << 31, "no room"),
    ):
        with pytest.raises(UsageError, match=reason):
            bus.attach(base, size, Scratch())


def test_where_nobody_answers_reads_give_ones_and_writes_vanish() -> None:
    bus = MmioBus()
    assert bus.read(0, 0x10, 4) == 0xFFFFFFFF
    assert bus.read(0, 1 << 40, 2) == 0xFFFF
    bus.write(0, 0x10, 4, 1)
    assert bus.window_page(BASE) is None


def with_device(guest: Callable[..., Any], code: str) -> tuple[Any, Scratch]:
    g = guest("1x64M")
    device = Scratch()
    g.machine.mmio.attach(BASE, 2 * PAGE, device)
    g.tables.map(BASE, BASE, 2 * PAGE)
    g.tables.map(0x3_0000_0000, 0x5000_0000, PAGE)
    return g.start(code), device


def test_a_guest_reaches_a_device_through_its_page_tables(guest: Callable[..., Any]) -> None:
    # mov ebx, BASE+0x1008; mov [rbx], eax (7); mov ax, [rbx+2]; mov rcx, [rbx]; hlt
    code = f"bb{(BASE + 0x1008).to_bytes(4, 'little').hex()} b807000000 8903 668b4302 488b0b f4"
    machine, device = with_device(guest, code)
    stop = machine.run()
    assert (stop.kind, stop.instructions) == ("halt", 6)
    assert device.seen == [(0, 0x1008, 4, 7)]
    assert machine.cpus[0].regs.rax == 0x100A
    assert machine.cpus[0].regs.rcx == 0x100C_00001008  # two halves


def test_a_store_that_ends_the_run_is_the_last_instruction(guest: Callable[..., Any]) -> None:
    code = f"bb{BASE.to_bytes(4, 'little').hex()} 4889030f1f4000 c6430805 eb00 b041 e6e9 f4"
    machine, device = with_device(guest, code)
    device.on_write = lambda: machine.stop("exit", 3)
    stop = machine.run()
    assert (stop.kind, stop.code) == ("exit", 3)
    # A store of eight bytes is two; what comes behind it in its block may have run, no more.
    assert device.seen[:2] == [(0, 0, 4, 0), (0, 4, 4, 0)]
    assert machine.console.output == b""
    assert machine.run().kind == "exit" or machine.run().kind == "halt"
    assert [entry[:3] for entry in device.seen] == [(0, 0, 4), (0, 4, 4), (0, 8, 1)]


def test_what_a_device_raises_comes_out_of_the_run(guest: Callable[..., Any]) -> None:
    code = f"bb{BASE.to_bytes(4, 'little').hex()} 8803 f4"
    machine, device = with_device(guest, code)

    def broken() -> None:
        raise RuntimeError("broken device")

    device.on_write = broken
    with pytest.raises(RuntimeError, match="broken device"):
        machine.run()
    assert machine.run().kind == "halt"


def test_a_hole_is_a_fault_or_the_open_bus_as_the_machine_says(guest: Callable[..., Any]) -> None:
    code = "48bb0000000003000000 8b03 8903 f4"
    machine, _ = with_device(guest, code)
    stop = machine.run()
    assert (stop.kind, "no RAM at physical 0x50000000" in stop.message) == ("fault", True)
    machine, _ = with_device(guest, code)
    machine.open_bus = True
    assert machine.run().kind == "halt"
    assert machine.cpus[0].regs.rax == 0xFFFFFFFF


def test_code_cannot_lie_in_a_device(guest: Callable[..., Any]) -> None:
    machine, _ = with_device(guest, f"b8{BASE.to_bytes(4, 'little').hex()} ffe0")
    machine.open_bus = True
    stop = machine.run(100)
    assert (stop.kind, stop.rip) == ("fault", BASE)
