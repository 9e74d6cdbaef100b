# SPDX-License-Identifier: GPL-2.0-only
"""The page walk itself, on words and integers.

`walk` does what the processor does on a TLB miss (SDM volume 3, chapter 4): four levels of tables
in long mode, 1 GiB / 2 MiB / 4 KiB pages, U/S, R/W with CR0.WP, NX with EFER.NXE, reserved bits,
Accessed set in every entry used and Dirty on the first write; PAE and two-level paging and none at
all for guests that leave long mode. A table or page in a physical hole is a bus error.

The functions take the word array of RAM (`m`: signed 64-bit words, index = physical >> 3), the
table of what is RAM (`ram`: physical [start, end) pairs, ascending) and ints; addresses are signed.
So they run as they stand for `mmu`, and compiled for the engine (`native`)."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from machine.physmem import PhysicalMemory

PTE_P, PTE_RW, PTE_US, PTE_PWT, PTE_PCD = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4
PTE_A, PTE_D, PTE_PS, PTE_G = 1 << 5, 1 << 6, 1 << 7, 1 << 8
SIGNED_NX = -1 << 63
"""The NX bit of a signed entry."""

MAXPHYADDR = 46
"""Physical address bits of the modelled CPU, as CPUID leaf 0x80000008 says; higher ones are
reserved."""
ADDRESS = ((1 << MAXPHYADDR) - 1) & ~0xFFF
RESERVED_BITS = ((1 << 52) - 1) & ~((1 << MAXPHYADDR) - 1)

CR0_PE, CR0_WP, CR0_PG = 1 << 0, 1 << 16, 1 << 31
CR4_PSE, CR4_PAE = 1 << 4, 1 << 5
EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE = 1 << 0, 1 << 8, 1 << 10, 1 << 11

READ, WRITE, FETCH = 0, 1, 2
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
"""Low bits of what `walk` grants; the engine's own numbers."""
PROT_ALL = 7

NOT_PRESENT, PROTECTION, RESERVED, NON_CANONICAL, BUS_TABLE, BUS_PAGE = -1, -2, -3, -4, -5, -6


def ram_table(memory: PhysicalMemory) -> array[int]:
    """What is RAM, as the hot functions take it: physical start and end of every extent."""
    return array("q", [bound for extent in memory.extents for bound in extent])


def in_ram(ram: memoryview, address: int, length: int) -> bool:
    """True when the `length` bytes at physical `address` are all RAM. Hot."""
    for i in range(0, len(ram), 2):
        if address >= ram[i] and address < ram[i + 1]:
            return address + length <= ram[i + 1]
    return False


def walk(
    m: memoryview,
    ram: memoryview,
    va: int,
    access: int,
    user: int,
    cr0: int,
    cr3: int,
    cr4: int,
    efer: int,
) -> int:
    """Translate the access (READ, WRITE, FETCH) to the 4 KiB page of virtual `va`. Hot.

    Returns physical page | PROT_ bits granted for later accesses, or a negative reason. Write is
    granted only once Dirty is set, so that the first write comes here.
    """
    if cr0 & CR0_PG == 0:
        page = va & 0xFFFFF000
        return page | PROT_ALL if in_ram(ram, page, 4096) else BUS_PAGE
    wp = cr0 & CR0_WP
    nxe = efer & EFER_NXE
    if efer & EFER_LMA:
        if va >> 47 != 0 and va >> 47 != -1:
            return NON_CANONICAL
        return walk_tables(m, ram, cr3 & ADDRESS, 39, va, access, user, wp, nxe)
    va &= 0xFFFFFFFF
    if cr4 & CR4_PAE == 0:
        return walk_two_levels(m, ram, va, access, user, wp, cr3 & 0xFFFFF000, cr4 & CR4_PSE)
    slot = (cr3 & 0xFFFFFFE0) + 8 * (va >> 30)
    if not in_ram(ram, slot, 8):
        return BUS_TABLE
    entry = m[slot >> 3]
    if entry & PTE_P == 0:
        return NOT_PRESENT
    if entry & (RESERVED_BITS | SIGNED_NX | 0x1E6):
        return RESERVED
    return walk_tables(m, ram, entry & ADDRESS, 21, va, access, user, wp, nxe)


