# SPDX-License-Identifier: GPL-2.0-only
"""The MMU: page walks over guest RAM, as the processor does them.

The engines run with an empty software TLB; on each miss they ask here (`vcpu` installs the hook),
and `walk` does what SDM volume 3, chapter 4 says: four levels of tables in long mode, 1 GiB / 2 MiB
/ 4 KiB pages, U/S, R/W with CR0.WP, NX with EFER.NXE, reserved bits, Accessed set in every entry
used and Dirty on the first write. A table or page in a physical hole is a bus error. PAE and plain
32-bit paging and no paging at all are walked too, because a guest may switch to them.

`walk` is the hot path: ints in, one int out. `translate` is the same walk for people: it answers
with a `Translation` or None and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from machine.physmem import PhysicalMemory

PTE_P, PTE_RW, PTE_US, PTE_PWT, PTE_PCD = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4
PTE_A, PTE_D, PTE_PS, PTE_G = 1 << 5, 1 << 6, 1 << 7, 1 << 8
PTE_NX = 1 << 63

MAXPHYADDR = 46
"""Physical address bits of the modelled CPU, as CPUID leaf 0x80000008 says; higher ones are
reserved."""
ADDRESS = ((1 << MAXPHYADDR) - 1) & ~0xFFF
_RESERVED = ((1 << 52) - 1) & ~((1 << MAXPHYADDR) - 1)

CR0_PE, CR0_WP, CR0_PG = 1 << 0, 1 << 16, 1 << 31
CR4_PSE, CR4_PAE = 1 << 4, 1 << 5
EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE = 1 << 0, 1 << 8, 1 << 10, 1 << 11

READ, WRITE, FETCH = 0, 1, 2
ACCESS_NAMES = ("read", "write", "fetch")

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
"""Low bits of what `walk` grants; the engine's own numbers."""

NOT_PRESENT, PROTECTION, RESERVED, NON_CANONICAL, BUS_TABLE, BUS_PAGE = -1, -2, -3, -4, -5, -6
REASONS = {
    NOT_PRESENT: "page not present",
    PROTECTION: "protection violation",
    RESERVED: "reserved bit set in a page-table entry",
    NON_CANONICAL: "non-canonical address",
    BUS_TABLE: "bus error: page table in a physical hole",
    BUS_PAGE: "bus error: page in a physical hole",
}
_S64 = 1 << 63
_U64 = (1 << 64) - 1


@dataclass(frozen=True)
class Translation:
    """Where virtual `va` is: physical byte `phys`, in a page of `page_size` bytes, and what its
    entries allow taken together. `entries` are the physical addresses of the entries walked, from
    the root down to the leaf."""

    va: int
    phys: int
    page_size: int
    writable: bool
    user: bool
    executable: bool
    entries: tuple[int, ...]


def walk(
    memory: PhysicalMemory,
    va: int,
    access: int,
    user: bool,
    cr0: int,
    cr3: int,
    cr4: int,
    efer: int,
) -> int:
    """Translate the access (`READ`, `WRITE`, `FETCH`) to the 4 KiB page of virtual `va`.

    Returns physical page | PROT_ bits granted for later accesses, or a negative reason. Write is
    granted only once Dirty is set, so that the first write comes here."""
    if not cr0 & CR0_PG:
        return _grant(memory, va & 0xFFFFF000, PROT_READ | PROT_WRITE | PROT_EXEC)
    if not efer & EFER_LMA:
        return _walk_32(memory, va & 0xFFFFFFFF, access, user, cr0, cr3, cr4, efer)
    if (va + (1 << 47)) & _U64 >= 1 << 48:
        return NON_CANONICAL
    return _walk_tables(memory, cr3 & ADDRESS, 39, va, access, user, cr0 & CR0_WP, efer & EFER_NXE)


