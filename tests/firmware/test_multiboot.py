# SPDX-License-Identifier: GPL-2.0-only
"""firmware/multiboot.py: headers found or refused, kernels taken apart, what they are told."""

from __future__ import annotations

import struct

import pytest

from firmware.multiboot import HEADER_1, HEADER_2, find_header, load_kernel
from machine import ImageError


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
    "data",
    [
        b"",
        bytes(2) + header_1(),
        bytes(8192) + header_1(),
        header_1()[:8] + bytes(4),
        bytes(4) + header_2(),
        bytes(32768) + header_2(),
        header_2()[:12] + bytes(4) + header_2()[16:],
    ],
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
        (header_2((5, 0, struct.pack("<3I", 640, 480, 32))), "demands a frame buffer"),
        (header_2((4, 0, struct.pack("<I", 1))), "demands a console that is not text"),
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


def test_a_screen_without_a_depth_is_the_text_screen() -> None:
    data = header_2((5, 0, struct.pack("<3I", 80, 25, 0)), (4, 0, struct.pack("<I", 3)))
    assert find_header("k", data) is not None


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
