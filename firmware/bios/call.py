# SPDX-License-Identifier: GPL-2.0-only
"""A BIOS call being served: the caller's registers, its memory, and how to answer.

The registers are read at once and written back at the end, those that changed. The flags of the
answer are the caller's, on the stack where IRET will take them from. Memory is addressed by segment
and offset in the mode the caller is in: real, or virtual 8086 under its pages; what lies outside
RAM reads as FFh and takes no writes, as on the bus."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from machine.hidden import SEGMENT_NUMBERS

if TYPE_CHECKING:
    from machine import VCPU, Machine

CF, ZF, IF = 0x001, 0x040, 0x200
_NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")
"""In the order of their numbers."""
_SEGMENTS = ("ss", "ds", "es", "cs")
_U32 = (1 << 32) - 1
_FLAGS_PLACE = 6
"""Of the caller's flags above the number of the service: number, IP, CS, FLAGS."""


class Register:
    """A part of a register as an attribute of a call: `shift` bits up, `mask` wide."""

    def __init__(self, name: str, shift: int, mask: int) -> None:
        self._name, self._shift, self._mask = name, shift, mask

    def __get__(self, call: Call, owner: type[Call]) -> int:
        return call.values[self._name] >> self._shift & self._mask

    def __set__(self, call: Call, value: int) -> None:
        place = self._mask << self._shift
        old = call.values[self._name]
        call.values[self._name] = old & ~place | value << self._shift & place


class Call:
    """One call of CPU `cpu` on `machine`."""

    al, ah = Register("rax", 0, 0xFF), Register("rax", 8, 0xFF)
    bl, bh = Register("rbx", 0, 0xFF), Register("rbx", 8, 0xFF)
    cl, ch = Register("rcx", 0, 0xFF), Register("rcx", 8, 0xFF)
    dl, dh = Register("rdx", 0, 0xFF), Register("rdx", 8, 0xFF)
    ax, bx, cx, dx = (Register(name, 0, 0xFFFF) for name in ("rax", "rbx", "rcx", "rdx"))
    si, di, bp, sp = (Register(name, 0, 0xFFFF) for name in ("rsi", "rdi", "rbp", "rsp"))
    eax, ebx, ecx, edx = (Register(name, 0, _U32) for name in ("rax", "rbx", "rcx", "rdx"))
    edi = Register("rdi", 0, _U32)
    ds, es, ss, cs = (Register(name, 0, 0xFFFF) for name in ("ds", "es", "ss", "cs"))

    def __init__(self, machine: Machine, cpu: VCPU) -> None:
        self.machine, self.cpu = machine, cpu
        hidden = cpu.hidden
        hidden.load()
        self._before = {name: hidden.gpr(number) for number, name in enumerate(_NAMES)}
        for name in _SEGMENTS:
            self._before[name] = hidden.segment(SEGMENT_NUMBERS[name])[0]
        self._paged = hidden.paging
        self.values = dict(self._before)

    @property
    def number(self) -> int:
        """What the stub pushed."""
        return self._word(self.ss, self.sp)

    @property
    def flags(self) -> int:
        """The caller's flags."""
        return self._word(self.ss, self.sp + _FLAGS_PLACE)

    @flags.setter
    def flags(self, value: int) -> None:
        self.write(self.ss, self.sp + _FLAGS_PLACE, (value & 0xFFFF).to_bytes(2, "little"))

    def set_flag(self, flag: int, on: bool) -> None:
        """Set or clear `flag` in what the caller gets back."""
        flags = self.flags
        self.flags = flags | flag if on else flags & ~flag

    def succeed(self, ah: int = 0) -> None:
        """CF clear, AH as given."""
        self.ah = ah
        self.set_flag(CF, False)

    def fail(self, ah: int) -> None:
        """CF set, AH the reason."""
        self.ah = ah
        self.set_flag(CF, True)

    def finish(self, flags: int = 0) -> None:
        """Put the registers back; `flags` is for the stub: CF to be called again, ZF without
        halting."""
        regs = self.cpu.regs
        for name, value in self.values.items():
            if value != self._before[name]:
                regs[name] = value
        self.write(self._before["ss"], self._before["rsp"], (flags | 2).to_bytes(2, "little"))

    def physical(self, segment: int, offset: int) -> int | None:
        """Physical address of a byte, None where nothing is mapped."""
        return self._translate((segment << 4) + (offset & 0xFFFF))

    def _translate(self, linear: int) -> int | None:
        return self.cpu.translate(linear) if self._paged else linear & self.cpu.a20_mask

    def read(self, segment: int, offset: int, size: int) -> bytes:
        """`size` bytes from `segment`:`offset` on, straight on beyond the end of the segment."""
        out = bytearray()
        for physical, length in self._pieces(segment, offset, size):
            if physical is not None and self.machine.memory.is_ram(physical, length):
                out += self.machine.memory.read(physical, length)
            else:
                out += b"\xff" * length
        return bytes(out)

    def write(self, segment: int, offset: int, data: bytes, *, code: bool = False) -> None:
        """Put `data` at `segment`:`offset`. `code`: it may be executed."""
        done, memory = 0, self.machine.memory
        for physical, length in self._pieces(segment, offset, len(data)):
            if physical is not None and memory.is_ram(physical, length):
                memory.write(physical, data[done : done + length])
                if code:
                    self.machine.code_written(physical, length)
            done += length

    def _pieces(self, segment: int, offset: int, size: int) -> list[tuple[int | None, int]]:
        """Physical address and length of the parts, none of which crosses a page."""
        pieces, done = [], 0
        start = (segment << 4) + (offset & 0xFFFF)
        while done < size:
            linear = start + done
            length = min(size - done, 0x1000 - linear % 0x1000)
            pieces.append((self._translate(linear), length))
            done += length
        return pieces

    def _word(self, segment: int, offset: int) -> int:
        return int.from_bytes(self.read(segment, offset, 2), "little")


class Service(Protocol):
    """What serves one vector."""

    def __call__(self, call: Call) -> int:
        """Serve `call`; the flags for the stub, usually 0."""


Table = dict[int, Callable[[Call], int | None]]
"""Functions by AH."""
WAIT, WAIT_BUSY = CF, CF | ZF
"""Come again after an interrupt; come again at once, with interrupts let in."""
