# SPDX-License-Identifier: GPL-2.0-only
"""From the firmware's memory map to memblock (arch/x86/kernel/e820.c, setup.c, ebda.c).

`E820Table` is the kernel's working copy of the map: ranges are added, removed and retyped, and
`update` sorts out overlaps (the highest type number wins) as the kernel does after every round of
changes. The map is needed only while booting; what it says ends up in memblock, in guest RAM.

Around it stand setup_arch()'s own cuts: page 0 and the BIOS area are never RAM, the kernel image
must be, whole pages only, and the first 64 KiB, the EBDA and the trampoline's pages are reserved.
"""

from __future__ import annotations

from collections.abc import Iterable

from machine import BringUpError, PhysicalMemory

from .cmdline import U64
from .kernel_globals import KERNEL_BASE
from .layout import KERNEL_IMAGE_SIZE, MAX_PHYSMEM_BITS
from .memblock import Memblock
from .mm_types import PAGE_SHIFT, PAGE_SIZE
from .params import KernelParams
from .printk import Printk, mem_range

E820_TYPE_RAM = 1
E820_TYPE_RESERVED = 2
E820_TYPE_ACPI = 3
E820_TYPE_NVS = 4
E820_TYPE_UNUSABLE = 5
E820_TYPE_PMEM = 7
E820_TYPE_PRAM = 12
E820_TYPE_RESERVED_KERN = 128
E820_MAX_ENTRIES = 128 + 3 * 64
MAX_ARCH_PFN = 1 << (MAX_PHYSMEM_BITS - PAGE_SHIFT)
BIOS_BEGIN, BIOS_END = 0xA0000, 0x100000
ISA_END_ADDRESS = 0x100000
REAL_MODE_SIZE = 0x6000
"""Bytes that reserve_real_mode() takes below 1 MiB for the trampoline of the other CPUs."""
BIOS_RAM_SIZE_KB_PTR = 0x413
EBDA_SEGMENT_PTR = 0x40E
BIOS_START_MIN, BIOS_START_MAX = 0x20000, 0x9F000

_TYPE_NAMES = {
    E820_TYPE_RAM: "usable",
    E820_TYPE_RESERVED_KERN: "usable",
    E820_TYPE_RESERVED: "reserved",
    E820_TYPE_ACPI: "ACPI data",
    E820_TYPE_NVS: "ACPI NVS",
    E820_TYPE_UNUSABLE: "unusable",
    E820_TYPE_PMEM: f"persistent (type {E820_TYPE_PMEM})",
    E820_TYPE_PRAM: f"persistent (type {E820_TYPE_PRAM})",
}


def type_name(kind: int) -> str:
    """An e820 type as e820_print_type() writes it."""
    return _TYPE_NAMES.get(kind, f"type {kind}")


class E820Table:
    """The kernel's e820 map: `entries` are [addr, size, type], bytes."""

    def __init__(self, entries: Iterable[tuple[int, int, int]], printk: Printk) -> None:
        self.entries: list[list[int]] = [list(entry) for entry in entries]
        self.printk = printk

    def add(self, start: int, size: int, kind: int) -> None:
        """Appends a range (e820__range_add)."""
        if len(self.entries) >= E820_MAX_ENTRIES:
            where = mem_range(start, start + size)
            self.printk.err(f"e820: too many entries; ignoring {where}")
            return
        self.entries.append([start, size, kind])

    def _cut(self, start: int, size: int, old: int, new: int) -> None:
        """Takes [start, start+size) out of entries of type `old` (0: any) or retypes it."""
        end = start + min(size, U64 - start)
        for entry in self.entries[:]:
            addr, stop = entry[0], entry[0] + entry[1]
            if old and entry[2] != old:
                continue
            lo, hi = max(start, addr), min(end, stop)
            if addr >= start and stop <= end:
                entry[:] = [addr, entry[1], new] if new else [0, 0, 0]
            elif addr < start and stop > end:
                if new:
                    self.add(start, end - start, new)
                self.add(end, stop - end, entry[2])
                entry[1] = start - addr
            elif lo < hi:
                if new:
                    self.add(lo, hi - lo, new)
                entry[1] -= hi - lo
                if addr >= lo:
                    entry[0] = hi

    def update_type(self, start: int, size: int, old: int, new: int) -> None:
        """Retypes a range where it has type `old` (e820__range_update)."""
        where = mem_range(start, start + min(size, U64 - start))
        self.printk.debug(f"e820: update {where} {type_name(old)} ==> {type_name(new)}")
        self._cut(start, size, old, new)

    def remove(self, start: int, size: int, old: int) -> None:
        """Removes a range where it has type `old`, 0 for any type (e820__range_remove)."""
        where = mem_range(start, start + min(size, U64 - start))
        self.printk.debug(f"e820: remove {where} {type_name(old) if old else ''}")
        self._cut(start, size, old, 0)

    def update(self) -> bool:
        """Sorts the map and resolves overlaps (e820__update_table); False if it did nothing."""
        entries = self.entries
        if len(entries) < 2 or any(addr + size > U64 for addr, size, _ in entries):
            return False
        points = sorted(
            (addr + size * is_end, is_end, i)
            for i, (addr, size, _) in enumerate(entries)
            if size
            for is_end in (0, 1)
        )
        result: list[list[int]] = []
        active: dict[int, int] = {}
        last_type = last_addr = 0
        for addr, is_end, i in points:
            if is_end:
                active.pop(i, None)
            else:
                active[i] = entries[i][2]
            now = max(active.values(), default=0)
            if now != last_type or now == E820_TYPE_PRAM:
                if last_type and addr > last_addr:
                    result.append([last_addr, addr - last_addr, last_type])
                last_type, last_addr = now, addr
        self.entries = result[:E820_MAX_ENTRIES]
        return True

    def print_table(self, who: str) -> None:
        """One line an entry (e820__print_table)."""
        for addr, size, kind in self.entries:
            self.printk(f"{who}: {mem_range(addr, addr + size, 16)} {type_name(kind)}")

    def mapped_all(self, start: int, end: int, kind: int) -> bool:
        """True if entries of type `kind` cover [start, end); the map must be sorted."""
        for addr, size, entry_kind in self.entries:
            if entry_kind == kind and addr < end and addr + size > start:
                if addr <= start:
                    start = addr + size
                if start >= end:
                    return True
        return False

    def end_pfn(self, limit: int) -> int:
        """One past the highest page of RAM below pfn `limit` (e820_end_pfn)."""
        last = 0
        for addr, size, kind in self.entries:
            if kind == E820_TYPE_RAM and addr >> PAGE_SHIFT < limit:
                last = max(last, min((addr + size) >> PAGE_SHIFT, limit))
        last = min(last, MAX_ARCH_PFN)
        self.printk(f"e820: last_pfn = {last:#x} max_arch_pfn = {MAX_ARCH_PFN:#x}")
        return last


