# SPDX-License-Identifier: GPL-2.0-only
"""crash's `vtop`: a virtual address walked down the guest's page tables, level by level.

`walk` reads the four levels out of RAM and keeps every entry that it meets, also when the walk ends
early; `machine.translate` gives only the result. The tables are those of the kernel
(swapper_pg_dir) unless another root is named. Nothing is changed: no Accessed bit is set.
"""

from __future__ import annotations

from dataclasses import dataclass

from machine import PhysicalMemory
from machine.mmu import (
    ADDRESS,
    MAXPHYADDR,
    PTE_A,
    PTE_D,
    PTE_G,
    PTE_NX,
    PTE_P,
    PTE_PCD,
    PTE_PS,
    PTE_PWT,
    PTE_RW,
    PTE_US,
)

from ..errors import BadRequest
from ..kernel_globals import G_PGD
from ..layout import unsigned
from ..views import Page, pfn_valid
from .fields import Json, Report, Table
from .frame import describe_place, locate
from .symbols import Symbols, parse_address

LEVEL_NAMES = ("PGD", "PUD", "PMD", "PTE")
_FLAGS = (
    (PTE_P, "PRESENT"),
    (PTE_RW, "RW"),
    (PTE_US, "USER"),
    (PTE_PWT, "PWT"),
    (PTE_PCD, "PCD"),
    (PTE_A, "ACCESSED"),
    (PTE_D, "DIRTY"),
    (PTE_PS, "PSE"),
    (PTE_G, "GLOBAL"),
    (PTE_NX, "NX"),
)
_RESERVED = ((1 << 52) - 1) & ~((1 << MAXPHYADDR) - 1)


@dataclass(frozen=True)
class Level:
    """One entry on the way: its level's name, where it lies (physical) and its value (unsigned)."""

    name: str
    address: int
    value: int

    @property
    def flags(self) -> list[str]:
        """Names of the bits that are set."""
        names = [name for bit, name in _FLAGS if self.value & bit]
        if self.name == "PTE" and "PSE" in names:
            names[names.index("PSE")] = "PAT"
        return names


@dataclass(frozen=True)
class PageWalk:
    """The entries met, and the result: `phys` in a page of `size` bytes, or -1 and the reason."""

    levels: tuple[Level, ...]
    phys: int
    size: int
    reason: str = ""


def walk(memory: PhysicalMemory, root: int, va: int) -> PageWalk:
    """Walks long-mode tables at physical `root` for virtual `va` (unsigned)."""
    if not -(1 << 47) <= (va - (1 << 64) if va >> 63 else va) < 1 << 47:
        return PageWalk((), -1, 0, "not a canonical address")
    table, shift = root & ADDRESS, 39
    levels: list[Level] = []
    for name in LEVEL_NAMES:
        slot = table + 8 * ((va >> shift) & 511)
        if not memory.is_ram(slot, 8):
            return PageWalk(tuple(levels), -1, 0, f"the {name} at {slot:#x} is not in RAM")
        entry = Level(name, slot, memory.read_u64(slot))
        levels.append(entry)
        if not entry.value & PTE_P:
            return PageWalk(tuple(levels), -1, 0, f"{name} entry not present")
        if entry.value & _RESERVED:
            return PageWalk(tuple(levels), -1, 0, f"reserved bit set in the {name} entry")
        if shift == 12 or (entry.value & PTE_PS and shift < 39):
            break
        table, shift = entry.value & ADDRESS, shift - 9
    size = 1 << shift
    phys = (levels[-1].value & ADDRESS & -size) | (va & (size - 1))
    return PageWalk(tuple(levels), phys, size)


def vtop(memory: PhysicalMemory, args: list[str]) -> Report:
    """`vtop ADDRESS [ROOT]`; ROOT is a physical address like CR3's. Raises BadRequest."""
    m = memory.words
    if not 1 <= len(args) <= 2:
        raise BadRequest("vtop: a virtual address, and perhaps the physical root of its tables")
    va = unsigned(parse_address(m, args[0]))
    root = parse_address(m, args[1]) if len(args) == 2 else unsigned(m[G_PGD])
    if not root:
        raise BadRequest("vtop: this guest has no page tables (a replayed recording)")
    found = walk(memory, root, va)
    text = f"{'VIRTUAL':<18}  PHYSICAL\n"
    text += f"{va:<18x}  {f'{found.phys:x}' if found.phys >= 0 else '(not mapped)'}\n\n"
    text += f"PAGE DIRECTORY: {root & ADDRESS:x}\n"
    levels: list[Json] = []
    rows = []
    for level in found.levels:
        flags = "|".join(level.flags)
        text += f"   {level.name}: {level.address:x} => {level.value:x}  ({flags})\n"
        levels.append({"level": level.name, "address": level.address, "value": level.value})
        rows.append((level.name, f"{level.address:#x}", f"{level.value:#018x}", flags))
    data: dict[str, Json] = {"virtual": va, "root": root & ADDRESS, "levels": levels}
    if found.phys < 0:
        text += f"  {found.reason}\n"
        data |= {"physical": None, "reason": found.reason}
    else:
        text += f"  PAGE: {found.phys & -found.size:x}  ({_size_name(found.size)})\n"
        data |= {"physical": found.phys, "page_size": found.size}
        name = Symbols(m).of_physical(found.phys)
        if name:
            text += f"\n{name}\n"
            data["symbol"] = name
        text += _frame_line(m, found.phys >> 12)
    table = Table(f"tables for {va:#x}", ("level", "entry at", "value", "flags"), tuple(rows))
    return Report(text, data, (table,), sound=found.phys >= 0)


def _size_name(size: int) -> str:
    return {1 << 12: "4K", 1 << 21: "2M", 1 << 30: "1G"}[size]


def _frame_line(m: memoryview, pfn: int) -> str:
    if not pfn_valid(m, pfn):
        return f"\nframe {pfn:#x} has no struct page\n"
    page = Page(m, pfn)
    state = describe_place(page, locate(page))
    return f"\nframe {pfn:#x}  node {page.nid}  zone {page.zone}  {state}\n"
