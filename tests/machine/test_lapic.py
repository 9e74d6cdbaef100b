# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from machine import Clock
from machine.events import EventQueue
from machine.lapic import (
    BASE_BSP,
    BASE_ENABLED,
    EXTINT,
    MASKED,
    PERIODIC,
    ApicBus,
    LocalApic,
)

TPR, PPR, EOI, LDR, DFR, SVR, ESR = 0x80, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0, 0x280
ICR, ICR_HIGH, TIMER, LINT0, INITIAL, CURRENT, DIVIDE = (
    *(0x300, 0x310, 0x320, 0x350),
    *(0x380, 0x390, 0x3E0),
)
ISR, TMR, IRR = 0x100, 0x180, 0x200


class Cpu:
    def __init__(self) -> None:
        self.waiting = False
        self.events: list[str] = []

    def set_interrupt(self, waiting: bool) -> None:
        self.waiting = waiting

    def raise_nmi(self) -> None:
        self.events.append("nmi")

    def receive_init(self) -> None:
        self.events.append("init")

    def receive_startup(self, vector: int) -> None:
        self.events.append(f"startup {vector:#x}")


class Board:
    def __init__(self, cpus: int = 1) -> None:
        self.clock = Clock()
        self.events = EventQueue(self.clock)
        self.intr = False
        self.bus = ApicBus(self.clock, self.events, lambda: self.intr, lambda: 0x20)
        self.cpus = [Cpu() for _ in range(cpus)]
        self.apics = [self.bus.add(cpu) for cpu in self.cpus]
        for apic in self.apics:
            apic.firmware_setup()

    @property
    def apic(self) -> LocalApic:
        return self.apics[0]

    def pass_time(self, ns: int) -> None:
        self.clock.advance(ns)
        self.events.run_due()


def test_the_highest_vector_goes_first_and_stays_in_service_until_its_end() -> None:
    board = Board()
    apic, cpu = board.apic, board.cpus[0]
    for vector in (0x51, 0x62, 0x48):
        apic.accept(0, vector, False)
    assert cpu.waiting
    assert apic.acknowledge() == 0x62
    assert not cpu.waiting  # 0x51 has a lower class than what is in service
    assert (apic.read(ISR + 0x30), apic.read(IRR + 0x20)) == (1 << 2, 1 << 17 | 1 << 8)
    assert apic.read(PPR) == 0x60
    apic.write(EOI, 0)
    assert cpu.waiting
    assert apic.acknowledge() == 0x51
    assert apic.acknowledge() is None


def test_task_priority_shuts_out_its_class_and_lower() -> None:
    board = Board()
    apic, cpu = board.apic, board.cpus[0]
    apic.write(TPR, 0x50)
    apic.accept(0, 0x5F, False)
    assert not cpu.waiting
    apic.write(TPR, 0x4F)
    assert cpu.waiting


def test_a_disabled_apic_takes_nothing_but_lets_the_8259s_through() -> None:
    board = Board()
    apic, cpu = board.apic, board.cpus[0]
    apic.write(SVR, 0xFF)
    apic.accept(0, 0x50, False)
    assert not cpu.waiting
    board.intr = True
    apic.update()
    assert cpu.waiting
    assert apic.acknowledge() == 0x20
    apic.write(LINT0, MASKED | EXTINT << 8)
    assert not cpu.waiting
    apic.base &= ~BASE_ENABLED
    apic.update()
    assert cpu.waiting


def test_only_the_boot_cpu_hears_the_8259s() -> None:
    board = Board(2)
    board.intr = True
    for apic in board.apics:
        apic.write(LINT0, EXTINT << 8)
    assert [cpu.waiting for cpu in board.cpus] == [True, False]
    assert [bool(apic.base & BASE_BSP) for apic in board.apics] == [True, False]


def test_the_timer_counts_down_at_the_divided_rate_and_fires_once() -> None:
    board = Board()
    apic = board.apic
    apic.write(DIVIDE, 0b0001)  # by 4
    apic.write(TIMER, 0x40)
    apic.write(INITIAL, 100)
    board.pass_time(200)
    assert apic.read(CURRENT) == 50
    board.pass_time(203)
    assert not board.cpus[0].waiting
    board.pass_time(1)
    assert board.cpus[0].waiting
    assert (apic.read(CURRENT), board.events.next) == (0, None)


@pytest.mark.parametrize(
    ("code", "divisor"), [(0, 2), (1, 4), (3, 16), (8, 32), (10, 128), (11, 1)]
)
def test_divide_configuration_is_as_the_manual_has_it(code: int, divisor: int) -> None:
    board = Board()
    board.apic.write(DIVIDE, code)
    board.apic.write(INITIAL, 1000)
    board.pass_time(128 * 3)
    assert board.apic.read(CURRENT) == 1000 - 128 * 3 // divisor


def test_a_periodic_timer_goes_on_and_a_masked_one_arms_nothing() -> None:
    board = Board()
    apic = board.apic
    apic.write(DIVIDE, 0b1011)
    apic.write(TIMER, 0x40 | PERIODIC)
    apic.write(INITIAL, 9)
    for _ in range(3):
        board.pass_time(10)
        assert apic.acknowledge() == 0x40
        apic.write(EOI, 0)
    apic.write(TIMER, 0x40 | PERIODIC | MASKED)
    assert board.events.next is None


