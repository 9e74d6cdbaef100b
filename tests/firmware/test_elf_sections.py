# SPDX-License-Identifier: GPL-2.0-only
"""firmware/elf_sections.py: what lies in no segment gets an address; damage is no sections."""

from __future__ import annotations

import struct

import pytest

from firmware.elf_sections import read_sections
from tests.guests.multiboot_guests import BASE, elf32

KERNEL = elf32(b"\x90" * 100, BASE)
TABLE = struct.unpack_from("<I", KERNEL, 0x20)[0]


def test_symbols_and_strings_get_addresses_and_the_rest_keeps_its_own() -> None:
    sections = read_sections(KERNEL)
    assert sections is not None
    assert (sections.count, sections.entry_size, sections.names_index) == (5, 40, 4)
    assert sorted(sections.contents) == [2, 3, 4]
    offset, data = sections.placed(0x300000)
    rows = [struct.unpack_from("<10I", data, offset + 40 * n) for n in range(5)]
    assert rows[1][3] == BASE
    for number, content in sections.contents.items():
        at = rows[number][3] - 0x300000
        assert at % 16 == 0
        assert data[at : at + len(content)] == content
    assert len(data) == sections.room - (-len(sections.headers) % 16)


@pytest.mark.parametrize(
    ("place", "value"),
    [(0x20, 0), (0x20, len(KERNEL)), (0x2E, 41), (0x30, 0xFFFF), (0x32, 5)],
)
def test_a_table_that_makes_no_sense_is_none(place: int, value: int) -> None:
    data = bytearray(KERNEL)
    struct.pack_into("<I" if place == 0x20 else "<H", data, place, value)
    assert read_sections(bytes(data)) is None


def test_a_section_beyond_the_file_is_not_loaded() -> None:
    data = bytearray(KERNEL)
    struct.pack_into("<I", data, TABLE + 3 * 40 + 16, len(KERNEL))
    sections = read_sections(bytes(data))
    assert sections is not None
    assert sorted(sections.contents) == [2, 4]


@pytest.mark.parametrize("data", [b"", b"\x7fELF\x01", b"\x7fELF\x02" + bytes(40)])
def test_what_is_too_short_has_no_sections(data: bytes) -> None:
    assert read_sections(data) is None
