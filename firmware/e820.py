# SPDX-License-Identifier: GPL-2.0-only
"""The e820 map: which physical ranges are RAM, as the BIOS tells it.

`e820_map` is the map that SeaBIOS under QEMU 7.2 gives for the same topology. RAM is usable except
for the EBDA below 640 KiB and the area at the top of low RAM where the firmware keeps its tables;
reserved are the BIOS below 1 MiB and below 4 GiB, q35's configuration windows, and AMD's
HyperTransport range, which QEMU reports whatever the amount of RAM. POST puts the map into
boot_params (boot_params.py), and `read_e820` there takes it out again.

The area at the top of low RAM is 128 KiB for the ACPI tables, and more on larger machines: SMBIOS
tables of more than 600 bytes do not fit below 1 MiB, so SeaBIOS moves them up there. numalab has no
SMBIOS, but the kernel must find the same number of usable pages, so their size is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

from machine.topology import AMD_HT_END, AMD_HT_START, GIB, Topology

USABLE, RESERVED, ACPI_DATA, ACPI_NVS, UNUSABLE, PMEM, PRAM = 1, 2, 3, 4, 5, 7, 12

EBDA = 0x9FC00
"""Physical start of the extended BIOS data area: 1 KiB below 640 KiB."""

LOW_RAM_END, BIOS_START, MIB = 0xA0000, 0xF0000, 0x100000
BIOS_ROM = (0xFFFC0000, 0x100000000)
MMCONFIG = (0xB0000000, 0xC0000000)
"""q35: PCI Express configuration space."""

ROOT_COMPLEX = (0xFED1C000, 0xFED20000)
"""q35: the ICH9's root complex registers."""

TABLE_AREA = 0x20000
"""Bytes QEMU rounds the ACPI tables up to (ACPI_BUILD_TABLE_SIZE)."""

_SMBIOS_IN_BIOS_AREA = 600
_PAGE = 4096
_NAMES = {USABLE: "usable", RESERVED: "reserved", ACPI_DATA: "ACPI data", ACPI_NVS: "ACPI NVS"}


@dataclass(frozen=True)
class E820Entry:
    """Physical bytes [addr, addr + size) are of `type` (1 usable RAM, 2 reserved, ...)."""

    addr: int
    size: int
    type: int

    @property
    def end(self) -> int:
        """First physical byte behind the range."""
        return self.addr + self.size

    def __str__(self) -> str:
        """As the kernel logs it, without the `BIOS-e820: ` in front."""
        return f"[mem {self.addr:#018x}-{self.end - 1:#018x}] {type_name(self.type)}"


def type_name(kind: int) -> str:
    """A type in the words of e820_print_type() (arch/x86/kernel/e820.c)."""
    if kind == UNUSABLE:
        return "unusable"
    if kind in (PMEM, PRAM):
        return f"persistent (type {kind})"
    return _NAMES.get(kind, f"type {kind}")


def smbios_size(topology: Topology) -> int:
    """Bytes of the SMBIOS tables QEMU 7.2 and SeaBIOS make for `topology` with a socket per CPU.

    Fixed tables, a processor structure a socket, a memory device per 16 GiB and one mapped range on
    either side of the PCI hole (hw/smbios/smbios.c, smbios_get_tables())."""
    version = {"pc": "pc-i440fx-7.2", "q35": "pc-q35-7.2"}[topology.machine_type]
    dimms = -(-topology.ram_size // (16 * GIB))
    size = 195 + 3 * len(version)
    size += topology.cpus * (55 + len(version))
    size += sum(52 + len(str(dimm)) for dimm in range(dimms))
    size += 33 * (2 if topology.above_4g else 1)
    return size


def table_area(topology: Topology) -> tuple[int, int]:
    """Physical [start, end) at the top of low RAM that the firmware keeps for its tables."""
    size = TABLE_AREA
    smbios = smbios_size(topology)
    if smbios > _SMBIOS_IN_BIOS_AREA:
        size += -(-smbios // _PAGE) * _PAGE
    return topology.below_4g - size, topology.below_4g


def e820_map(topology: Topology) -> list[E820Entry]:
    """The map of a machine with `topology`, in ascending order of addresses."""
    tables, low_end = table_area(topology)
    ranges = [
        (0, EBDA, USABLE),
        (EBDA, LOW_RAM_END, RESERVED),
        (BIOS_START, MIB, RESERVED),
        (MIB, tables, USABLE),
        (tables, low_end, RESERVED),
        (*BIOS_ROM, RESERVED),
        (AMD_HT_START, AMD_HT_END, RESERVED),
    ]
    if topology.machine_type == "q35":
        ranges += [(*MMCONFIG, RESERVED), (*ROOT_COMPLEX, RESERVED)]
    if topology.above_4g:
        start = topology.above_4g_start
        ranges.append((start, start + topology.above_4g, USABLE))
    return [E820Entry(start, end - start, kind) for start, end, kind in sorted(ranges)]