@pytest.mark.parametrize(
    ("command", "high", "reached"),
    [
        (0x4050, 2, [2]),
        (0x4050, 0xFF, [0, 1, 2, 3]),
        (0x44050, 0, [1]),
        (0x84050, 0, [0, 1, 2, 3]),
        (0xC4050, 0, [0, 2, 3]),
        (0x4850, 0b1100, [2, 3]),
        (0x4050, 0x77, []),
    ],
)
def test_a_message_reaches_whom_its_destination_says(
    command: int, high: int, reached: list[int]
) -> None:
    board = Board(4)
    for number, apic in enumerate(board.apics):
        apic.write(LDR, 1 << 24 + number)
    board.apics[1].write(ICR_HIGH, high << 24)
    board.apics[1].write(ICR, command)
    assert [n for n, cpu in enumerate(board.cpus) if cpu.waiting] == reached


def test_clusters_match_by_cluster_and_member() -> None:
    board = Board(3)
    for apic, ldr in zip(board.apics, (0x11, 0x12, 0x21), strict=True):
        apic.write(DFR, 0x0FFFFFFF)
        apic.write(LDR, ldr << 24)
    assert [apic.number for apic in board.bus.find(0x13, True)] == [0, 1]
    assert [apic.number for apic in board.bus.find(0x21, True)] == [2]


def test_lowest_priority_goes_to_one() -> None:
    board = Board(3)
    for apic, priority in zip(board.apics, (0x40, 0x20, 0x30), strict=True):
        apic.write(TPR, priority)
    board.apics[0].write(ICR, 0x84150)
    assert [cpu.waiting for cpu in board.cpus] == [False, True, False]


def test_init_startup_and_nmi_go_to_the_cpus() -> None:
    board = Board(3)
    board.apics[0].write(ICR, 0xC4500)
    board.apics[0].write(ICR, 0xC8500)  # deassert
    board.apics[0].write(ICR, 0xC4609)
    board.apics[0].write(ICR_HIGH, 1 << 24)
    board.apics[0].write(ICR, 0x4400)
    assert board.cpus[1].events == ["init", "startup 0x9", "nmi"]
    assert board.cpus[2].events == ["init", "startup 0x9"]
    assert board.cpus[0].events == []


def test_vectors_below_16_are_errors_at_both_ends() -> None:
    board = Board()
    board.apic.write(ICR, 0x44005)
    board.apic.accept(0, 3, False)
    assert board.apic.read(ESR) == 0
    board.apic.write(ESR, 0)
    assert board.apic.read(ESR) == 1 << 5 | 1 << 6
    board.apic.write(ESR, 0)
    assert board.apic.read(ESR) == 0


def test_the_end_of_a_level_interrupt_is_told_to_the_io_apic() -> None:
    board = Board()
    told: list[int] = []
    board.bus.end_of_interrupt = told.append
    for vector, level in ((0x50, True), (0x60, False)):
        board.apic.accept(0, vector, level)
    for _ in range(2):
        board.apic.acknowledge()
        board.apic.write(EOI, 0)
    board.apic.write(EOI, 0)
    assert told == [0x50]


def test_registers_answer_on_32_bit_accesses() -> None:
    board = Board(2)
    assert board.bus.mmio_read(1, 0x20, 4) == 1 << 24
    assert board.bus.mmio_read(1, 0x23, 1) == 1
    assert board.bus.mmio_read(0, 0x34, 4) == 0
    board.bus.mmio_write(0, TPR, 2, 0x50)
    assert board.apic.tpr == 0
    board.bus.mmio_write(0, TPR, 4, 0x50)
    assert board.apic.tpr == 0x50
    board.apic.base = 0
    assert board.bus.mmio_read(0, 0x20, 4) == 0xFFFFFFFF


def test_init_keeps_the_base_and_clears_the_rest() -> None:
    board = Board()
    apic = board.apic
    apic.accept(0, 0x50, False)
    apic.write(TIMER, 0x40)
    apic.write(INITIAL, 5)
    apic.base |= 1 << 30
    apic.init()
    assert (apic.irr, apic.svr, apic.initial, board.events.next) == (0, 0xFF, 0, None)
    assert apic.base >> 30 & 1


def test_what_is_saved_comes_back() -> None:
    board, other = Board(2), Board(2)
    board.apic.accept(0, 0xF0, True)
    board.apic.accept(0, 0x33, False)
    board.apic.acknowledge()
    board.apic.write(TPR, 0x21)
    board.apics[1].write(TIMER, 0x40 | PERIODIC)
    board.apics[1].write(INITIAL, 77)
    other.bus.load(board.bus.save())
    assert other.bus.save() == board.bus.save()
    assert (other.apic.isr, other.apic.irr) == (1 << 0xF0, 1 << 0x33)
    with pytest.raises(KeyError):
        other.bus.load({})