def _walk_tables(
    memory: PhysicalMemory,
    table: int,
    shift: int,
    va: int,
    access: int,
    user: bool,
    wp: int,
    nxe: int,
) -> int:
    """64-bit entries from the level that `shift` bits of the address lie below, down to a leaf."""
    words = memory.words
    low_ram = memory.extents[0][1]
    forbidden = _RESERVED if nxe else _RESERVED | PTE_NX
    may = PTE_RW | PTE_US
    nx = 0
    path = []
    while True:
        if table >= low_ram and not memory.is_ram(table, 4096):
            return BUS_TABLE
        index = (table >> 3) + ((va >> shift) & 511)
        entry: int = words[index] & _U64
        if not entry & PTE_P:
            return NOT_PRESENT
        if entry & forbidden:
            return RESERVED
        may &= entry
        nx |= entry & PTE_NX
        if shift == 12:
            break
        if entry & PTE_PS:
            if shift == 39 or entry & ((1 << shift) - 1) & ~0x1FFF:
                return RESERVED
            break
        path.append(index)
        table = entry & ADDRESS
        shift -= 9
    writable = may & PTE_RW or not (user or wp)
    if (
        (user and not may & PTE_US)
        or (access == WRITE and not writable)
        or (access == FETCH and nx)
    ):
        return PROTECTION
    page = (entry & ADDRESS & -(1 << shift)) | (va & ((1 << shift) - 1) & ~0xFFF)
    if page + 4096 > low_ram and not memory.is_ram(page, 4096):
        return BUS_PAGE
    for step in path:
        if not words[step] & PTE_A:
            words[step] |= PTE_A
    used = PTE_A | PTE_D if access == WRITE else PTE_A
    if entry & used != used:
        entry |= used
        words[index] = entry - (1 << 64) if entry & _S64 else entry
    granted = PROT_READ if nx else PROT_READ | PROT_EXEC
    return page | granted | PROT_WRITE if writable and entry & PTE_D else page | granted


def _walk_32(
    memory: PhysicalMemory,
    va: int,
    access: int,
    user: bool,
    cr0: int,
    cr3: int,
    cr4: int,
    efer: int,
) -> int:
    """Paging outside long mode: PAE's three levels, or two levels of 32-bit entries."""
    if cr4 & CR4_PAE:
        slot = (cr3 & 0xFFFFFFE0) + 8 * (va >> 30)
        if not memory.is_ram(slot, 8):
            return BUS_TABLE
        entry = memory.read_u64(slot)
        if not entry & PTE_P:
            return NOT_PRESENT
        if entry & (_RESERVED | PTE_NX | 0x1E6):
            return RESERVED
        table = entry & ADDRESS
        return _walk_tables(memory, table, 21, va, access, user, cr0 & CR0_WP, efer & EFER_NXE)
    slot = (cr3 & 0xFFFFF000) + 4 * (va >> 22)
    if not memory.is_ram(slot, 4):
        return BUS_TABLE
    entry = memory.read_u32(slot)
    if not entry & PTE_P:
        return NOT_PRESENT
    may = entry
    upper = -1
    if entry & PTE_PS and cr4 & CR4_PSE:
        page = (entry & 0xFFC00000) | (entry >> 13 & 0xFF) << 32 | (va & 0x3FF000)
    else:
        upper = slot
        slot = (entry & 0xFFFFF000) + 4 * (va >> 12 & 1023)
        if not memory.is_ram(slot, 4):
            return BUS_TABLE
        entry = memory.read_u32(slot)
        if not entry & PTE_P:
            return NOT_PRESENT
        may &= entry
        page = entry & 0xFFFFF000
    writable = may & PTE_RW or not (user or cr0 & CR0_WP)
    if (user and not may & PTE_US) or (access == WRITE and not writable):
        return PROTECTION
    if upper >= 0:
        memory.write_u32(upper, memory.read_u32(upper) | PTE_A)
    entry |= PTE_A | PTE_D if access == WRITE else PTE_A
    memory.write_u32(slot, entry)
    granted = PROT_READ | PROT_EXEC
    return _grant(memory, page, granted | PROT_WRITE if writable and entry & PTE_D else granted)


def _grant(memory: PhysicalMemory, page: int, granted: int) -> int:
    return page | granted if memory.is_ram(page, 4096) else BUS_PAGE


def translate(memory: PhysicalMemory, cr3: int, va: int) -> Translation | None:
    """Where the long-mode tables at `cr3` map virtual `va`, or None when they do not (or lead out
    of RAM). Reads only: no Accessed bit is set."""
    va &= _U64
    if (va + (1 << 47)) & _U64 >= 1 << 48:
        return None
    table = cr3 & ADDRESS
    shift = 39
    may = PTE_RW | PTE_US
    nx = 0
    entries = []
    while True:
        slot = table + 8 * ((va >> shift) & 511)
        if not memory.is_ram(slot, 8):
            return None
        entry = memory.read_u64(slot)
        entries.append(slot)
        if not entry & PTE_P or entry & _RESERVED:
            return None
        may &= entry
        nx |= entry & PTE_NX
        if shift == 12 or (entry & PTE_PS and shift < 39):
            break
        table = entry & ADDRESS
        shift -= 9
    size = 1 << shift
    phys = (entry & ADDRESS & -size) | (va & (size - 1))
    return Translation(
        va, phys, size, bool(may & PTE_RW), bool(may & PTE_US), not nx, tuple(entries)
    )
