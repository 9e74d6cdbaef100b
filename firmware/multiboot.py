# SPDX-License-Identifier: GPL-2.0-only
"""Multiboot kernels, versions 1 and 2: loaded and entered as GRUB does it.

A kernel says in a header near the beginning of its file that it wants to be booted this way. It is
an ELF executable of 32 or 64 bits, or says in the header itself where it belongs. It is entered in
32-bit protected mode with paging off, EAX the magic number and EBX the address of a description of
the machine (multiboot_info.py).

Multiboot Specification 0.6.96; Multiboot2 Specification 2.0. What a kernel demands and nobody here
has (a graphics mode, EFI) is refused when it is loaded."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from firmware.elf import MAGIC, load_elf
from firmware.multiboot_info import TAGS
from machine.errors import ImageError

SEARCH_1, SEARCH_2 = 8192, 32768
"""Bytes at the beginning of the file that are searched for a header."""
HEADER_1, HEADER_2 = 0x1BADB002, 0xE85250D6

_PAGE_ALIGN, _MEMORY_INFO, _VIDEO, _ADDRESSES = 1, 2, 4, 1 << 16
_KNOWN_1 = _PAGE_ALIGN | _MEMORY_INFO
_REQUIRED_1 = 0xFFFF
_END, _REQUEST, _ADDRESS, _ENTRY, _CONSOLE, _FRAMEBUFFER, _ALIGN = range(7)
_OPTIONAL = 1
_CONSOLE_REQUIRED, _CONSOLE_TEXT = 1, 2
_TAG = struct.Struct("<HHI")


@dataclass(frozen=True)
class Header:
    """What a kernel says: `version` 1 or 2; `load` is (load address, header address, end of data,
    end of bss) where it is no ELF, `entry` then its physical entry point."""

    version: int
    offset: int
    load: tuple[int, int, int, int] | None = None
    entry: int | None = None


Loaded = tuple[list[tuple[int, bytes, int]], int, dict[str, int]]
"""Segments as (physical address, content, bytes in memory), entry (physical), symbols."""


def find_header(name: str, data: bytes) -> Header | None:
    """The header of the kernel `data`, None if it has none. Raises `ImageError` for one that asks
    for what nobody can give it, or that is damaged."""
    for offset in range(0, min(len(data), SEARCH_2) - 11, 4):
        magic, second, third = struct.unpack_from("<III", data, offset)
        if magic == HEADER_1 and offset < SEARCH_1 and not (magic + second + third) & 0xFFFFFFFF:
            return _header_1(name, data, offset, second)
        if magic == HEADER_2 and offset % 8 == 0 and offset + 16 <= len(data):
            (check,) = struct.unpack_from("<I", data, offset + 12)
            if not (magic + second + third + check) & 0xFFFFFFFF:
                return _header_2(name, data, offset, second, third)
    return None


def _header_1(name: str, data: bytes, offset: int, flags: int) -> Header:
    unknown = flags & _REQUIRED_1 & ~_KNOWN_1
    if unknown == _VIDEO:
        # Like QEMU: the kernel is told that there is no video information.
        unknown = 0
    if unknown:
        raise ImageError(f"{name}: the Multiboot header demands unknown features {unknown:#x}")
    if not flags & _ADDRESSES:
        return Header(1, offset)
    if offset + 32 > len(data):
        raise ImageError(f"{name}: the Multiboot header is cut off")
    at, load, load_end, bss_end, entry = struct.unpack_from("<5I", data, offset + 12)
    return Header(1, offset, (load, at, load_end, bss_end), entry)


def _header_2(name: str, data: bytes, offset: int, architecture: int, length: int) -> Header:
    if architecture != 0:
        raise ImageError(f"{name}: the Multiboot2 header is for another architecture")
    end = offset + length
    if length < 24 or end > min(len(data), SEARCH_2):
        raise ImageError(f"{name}: the Multiboot2 header of {length} bytes is cut off")
    load: tuple[int, int, int, int] | None = None
    entry: int | None = None
    place = offset + 16
    while place + 8 <= end:
        kind, flags, size = _TAG.unpack_from(data, place)
        if kind == _END:
            return Header(2, offset, load, entry)
        if size < 8 or place + size > end:
            break
        body = data[place + 8 : place + size]
        if kind == _ADDRESS and len(body) >= 16:
            at, start, load_end, bss_end = struct.unpack_from("<4I", body)
            load = (start, at, load_end, bss_end)
        elif kind == _ENTRY and len(body) >= 4:
            (entry,) = struct.unpack_from("<I", body)
        elif not flags & _OPTIONAL:
            _check_tag(name, kind, body)
        place += -(-size // 8) * 8
    raise ImageError(f"{name}: the Multiboot2 header is damaged at byte {place:#x}")


def _check_tag(name: str, kind: int, body: bytes) -> None:
    """Refuse a tag that must not be ignored and cannot be granted."""
    if kind == _REQUEST:
        wanted = struct.unpack(f"<{len(body) // 4}I", body[: len(body) // 4 * 4])
        missing = [number for number in wanted if number not in TAGS]
        if missing:
            raise ImageError(f"{name}: the Multiboot2 header demands information {missing[0]}")
    elif kind == _CONSOLE:
        flags = int.from_bytes(body[:4], "little")
        if flags & _CONSOLE_REQUIRED and not flags & _CONSOLE_TEXT:
            raise ImageError(f"{name}: the Multiboot2 header demands a console that is not text")
    elif kind == _FRAMEBUFFER:
        depth = int.from_bytes(body[8:12], "little")
        if depth:  # 0: text, or whatever there is
            raise ImageError(f"{name}: the Multiboot2 header demands a frame buffer")
    elif kind not in (_ALIGN, _ADDRESS, _ENTRY):
        raise ImageError(f"{name}: the Multiboot2 header demands feature {kind}")


def load_kernel(name: str, data: bytes, header: Header) -> Loaded:
    """Take the kernel apart. Raises `ImageError`."""
    if header.load is None:
        if not data.startswith(MAGIC):
            raise ImageError(f"{name}: Multiboot kernel that is not ELF and has no addresses")
        segments, entry, symbols = load_elf(name, data, allow_32=True)
        return segments, entry if header.entry is None else header.entry, symbols
    start, at, load_end, bss_end = header.load
    if header.entry is None:
        raise ImageError(f"{name}: Multiboot header with addresses but no entry point")
    if start == 0xFFFFFFFF:
        start = at - header.offset
    offset = header.offset - (at - start)
    if start > at or offset < 0 or (load_end and not start <= load_end):
        raise ImageError(f"{name}: the addresses in the Multiboot header make no sense")
    size = load_end - start if load_end else len(data) - offset
    if offset + size > len(data):
        raise ImageError(
            f"{name}: truncated: the Multiboot header loads {size} bytes from {offset:#x} on"
        )
    memsz = max(size, bss_end - start if bss_end else size)
    if not start <= header.entry < start + memsz:
        raise ImageError(f"{name}: entry point {header.entry:#x} lies in no segment")
    return [(start, data[offset : offset + size], memsz)], header.entry, {}
