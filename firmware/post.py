# SPDX-License-Identifier: GPL-2.0-only
"""Power-on self test: everything the firmware leaves in RAM before anybody boots.

`power_on` writes, with correct checksums: the BIOS data area at 0x400 and the extended one below
640 KiB; the RSDP in the BIOS area; XSDT and RSDT, FADT (with FACS and DSDT), MADT, HPET, SRAT and
SLIT at the top of low RAM, inside the range the e820 map reserves; boot_params with the map, and
the kernel's command line. Nothing else remembers what it wrote: the kernel finds it all by looking,
as on a PC.

The caller is whoever owns a machine: `numalab boot`, the test fixture, a Python script. Running it
again is a reset as far as the firmware's own areas go."""

from __future__ import annotations

from firmware.acpi import build_rsdp, build_rsdt, build_xsdt
from firmware.board import Board
from firmware.boot_params import (
    BOOT_PARAMS,
    COMMAND_LINE,
    COMMAND_LINE_SIZE,
    build_boot_params,
    encode_command_line,
)
from firmware.e820 import EBDA, e820_map, table_area
from firmware.fadt import FACS_SIZE, build_dsdt, build_facs, build_fadt, build_hpet
from firmware.madt import build_madt
from firmware.slit import build_slit
from firmware.srat import build_srat
from machine.errors import BringUpError

BDA = 0x400
BDA_COM1, BDA_EBDA_SEGMENT, BDA_EQUIPMENT, BDA_BASE_KIB = 0x400, 0x40E, 0x410, 0x413
COM1_PORT = 0x3F8
EQUIPMENT_ONE_SERIAL = 1 << 9
RSDP_ADDRESS = 0xF5A00
TABLE_ALIGN = 16


def power_on(machine: Board, append: str = "", *, numa: bool | None = None) -> None:
    """Run POST on `machine`; `append` is the kernel's command line.

    `numa` says whether the firmware describes nodes at all, that is, writes SRAT and SLIT. As with
    QEMU's `-numa`, a PC with a single node usually has neither; None decides by the number of
    nodes. Raises `UsageError` for a command line that is too long or not plain ASCII,
    `BringUpError` when the tables do not fit into the area kept for them."""
    command_line = encode_command_line(append)
    topology, memory = machine.topology, machine.memory
    memory.write_u16(BDA_COM1, COM1_PORT)
    memory.write_u16(BDA_EBDA_SEGMENT, EBDA >> 4)
    memory.write_u16(BDA_EQUIPMENT, EQUIPMENT_ONE_SERIAL)
    memory.write_u16(BDA_BASE_KIB, EBDA >> 10)
    memory.write(EBDA, b"\x01" + bytes(0x3FF))

    start, end = table_area(topology)
    facs, dsdt = start, start + FACS_SIZE
    contents = [build_fadt(facs, dsdt), build_madt(topology), build_hpet()]
    if len(topology.nodes) > 1 if numa is None else numa:
        contents += [build_srat(topology), build_slit(topology)]
    # FACS and DSDT are found through the FADT, the root tables through the RSDP.
    placed = [build_facs(), build_dsdt(), *contents]
    addresses = _lay_out(start, placed)
    roots = [build_xsdt(addresses[2:]), build_rsdt(addresses[2:])]
    xsdt, rsdt = _lay_out(_aligned(addresses[-1] + len(placed[-1])), roots)
    if rsdt + len(roots[1]) > end:
        raise BringUpError(f"ACPI tables end at {rsdt + len(roots[1]):#x}, beyond {end:#x}")
    for address, table in zip([*addresses, xsdt, rsdt], placed + roots, strict=True):
        memory.write(address, table)
    memory.write(RSDP_ADDRESS, build_rsdp(xsdt, rsdt))

    memory.write(BOOT_PARAMS, build_boot_params(e820_map(topology), rsdp=RSDP_ADDRESS))
    memory.write(COMMAND_LINE, command_line.ljust(COMMAND_LINE_SIZE, b"\0"))


def _aligned(address: int) -> int:
    return -(-address // TABLE_ALIGN) * TABLE_ALIGN


def _lay_out(start: int, tables: list[bytes]) -> list[int]:
    """Addresses for `tables`, one behind the other from `start` on."""
    addresses = []
    for table in tables:
        addresses.append(start)
        start = _aligned(start + len(table))
    return addresses
