# SPDX-License-Identifier: GPL-2.0-only
"""Static ELF executables for x86-64 (and, for Multiboot kernels, the i386), by any toolchain.

`load_elf` takes the PT_LOAD segments of an executable apart: each goes to its *physical* address
(p_paddr), so an image linked like a kernel at a high virtual address loads too, and the entry point
is turned into a physical address through the segment it lies in. Position-independent and dynamic
executables need a loader that a bare machine does not have, and are refused.

The file is parsed by pyelftools; since the bytes may be anything, what it raises on them, whatever
that is, becomes an `ImageError` of one line."""

from __future__ import annotations

import io
from typing import Any

from machine.errors import ImageError

MAGIC = b"\x7fELF"
MAX_SYMBOLS = 1 << 20
MAX_SEGMENTS = 256
MAX_LOADED = 256 << 20
"""Bytes taken from the file for all segments together; they may name the same bytes twice."""

_ADDRESS_END = 1 << 52
_SYMBOL_SIZE = 24

Loaded = tuple[list[tuple[int, bytes, int]], int, dict[str, int]]
"""Segments as (physical address, content, bytes in memory), entry (physical), symbols (virtual)."""


def load_elf(name: str, data: bytes, *, allow_32: bool = False) -> Loaded:
    """Take the executable `data`, called `name` in messages, apart; `allow_32` takes ELF32 for the
    i386, too. Raises `ImageError`."""
    from elftools.elf.elffile import ELFFile

    try:
        elf: Any = ELFFile(io.BytesIO(data))
        header = elf.header
        _check_header(name, elf, header, allow_32)
        return _segments(name, elf, header, data)
    except ImageError:
        raise
    except Exception as error:  # pyelftools meets garbage with whatever it trips over
        raise ImageError(f"{name}: damaged ELF file: {_reason(error)}") from None


def _check_header(name: str, elf: Any, header: Any, allow_32: bool) -> None:
    i386 = allow_32 and elf.elfclass == 32 and header["e_machine"] == "EM_386"
    if (elf.elfclass != 64 and not i386) or not elf.little_endian:
        order = "little" if elf.little_endian else "big"
        raise ImageError(f"{name}: ELF{elf.elfclass} {order}-endian, ELF64 little-endian expected")
    if header["e_machine"] != "EM_X86_64" and not i386:
        raise ImageError(f"{name}: ELF for {_enum(header['e_machine'])}, EM_X86_64 expected")
    if header["e_type"] != "ET_EXEC":
        hint = ", link it with -static -no-pie" if header["e_type"] in ("ET_DYN", "ET_REL") else ""
        raise ImageError(f"{name}: ELF type {_enum(header['e_type'])} is not executable{hint}")


def _segments(name: str, elf: Any, header: Any, data: bytes) -> Loaded:
    out: list[tuple[int, bytes, int]] = []
    spans: list[tuple[int, int, int]] = []
    loaded = 0
    if elf.num_segments() > MAX_SEGMENTS:
        raise ImageError(f"{name}: {elf.num_segments()} segments, at most {MAX_SEGMENTS} are read")
    for index in range(elf.num_segments()):
        head = elf.get_segment(index).header
        if head["p_type"] in ("PT_INTERP", "PT_DYNAMIC"):
            raise ImageError(f"{name}: dynamically linked, link it with -static -no-pie")
        if head["p_type"] != "PT_LOAD" or not head["p_memsz"]:
            continue
        offset, filesz, memsz = head["p_offset"], head["p_filesz"], head["p_memsz"]
        virtual, physical = head["p_vaddr"], head["p_paddr"]
        if offset + filesz > len(data):
            raise ImageError(
                f"{name}: truncated: segment {index} ends at byte {offset + filesz:#x}, "
                f"the file at {len(data):#x}"
            )
        if filesz > memsz:
            raise ImageError(f"{name}: segment {index} is larger in the file than in memory")
        if physical + memsz > _ADDRESS_END:
            raise ImageError(f"{name}: segment {index} at {physical:#x} is outside of any RAM")
        loaded += filesz
        if loaded > MAX_LOADED:
            raise ImageError(f"{name}: more than {MAX_LOADED >> 20} MiB to load")
        out.append((physical, data[offset : offset + filesz], memsz))
        spans.append((virtual, memsz, physical))
    if not out:
        raise ImageError(f"{name}: no segment to load")
    entry = header["e_entry"]
    for virtual, memsz, physical in spans:
        if virtual <= entry < virtual + memsz:
            return out, entry - virtual + physical, _symbols(elf, len(data))
    raise ImageError(f"{name}: entry point {entry:#x} lies in no segment")


def _symbols(elf: Any, file_size: int) -> dict[str, int]:
    """Names and values of the symbol table; none when it is missing or damaged, for symbols only
    serve messages."""
    try:
        table = elf.get_section_by_name(".symtab")
        if table is None or table["sh_entsize"] != _SYMBOL_SIZE:
            return {}
        size = table["sh_size"]
        if table["sh_offset"] + size > file_size or size > MAX_SYMBOLS * _SYMBOL_SIZE:
            return {}
        wanted = ("STT_NOTYPE", "STT_FUNC", "STT_OBJECT")
        return {
            symbol.name: symbol["st_value"]
            for symbol in table.iter_symbols()
            if symbol.name and symbol["st_info"]["type"] in wanted
        }
    except Exception:  # see load_elf()
        return {}


def _enum(value: object) -> str:
    return value if isinstance(value, str) else f"machine or type {value}"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if text.isprintable() and text else type(error).__name__
