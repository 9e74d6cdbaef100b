# SPDX-License-Identifier: GPL-2.0-only
"""SLIT: how far every node is from every other one.

A square matrix of bytes, row by row, 10 meaning "local". POST writes the topology's distances with
`build_slit`; the kernel takes them out of guest RAM with `read_slit`, which accepts what Linux
accepts (drivers/acpi/numa.c, slit_valid()): 10 on the diagonal and more than 10 everywhere else.

ACPI 6.2, section 5.2.17. QEMU writes the table when distances were given; here every machine with
more than one node has distances, so every such machine has the table.
"""

from __future__ import annotations

import struct

from firmware.acpi import HEADER, Table, build_table, find_table
from machine.errors import BringUpError
from machine.physmem import PhysicalMemory
from machine.topology import LOCAL_DISTANCE, MAX_NODES, Topology

Distances = tuple[tuple[int, ...], ...]
"""`distances[from][to]`, indexed by proximity domain."""


def build_slit(topology: Topology) -> bytes:
    """The whole table for the distances of `topology`."""
    rows = topology.distances
    return build_table(b"SLIT", 1, struct.pack("<Q", len(rows)) + b"".join(map(bytes, rows)))


def read_slit(memory: PhysicalMemory) -> Distances | None:
    """The distances in guest RAM, None when the XSDT has no SLIT. Raises `BringUpError`."""
    table = find_table(memory, "SLIT")
    return None if table is None else parse_slit(table)


def parse_slit(table: Table) -> Distances:
    """The matrix in `table`. Raises `BringUpError` when count and length disagree, when there are
    more nodes than a machine can have, or when a distance is not legal."""
    where = f"ACPI: SLIT at {table.address:#x}"
    if len(table.body) < 8:
        raise BringUpError(f"{where} is {len(table.data)} bytes long")
    (count,) = struct.unpack_from("<Q", table.body)
    if not 1 <= count <= MAX_NODES:
        raise BringUpError(f"{where} claims {count} localities")
    if len(table.body) != 8 + count * count:
        raise BringUpError(
            f"{where} is {len(table.data)} bytes long, {count} localities need "
            f"{HEADER.size + 8 + count * count}"
        )
    rows = tuple(tuple(table.body[8 + a * count : 8 + (a + 1) * count]) for a in range(count))
    for a, row in enumerate(rows):
        for b, value in enumerate(row):
            if (value != LOCAL_DISTANCE) if a == b else (value <= LOCAL_DISTANCE):
                raise BringUpError(f"{where}: distance {a} to {b} is {value}")
    return rows
