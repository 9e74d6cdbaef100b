# SPDX-License-Identifier: GPL-2.0-only
"""The machine's clock and the kernel's word of time follow each other and never go back."""

from __future__ import annotations

import pytest

from allocator.kernel_globals import G_CLOCK
from allocator.timekeeping import FARTHEST, enter_kernel, leave_kernel
from machine import Machine, Topology


@pytest.fixture
def machine() -> Machine:
    return Machine(Topology.parse("1x64M"))


def test_the_kernel_catches_up_with_the_machine(machine: Machine) -> None:
    machine.clock.advance(500)
    enter_kernel(machine)
    assert machine.memory.words[G_CLOCK] == 500


def test_the_machine_catches_up_with_the_kernel(machine: Machine) -> None:
    machine.clock.advance(500)
    machine.memory.words[G_CLOCK] = 2500
    leave_kernel(machine)
    assert machine.clock.now == 2500
    machine.memory.words[G_CLOCK] = 3000
    enter_kernel(machine)
    assert (machine.clock.now, machine.memory.words[G_CLOCK]) == (3000, 3000)


def test_a_kernel_that_is_behind_holds_nobody_back(machine: Machine) -> None:
    machine.clock.advance(500)
    leave_kernel(machine)
    assert machine.clock.now == 500


@pytest.mark.parametrize("scribble", [-5, FARTHEST * 2, (1 << 63) - 1, -(1 << 63)])
def test_a_time_that_was_scribbled_is_not_believed(machine: Machine, scribble: int) -> None:
    machine.clock.advance(500)
    machine.memory.words[G_CLOCK] = scribble
    leave_kernel(machine)
    assert machine.clock.now == 500
    enter_kernel(machine)
    assert (machine.clock.now, machine.memory.words[G_CLOCK]) == (500, 500)
