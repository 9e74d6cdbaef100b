# SPDX-License-Identifier: GPL-2.0-only
"""A machine with page tables and hand-assembled code in it, for the tests of this folder.

Low RAM is mapped one to one and at 0xffff888000000000, as the kernel will map it; code lies at
physical 1 MiB, the stack grows down from 0x90000, page tables use frames from 0x10000 up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from machine import Machine, PageTableBuilder, Topology

CODE = 0x100000
STACK = 0x90000


class Guest:
    """A machine ready to run `code` (hex or bytes) on CPU 0."""

    def __init__(self, numa: str, quantum: int) -> None:
        self.machine = Machine(Topology.parse(numa), quantum=quantum)
        self._frames: Iterator[int] = iter(range(0x10000, 0x80000, 4096))
        self.tables = PageTableBuilder(self.machine.memory, lambda: next(self._frames))
        low = min(self.machine.topology.below_4g, 1 << 30)
        self.tables.map(0, 0, low, flags=7)
        self.tables.map(0xFFFF_8880_0000_0000, 0, low)

    def put(self, code: str | bytes, at: int = CODE) -> None:
        data = bytes.fromhex(code) if isinstance(code, str) else code
        self.machine.memory.write(at, data)

    def start(self, code: str | bytes, cpu: int = 0, at: int = CODE) -> Machine:
        self.put(code, at)
        self.machine.cpus[cpu].start(at, STACK - 0x1000 * cpu, self.tables.root)
        return self.machine


@pytest.fixture
def guest() -> Callable[..., Guest]:
    def make(numa: str = "2x64M", quantum: int = 10_000) -> Guest:
        return Guest(numa, quantum)

    return make
