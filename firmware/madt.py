# SPDX-License-Identifier: GPL-2.0-only
"""MADT: the interrupt controllers, and with them the list of CPUs.

`build_madt` writes what QEMU 7.2 writes for a PC (hw/i386/acpi-common.c): a local APIC a CPU (an
x2APIC from APIC id 255 on), one I/O APIC, the timer's move from IRQ 0 to 2, the level-triggered PCI
interrupts 5, 9, 10 and 11, and NMI on LINT1. `read_madt` gives the CPUs and the interrupt
controllers back out of guest RAM.

ACPI 6.2, section 5.2.12.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from firmware.acpi import HEADER, Table, build_table, find_table, subtables, unpack_subtable
from firmware.srat import X2APIC_FIRST
from machine.errors import BringUpError
from machine.physmem import PhysicalMemory
from machine.topology import Topology

TYPE_LOCAL_APIC, TYPE_IO_APIC, TYPE_OVERRIDE = 0, 1, 2
TYPE_NMI, TYPE_X2APIC, TYPE_X2APIC_NMI = 4, 9, 10
ENABLED = 1
PCAT_COMPAT = 1

LAPIC_BASE, IO_APIC_BASE = 0xFEE00000, 0xFEC00000
PCI_IRQS = (5, 9, 10, 11)
ACTIVE_HIGH_LEVEL = 0xD
FIRST_ENTRY = HEADER.size + 8

_LOCAL_APIC = struct.Struct("<BBBBI")
_IO_APIC = struct.Struct("<BBBBII")
_OVERRIDE = struct.Struct("<BBBBIH")
_NMI = struct.Struct("<BBBHB")
_X2APIC = struct.Struct("<BBHIII")
_X2APIC_NMI = struct.Struct("<BBHIB3x")


@dataclass(frozen=True)
class LocalApic:
    """A CPU: its processor uid, its APIC id, and flags (bit 0 = enabled)."""

    uid: int
    apic_id: int
    flags: int


@dataclass(frozen=True)
class IoApic:
    """An I/O APIC with registers at physical `address` and interrupts from `gsi_base` on."""

    ident: int
    address: int
    gsi_base: int


@dataclass(frozen=True)
class Override:
    """ISA interrupt `irq` arrives as global interrupt `gsi` with polarity and trigger `flags`."""

    irq: int
    gsi: int
    flags: int


@dataclass(frozen=True)
class Madt:
    """What the kernel takes from the table, each kind in table order."""

    lapic_address: int
    cpus: tuple[LocalApic, ...]
    io_apics: tuple[IoApic, ...]
    overrides: tuple[Override, ...]


def build_madt(topology: Topology) -> bytes:
    """The whole table for the CPUs of `topology`; APIC ids are CPU ids."""
    body = bytearray(struct.pack("<II", LAPIC_BASE, PCAT_COMPAT))
    for cpu in range(topology.cpus):
        if cpu < X2APIC_FIRST:
            body += _LOCAL_APIC.pack(TYPE_LOCAL_APIC, _LOCAL_APIC.size, cpu, cpu, ENABLED)
        else:
            body += _X2APIC.pack(TYPE_X2APIC, _X2APIC.size, 0, cpu, ENABLED, cpu)
    body += _IO_APIC.pack(TYPE_IO_APIC, _IO_APIC.size, 0, 0, IO_APIC_BASE, 0)
    body += _OVERRIDE.pack(TYPE_OVERRIDE, _OVERRIDE.size, 0, 0, 2, 0)
    for irq in PCI_IRQS:
        body += _OVERRIDE.pack(TYPE_OVERRIDE, _OVERRIDE.size, 0, irq, irq, ACTIVE_HIGH_LEVEL)
    if topology.cpus > X2APIC_FIRST:
        body += _X2APIC_NMI.pack(TYPE_X2APIC_NMI, _X2APIC_NMI.size, 0, 0xFFFFFFFF, 1)
    else:
        body += _NMI.pack(TYPE_NMI, _NMI.size, 0xFF, 0, 1)
    return build_table(b"APIC", 1, bytes(body))


def read_madt(memory: PhysicalMemory) -> Madt | None:
    """The MADT in guest RAM, None when the XSDT has none. Raises `BringUpError`."""
    table = find_table(memory, "APIC")
    return None if table is None else parse_madt(table)


def parse_madt(table: Table) -> Madt:
    """The contents of `table`; structures of other types are passed over.

    Raises `BringUpError` for malformed ones."""
    if len(table.data) < FIRST_ENTRY:
        raise BringUpError(f"ACPI: MADT at {table.address:#x} is {len(table.data)} bytes long")
    (lapic_address,) = struct.unpack_from("<I", table.body)
    cpus: list[LocalApic] = []
    io_apics: list[IoApic] = []
    overrides: list[Override] = []
    for entry in subtables(table, FIRST_ENTRY):
        if entry.kind == TYPE_LOCAL_APIC:
            _, _, uid, apic, flags = unpack_subtable(table, _LOCAL_APIC, entry)
            cpus.append(LocalApic(uid, apic, flags))
        elif entry.kind == TYPE_X2APIC:
            _, _, _, apic, flags, uid = unpack_subtable(table, _X2APIC, entry)
            cpus.append(LocalApic(uid, apic, flags))
        elif entry.kind == TYPE_IO_APIC:
            _, _, ident, _, address, gsi = unpack_subtable(table, _IO_APIC, entry)
            io_apics.append(IoApic(ident, address, gsi))
        elif entry.kind == TYPE_OVERRIDE:
            _, _, _, irq, gsi, flags = unpack_subtable(table, _OVERRIDE, entry)
            overrides.append(Override(irq, gsi, flags))
    return Madt(lapic_address, tuple(cpus), tuple(io_apics), tuple(overrides))
