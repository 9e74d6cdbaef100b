# SPDX-License-Identifier: GPL-2.0-only
"""SRAT: which CPU and which range of RAM belongs to which node.

`build_srat` writes it the way QEMU 7.2 does (hw/i386/acpi-build.c, build_srat()), because the order
of its entries decides the kernel's node numbers: one entry a CPU in CPU order, then the memory of
node 0, 1, ... cut at the VGA hole and at the PCI hole, then disabled entries up to the number of
nodes plus two. CPUs with an APIC id of 255 or more get the longer x2APIC entry. A node without
memory has no memory entry and a node without CPUs no CPU entry; a node without both is not in the
table at all.

`read_srat` is the kernel's side: it finds the table in guest RAM and gives the affinities back in
table order, the disabled ones included, since leaving them out is the kernel's decision.

ACPI 6.2, section 5.2.16. A machine without the table has one node (as QEMU without `-numa`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from firmware.acpi import Table, build_table, find_table, subtables, unpack_subtable
from machine.errors import BringUpError
from machine.physmem import PhysicalMemory
from machine.topology import Topology

TYPE_CPU, TYPE_MEMORY, TYPE_X2APIC_CPU = 0, 1, 2
ENABLED, HOT_PLUGGABLE, NON_VOLATILE = 1, 2, 4

FIRST_ENTRY = 48
"""Bytes of header and reserved words before the first affinity structure."""

VGA_HOLE = (0xA0000, 0x100000)
X2APIC_FIRST = 255

_CPU = struct.Struct("<BBBBIB3sI")
_MEMORY = struct.Struct("<BBIHQQIIQ")
_X2APIC = struct.Struct("<BBHIIIII")
_CPU_FIELDS = struct.Struct("<BBBBIBBHI")


@dataclass(frozen=True)
class CpuAffinity:
    """CPU `apic_id` belongs to `proximity_domain`; `flags` bit 0 = enabled."""

    proximity_domain: int
    apic_id: int
    flags: int

    @property
    def enabled(self) -> bool:
        """Whether the entry says anything at all."""
        return bool(self.flags & ENABLED)


@dataclass(frozen=True)
class MemoryAffinity:
    """Physical bytes [base, base + length) belong to `proximity_domain`."""

    proximity_domain: int
    base: int
    length: int
    flags: int

    @property
    def enabled(self) -> bool:
        """Whether the entry says anything at all."""
        return bool(self.flags & ENABLED)

    @property
    def end(self) -> int:
        """First physical byte behind the range."""
        return self.base + self.length


@dataclass(frozen=True)
class Srat:
    """Both kinds of affinity, each in table order, and where the table was found (physical)."""

    cpus: tuple[CpuAffinity, ...]
    memory: tuple[MemoryAffinity, ...]
    address: int = 0


def memory_affinities(topology: Topology) -> Iterator[MemoryAffinity]:
    """The enabled memory entries as QEMU 7.2 writes them.

    QEMU lays nodes out by summing up their sizes, and where a node ends inside the VGA hole the
    next one is entered as if it began at 1 MiB with all its size; that is what its guests see, so
    it is repeated here."""
    next_base = 0
    hole_start, hole_end = VGA_HOLE
    below, above_start = topology.below_4g, topology.above_4g_start
    for node in topology.nodes:
        base, length = next_base, node.mem
        next_base = base + length
        if base <= hole_start < next_base:
            length -= next_base - hole_start
            if length > 0:
                yield MemoryAffinity(node.nid, base, length, ENABLED)
            if next_base <= hole_end:
                next_base = hole_end
                continue
            base, length = hole_end, next_base - hole_end
        if base <= below < next_base:
            length -= next_base - below
            if length > 0:
                yield MemoryAffinity(node.nid, base, length, ENABLED)
            base, length = above_start, next_base - below
            next_base = base + length
        if length > 0:
            yield MemoryAffinity(node.nid, base, length, ENABLED)


def build_srat(topology: Topology) -> bytes:
    """The whole table for `topology`; APIC ids are CPU ids, proximity domains node ids."""
    body = bytearray(struct.pack("<IQ", 1, 0))
    for cpu, nid in enumerate(topology.cpu_node):
        if cpu < X2APIC_FIRST:
            high = (nid >> 8).to_bytes(3, "little")
            body += _CPU.pack(TYPE_CPU, _CPU.size, nid & 0xFF, cpu, ENABLED, 0, high, 0)
        else:
            body += _X2APIC.pack(TYPE_X2APIC_CPU, _X2APIC.size, 0, nid, cpu, ENABLED, 0, 0)
    ranges = list(memory_affinities(topology))
    while len(ranges) < len(topology.nodes) + 2:
        ranges.append(MemoryAffinity(0, 0, 0, 0))
    for entry in ranges:
        body += _MEMORY.pack(
            TYPE_MEMORY,
            _MEMORY.size,
            entry.proximity_domain,
            0,
            entry.base,
            entry.length,
            0,
            entry.flags,
            0,
        )
    return build_table(b"SRAT", 1, bytes(body))


def read_srat(memory: PhysicalMemory) -> Srat | None:
    """The SRAT in guest RAM, None when the XSDT has none. Raises `BringUpError`."""
    table = find_table(memory, "SRAT")
    return None if table is None else parse_srat(table)


def parse_srat(table: Table) -> Srat:
    """The affinities of `table`. Structures of a type unknown here are passed over, as the kernel
    does. Raises `BringUpError` for malformed ones and for memory that ends beyond 2^64."""
    if len(table.data) < FIRST_ENTRY:
        raise BringUpError(f"ACPI: SRAT at {table.address:#x} is {len(table.data)} bytes long")
    cpus: list[CpuAffinity] = []
    ranges: list[MemoryAffinity] = []
    for entry in subtables(table, FIRST_ENTRY):
        if entry.kind == TYPE_CPU:
            _, _, low, apic, flags, _, mid, high, _ = unpack_subtable(table, _CPU_FIELDS, entry)
            # Revision 1 tables have garbage where later ones keep the domain's upper 24 bits.
            upper = (mid << 8) | (high << 16) if table.revision >= 2 else 0
            cpus.append(CpuAffinity(low | upper, apic, flags))
        elif entry.kind == TYPE_X2APIC_CPU:
            _, _, _, domain, apic, flags, _, _ = unpack_subtable(table, _X2APIC, entry)
            cpus.append(CpuAffinity(domain, apic, flags))
        elif entry.kind == TYPE_MEMORY:
            _, _, domain, _, base, size, _, flags, _ = unpack_subtable(table, _MEMORY, entry)
            if base + size >= 1 << 64:
                raise BringUpError(
                    f"ACPI: SRAT at {table.address:#x}: memory of domain {domain} at {base:#x} "
                    f"runs past the end of the address space"
                )
            if table.revision < 2:
                domain &= 0xFF
            ranges.append(MemoryAffinity(domain, base, size, flags))
    return Srat(tuple(cpus), tuple(ranges), table.address)
