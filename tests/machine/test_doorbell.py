# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from machine import Doorbell, Verdict


def test_only_16_and_32_bit_rings_at_the_first_port_count() -> None:
    bell = Doorbell(lambda cpu, verdict: None)
    bell.port_write(0, 0, 1, 1)
    bell.port_write(0, 2, 2, 1)
    assert bell.rings == 0
    bell.port_write(0, 0, 2, 1)
    bell.port_write(0, 0, 4, 1)
    assert bell.rings == 2


def test_the_handler_gets_cpu_and_value_and_its_verdict_goes_to_that_cpu() -> None:
    verdicts: list[tuple[int, Verdict]] = []
    heard: list[tuple[int, int]] = []
    bell = Doorbell(lambda cpu, verdict: verdicts.append((cpu, verdict)))

    def handler(cpu: int, value: int) -> Verdict:
        heard.append((cpu, value))
        return Verdict.YIELD if value else Verdict.CONTINUE

    bell.handler = handler
    bell.port_write(1, 0, 2, 0)
    bell.port_write(2, 0, 4, 9)
    assert heard == [(1, 0), (2, 9)]
    assert verdicts == [(2, Verdict.YIELD)]


def test_reading_it_floats() -> None:
    assert Doorbell(lambda cpu, verdict: None).port_read(0, 0, 2) == 0xFFFF


def test_the_ring_count_is_saved() -> None:
    bell, other = Doorbell(lambda c, v: None), Doorbell(lambda c, v: None)
    bell.port_write(0, 0, 2, 1)
    other.load(bell.save())
    assert other.rings == 1
