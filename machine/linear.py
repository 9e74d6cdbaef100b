# SPDX-License-Identifier: GPL-2.0-only
"""Memory as a CPU itself reaches it when it delivers an interrupt: by linear address.

Descriptor tables, task state and stacks are read and written here with the CPU's own tables and
rights, Accessed and Dirty set as by any other access. What the CPU may not do is a `CpuException`,
which is what the interrupt delivery then has to deal with. Where no RAM answers, reads give all
ones and writes vanish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machine import mmu
from machine.mmu import BUS_PAGE, BUS_TABLE, NON_CANONICAL, READ, WRITE, page_fault_error
from machine.walk import ADDRESS, CR0_PG, walk

if TYPE_CHECKING:
    from machine.hidden import HiddenState
    from machine.physmem import PhysicalMemory

GENERAL_PROTECTION, PAGE_FAULT = 13, 14
_U64 = (1 << 64) - 1


class CpuException(Exception):  # not an error of ours: never leaves the machine
    """Exception `vector` with its error code, if it has one, and CR2 of a page fault."""

    def __init__(self, vector: int, error: int | None = None, address: int | None = None) -> None:
        super().__init__(vector)
        self.vector = vector
        self.error = error
        self.address = address


class LinearMemory:
    """The address space of the CPU whose registers `hidden` holds. `ram` is what `walk` takes."""

    def __init__(self, memory: PhysicalMemory, ram: memoryview) -> None:
        self._memory = memory
        self._ram = ram
        self.a20 = _U64
        """What of a physical address reaches the bus."""

    def physical(self, hidden: HiddenState, va: int, access: int, user: bool) -> int | None:
        """Physical address of linear `va` for that access, None where no RAM answers. Raises
        `CpuException`."""
        va &= _U64 if hidden.long_mode else 0xFFFFFFFF
        cr0 = hidden.control(0)
        if not cr0 & CR0_PG:
            return va & self.a20
        cr3, cr4 = hidden.control(3), hidden.control(4)
        signed = va - (va >> 63 << 64)
        page = walk(
            self._memory.words,
            self._ram,
            signed,
            access,
            int(user),
            cr0,
            cr3,
            cr4,
            hidden.efer,
        )
        if page >= 0:
            return (page & ADDRESS & self.a20) | (va & 0xFFF)
        if page == BUS_PAGE:
            return None
        if page == NON_CANONICAL:
            raise CpuException(GENERAL_PROTECTION, 0)
        reason = mmu.RESERVED if page == BUS_TABLE else page
        raise CpuException(PAGE_FAULT, page_fault_error(reason, access, user), va)

    def read(self, hidden: HiddenState, va: int, size: int, user: bool = False) -> int:
        """`size` bytes at linear `va` as a number. Raises `CpuException`."""
        data = b""
        for at, length in _pieces(va, size):
            phys = self.physical(hidden, at, READ, user)
            inside = phys is not None and self._memory.is_ram(phys, length)
            data += self._memory.read(phys or 0, length) if inside else b"\xff" * length
        return int.from_bytes(data, "little")

    def write(self, hidden: HiddenState, va: int, size: int, value: int, user: bool) -> None:
        """Store `size` bytes at linear `va`; nothing is written if part of it is not allowed.
        Raises `CpuException`."""
        data = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        places = [
            (self.physical(hidden, at, WRITE, user), at - va, length)
            for at, length in _pieces(va, size)
        ]
        for phys, start, length in places:
            if phys is not None and self._memory.is_ram(phys, length):
                self._memory.write(phys, data[start : start + length])


def _pieces(va: int, size: int) -> list[tuple[int, int]]:
    """The access cut at the page boundary."""
    first = min(size, 0x1000 - (va & 0xFFF))
    return [(va, size)] if first == size else [(va, first), (va + first, size - first)]
