# SPDX-License-Identifier: GPL-2.0-only
"""The sections of an ELF kernel, for boot loaders that hand them on (Multiboot).

A kernel finds its own symbols and strings in the section headers that its loader tells it of. Those
sections belong to no segment and have no address: the loader puts them somewhere and enters the
address in the copy of the headers (Multiboot Specification 0.6.96, 3.3, `syms`; GRUB does the
same)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAX_SECTIONS = 4096
MAX_LOADED = 64 << 20
"""Bytes of all sections that are loaded only for this."""
_ALIGN = 16
_NOBITS = 8
_CLASS_64 = 2


@dataclass(frozen=True)
class Sections:
    """`headers` is the table as in the file, of `count` entries of `entry_size` bytes; section
    `names_index` has their names. `contents` has what lies in no segment, by number."""

    headers: bytes
    entry_size: int
    names_index: int
    contents: dict[int, bytes]

    @property
    def count(self) -> int:
        """Entries of the table."""
        return len(self.headers) // self.entry_size

    @property
    def room(self) -> int:
        """Bytes that `contents` and `headers` take."""
        sizes = [len(data) for data in self.contents.values()] + [len(self.headers)]
        return sum(-(-size // _ALIGN) * _ALIGN for size in sizes)

    def placed(self, address: int) -> tuple[int, bytes]:
        """Everything laid out for physical `address`: the offset of the table, whose addresses are
        filled in, in the bytes that belong there."""
        out, headers = bytearray(), bytearray(self.headers)
        wide = self.entry_size == 64
        for number, data in self.contents.items():
            at = number * self.entry_size + (16 if wide else 12)
            struct.pack_into("<Q" if wide else "<I", headers, at, address + len(out))
            out += data + bytes(-len(data) % _ALIGN)
        return len(out), bytes(out + headers)


def read_sections(data: bytes) -> Sections | None:
    """The sections of the executable `data`, None if it has no table of them that makes sense:
    no kernel needs it in order to run."""
    wide = data[4:5] == bytes((_CLASS_64,))
    try:
        if wide:
            (table,) = struct.unpack_from("<Q", data, 0x28)
            size, count, names = struct.unpack_from("<3H", data, 0x3A)
        else:
            (table,) = struct.unpack_from("<I", data, 0x20)
            size, count, names = struct.unpack_from("<3H", data, 0x2E)
    except struct.error:
        return None
    whole = table and size == (64 if wide else 40) and table + count * size <= len(data)
    if not whole or not names < count <= MAX_SECTIONS:
        return None
    headers = data[table : table + count * size]
    contents = {}
    for number in range(count):
        kind, address, offset, length = _fields(headers, number * size, wide)
        if address == 0 and length and kind not in (0, _NOBITS) and offset + length <= len(data):
            contents[number] = data[offset : offset + length]
    if sum(len(content) for content in contents.values()) > MAX_LOADED:
        return None
    return Sections(headers, size, names, contents)


def _fields(headers: bytes, at: int, wide: bool) -> tuple[int, int, int, int]:
    """Type, address, offset in the file and length of a section."""
    if wide:
        kind, _, address, offset, length = struct.unpack_from("<IQQQQ", headers, at + 4)
    else:
        kind, _, address, offset, length = struct.unpack_from("<5I", headers, at + 4)
    return kind, address, offset, length
