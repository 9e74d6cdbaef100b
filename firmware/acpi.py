# SPDX-License-Identifier: GPL-2.0-only
"""ACPI's skeleton: table headers, checksums, and the walk from the RSDP over the XSDT to a table.

The firmware builds its tables with `build_table`, strings them together with `build_xsdt` and
`build_rsdp`, and lays them out in the reserved area at the top of low RAM (post.py). The kernel
knows none of those addresses: it finds the RSDP by its signature in the EBDA or the BIOS area, as
Linux does (drivers/acpi/acpica/tbxfroot.c), and follows the pointers from there. Everything on that
walk is read from guest RAM, which anybody may have scribbled on, so every pointer, length and
checksum is checked and what does not hold raises `BringUpError` naming the table, its address and
what is wrong.

Layouts are those of ACPI 6.2, sections 5.2.5 (RSDP), 5.2.6 (header) and 5.2.8 (XSDT).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from machine.errors import BringUpError
from machine.physmem import PhysicalMemory

OEM_ID = b"NUMLAB"
OEM_TABLE_ID = b"NUMALAB "
CREATOR_ID = b"NLAB"

RSDP_SIGNATURE = b"RSD PTR "
RSDP_SIZE = 36
RSDP_V1_SIZE = 20
HEADER = struct.Struct("<4sIBB6s8sI4sI")
RSDP = struct.Struct("<8sB6sBIIQB3x")

BIOS_AREA = (0xE0000, 0x100000)
"""Physical bytes searched for the RSDP after the first KiB of the EBDA."""

EBDA_POINTER = 0x40E
MAX_TABLE_SIZE = 1 << 20
"""Bytes; nothing a PC's firmware publishes comes near, so a longer table is a damaged one."""

MAX_TABLES = 128
"""Entries of an XSDT; ACPICA's own initial limit (ACPI_MAX_TABLES)."""


@dataclass(frozen=True)
class Rsdp:
    """Root pointer found at physical `address`; `xsdt` and `rsdt` are physical, 0 = absent."""

    address: int
    revision: int
    rsdt: int
    xsdt: int


@dataclass(frozen=True)
class Table:
    """A table with a sound checksum: `data` is all of it, header included."""

    signature: str
    address: int
    revision: int
    data: bytes

    @property
    def body(self) -> bytes:
        """The bytes behind the 36-byte header."""
        return self.data[HEADER.size :]


@dataclass(frozen=True)
class SubTable:
    """One type-length-value structure inside a SRAT or MADT; `data` includes type and length."""

    kind: int
    offset: int
    data: bytes


def checksum(data: bytes | bytearray) -> int:
    """The byte that makes the sum of `data` and itself zero modulo 256."""
    return -sum(data) & 0xFF


def build_table(signature: bytes, revision: int, body: bytes) -> bytes:
    """A whole table: header with length and checksum, then `body`."""
    length = HEADER.size + len(body)
    table = bytearray(
        HEADER.pack(signature, length, revision, 0, OEM_ID, OEM_TABLE_ID, 1, CREATOR_ID, 1) + body
    )
    table[9] = checksum(table)
    return bytes(table)


def build_xsdt(addresses: Sequence[int]) -> bytes:
    """An XSDT that points to the tables at these physical addresses."""
    return build_table(b"XSDT", 1, struct.pack(f"<{len(addresses)}Q", *addresses))


def build_rsdt(addresses: Sequence[int]) -> bytes:
    """The same for software that knows ACPI 1.0 only."""
    return build_table(b"RSDT", 1, struct.pack(f"<{len(addresses)}I", *addresses))


def build_rsdp(xsdt: int, rsdt: int = 0) -> bytes:
    """A revision 2 root pointer to the XSDT and the RSDT at these physical addresses."""
    rsdp = bytearray(RSDP.pack(RSDP_SIGNATURE, 0, OEM_ID, 2, rsdt, RSDP_SIZE, xsdt, 0))
    rsdp[8] = checksum(rsdp[:RSDP_V1_SIZE])
    rsdp[32] = checksum(rsdp)
    return bytes(rsdp)


def find_rsdp(memory: PhysicalMemory) -> Rsdp:
    """The root pointer, searched for as acpi_find_root_pointer() does: on 16-byte boundaries in the
    first KiB of the EBDA, then from 0xe0000 to 1 MiB. A candidate with a wrong checksum is passed
    over. Raises `BringUpError` when there is none."""
    ebda = memory.read_u16(EBDA_POINTER) << 4 if memory.is_ram(EBDA_POINTER, 2) else 0
    areas = [BIOS_AREA]
    if 0x400 < ebda < 0xA0000:
        areas.insert(0, (ebda, min(ebda + 0x400, 0xA0000)))
    damaged: int | None = None
    for start, end in areas:
        if not memory.is_ram(start, end - start):
            continue
        area = memory.read(start, end - start)
        offset = area.find(RSDP_SIGNATURE)
        while offset >= 0:
            if offset % 16 == 0 and len(area) - offset >= RSDP_SIZE:
                candidate = area[offset : offset + RSDP_SIZE]
                if not sum(candidate[:RSDP_V1_SIZE]) & 0xFF:
                    return _rsdp(start + offset, candidate)
                damaged = start + offset
            offset = area.find(RSDP_SIGNATURE, offset + 1)
    if damaged is not None:
        raise BringUpError(f"ACPI: RSDP at {damaged:#x} has a wrong checksum")
    raise BringUpError("ACPI: no RSDP in the EBDA or below 1 MiB")


