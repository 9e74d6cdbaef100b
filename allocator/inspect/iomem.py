# SPDX-License-Identifier: GPL-2.0-only
"""/proc/iomem: who claims which physical addresses, to the letter of kernel/resource.c.

The tree is derived again from what the firmware left in RAM, the way the kernel builds it: the e820
map after the command line and the kernel's own cuts (arch/x86/kernel/e820.c), the kernel image, the
system ROM (probe_roms), the APICs of the MADT, and the RAM buffers behind ragged ends of memory.
This board has no PCI bus and no HPET, so their lines are missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from firmware import read_boot_params, read_madt
from machine import BringUpError, PhysicalMemory

from ..e820_setup import (
    BIOS_END,
    E820_TYPE_ACPI,
    E820_TYPE_NVS,
    E820_TYPE_PMEM,
    E820_TYPE_PRAM,
    E820_TYPE_RAM,
    E820_TYPE_RESERVED,
    E820_TYPE_RESERVED_KERN,
    E820_TYPE_UNUSABLE,
    add_kernel_range,
    apply_user_map,
    memory_setup,
    trim_bios_range,
)
from ..kernel_globals import KERNEL_BASE
from ..layout import KERNEL_IMAGE_SIZE
from ..mm_types import PAGE_SIZE
from ..params import parse_early_param
from ..printk import Printk
from .fields import Json, Report, Table

SYSTEM_ROM = (0xF0000, 0xFFFFF)
IO_APIC_SIZE = 1 << 10
_E820_NAMES = {
    E820_TYPE_RAM: "System RAM",
    E820_TYPE_RESERVED_KERN: "System RAM",
    E820_TYPE_ACPI: "ACPI Tables",
    E820_TYPE_NVS: "ACPI Non-volatile Storage",
    E820_TYPE_UNUSABLE: "Unusable memory",
    E820_TYPE_PRAM: "Persistent Memory (legacy)",
    E820_TYPE_PMEM: "Persistent Memory",
    E820_TYPE_RESERVED: "Reserved",
}


@dataclass
class Resource:
    """Physical bytes [start, end], both included, and what lies inside."""

    start: int
    end: int
    name: str
    children: list[Resource] = field(default_factory=list)


class _Silent(Printk):
    """A log that nobody reads and that takes no modelled time: looking must not change RAM."""

    def elapse(self, ns: int) -> None:
        """Nothing: the boot has been paid for."""


def kernel_e820(memory: PhysicalMemory) -> list[tuple[int, int, int]]:
    """The kernel's final e820 map (addr, size, type), made again from boot_params.

    Raises BringUpError when RAM holds no boot_params, as in a replayed recording."""
    boot = read_boot_params(memory)
    quiet = _Silent(memory.words)
    table = memory_setup([(e.addr, e.size, e.type) for e in boot.e820], quiet)
    apply_user_map(table, parse_early_param(boot.command_line, quiet))
    add_kernel_range(table)
    trim_bios_range(table)
    return [(addr, size, kind) for addr, size, kind in table.entries]


def ram_alignment(address: int) -> int:
    """What a ragged end of RAM is rounded up to: 64 KiB, 1 MiB or 64 MiB, by its address."""
    mb = address >> 20
    if not mb:
        return 64 << 10
    return 1 << 20 if mb < 16 else 64 << 20


def resource_tree(
    e820: Iterable[tuple[int, int, int]], claims: Iterable[tuple[int, int, str]]
) -> list[Resource]:
    """The top of the tree: e820 entries and the other claims (start, end, name), nested.

    Of two equal ranges the one inserted later is the outer one (insert_resource): the firmware's
    below 1 MiB, where the ROMs were claimed before, and the other claim above.
    """
    entries = [(a, a + s - 1, _E820_NAMES.get(k, "Unknown E820 type")) for a, s, k in e820]
    flat = sorted(
        [(start, -end, 0, name) for start, end, name in entries]
        + [(start, -end, 1 if start < BIOS_END else -1, name) for start, end, name in claims]
    )
    top: list[Resource] = []
    path: list[Resource] = []
    for start, negative_end, _, name in flat:
        while path and path[-1].end < start:
            path.pop()
        resource = Resource(start, -negative_end, name)
        (path[-1].children if path else top).append(resource)
        path.append(resource)
    for addr, size, kind in e820:
        if kind == E820_TYPE_RAM:
            _reserve_ram_buffer(top, addr + size)
    return top


def _reserve_ram_buffer(top: list[Resource], start: int) -> None:
    """Claims what nobody claims between the end of RAM and the next boundary."""
    end = -(-start // ram_alignment(start)) * ram_alignment(start) - 1
    for taken in [r for r in top if r.end >= start and r.start <= end]:
        if taken.start > start:
            top.append(Resource(start, taken.start - 1, "RAM buffer"))
        start = max(start, taken.end + 1)
    if start < end:
        top.append(Resource(start, end, "RAM buffer"))
    top.sort(key=lambda resource: resource.start)


def other_claims(memory: PhysicalMemory) -> list[tuple[int, int, str]]:
    """Kernel image, system ROM and APICs: (start, end, name), physical bytes."""
    claims = [
        (KERNEL_BASE, KERNEL_BASE + KERNEL_IMAGE_SIZE - 1, "Kernel data"),
        (*SYSTEM_ROM, "System ROM"),
    ]
    try:
        madt = read_madt(memory)
    except BringUpError:
        madt = None
    if madt is not None:
        for number, apic in enumerate(madt.io_apics):
            claims.append((apic.address, apic.address + IO_APIC_SIZE - 1, f"IOAPIC {number}"))
        claims.append((madt.lapic_address, madt.lapic_address + PAGE_SIZE - 1, "Local APIC"))
    return claims


def format_iomem(top: Iterable[Resource], depth: int = 0) -> str:
    """/proc/iomem's lines for a tree."""
    text = ""
    for resource in top:
        text += f"{'  ' * depth}{resource.start:08x}-{resource.end:08x} : {resource.name}\n"
        text += format_iomem(resource.children, depth + 1)
    return text


def _data(top: Iterable[Resource]) -> list[Json]:
    return [
        {
            "start": resource.start,
            "end": resource.end,
            "name": resource.name,
            "children": _data(resource.children),
        }
        for resource in top
    ]


def iomem(memory: PhysicalMemory) -> Report:
    """The physical address map (/proc/iomem). Raises BringUpError without boot_params in RAM."""
    top = resource_tree(kernel_e820(memory), other_claims(memory))
    text = format_iomem(top)
    rows = tuple(tuple(line.rstrip().rsplit(" : ", 1)) for line in text.splitlines())
    return Report(text, _data(top), (Table("physical addresses", ("range", "owner"), rows),))
