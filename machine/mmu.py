# SPDX-License-Identifier: GPL-2.0-only
"""The MMU: page walks over guest RAM, as the processor does them.

The engines run with an empty software TLB; on each miss they ask for a walk (`vcpu` installs the
hook). The walk itself is `machine.walk`'s; here are its front for Python, its reasons in words, and
`translate`: the same walk for people, which answers with a `Translation` or None and changes
nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from machine import walk as words
from machine.walk import (
    ADDRESS,
    BUS_PAGE,
    BUS_TABLE,
    CR0_PE,
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    CR4_PSE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
    FETCH,
    MAXPHYADDR,
    NON_CANONICAL,
    NOT_PRESENT,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    PROTECTION,
    PTE_A,
    PTE_D,
    PTE_G,
    PTE_P,
    PTE_PCD,
    PTE_PS,
    PTE_PWT,
    PTE_RW,
    PTE_US,
    READ,
    RESERVED,
    RESERVED_BITS,
    WRITE,
    ram_table,
)

if TYPE_CHECKING:
    from machine.physmem import PhysicalMemory

__all__ = [
    "ACCESS_NAMES",
    "ADDRESS",
    "BUS_PAGE",
    "BUS_TABLE",
    "CR0_PE",
    "CR0_PG",
    "CR0_WP",
    "CR4_PAE",
    "CR4_PSE",
    "EFER_LMA",
    "EFER_LME",
    "EFER_NXE",
    "EFER_SCE",
    "FETCH",
    "MAXPHYADDR",
    "NON_CANONICAL",
    "NOT_PRESENT",
    "PROTECTION",
    "PROT_EXEC",
    "PROT_READ",
    "PROT_WRITE",
    "PTE_A",
    "PTE_D",
    "PTE_G",
    "PTE_NX",
    "PTE_P",
    "PTE_PCD",
    "PTE_PS",
    "PTE_PWT",
    "PTE_RW",
    "PTE_US",
    "READ",
    "REASONS",
    "RESERVED",
    "WRITE",
    "Translation",
    "page_fault_error",
    "translate",
    "translate_as",
    "walk",
]

PTE_NX = 1 << 63
ACCESS_NAMES = ("read", "write", "fetch")
REASONS = {
    NOT_PRESENT: "page not present",
    PROTECTION: "protection violation",
    RESERVED: "reserved bit set in a page-table entry",
    NON_CANONICAL: "non-canonical address",
    BUS_TABLE: "bus error: page table in a physical hole",
    BUS_PAGE: "bus error: page in a physical hole",
}
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


def page_fault_error(code: int, access: int, user: bool) -> int:
    """Error code of the page fault (SDM volume 3, 4.7) for a walk that ended with the negative
    reason `code`."""
    error = (0 if code == NOT_PRESENT else PTE_P) | (PTE_US if user else 0)
    error |= PTE_RW if access == WRITE else 0
    return error | (8 if code == RESERVED else 0) | (16 if access == FETCH else 0)


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
    """`machine.walk.walk` over `memory`: translate the access to the 4 KiB page of virtual `va`
    (unsigned) to physical page | PROT_ bits, or a negative reason."""
    va -= va >> 63 << 64
    table = memoryview(ram_table(memory))
    return words.walk(memory.words, table, va, access, int(user), cr0, cr3, cr4, efer)


def translate(memory: PhysicalMemory, cr3: int, va: int) -> Translation | None:
    """Where the long-mode tables at `cr3` map virtual `va`, or None when they do not (or lead out
    of RAM). Reads only: no Accessed bit is set."""
    va &= _U64
    if (va + (1 << 47)) & _U64 >= 1 << 48:
        return None
    return _translate_tables(memory, cr3 & ADDRESS, 39, va, [])


def translate_as(
    memory: PhysicalMemory, cr0: int, cr3: int, cr4: int, efer: int, va: int
) -> Translation | None:
    """The same in whatever mode these control registers select: without paging, with two levels of
    32-bit entries, PAE or long mode."""
    if cr0 & CR0_PG and efer & EFER_LMA:
        return translate(memory, cr3, va)
    va &= 0xFFFFFFFF
    if not cr0 & CR0_PG:
        return Translation(va, va, 4096, True, True, True, ())
    if not cr4 & CR4_PAE:
        return _translate_two_levels(memory, cr3 & 0xFFFFF000, bool(cr4 & CR4_PSE), va)
    slot = (cr3 & 0xFFFFFFE0) + 8 * (va >> 30)
    if not memory.is_ram(slot, 8):
        return None
    entry = memory.read_u64(slot)
    if not entry & PTE_P or entry & (RESERVED_BITS | PTE_NX | 0x1E6):
        return None
    return _translate_tables(memory, entry & ADDRESS, 21, va, [slot])


def _translate_tables(
    memory: PhysicalMemory, table: int, shift: int, va: int, entries: list[int]
) -> Translation | None:
    """From a table of 64-bit entries whose index lies `shift` bits up in the address."""
    may = PTE_RW | PTE_US
    nx = 0
    while True:
        slot = table + 8 * ((va >> shift) & 511)
        if not memory.is_ram(slot, 8):
            return None
        entry = memory.read_u64(slot)
        entries.append(slot)
        if not entry & PTE_P or entry & RESERVED_BITS:
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


def _translate_two_levels(
    memory: PhysicalMemory, root: int, pse: bool, va: int
) -> Translation | None:
    slots = [root + 4 * (va >> 22)]
    if not memory.is_ram(slots[0], 4):
        return None
    entry = may = memory.read_u32(slots[0])
    if not entry & PTE_P:
        return None
    size = 1 << 22
    if entry & PTE_PS and pse:
        page = (entry & 0xFFC00000) | (entry >> 13 & 0xFF) << 32
    else:
        size = 4096
        slots.append((entry & 0xFFFFF000) + 4 * (va >> 12 & 1023))
        if not memory.is_ram(slots[1], 4):
            return None
        entry = memory.read_u32(slots[1])
        if not entry & PTE_P:
            return None
        may &= entry
        page = entry & 0xFFFFF000
    phys = page | (va & (size - 1))
    return Translation(va, phys, size, bool(may & PTE_RW), bool(may & PTE_US), True, tuple(slots))
