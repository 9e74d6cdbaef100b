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
    "translate",
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
