# SPDX-License-Identifier: GPL-2.0-only
"""crash's `rd` and `search`: words of guest memory, and where a value occurs in it.

Addresses are virtual or physical: those of the direct map and vmemmap are read as what they stand
for even if the guest has damaged its page tables, everything else above the physical address space
goes through the tables. `search` looks through all RAM at once with NumPy.
"""

from __future__ import annotations

import numpy as np

from machine import BusError, PhysicalMemory, translate

from ..errors import BadRequest
from ..helpers.mm import MAX_PHYSADDR
from ..kernel_globals import G_PGD
from ..layout import PAGE_OFFSET, signed, unsigned
from .fields import Json, Report, Table
from .symbols import Symbols, parse_address, parse_number, physical_of

MAX_UNITS = 1 << 20
MAX_HITS = 10_000
_WIDTHS = {"-8": 1, "-16": 2, "-32": 4, "-64": 8}


def read_at(memory: PhysicalMemory, address: int, size: int) -> bytes:
    """`size` bytes at a physical or virtual (unsigned) address. Raises BusError, BadRequest."""
    if address < MAX_PHYSADDR:
        return memory.read(address, size)
    out = bytearray()
    while size:
        step = min(size, 4096 - address % 4096)
        out += memory.read(_physical(memory, address), step)
        address, size = address + step, size - step
    return bytes(out)


def _physical(memory: PhysicalMemory, address: int) -> int:
    try:
        return physical_of(memory.words, address)
    except BadRequest:
        found = translate(memory, unsigned(memory.words[G_PGD]), address)
        if found is None:
            raise BusError(address, 1, f"nothing is mapped at {address:#x}") from None
        return found.phys


def rd(memory: PhysicalMemory, args: list[str]) -> Report:
    """`rd [-8|-16|-32|-64] [-s] ADDRESS [COUNT]`: COUNT units, with their characters; `-s` shows
    what each 64-bit word points to. Raises BadRequest, BusError."""
    width, symbolic, rest = 8, False, []
    for arg in args:
        if arg in _WIDTHS:
            width = _WIDTHS[arg]
        elif arg == "-s":
            symbolic = True
        else:
            rest.append(arg)
    if not 1 <= len(rest) <= 2:
        raise BadRequest("rd: [-8|-16|-32|-64] [-s] address [count]")
    address = unsigned(parse_address(memory.words, rest[0]))
    count = parse_number(rest[1]) if len(rest) == 2 else 1
    if not 1 <= count <= MAX_UNITS:
        raise BadRequest(f"rd: count {count} is not between 1 and {MAX_UNITS:,}")
    raw = read_at(memory, address, count * width)
    values = [int.from_bytes(raw[i : i + width], "little") for i in range(0, len(raw), width)]
    data: dict[str, Json] = {"address": address, "width": width * 8, "values": list(values)}
    if symbolic and width == 8:
        return Report(_pointer_lines(memory, address, values), data)
    text = ""
    per_line = 16 // width
    for i in range(0, len(values), per_line):
        line = " ".join(f"{value:0{2 * width}x}" for value in values[i : i + per_line])
        row = raw[i * width : (i + per_line) * width]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        columns = per_line * (2 * width + 1) - 1
        text += f"{address + i * width:16x}:  {line:<{columns}}   {letters}\n"
    return Report(text, data)


def _pointer_lines(memory: PhysicalMemory, address: int, values: list[int]) -> str:
    symbols = Symbols(memory.words)
    text = ""
    for i, value in enumerate(values):
        name = symbols.of_virtual(value)
        text += f"{address + 8 * i:16x}:  {value:016x}  {name}".rstrip() + "\n"
    return text


def _word_hits(memory: PhysicalMemory, value: int, mask: int) -> list[int]:
    hits: list[int] = []
    wanted = np.int64(signed(value & ~mask))
    keep = np.int64(signed(~mask))
    # RAM that was never touched reads as zero, and reading it would make the host commit it
    for start, end in memory.extents if wanted == 0 else memory.touched():
        part = memory.q[start >> 3 : end >> 3]
        for at in range(0, len(part), 1 << 22):
            chunk = part[at : at + (1 << 22)]
            found = np.flatnonzero(chunk & keep == wanted if mask else chunk == wanted)
            hits.extend(int(n) for n in start + (at + found[: MAX_HITS + 1]) * 8)
            if len(hits) > MAX_HITS:
                return hits[:MAX_HITS]
    return hits


def _byte_hits(memory: PhysicalMemory, needle: bytes) -> list[int]:
    hits: list[int] = []
    step = 1 << 24
    for start, end in memory.touched():
        for at in range(start, end, step):
            data = bytes(memory.bytes[at : min(at + step + len(needle) - 1, end)])
            found = data.find(needle)
            while found >= 0:
                hits.append(at + found)
                if len(hits) >= MAX_HITS:
                    return hits
                found = data.find(needle, found + 1)
    return hits


def search(memory: PhysicalMemory, args: list[str]) -> Report:
    """`search [-m MASK] VALUE` for aligned 64-bit words, `search -c TEXT` for bytes anywhere.

    At most 10,000 hits. Raises BadRequest."""
    if len(args) == 2 and args[0] == "-c" and args[1]:
        hits = _byte_hits(memory, args[1].encode())
    elif len(args) == 3 and args[0] == "-m":
        hits = _word_hits(memory, parse_address(memory.words, args[2]), parse_number(args[1]))
    elif len(args) == 1:
        hits = _word_hits(memory, unsigned(parse_address(memory.words, args[0])), 0)
    else:
        raise BadRequest("search: [-m mask] value, or -c text")
    symbols = Symbols(memory.words)
    rows = []
    data: list[Json] = []
    for phys in hits:
        virtual = unsigned(PAGE_OFFSET + phys)
        name = symbols.of_physical(phys)
        value = memory.read_u64(phys & ~7)
        rows.append((f"{phys:x}", f"{virtual:x}", f"{value:016x}", name))
        data.append({"physical": phys, "virtual": virtual, "value": value, "symbol": name})
    text = "".join(
        f"{virtual}: {value}  {name}".rstrip() + "\n" for _, virtual, value, name in rows
    )
    columns = ("physical", "direct map", "value", "in")
    return Report(text, data, (Table(f"{len(hits):,} hits", columns, tuple(rows)),))
