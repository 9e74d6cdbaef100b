# SPDX-License-Identifier: GPL-2.0-only
"""machine/pc.py: the devices on a machine's buses, and their interrupts."""

from __future__ import annotations

import random

import pytest

from machine import Machine, Topology


def machine(kind: str = "pc") -> Machine:
    return Machine(Topology.parse("1x64M", machine_type=kind))


def initialise(board: Machine) -> None:
    """The 8259s at vectors 20h and 28h, nothing masked."""
    for port, values in ((0x20, (0x11,)), (0xA0, (0x11,)), (0x21, (0x20, 4, 1, 0))):
        for value in values:
            board.ports.write(0, port, 1, value)
    for value in (0x28, 2, 1, 0):
        board.ports.write(0, 0xA1, 1, value)


@pytest.mark.parametrize(
    ("irq", "vector"), [("pit", 0x20), ("keyboard", 0x21), ("serial", 0x24), ("cmos", 0x28)]
)
def test_every_device_pulls_its_own_interrupt(irq: str, vector: int) -> None:
    board = machine()
    initialise(board)
    line = {
        "pit": board.pc.pit.output,
        "keyboard": board.pc.keyboard.irq,
        "serial": board.serial.irq,
        "cmos": board.pc.cmos.irq,
    }[irq]
    line.set(1)
    assert board.pc.pic.output
    assert board.pc.pic.acknowledge() == vector


def test_the_hpet_takes_the_timers_interrupt_away() -> None:
    board = machine()
    initialise(board)
    board.pc.hpet.mmio_write(0, 0x10, 8, 3)
    board.pc.pit.output.pulse()
    assert not board.pc.pic.output


def test_port_92_opens_a20_and_resets() -> None:
    board = machine()
    board.ports.write(0, 0x92, 1, 0)
    assert not board.a20
    board.ports.write(0, 0x92, 1, 2)
    assert board.a20
    assert board.ports.read(0, 0x92, 1) == 2


def test_an_access_takes_a_microsecond_of_the_guests_time() -> None:
    board = machine()
    before = board.clock.now
    board.ports.read(0, 0x61, 1)
    assert board.clock.now == before + 1000


def test_a_guest_that_switches_itself_off_ends_the_run() -> None:
    board = machine()
    board.ports.write(0, 0x604, 2, 0x2000)
    stop = board.run()
    assert (stop.kind, stop.code) == ("exit", 0)


def test_q35_has_its_window_on_configuration_space() -> None:
    board = machine("q35")
    page = board.mmio.window_page(0xB0000000 + (0x1F << 15))
    assert page is not None
    assert board.mmio.read(0, page << 12, 4) == 0x29188086
    assert machine().mmio.window_page(0xB0000000) is None


def test_devices_are_saved_with_the_machine() -> None:
    board, other = machine(), machine()
    board.ports.write(0, 0x3D4, 2, 0x330F)
    board.ports.write(0, 0x43, 1, 0x34)
    for _ in range(2):
        board.ports.write(0, 0x40, 1, 0)
    other.load_board(board.save_board())
    assert other.save_board() == board.save_board()


@pytest.mark.parametrize("seed", range(6))
def test_no_value_at_any_port_harms_the_host_and_every_state_is_kept(seed: int) -> None:
    rng = random.Random(seed)
    board, other = machine("pc" if seed % 2 else "q35"), machine("pc" if seed % 2 else "q35")
    ports = [
        claim.first + n
        for claim in board.ports.ranges
        for n in range(claim.count)
        if claim.device.name not in ("isa-debug-exit", "doorbell")
    ]
    pages = [board.mmio.window_page(base) for base in (0xFED00000, 0xFEC00000)]
    for _ in range(3000):
        size = rng.choice((1, 1, 1, 2, 4))
        if rng.random() < 0.2:
            page = rng.choice(pages)
            assert page is not None
            offset = (page << 12) + (rng.randrange(0x200) & ~7)
            board.mmio.write(0, offset, 8, rng.getrandbits(rng.choice((3, 16, 64))))
            board.mmio.read(0, offset, 8)
        elif rng.random() < 0.5:
            board.ports.write(0, rng.choice(ports), size, rng.getrandbits(8 * size))
        else:
            board.ports.read(0, rng.choice(ports), size)
        if rng.random() < 0.05:
            board.clock.advance(rng.randrange(10**9))
            board.events.run_due()
            board.pc.keyboard.press([rng.getrandbits(8)])
    other.load_board(board.save_board())
    assert other.save_board() == board.save_board()
