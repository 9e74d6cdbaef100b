# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from machine.irq import InterruptLines


class Wires:
    output = False

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def set_irq(self, line: int, level: int) -> None:
        self.seen.append((line, level))

    def acknowledge(self) -> int:
        return 8


def lines() -> tuple[InterruptLines, Wires, Wires]:
    pic, io_apic = Wires(), Wires()
    irq = InterruptLines(lambda: None)
    irq.attach_pic(pic)
    irq.attach_io_apic(io_apic)
    return irq, pic, io_apic


def test_a_line_goes_to_both_controllers_and_the_timer_to_input_2() -> None:
    irq, pic, io_apic = lines()
    irq.set(0, True)
    irq.set(4, 7)
    irq.pulse(1)
    assert pic.seen == [(0, 1), (4, 1), (1, 1), (1, 0)]
    assert io_apic.seen == [(2, 1), (4, 1), (1, 1), (1, 0)]


def test_lines_from_16_on_are_the_io_apics_and_others_nobodys() -> None:
    irq, pic, io_apic = lines()
    for line in (16, 23, 24, -1):
        irq.set(line, 1)
    assert pic.seen == []
    assert io_apic.seen == [(16, 1), (23, 1)]


def test_the_intr_wire_is_the_8259s() -> None:
    irq, pic, _ = lines()
    assert not irq.intr
    pic.output = True
    assert irq.intr
    assert not InterruptLines(lambda: None).intr
