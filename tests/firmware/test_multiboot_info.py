# SPDX-License-Identifier: GPL-2.0-only
"""firmware/multiboot_info.py: what a Multiboot kernel is told, byte for byte."""

from __future__ import annotations

import struct

from firmware import E820Entry
from firmware.multiboot_info import LoadedModule, SectionTable, build_info_1, build_info_2

MAP = [
    E820Entry(0, 0x9FC00, 1),
    E820Entry(0xF0000, 0x10000, 2),
    E820Entry(0x100000, 0x7EE0000, 1),
]


def testversion_1_tells_sizes_map_and_command_line() -> None:
    info = build_info_1(0x10000, MAP, b"k quiet\0")
    flags, lower, upper = struct.unpack_from("<3I", info)
    assert (flags, lower, upper) == (0x24D, 639, 0x7EE0000 >> 10)
    line, modules = struct.unpack_from("<2I", info, 16)
    assert info[line - 0x10000 :].startswith(b"k quiet\0")
    assert modules == 0
    length, at = struct.unpack_from("<2I", info, 44)
    entries = info[at - 0x10000 : at - 0x10000 + length]
    told = [struct.unpack_from("<IQQI", entries, n) for n in range(0, length, 24)]
    assert told == [(20, e.addr, e.size, e.type) for e in MAP]


def test_version_2_tells_the_same_in_tags() -> None:
    rsdp = bytes(15) + b"\x02" + bytes(20)
    info = build_info_2(MAP, b"k\0", rsdp)
    assert struct.unpack_from("<2I", info) == (len(info), 0)
    tags, place = {}, 8
    while place < len(info):
        kind, size = struct.unpack_from("<2I", info, place)
        tags[kind] = info[place + 8 : place + size]
        place += -(-size // 8) * 8
    assert list(tags) == [1, 2, 4, 6, 8, 14, 15, 0]
    assert tags[1] == b"k\0"
    assert struct.unpack("<2I", tags[4]) == (639, 0x7EE0000 >> 10)
    assert struct.unpack_from("<2I", tags[6]) == (24, 0)
    assert struct.unpack_from("<QQI", tags[6], 8) == (0, 0x9FC00, 1)
    assert (tags[14], tags[15]) == (rsdp[:20], rsdp)


MODULES = [LoadedModule(0x200000, 0x200123, b"one\0"), LoadedModule(0x201000, 0x201001, b"\0")]
SECTIONS = SectionTable(0x300000, 2, 40, 1, bytes(80))


def test_version_1_lists_modules_and_sections() -> None:
    info = build_info_1(0x10000, MAP, b"k\0", MODULES, SECTIONS)
    (flags,) = struct.unpack_from("<I", info)
    assert flags == 0x26D
    count, at = struct.unpack_from("<2I", info, 20)
    told = [struct.unpack_from("<4I", info, at - 0x10000 + 16 * n) for n in range(count)]
    assert [entry[:2] for entry in told] == [(0x200000, 0x200123), (0x201000, 0x201001)]
    assert info[told[0][2] - 0x10000 :].startswith(b"one\0")
    assert struct.unpack_from("<4I", info, 28) == (2, 40, 0x300000, 1)


def test_version_2_has_a_tag_for_each_module_and_one_for_the_sections() -> None:
    info = build_info_2(MAP, b"k\0", b"", MODULES, SECTIONS)
    tags, place = [], 8
    while place < len(info):
        kind, size = struct.unpack_from("<2I", info, place)
        tags.append((kind, info[place + 8 : place + size]))
        place += -(-size // 8) * 8
    modules = [(*struct.unpack_from("<2I", data), data[8:]) for kind, data in tags if kind == 3]
    assert modules == [(0x200000, 0x200123, b"one\0"), (0x201000, 0x201001, b"\0")]
    assert [data for kind, data in tags if kind == 9] == [struct.pack("<3I", 2, 40, 1) + bytes(80)]
