# SPDX-License-Identifier: GPL-2.0-only
"""What an entry of a page table says when no page is there (include/linux/swapops.h).

A *swap entry* is a type and an offset, type << 58 | offset. Types below MAX_SWAPFILES are swap
areas, the offset being the slot; the ones behind are a page with a hardware error, and a page that
is being migrated, for reading or writing, the offset being its frame. In an x86-64 page-table entry
the type takes bits 59 to 63 and the inverted offset bits 9 to 58, so that the frame such an entry
seems to name lies outside RAM (arch/x86/include/asm/pgtable_64.h). Entry 0 is nothing at all.

All hot: plain arithmetic on signed 64-bit words.
"""

from __future__ import annotations

SWP_TYPE_SHIFT = 58
SWP_OFFSET_MASK = (1 << SWP_TYPE_SHIFT) - 1
SWP_TYPE_BITS = 5
SWP_OFFSET_FIRST_BIT = 9
PTE_OFFSET_MASK = (1 << 50) - 1
MAX_SWAPFILES = 29
SWP_HWPOISON = MAX_SWAPFILES
SWP_MIGRATION_READ = MAX_SWAPFILES + 1
SWP_MIGRATION_WRITE = MAX_SWAPFILES + 2
PTE_PRESENT_BITS = 0x101
PTE_SWP_SOFT_DIRTY = 0x2


def swp_entry(kind: int, offset: int) -> int:
    """The swap entry of type `kind` and `offset`. Hot."""
    return kind << SWP_TYPE_SHIFT | offset


def swp_type(entry: int) -> int:
    """Type of a swap entry. Hot."""
    return entry >> SWP_TYPE_SHIFT


def swp_offset(entry: int) -> int:
    """Offset of a swap entry: slot or frame. Hot."""
    return entry & SWP_OFFSET_MASK


def swp_entry_to_pte(entry: int) -> int:
    """The page-table entry that says `entry`, a signed word. Hot."""
    kind = entry >> SWP_TYPE_SHIFT
    # the sign bit is the type's highest
    if kind > 15:
        kind -= 32
    return kind << 59 | (~entry & PTE_OFFSET_MASK) << SWP_OFFSET_FIRST_BIT


def pte_to_swp_entry(pte: int) -> int:
    """The swap entry that page-table entry `pte` says. Hot."""
    kind = pte >> 59 & 31
    return kind << SWP_TYPE_SHIFT | (~pte >> SWP_OFFSET_FIRST_BIT & PTE_OFFSET_MASK)


def is_swap_pte(pte: int) -> bool:
    """True for a page-table entry that is neither empty nor present. Hot."""
    return pte != 0 and pte & PTE_PRESENT_BITS == 0


def non_swap_entry(entry: int) -> bool:
    """True if the entry names no slot of a swap area. Hot."""
    return entry >> SWP_TYPE_SHIFT >= MAX_SWAPFILES


def make_migration_entry(pfn: int, write: int) -> int:
    """The entry of a page that is being migrated, `write`: that was mapped writable. Hot."""
    kind = SWP_MIGRATION_WRITE if write else SWP_MIGRATION_READ
    return kind << SWP_TYPE_SHIFT | pfn


def is_migration_entry(entry: int) -> bool:
    """True if the entry is that of a page being migrated. Hot."""
    return entry >> SWP_TYPE_SHIFT >= SWP_MIGRATION_READ


def is_write_migration_entry(entry: int) -> bool:
    """True if the page being migrated was mapped writable. Hot."""
    return entry >> SWP_TYPE_SHIFT == SWP_MIGRATION_WRITE


def make_migration_entry_read(entry: int) -> int:
    """The migration entry for reading only. Hot."""
    return SWP_MIGRATION_READ << SWP_TYPE_SHIFT | entry & SWP_OFFSET_MASK


def migration_entry_to_pfn(entry: int) -> int:
    """Frame of the page that is being migrated. Hot."""
    return entry & SWP_OFFSET_MASK


def make_hwpoison_entry(pfn: int) -> int:
    """The entry of a page with a hardware error. Hot."""
    return SWP_HWPOISON << SWP_TYPE_SHIFT | pfn


def is_hwpoison_entry(entry: int) -> bool:
    """True if the page that the entry stood for has a hardware error. Hot."""
    return entry >> SWP_TYPE_SHIFT == SWP_HWPOISON
