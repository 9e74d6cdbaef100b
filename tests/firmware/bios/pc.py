# SPDX-License-Identifier: GPL-2.0-only
"""A PC whose BIOS is called one service at a time, the way software does: by INT."""

from __future__ import annotations

from dataclasses import dataclass

from firmware import power_on
from firmware.bios import install_bios
from machine import Machine, Topology
from machine.drive import Drive

CODE, STACK = 0x600, 0x7000
_REGISTERS = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp")


@dataclass(frozen=True)
class Answer:
    """The registers behind the INT, 32 bits each, and the flags."""

    ax: int
    bx: int
    cx: int
    dx: int
    si: int
    di: int
    bp: int
    es: int
    flags: int

    @property
    def cf(self) -> bool:
        return bool(self.flags & 1)

    @property
    def zf(self) -> bool:
        return bool(self.flags & 0x40)

    @property
    def ah(self) -> int:
        return self.ax >> 8 & 0xFF

    @property
    def al(self) -> int:
        return self.ax & 0xFF


class Pc:
    """A machine that has been through POST, with these drives."""

    def __init__(self, numa: str = "1x64M", drives: dict[int, Drive] | None = None) -> None:
        self.machine = Machine(Topology.parse(numa))
        self.machine.open_bus = True
        power_on(self.machine)
        self.machine.pc.bios.drives |= drives or {}
        self.bios = install_bios(self.machine)
        self.memory = self.machine.memory

    def call(self, vector: int, budget: int = 100_000, **registers: int) -> Answer:
        """INT `vector` with these registers (16-bit names)."""
        # int; cli; hlt
        self.memory.write(CODE, bytes((0xCD, vector, 0xFA, 0xF4)))
        self.machine.code_written(CODE, 4)
        cpu = self.machine.cpus[0]
        cpu.start_real(0, CODE, sp=STACK, **registers)
        stop = self.machine.run(budget)
        assert stop.kind == "halt", stop
        values = [cpu.regs[name] & 0xFFFFFFFF for name in _REGISTERS]
        return Answer(*values, es=cpu.regs.es, flags=cpu.regs.rflags)

    def screen(self) -> list[str]:
        """The rows of the screen, without blanks at their ends."""
        return [line.rstrip() for line in self.machine.pc.screen.lines()]