def _rsdp(address: int, data: bytes) -> Rsdp:
    _, _, _, revision, rsdt, length, xsdt, _ = RSDP.unpack(data)
    if revision < 2:
        return Rsdp(address, revision, rsdt, 0)
    if length != RSDP_SIZE:
        raise BringUpError(f"ACPI: RSDP at {address:#x} is {length} bytes long instead of 36")
    if sum(data) & 0xFF:
        raise BringUpError(f"ACPI: RSDP at {address:#x} has a wrong extended checksum")
    return Rsdp(address, revision, rsdt, xsdt)


def read_header(memory: PhysicalMemory, address: int) -> tuple[bytes, int, int]:
    """Signature, length in bytes and revision of the table at physical `address`.

    Raises `BringUpError` when header or claimed extent are not in RAM."""
    if not memory.is_ram(address, HEADER.size):
        raise BringUpError(f"ACPI: table at {address:#x} is not in RAM")
    signature, length, revision, *_ = HEADER.unpack(memory.read(address, HEADER.size))
    if not HEADER.size <= length <= MAX_TABLE_SIZE:
        raise BringUpError(f"ACPI: {_name(signature)} at {address:#x} claims {length} bytes")
    if not memory.is_ram(address, length):
        raise BringUpError(f"ACPI: {_name(signature)} at {address:#x} runs past the end of RAM")
    return signature, length, revision


def read_table(memory: PhysicalMemory, address: int) -> Table:
    """The table at physical `address`. Raises `BringUpError` also for a wrong checksum."""
    signature, length, revision = read_header(memory, address)
    data = memory.read(address, length)
    if sum(data) & 0xFF:
        raise BringUpError(
            f"ACPI: {_name(signature)} at {address:#x} has a wrong checksum "
            f"(bytes add up to {sum(data) & 0xFF:#04x})"
        )
    return Table(_name(signature), address, revision, data)


def table_addresses(memory: PhysicalMemory) -> tuple[int, ...]:
    """Physical addresses in the XSDT's order (in the RSDT's when the RSDP knows no XSDT).

    Raises `BringUpError`."""
    rsdp = find_rsdp(memory)
    root = read_table(memory, rsdp.xsdt or rsdp.rsdt)
    wanted, width = ("XSDT", 8) if rsdp.xsdt else ("RSDT", 4)
    if root.signature != wanted:
        raise BringUpError(f"ACPI: {root.signature} at {root.address:#x} where {wanted} belongs")
    count, rest = divmod(len(root.body), width)
    if rest or count > MAX_TABLES:
        raise BringUpError(
            f"ACPI: {wanted} at {root.address:#x} has {len(root.body)} bytes of entries"
        )
    return struct.unpack(f"<{count}{'Q' if width == 8 else 'I'}", root.body)


def tables(memory: PhysicalMemory) -> tuple[Table, ...]:
    """The root table's tables, in its order, each read and checked. Raises `BringUpError`."""
    return tuple(read_table(memory, address) for address in table_addresses(memory))


def find_table(memory: PhysicalMemory, signature: str) -> Table | None:
    """The first table with this signature ("SRAT", "SLIT", "APIC"), None when none has it.

    Raises `BringUpError` for a damaged walk or a damaged table."""
    for address in table_addresses(memory):
        if read_header(memory, address)[0] == signature.encode():
            return read_table(memory, address)
    return None


def subtables(table: Table, start: int) -> Iterator[SubTable]:
    """The type-length-value structures of `table` from byte `start` of its data to its end.

    Raises `BringUpError` for one that is shorter than its own head or runs past the table."""
    offset, data = start, table.data
    while offset < len(data):
        length = data[offset + 1] if offset + 2 <= len(data) else 0
        if length < 2 or offset + length > len(data):
            raise BringUpError(
                f"ACPI: {table.signature} at {table.address:#x}: entry at byte {offset:#x} "
                f"has length {length}"
            )
        yield SubTable(data[offset], offset, data[offset : offset + length])
        offset += length


def unpack_subtable(table: Table, layout: struct.Struct, entry: SubTable) -> tuple[int, ...]:
    """The fields of `entry`, which must have exactly the length of `layout`.

    Raises `BringUpError`."""
    if len(entry.data) != layout.size:
        raise BringUpError(
            f"ACPI: {table.signature} at {table.address:#x}: entry at byte {entry.offset:#x} of "
            f"type {entry.kind} is {len(entry.data)} bytes long instead of {layout.size}"
        )
    return layout.unpack(entry.data)


def _name(signature: bytes) -> str:
    """A signature fit for a message, whatever bytes it holds."""
    text = signature.decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else repr(signature)[1:]
