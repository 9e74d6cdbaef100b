# SPDX-License-Identifier: GPL-2.0-only
"""A linker for one object file: sections laid out from 1 MiB, relocations applied.

Boot scripts are assembled to a relocatable ELF object. `link` puts its sections one behind the
other from `BASE` on - code, read-only data, data, then what starts as zero - gives every symbol its
address, and patches the places that refer to them. As from a linker script, `_etext`, `_edata`,
`__bss_start` and `_end` are there for the asking. Execution begins at `_start`, or at the start of
`.text` without one.

Relocation types are those of the System V ABI for x86-64, table 4.10, as far as code without
dynamic linking or thread-local storage needs them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from firmware.source import Source
from machine.errors import ImageError

BASE = 0x100000
"""Physical address at which scripts and flat images are loaded."""

MAX_FILE_BACKED = 256 << 20
"""Bytes of code and data in one script."""

SECTION_ALIGN = 16
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_TLS = 1, 2, 4, 0x400
SHN_UNDEF, SHN_ABS, SHN_COMMON = 0, 0xFFF1, 0xFFF2
STB_WEAK = 2

RELOCATIONS = {
    # type: (name, bytes, relative to the place, signedness of what must fit)
    1: ("R_X86_64_64", 8, False, "any"),
    2: ("R_X86_64_PC32", 4, True, "signed"),
    4: ("R_X86_64_PLT32", 4, True, "signed"),
    10: ("R_X86_64_32", 4, False, "unsigned"),
    11: ("R_X86_64_32S", 4, False, "signed"),
    12: ("R_X86_64_16", 2, False, "either"),
    13: ("R_X86_64_PC16", 2, True, "signed"),
    14: ("R_X86_64_8", 1, False, "either"),
    15: ("R_X86_64_PC8", 1, True, "signed"),
    24: ("R_X86_64_PC64", 8, True, "any"),
}
R_X86_64_NONE = 0


@dataclass(frozen=True)
class Linked:
    """The result: `data` belongs at physical `base`, `memsz` bytes are covered, the rest zero."""

    base: int
    data: bytes
    memsz: int
    entry: int
    symbols: Mapping[str, int] = field(default_factory=dict)


def link(source: Source, obj: bytes, base: int = BASE) -> Linked:
    """Link the ELF object `obj` that `source` assembled to. Raises `ImageError` for an undefined
    symbol, a relocation that is unknown or does not fit, and a script without any code."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        return _Linker(source, ELFFile(io.BytesIO(obj)), base).link()
    except ELFError as error:
        raise ImageError(f"{source.name}: the assembler's output is damaged: {error}") from None


