# SPDX-License-Identifier: GPL-2.0-only
"""Physical memory: the RAM banks of the board as one sparse host mapping.

Physical address = offset into one mapping that reaches from 0 to the end of the last bank. The host
commits a page when it is first used, so a 1 TiB machine costs nothing until then, fresh RAM reads
as zero, and the holes between banks (the PCI hole, HyperTransport's) are merely addresses nobody
answers. The same bytes are seen four ways: `bytes` and `words` (memoryviews, the fast way for
single cells), `u8` and `q` (NumPy, the fast way for bulk work), and the engines of the vCPUs get
the mapping itself (`host_address`). What is behind it on the host, `backing` knows; how it
goes back to an earlier moment, `history`. A fork leaves both processes with RAM of their own.

Behind the last bank the mapping may go on with *storage*: the contents of the modelled disks. No
bus answers there, no CPU sees it; `words` alone reaches it, so that a transfer between a disk and
RAM is a copy within one array, and checkpoints and snapshots carry disks as they carry RAM.

The views are unchecked, they are the allocator's hot path. `read`, `write` and their sized forms
check that every byte lies in RAM and raise `BusError` naming the address.
"""

from __future__ import annotations

import ctypes
import mmap
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from machine.backing import Backing
from machine.errors import BringUpError, BusError, TopologyError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from machine.hostmap import Runs
    from machine.ramhistory import RamCheckpoint, RamHistory
    from machine.topology import Topology

PAGE_SIZE = 4096
STORAGE_SIZE = 1 << 30
"""Bytes of storage that a machine has."""
_U64 = (1 << 64) - 1
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)


@dataclass(frozen=True)
class Bank:
    """RAM at physical bytes [start, end), both page aligned."""

    start: int
    end: int
    name: str

    @property
    def size(self) -> int:
        """Bytes in the bank."""
        return self.end - self.start


