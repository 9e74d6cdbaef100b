# SPDX-License-Identifier: GPL-2.0-only
"""firmware/multiboot.py: headers found or refused, kernels taken apart, what they are told."""

from __future__ import annotations

import struct

import pytest

from firmware import E820Entry
from firmware.multiboot import (
    HEADER_1,
    HEADER_2,
    build_info_1,
    build_info_2,
    find_header,
    load_kernel,
)
from machine import ImageError

MAP = [
    E820Entry(0, 0x9FC00, 1),
    E820Entry(0xF0000, 0x10000, 2),
    E820Entry(0x100000, 0x7EE0000, 1),
]


def header_1(flags: int = 0, *addresses: int) -> bytes:
    check = -(HEADER_1 + flags) & 0xFFFFFFFF
    return struct.pack(f"<{3 + len(addresses)}I", HEADER_1, flags, check, *addresses)


def header_2(*tags: tuple[int, int, bytes], architecture: int = 0) -> bytes:
    body = bytearray()
    for kind, flags, data in (*tags, (0, 0, b"")):
        body += struct.pack("<HHI", kind, flags, 8 + len(data)) + data
        body += bytes(-len(body) % 8)
    length = 16 + len(body)
    check = -(HEADER_2 + architecture + length) & 0xFFFFFFFF
    return struct.pack("<4I", HEADER_2, architecture, length, check) + bytes(body)


@pytest.mark.parametrize("offset", [0, 4, 512, 8180])
def test_a_version_1_header_is_found_on_a_word_in_the_first_8_kib(offset: int) -> None:
    found = find_header("k", bytes(offset) + header_1(3) + bytes(64))
    assert found is not None
    assert (found.version, found.offset) == (1, offset)


@pytest.mark.parametrize(
    "data", [b"", bytes(2) + header_1(), bytes(8192) + header_1(), header_1()[:8] + bytes(4)]
)
def test_what_is_no_header_is_not_taken_for_one(data: bytes) -> None:
    assert find_header("k", data) is None


def test_a_version_2_header_is_found_on_eight_bytes_in_the_first_32_kib() -> None:
    found = find_header("k", bytes(24) + header_2())
    assert found is not None
    assert (found.version, found.offset) == (2, 24)
    assert find_header("k", bytes(4) + header_2()) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (header_1(0x8000), "demands unknown features 0x8000"),
        (header_1(1 << 16, 0), "cut off"),
        (header_2(architecture=4), "another architecture"),
        (header_2((5, 0, bytes(12))), "demands a frame buffer"),
        (header_2((7, 0, b"")), "demands feature 7"),
        (header_2((1, 0, struct.pack("<2I", 6, 17))), "demands information 17"),
        (header_2()[:20], "cut off"),
    ],
)
def test_what_nobody_can_grant_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        find_header("k", data)


def test_optional_tags_are_passed_over() -> None:
    assert find_header("k", header_2((5, 1, bytes(12)), (1, 0, struct.pack("<I", 6)))) is not None


def test_a_tag_without_length_does_not_hang() -> None:
    data = bytearray(header_2((4, 1, bytes(4))))
    data[20:24] = bytes(4)
    with pytest.raises(ImageError, match="damaged"):
        find_header("k", bytes(data))


def test_a_kernel_that_is_no_elf_says_where_it_belongs() -> None:
    head = header_1(1 << 16, 0x100010, 0x100000, 0, 0x102000, 0x100040)
    data = bytes(16) + head + bytes(100)
    header = find_header("k", data)
    assert header is not None
    segments, entry, _ = load_kernel("k", data, header)
    assert segments == [(0x100000, data, 0x2000)]
    assert entry == 0x100040


@pytest.mark.parametrize(
    "addresses",
    [
        (0x100010, 0x100020, 0, 0, 0x100040),
        (0x100010, 0x100000, 0x900000, 0, 0x100040),
        (0x100010, 0x100000, 0, 0, 0x50),
        (0x100010, 0x0FFF00, 0, 0, 0x100040),
    ],
)
def test_addresses_that_make_no_sense_are_refused(addresses: tuple[int, ...]) -> None:
    data = bytes(16) + header_1(1 << 16, *addresses) + bytes(100)
    header = find_header("k", data)
    assert header is not None
    with pytest.raises(ImageError):
        load_kernel("k", data, header)


def test_version_1_tells_sizes_map_and_command_line() -> None:
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
    assert list(tags) == [1, 2, 4, 6, 14, 15, 0]
    assert tags[1] == b"k\0"
    assert struct.unpack("<2I", tags[4]) == (639, 0x7EE0000 >> 10)
    assert struct.unpack_from("<2I", tags[6]) == (24, 0)
    assert struct.unpack_from("<QQI", tags[6], 8) == (0, 0x9FC00, 1)
    assert (tags[14], tags[15]) == (rsdp[:20], rsdp)