def memory_setup(entries: Iterable[tuple[int, int, int]], printk: Printk) -> E820Table:
    """The firmware's map, sanitised and printed (e820__memory_setup).

    Raises BringUpError when the firmware left fewer than two entries: the BIOS calls that the
    kernel would then ask have not been made.
    """
    table = E820Table(entries, printk)
    if len(table.entries) < 2:
        raise BringUpError("the firmware left no usable e820 map in boot_params")
    table.update()
    printk("BIOS-provided physical RAM map:")
    table.print_table("BIOS-e820")
    return table


def apply_user_map(table: E820Table, params: KernelParams) -> None:
    """mem= and memmap= in their order, then the new map (e820__finish_early_params).

    Raises BringUpError where the kernel panics: nothing sensible is left."""
    for op in params.e820_ops:
        if op.kind == "exactmap":
            table.entries = []
        elif op.kind == "add":
            table.add(op.start, op.size, op.new_type)
        elif op.kind == "update":
            table.update_type(op.start, op.size, op.old_type, op.new_type)
        else:
            table.remove(op.start, op.size, op.old_type)
    if params.user_defined_map:
        if not table.update():
            raise BringUpError("Invalid user supplied memory map")
        table.printk("user-defined physical RAM map:")
        table.print_table("user")


def add_kernel_range(table: E820Table) -> None:
    """The kernel's own memory has to be RAM, whatever the map says (e820_add_kernel_range)."""
    start, size = KERNEL_BASE, KERNEL_IMAGE_SIZE
    if table.mapped_all(start, start + size, E820_TYPE_RAM):
        return
    table.printk.warn(".text .data .bss are not marked as E820_TYPE_RAM!")
    table.remove(start, size, 0)
    table.add(start, size, E820_TYPE_RAM)


def trim_bios_range(table: E820Table) -> None:
    """Page 0 belongs to the BIOS, and 640K to 1M is never RAM."""
    table.update_type(0, PAGE_SIZE, E820_TYPE_RAM, E820_TYPE_RESERVED)
    table.remove(BIOS_BEGIN, BIOS_END - BIOS_BEGIN, E820_TYPE_RAM)
    table.update()


def memblock_setup(table: E820Table, memblock: Memblock) -> None:
    """Every range of RAM becomes memory, whole pages only (e820__memblock_setup)."""
    for addr, size, kind in table.entries:
        if kind in (E820_TYPE_RAM, E820_TYPE_RESERVED_KERN):
            memblock.add(addr, min(size, (MAX_ARCH_PFN << PAGE_SHIFT) - addr))
    memblock.trim_memory(PAGE_SIZE)


def reserve_bios_regions(memory: PhysicalMemory, memblock: Memblock) -> None:
    """From the EBDA, as the BIOS data area tells it, to 1 MiB (arch/x86/kernel/ebda.c)."""
    start = memory.read_u16(BIOS_RAM_SIZE_KB_PTR) << 10
    if not BIOS_START_MIN <= start <= BIOS_START_MAX:
        start = BIOS_START_MAX
    ebda = memory.read_u16(EBDA_SEGMENT_PTR) << 4
    if BIOS_START_MIN <= ebda < start:
        start = ebda
    memblock.reserve(start, ISA_END_ADDRESS - start)


def reserve_real_mode(memblock: Memblock, printk: Printk) -> None:
    """Memory below 1 MiB for the code that the other CPUs start in (reserve_real_mode)."""
    found = memblock.find_in_range(0, ISA_END_ADDRESS, REAL_MODE_SIZE, PAGE_SIZE)
    if not found:
        printk("No sub-1M memory is available for the trampoline")
        return
    memblock.reserve(found, REAL_MODE_SIZE)


def print_ram_buffers(table: E820Table) -> None:
    """What is set aside behind ragged ends of RAM (e820__reserve_resources_late); log only."""
    for addr, size, kind in table.entries:
        end = addr + size
        mb = end >> 20
        unit = 64 << 10 if not mb else 1 << 20 if mb < 16 else 64 << 20
        stop = -(-end // unit) * unit
        if kind == E820_TYPE_RAM and end < stop - 1:
            table.printk.debug(f"e820: reserve RAM buffer {mem_range(end, stop)}")