class PhysicalMemory:
    """The RAM of one machine. Raises `TopologyError` for banks that are empty, unaligned or
    overlap, `BringUpError` when the host has no address space left."""

    def __init__(self, banks: Iterable[Bank], storage: int = 0) -> None:
        """`storage`: bytes of disks behind the last bank, page aligned."""
        self.banks: tuple[Bank, ...] = tuple(sorted(banks, key=lambda bank: bank.start))
        if not self.banks:
            raise TopologyError("physical memory needs at least one RAM bank")
        extents: list[list[int]] = []
        for bank in self.banks:
            if bank.start < 0 or bank.end <= bank.start:
                raise TopologyError(f"RAM bank {bank.name} is empty")
            if bank.start % PAGE_SIZE or bank.end % PAGE_SIZE:
                raise TopologyError(f"RAM bank {bank.name} is not page aligned")
            if extents and bank.start < extents[-1][1]:
                raise TopologyError(f"RAM bank {bank.name} overlaps the one below it")
            if extents and bank.start == extents[-1][1]:
                extents[-1][1] = bank.end
            else:
                extents.append([bank.start, bank.end])
        self.extents: tuple[tuple[int, int], ...] = tuple((a, b) for a, b in extents)
        """Physical [start, end) of RAM with touching banks merged: what the bus answers."""
        self._starts = [start for start, _ in self.extents]
        self.size: int = self.extents[-1][1]
        """Bytes up to the end of the last bank, holes included."""
        if storage < 0 or storage % PAGE_SIZE:
            raise TopologyError(f"storage of {storage:#x} bytes is not page aligned")
        self.end: int = self.size + storage
        """Bytes of the mapping: storage is [size, end)."""
        try:
            self._map = mmap.mmap(
                -1,
                self.end,
                flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE,
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
            )
        except (OSError, ValueError, OverflowError) as error:
            raise BringUpError(f"cannot reserve {self.end:#x} bytes of RAM: {error}") from None
        # from_buffer exports the mapping, so what is addressed cannot be unmapped behind it.
        self._anchor = ctypes.c_char.from_buffer(self._map)
        self._base = ctypes.addressof(self._anchor)
        self.backing = Backing(self._base, self.end)
        self.rewinds = 0
        """How often RAM has gone back: whoever keeps something derived from it compares."""
        whole = memoryview(self._map)
        self.bytes: memoryview = whole[: self.size]
        """Every physical byte, unchecked."""
        self.words: memoryview = whole.cast("q")
        """Every aligned 64-bit word as a signed integer, unchecked; index = physical >> 3. Storage
        follows."""

    @classmethod
    def for_topology(cls, topology: Topology) -> PhysicalMemory:
        """The RAM of a machine with this topology, one bank for each of its `ram_ranges`, and
        `STORAGE_SIZE` bytes of storage."""
        banks = (
            Bank(piece.start, piece.end, f"node{piece.nid}@{piece.start:#x}")
            for piece in topology.ram_ranges
        )
        return cls(banks, STORAGE_SIZE)

    @cached_property
    def q(self) -> npt.NDArray[np.int64]:
        """NumPy's view of RAM's words."""
        import numpy as np

        return np.frombuffer(self._map, dtype=np.int64, count=self.size // 8)

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """NumPy's view of RAM and storage, one row of 512 words a page."""
        import numpy as np

        return np.frombuffer(self._map, dtype=np.int64).reshape(-1, PAGE_SIZE // 8)

    @cached_property
    def u8(self) -> npt.NDArray[np.uint8]:
        """NumPy's view of `bytes`."""
        import numpy as np

        return np.frombuffer(self._map, dtype=np.uint8, count=self.size)

    @cached_property
    def history(self) -> RamHistory:
        """The checkpoints of this RAM (`Machine.checkpoint` takes them with everything else)."""
        from machine.ramhistory import RamHistory

        return RamHistory(self.backing, self.rows)

    def host_address(self, phys: int = 0) -> int:
        """Address in this process of physical byte `phys` (which need not be RAM)."""
        if not 0 <= phys < self.size:
            raise BusError(phys, 1)
        return self._base + phys

    def is_ram(self, addr: int, n: int = 1) -> bool:
        """True when all of the `n` bytes at physical `addr` are RAM (no bytes: never)."""
        if addr < 0 or n <= 0:
            return False
        index = bisect_right(self._starts, addr) - 1
        return index >= 0 and addr + n <= self.extents[index][1]

    def is_backed(self, addr: int, n: int = 1) -> bool:
        """True when all of the `n` bytes at `addr` are RAM, or all of them storage."""
        return self.is_ram(addr, n) or self.size <= addr < addr + n <= self.end

    def check(self, addr: int, n: int) -> None:
        """Raise `BusError` unless the `n` bytes at physical `addr` are all RAM."""
        if not self.is_ram(addr, n):
            raise BusError(addr, n)

    def read(self, addr: int, n: int) -> bytes:
        """The `n` bytes at physical `addr`. Raises `BusError`."""
        if n == 0:
            return b""
        self.check(addr, n)
        return bytes(self.bytes[addr : addr + n])

    def write(self, addr: int, data: bytes | bytearray | memoryview) -> None:
        """Put `data` at physical `addr`. Raises `BusError` and then has written nothing."""
        view = memoryview(data).cast("B") if isinstance(data, memoryview) else data
        n = len(view)
        if n:
            self.check(addr, n)
            self.bytes[addr : addr + n] = view

    def read_u64(self, addr: int) -> int:
        """Unsigned 64-bit little-endian word at physical `addr`. Raises `BusError`."""
        self.check(addr, 8)
        if addr & 7:
            return int.from_bytes(self.bytes[addr : addr + 8], "little")
        word: int = self.words[addr >> 3]
        return word & _U64

    def read_u32(self, addr: int) -> int:
        """Unsigned 32-bit word at physical `addr`. Raises `BusError`."""
        self.check(addr, 4)
        return int.from_bytes(self.bytes[addr : addr + 4], "little")

    def read_u16(self, addr: int) -> int:
        """Unsigned 16-bit word at physical `addr`. Raises `BusError`."""
        self.check(addr, 2)
        return int.from_bytes(self.bytes[addr : addr + 2], "little")

    def read_u8(self, addr: int) -> int:
        """Byte at physical `addr`. Raises `BusError`."""
        self.check(addr, 1)
        byte: int = self.bytes[addr]
        return byte

    def write_u64(self, addr: int, value: int) -> None:
        """Store the low 64 bits of `value` (signed or not) at physical `addr`. Raises
        `BusError`."""
        self._store(addr, value, 8)

    def write_u32(self, addr: int, value: int) -> None:
        """Store the low 32 bits of `value` at physical `addr`. Raises `BusError`."""
        self._store(addr, value, 4)

    def write_u16(self, addr: int, value: int) -> None:
        """Store the low 16 bits of `value` at physical `addr`. Raises `BusError`."""
        self._store(addr, value, 2)

    def write_u8(self, addr: int, value: int) -> None:
        """Store the low 8 bits of `value` at physical `addr`. Raises `BusError`."""
        self._store(addr, value, 1)

    def _store(self, addr: int, value: int, n: int) -> None:
        self.check(addr, n)
        mask = (1 << (8 * n)) - 1
        self.bytes[addr : addr + n] = (value & mask).to_bytes(n, "little")

    def checkpoint(self) -> RamCheckpoint:
        """Hold on to RAM alone as it is (see `Machine.checkpoint` for all of a machine)."""
        return self.history.checkpoint()

    def rewind(self, to: RamCheckpoint) -> None:
        """RAM as it was at `to`. The CPUs' translations are not touched. Raises `UsageError` when
        `to` has ended."""
        self.history.rewind(to)
        self.rewinds += 1

    def touched(self, start: int = 0, end: int | None = None) -> Runs:
        """Parts of physical [start, end), page aligned, that may hold something but zeroes, as
        ascending (start, end). Takes time by what is there, not by the size of the range."""
        return self.backing.touched(start, self.size if end is None else end)

    def zero(self, start: int, end: int) -> None:
        """Physical [start, end), page aligned, reads as zero; pages never used stay unused."""
        for first, last in self.touched(start, end):
            part = self.q[first >> 3 : last >> 3]
            if part.any():
                part[:] = 0

    def clear(self) -> None:
        """Make all RAM read as zero again (a power cycle) and, when there are no checkpoints, give
        its pages back to the host. Raises `BringUpError` when the host has no memory."""
        if self.history.levels or (self.end > self.size and self.touched(self.size, self.end)):
            self.zero(0, self.size)
            return
        try:
            self.backing.clear()
        except OSError as error:
            raise BringUpError(f"cannot renew {self.size:#x} bytes of RAM: {error}") from None