class _Linker:
    """One run; `address` maps section index to physical address."""

    def __init__(self, source: Source, elf: Any, base: int) -> None:
        self.source, self.elf, self.base = source, elf, base
        self.sections: list[Any] = list(elf.iter_sections())
        self.symtab: Any = elf.get_section_by_name(".symtab")
        self.address: dict[int, int] = {}
        self.end = base
        self.symbols: dict[str, int] = {}
        self.values: list[int | None] = []

    def link(self) -> Linked:
        marks = self._lay_out()
        self._resolve(marks)
        memory = bytearray(marks["_edata"] - self.base)
        for index, section in self._allocated():
            if section["sh_type"] != "SHT_NOBITS":
                start = self.address[index] - self.base
                memory[start : start + section["sh_size"]] = section.data()
        for section in self.sections:
            if section["sh_type"] == "SHT_RELA" and section["sh_info"] in self.address:
                for relocation in section.iter_relocations():
                    self._apply(memory, section["sh_info"], relocation)
        code = [s for _, s in self._allocated() if s["sh_flags"] & SHF_EXECINSTR and s["sh_size"]]
        if not code:
            raise ImageError(f"{self.source.name}: there is no code in it")
        entry = self.symbols.get("_start", self.base)
        return Linked(self.base, bytes(memory), self.end - self.base, entry, self.symbols)

    def _allocated(self) -> Iterator[tuple[int, Any]]:
        for index, section in enumerate(self.sections):
            if section["sh_flags"] & SHF_ALLOC:
                yield index, section

    def _lay_out(self) -> dict[str, int]:
        """Give every section its address; the marks a linker script would define."""
        groups: list[list[int]] = [[], [], [], []]
        for index, section in self._allocated():
            flags = section["sh_flags"]
            if flags & SHF_TLS:
                raise ImageError(f"{self.source.name}: thread-local section {section.name}")
            if section["sh_type"] == "SHT_NOBITS":
                groups[3].append(index)
            elif flags & SHF_EXECINSTR:
                groups[0].append(index)
            else:
                groups[2 if flags & SHF_WRITE else 1].append(index)
        groups[0].sort(key=lambda index: self.sections[index].name != ".text")
        ends = []
        for group in groups:
            if group is groups[3]:
                self._check_size()
            for index in group:
                section = self.sections[index]
                if section["sh_size"]:
                    self._align(max(section["sh_addralign"], SECTION_ALIGN))
                self.address[index] = self.end
                self.end += section["sh_size"]
            ends.append(self.end)
        return {"_etext": ends[0], "_edata": ends[2], "__bss_start": ends[2]}

    def _check_size(self) -> None:
        if self.end - self.base > MAX_FILE_BACKED:
            raise ImageError(
                f"{self.source.name}: more than {MAX_FILE_BACKED >> 20} MiB of code and data"
            )

    def _align(self, alignment: int) -> None:
        self.end = -(-self.end // alignment) * alignment

    def _resolve(self, marks: dict[str, int]) -> None:
        """A value for every symbol; None for those that are undefined."""
        entries: list[Any] = list(self.symtab.iter_symbols()) if self.symtab else []
        for symbol in entries:
            where, value = symbol["st_shndx"], symbol["st_value"]
            if where == "SHN_COMMON":
                self._align(max(value, 1))
                self.values.append(self.end)
                self.end += symbol["st_size"]
            elif where == "SHN_ABS":
                self.values.append(value)
            elif where == "SHN_UNDEF":
                self.values.append(0 if symbol["st_info"]["bind"] == "STB_WEAK" else None)
            elif where in self.address:
                self.values.append(self.address[where] + value)
            else:
                self.values.append(None)
        marks["_end"] = self.end
        for index, symbol in enumerate(entries):
            value = self.values[index]
            if value is None and symbol.name in marks:
                self.values[index] = value = marks[symbol.name]
            if value is not None and symbol.name and symbol["st_info"]["type"] != "STT_FILE":
                if symbol["st_info"]["type"] != "STT_SECTION":
                    self.symbols[symbol.name] = value
        self.entries = entries

    def _apply(self, memory: bytearray, index: int, relocation: Any) -> None:
        kind = relocation["r_info_type"]
        if kind == R_X86_64_NONE:
            return
        symbol = self.entries[relocation["r_info_sym"]]
        value = self.values[relocation["r_info_sym"]]
        where = self._where(symbol.name)
        if value is None:
            raise ImageError(f"{where}: undefined symbol '{symbol.name}'")
        if kind not in RELOCATIONS:
            raise ImageError(f"{where}: relocation type {kind} is not for static code")
        name, size, relative, sign = RELOCATIONS[kind]
        place = self.address[index] + relocation["r_offset"]
        result = value + relocation["r_addend"] - (place if relative else 0)
        bits = 8 * size
        low = 0 if sign == "unsigned" else -(1 << (bits - 1))
        high = 1 << (bits - 1 if sign == "signed" else bits)
        if sign != "any" and not low <= result < high:
            label = symbol.name or self.sections[index].name
            raise ImageError(f"{where}: {result:#x} for '{label}' does not fit into {name}")
        start = place - self.base
        memory[start : start + size] = (result & ((1 << bits) - 1)).to_bytes(size, "little")

    def _where(self, name: str) -> str:
        """File, line and column of the first mention of a symbol."""
        found = self.source.find_word(name) if name else None
        if found is None:
            return self.source.name
        place, column = found
        return f"{place.file}:{place.line}:{column}"
