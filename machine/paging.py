# SPDX-License-Identifier: GPL-2.0-only
"""Building four-level page tables in guest RAM.

Used by whoever brings a kernel up (direct map, vmemmap, identity map) and by tests. Tables live in
frames that the caller's allocator hands out, so they are as visible and as fragile as any other
guest memory. Each stretch is mapped with the largest pages that its alignment allows: 1 GiB, 2 MiB,
4 KiB."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from machine.errors import UsageError
from machine.mmu import ADDRESS, PTE_A, PTE_D, PTE_NX, PTE_P, PTE_PS, PTE_RW, PTE_US

if TYPE_CHECKING:
    from machine.physmem import PhysicalMemory

KERNEL_DATA = PTE_P | PTE_RW | PTE_NX
KERNEL_CODE = PTE_P | PTE_RW
USER_DATA = PTE_P | PTE_RW | PTE_US | PTE_NX
_PAGE = 4096
_LEAF_ATTRIBUTES = ~ADDRESS & ~PTE_PS


class PageTableBuilder:
    """A page-table tree whose frames come from `alloc_frame()` (physical address of a 4 KiB frame,
    which is cleared here). `root` is the value for CR3."""

    def __init__(self, memory: PhysicalMemory, alloc_frame: Callable[[], int]) -> None:
        self._memory = memory
        self._alloc_frame = alloc_frame
        self.tables = 0
        """Number of frames taken, root included."""
        self.root: int = self._new_table()

    def _new_table(self) -> int:
        phys = self._alloc_frame()
        if phys % _PAGE:
            raise UsageError(f"page-table frame at {phys:#x} is not page aligned")
        self._memory.write(phys, bytes(_PAGE))
        self.tables += 1
        return phys

    def map(
        self, va: int, pa: int, size: int, flags: int = KERNEL_CODE, max_page: int = 1 << 30
    ) -> None:
        """Map `size` bytes of virtual `va` to physical `pa`; `flags` are PTE bits of the leaves
        (`PTE_P` is implied). An earlier mapping of the same addresses is replaced; a larger page
        around them is split. `max_page` (bytes) limits the page size. The caller flushes TLBs.

        Raises `UsageError` for addresses that are unaligned, non-canonical or wrap."""
        va &= (1 << 64) - 1
        if (va | pa | size) % _PAGE or size < 0 or pa < 0 or pa + size > ADDRESS + _PAGE:
            raise UsageError(f"cannot map {size:#x} bytes at {va:#x} to physical {pa:#x}")
        last = va + max(size - 1, 0)
        if ((va + (1 << 47)) >> 48) & 0xFFFF or (va ^ last) >> 47:
            raise UsageError(f"cannot map {size:#x} bytes at {va:#x}: not canonical")
        end = va + size
        while va < end:
            step = 1 << 30
            while step > _PAGE and (step > max_page or (va | pa) & (step - 1) or end - va < step):
                step >>= 9
            self._set_leaf(va, pa, step, flags)
            va += step
            pa += step

    def _set_leaf(self, va: int, pa: int, step: int, flags: int) -> None:
        table = self.root
        shift = 39
        while True:
            slot = table + 8 * ((va >> shift) & 511)
            entry = self._memory.read_u64(slot)
            here = 1 << shift == step
            if here and (shift == 12 or not entry & PTE_P or entry & PTE_PS):
                large = PTE_PS if shift > 12 else 0
                self._memory.write_u64(slot, pa | flags & _LEAF_ATTRIBUTES | large | PTE_P)
                return
            if not entry & PTE_P:
                table = self._new_table()
            elif entry & PTE_PS:
                table = self._split(entry, shift)
            else:
                table = entry & ADDRESS
            # Permissions are decided by the leaf; the levels above only must not take them away.
            above = table | PTE_P | PTE_RW | (entry | flags) & PTE_US | entry & PTE_A
            self._memory.write_u64(slot, above & ~PTE_D)
            shift -= 9
            if here:  # a table already stands where one large page was asked for
                for part in range(512):
                    self._set_leaf(va + (part << shift), pa + (part << shift), 1 << shift, flags)
                return

    def _split(self, entry: int, shift: int) -> int:
        """A new table that maps what the large page `entry` mapped, in pages of the next size."""
        table = self._new_table()
        small = 1 << (shift - 9)
        base = entry & ADDRESS & -(1 << shift)
        bits = entry & _LEAF_ATTRIBUTES | (PTE_PS if shift > 21 else 0)
        for part in range(512):
            self._memory.write_u64(table + 8 * part, base + part * small | bits)
        return table
