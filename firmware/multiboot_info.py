# SPDX-License-Identifier: GPL-2.0-only
"""What a Multiboot kernel is told: the information structures of versions 1 and 2.

Memory sizes and map, command line, name of the loader, modules, the sections of an ELF kernel; in
version 2 also the ACPI root pointer and the screen, which is in text mode. Nothing is said of what
the machine does not have (EFI, VBE, APM, a network) or of what was not used (a boot device).

Multiboot Specification 0.6.96, 3.3; Multiboot2 Specification 2.0, 3.6, with the sizes of fields
that multiboot2.h of GRUB has (the text draws those of the ELF tag as halves)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from firmware.e820 import EBDA, USABLE, E820Entry

LOADER_1, LOADER_2 = 0x2BADB002, 0x36D76289
LOADER_NAME = b"numalab\0"

TAG_END, TAG_COMMAND_LINE, TAG_LOADER, TAG_MODULE, TAG_MEMORY, TAG_MAP = 0, 1, 2, 3, 4, 6
TAG_FRAMEBUFFER, TAG_ELF, TAG_RSDP_1, TAG_RSDP_2 = 8, 9, 14, 15
TAGS = (
    TAG_END, TAG_COMMAND_LINE, TAG_LOADER, TAG_MODULE, TAG_MEMORY, TAG_MAP, TAG_FRAMEBUFFER,
    TAG_ELF, TAG_RSDP_1, TAG_RSDP_2,
)  # fmt: skip
"""What version 2 has to tell."""
TEXT_SCREEN = struct.pack("<QIIIBBH", 0xB8000, 160, 80, 25, 16, 2, 0)
"""Address, bytes a line, columns, lines, bits a cell, "EGA text"."""
_HEAD_1 = 116
_MIB = 1 << 20


@dataclass(frozen=True)
class LoadedModule:
    """A module at physical [start, end) and its command line, ending in a zero."""

    start: int
    end: int
    line: bytes


@dataclass(frozen=True)
class SectionTable:
    """The section headers at physical `address`: `count` of `entry_size` bytes; section
    `names_index` has their names. `headers` is the table itself."""

    address: int
    count: int
    entry_size: int
    names_index: int
    headers: bytes


def memory_kib(e820: Sequence[E820Entry]) -> tuple[int, int]:
    """KiB of RAM from 0 on, and from 1 MiB on up to the first hole."""
    upper = next((e.size for e in e820 if e.addr == _MIB and e.type == USABLE), 0)
    return EBDA >> 10, min(upper >> 10, 0xFFFFFFFF)


def build_info_1(
    address: int,
    e820: Sequence[E820Entry],
    command_line: bytes,
    modules: Sequence[LoadedModule] = (),
    sections: SectionTable | None = None,
) -> bytes:
    """The version 1 information structure for physical `address`, with all it points to."""
    lower, upper = memory_kib(e820)
    body = bytearray(_HEAD_1)

    def put(data: bytes) -> int:
        at = address + len(body)
        body.extend(data + bytes(-len(data) % 4))
        return at

    entries = b"".join(struct.pack("<IQQI", 20, e.addr, e.size, e.type) for e in e820)
    map_at, line_at, name_at = put(entries), put(command_line), put(LOADER_NAME)
    list_at = put(b"".join(struct.pack("<4I", m.start, m.end, put(m.line), 0) for m in modules))
    # Memory sizes, command line, modules, memory map, loader's name.
    flags = 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9
    if sections is not None:
        flags |= 1 << 5
        where = (sections.count, sections.entry_size, sections.address, sections.names_index)
        struct.pack_into("<4I", body, 28, *where)
    struct.pack_into("<3I", body, 0, flags, lower, upper)
    struct.pack_into("<3I", body, 16, line_at, len(modules), list_at if modules else 0)
    struct.pack_into("<2I", body, 44, len(entries), map_at)
    struct.pack_into("<I", body, 64, name_at)
    return bytes(body)


def build_info_2(
    e820: Sequence[E820Entry],
    command_line: bytes,
    rsdp: bytes,
    modules: Sequence[LoadedModule] = (),
    sections: SectionTable | None = None,
) -> bytes:
    """The version 2 information structure; all of it is in one piece."""
    lower, upper = memory_kib(e820)
    entries = b"".join(struct.pack("<QQII", e.addr, e.size, e.type, 0) for e in e820)
    tags = [(TAG_COMMAND_LINE, command_line), (TAG_LOADER, LOADER_NAME)]
    tags += [(TAG_MODULE, struct.pack("<II", m.start, m.end) + m.line) for m in modules]
    tags += [
        (TAG_MEMORY, struct.pack("<II", lower, upper)),
        (TAG_MAP, struct.pack("<II", 24, 0) + entries),
        (TAG_FRAMEBUFFER, TEXT_SCREEN),
    ]
    if sections is not None:
        numbers = (sections.count, sections.entry_size, sections.names_index)
        tags.append((TAG_ELF, struct.pack("<3I", *numbers) + sections.headers))
    if rsdp:
        tags.append((TAG_RSDP_1, rsdp[:20]))
        if rsdp[15] >= 2:
            tags.append((TAG_RSDP_2, rsdp))
    tags.append((TAG_END, b""))
    body = bytearray()
    for kind, data in tags:
        body += struct.pack("<II", kind, 8 + len(data)) + data
        body += bytes(-len(body) % 8)
    return struct.pack("<II", 8 + len(body), 0) + bytes(body)