def walk_tables(
    m: memoryview,
    ram: memoryview,
    table: int,
    shift: int,
    va: int,
    access: int,
    user: int,
    wp: int,
    nxe: int,
) -> int:
    """64-bit entries from the level that `shift` bits of the address lie below, to a leaf. Hot."""
    top = shift
    root = table
    forbidden = RESERVED_BITS if nxe else RESERVED_BITS | SIGNED_NX
    may = PTE_RW | PTE_US
    nx = 0
    while True:
        if table + 4096 > ram[1] and not in_ram(ram, table, 4096):
            return BUS_TABLE
        index = (table >> 3) + (va >> shift & 511)
        entry = m[index]
        if entry & PTE_P == 0:
            return NOT_PRESENT
        if entry & forbidden:
            return RESERVED
        may &= entry
        nx |= entry & SIGNED_NX
        if shift == 12:
            break
        if entry & PTE_PS:
            if shift == 39 or entry & ((1 << shift) - 1) & ~0x1FFF:
                return RESERVED
            break
        table = entry & ADDRESS
        shift -= 9
    writable = may & PTE_RW != 0 or (user == 0 and wp == 0)
    if user and may & PTE_US == 0:
        return PROTECTION
    if (access == WRITE and not writable) or (access == FETCH and nx):
        return PROTECTION
    page = (entry & ADDRESS & -(1 << shift)) | (va & ((1 << shift) - 1) & ~0xFFF)
    if page + 4096 > ram[1] and not in_ram(ram, page, 4096):
        return BUS_PAGE
    used = PTE_A | PTE_D if access == WRITE else PTE_A
    if entry & used != used:
        entry |= used
        m[index] = entry
    # The entries above have been used, too, now that the walk has come to an end.
    table = root
    while top > shift:
        step = (table >> 3) + (va >> top & 511)
        above = m[step]
        if above & PTE_A == 0:
            m[step] = above | PTE_A
        table = above & ADDRESS
        top -= 9
    granted = PROT_READ if nx else PROT_READ | PROT_EXEC
    if writable and entry & PTE_D:
        granted |= PROT_WRITE
    return page | granted


def walk_two_levels(
    m: memoryview, ram: memoryview, va: int, access: int, user: int, wp: int, root: int, pse: int
) -> int:
    """Two levels of 32-bit entries, as before PAE. Hot."""
    slot = root + 4 * (va >> 22)
    if not in_ram(ram, slot, 4):
        return BUS_TABLE
    entry = m[slot >> 3] >> 8 * (slot & 4) & 0xFFFFFFFF
    if entry & PTE_P == 0:
        return NOT_PRESENT
    may = entry
    upper = -1
    if entry & PTE_PS and pse:
        page = (entry & 0xFFC00000) | (entry >> 13 & 0xFF) << 32 | (va & 0x3FF000)
    else:
        upper = slot
        slot = (entry & 0xFFFFF000) + 4 * (va >> 12 & 1023)
        if not in_ram(ram, slot, 4):
            return BUS_TABLE
        entry = m[slot >> 3] >> 8 * (slot & 4) & 0xFFFFFFFF
        if entry & PTE_P == 0:
            return NOT_PRESENT
        may &= entry
        page = entry & 0xFFFFF000
    writable = may & PTE_RW != 0 or (user == 0 and wp == 0)
    if (user and may & PTE_US == 0) or (access == WRITE and not writable):
        return PROTECTION
    if upper >= 0:
        m[upper >> 3] |= PTE_A << 8 * (upper & 4)
    used = PTE_A | PTE_D if access == WRITE else PTE_A
    m[slot >> 3] |= used << 8 * (slot & 4)
    if not in_ram(ram, page, 4096):
        return BUS_PAGE
    granted = PROT_READ | PROT_EXEC
    if writable and (entry | used) & PTE_D:
        granted |= PROT_WRITE
    return page | granted
