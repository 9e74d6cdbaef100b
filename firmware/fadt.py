# SPDX-License-Identifier: GPL-2.0-only
"""FADT, FACS, DSDT and the HPET's table: where ACPI's fixed hardware is.

The FADT names the ports of the power management registers and timer, the interrupt they would use,
the command that hands them over and how to reset the machine; it points to the FACS, which is empty
here, and to the DSDT, whose whole content is the package that tells how to switch off (`\\_S5`).
ACPI 6.2, sections 5.2.9 to 5.2.11; IA-PC HPET specification 1.0a, section 3.2.4."""

from __future__ import annotations

import struct

from firmware.acpi import HEADER, build_table
from machine.acpipm import ACPI_DISABLE, ACPI_ENABLE, PM_PORT, SMI_PORT
from machine.hpet import CAPABILITIES, HPET_BASE
from machine.pci import RESET_CONTROL

FACS_SIZE, FACS_ALIGN = 64, 64
FADT_SIZE = 244
SCI = 9
RESET_VALUE = 0x06

_FLAGS = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 10
"""WBINVD works, C1 works, neither power nor sleep button in the fixed hardware, reset register."""
_HAS_8042, _CENTURY = 1 << 1, 0x32
_NO_STATE = 0x0FFF
_GAS = struct.Struct("<BBBBQ")
_SOFT_OFF = bytes.fromhex("08 5f53355f 12 06 04 00000000")
"""Name (_S5, Package (4) {0, 0, 0, 0})"""


def build_facs() -> bytes:
    """The firmware control structure, which has no checksum."""
    return struct.pack("<4sI", b"FACS", FACS_SIZE).ljust(FACS_SIZE, b"\0")


def build_dsdt() -> bytes:
    """The differentiated system description table."""
    return build_table(b"DSDT", 1, _SOFT_OFF)


def build_fadt(facs: int, dsdt: int) -> bytes:
    """The fixed ACPI description table, for tables at these physical addresses."""
    body = bytearray(FADT_SIZE - HEADER.size)

    def put(offset: int, layout: str, *values: int) -> None:
        struct.pack_into("<" + layout, body, offset - HEADER.size, *values)

    put(36, "II", facs, dsdt)
    put(46, "HIBB", SCI, SMI_PORT, ACPI_ENABLE, ACPI_DISABLE)
    put(56, "I", PM_PORT)
    put(64, "I", PM_PORT + 4)
    put(76, "I", PM_PORT + 8)
    put(88, "BBBB", 4, 2, 0, 4)
    put(96, "HH", _NO_STATE, _NO_STATE)
    put(108, "BH", _CENTURY, _HAS_8042)
    put(112, "I", _FLAGS)
    body[116 - HEADER.size : 128 - HEADER.size] = _GAS.pack(1, 8, 0, 1, RESET_CONTROL)
    put(128, "B", RESET_VALUE)
    put(140, "Q", dsdt)
    return build_table(b"FACP", 3, bytes(body))


def build_hpet() -> bytes:
    """The HPET's table."""
    address = _GAS.pack(0, 0, 0, 0, HPET_BASE)
    return build_table(
        b"HPET", 1, struct.pack("<I", CAPABILITIES & 0xFFFFFFFF) + address + bytes(4)
    )
