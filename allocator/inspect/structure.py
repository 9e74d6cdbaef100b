# SPDX-License-Identifier: GPL-2.0-only
"""crash's `struct`: a structure in guest RAM, field by field.

The layouts are the very Struct descriptions that the allocator's offsets come from, so nothing is
said twice. `decode` gives the values as data; the text looks like crash's, with array indices
by name (`[Movable]`) and pointers followed by what they point to.
"""

from __future__ import annotations

from machine import PhysicalMemory

from ..address_space import ADDRESS_SPACE
from ..blockdev import BIO, BLOCK_DEVICE
from ..errors import BadRequest
from ..fs import BDI_WRITEBACK, DENTRY, FILE, INODE, SUPER_BLOCK
from ..kernel_globals import GLOBALS, KDATA
from ..layout import (
    CMA,
    CPU,
    CPUSET,
    MEM_CGROUP,
    MEM_SECTION,
    MEMBLOCK_REGION,
    PAGE_COUNTER,
    PAGE_OFFSET,
    TASK,
    unsigned,
    va_of_word,
)
from ..mm_struct import MM_STRUCT, PROCESS, VM_AREA_STRUCT
from ..mm_types import PAGE
from ..mmzone import (
    FREE_AREA,
    LRUVEC,
    PER_CPU_NODESTAT,
    PER_CPU_PAGESET,
    PGLIST_DATA,
    ZONE,
    ZONELIST,
    ZONEREF,
)
from ..shrinker import SHRINKER
from ..slab import KMEM_CACHE, KMEM_CACHE_NODE
from ..structs import Field, Struct
from ..xarray import XA_NODE
from .fields import Json, Report
from .symbols import Symbols, index_name, parse_address, parse_number, physical_of

STRUCTS = {
    struct.name: struct
    for struct in (
        PAGE,
        ZONE,
        PGLIST_DATA,
        FREE_AREA,
        ZONELIST,
        ZONEREF,
        PER_CPU_PAGESET,
        PER_CPU_NODESTAT,
        LRUVEC,
        MEM_SECTION,
        MEMBLOCK_REGION,
        CPU,
        TASK,
        PAGE_COUNTER,
        MEM_CGROUP,
        CPUSET,
        CMA,
        GLOBALS,
        # the owners of memory
        MM_STRUCT,
        VM_AREA_STRUCT,
        PROCESS,
        KMEM_CACHE,
        KMEM_CACHE_NODE,
        ADDRESS_SPACE,
        XA_NODE,
        INODE,
        DENTRY,
        FILE,
        SUPER_BLOCK,
        BDI_WRITEBACK,
        BLOCK_DEVICE,
        BIO,
        SHRINKER,
    )
}
MAX_ELEMENTS = 10_000
_HEX = ("flags", "pageblock_flags", "section_mem_map", "static_keys", "gfp_allowed_mask")


def _is_pointer(ctype: str) -> bool:
    return ctype.endswith("*") or ctype == "struct list_head"


def _scalar(field: Field, word: int) -> Json:
    if _is_pointer(field.ctype) or field.name in _HEX or field.ctype == "nodemask_t":
        return unsigned(word)
    return word


def decode(m: memoryview, struct: Struct, word: int) -> dict[str, Json]:
    """All fields of the structure at word index `word`: ints, lists for arrays, dicts for nested
    structures and list heads. Pointers are unsigned. Raises IndexError outside RAM."""
    data: dict[str, Json] = {}
    for field in struct:
        at = word + field.offset
        nested = struct.nested.get(field.name)
        if field.name == "_counts":
            low = m[at] & 0xFFFFFFFF
            data["_mapcount"] = low - (1 << 32) if low >> 31 else low
            data["_refcount"] = m[at] >> 32
            continue
        values: list[Json] = []
        for i in range(field.count):
            here = at + i * field.words
            if nested is not None:
                values.append(decode(m, nested, here))
            elif field.ctype == "struct list_head":
                values.append({"next": unsigned(m[here]), "prev": unsigned(m[here + 1])})
            else:
                values.append(_scalar(field, m[here]))
        if field.ctype.startswith("char["):
            data[field.name] = _chars(m, at, field.words * field.count)
        else:
            data[field.name] = values if field.count > 1 else values[0]
        if struct is ZONELIST:
            data[field.name] = _used_zonerefs(values)
    return data


def _chars(m: memoryview, at: int, count: int) -> str:
    raw = b"".join((m[at + i] & (1 << 64) - 1).to_bytes(8, "little") for i in range(count))
    return raw.split(b"\0")[0].decode("ascii", "replace")


def _used_zonerefs(values: list[Json]) -> list[Json]:
    used: list[Json] = []
    for value in values:
        assert isinstance(value, dict)
        used.append(value)
        if not value["zone"]:
            break
    return used


class _Printer:
    """Text of a decoded structure."""

    def __init__(self, m: memoryview) -> None:
        self.m = m
        self.symbols = Symbols(m)

    def pointer(self, va: int) -> str:
        name = self.symbols.of_virtual(va)
        return f"{va:#x}" + (f" <{name}>" if name and va else "")

    def list_head(self, word: int) -> str:
        own = unsigned(va_of_word(word))
        first, last = unsigned(self.m[word]), unsigned(self.m[word + 1])
        if first == own and last == own:
            return "{(empty)}"
        return f"{{next = {self.pointer(first)}, prev = {self.pointer(last)}}}"

    def struct(self, struct: Struct, word: int, indent: str) -> str:
        lines = ["{"]
        for field in struct:
            lines.extend(self.field(struct, field, word + field.offset, indent + "  "))
        return "\n".join([*lines, indent + "}"])

    def field(self, struct: Struct, field: Field, word: int, indent: str) -> list[str]:
        nested = struct.nested.get(field.name)
        if field.name == "_counts":
            pair = decode(self.m, struct, word - field.offset)
            return [f"{indent}{n} = {pair[n]}," for n in ("_mapcount", "_refcount")]
        if field.ctype.startswith("char["):
            text = _chars(self.m, word, field.words * field.count)
            return [f'{indent}{field.name} = "{text}",']
        if field.count == 1:
            value = self.value(field, nested, word, indent)
            return [f"{indent}{field.name} = {value},"]
        if nested is None and field.ctype != "struct list_head":
            values = [str(_scalar(field, self.m[word + i])) for i in range(field.count)]
            if field.count <= 8:
                return [f"{indent}{field.name} = {{{', '.join(values)}}},"]
            named = [
                f"{indent}  [{index_name(struct, field.name, i)}] = {value},"
                for i, value in enumerate(values)
                if value != "0"
            ]
            return [f"{indent}{field.name} = {{", *named, f"{indent}}},"]
        lines = [f"{indent}{field.name} = {{"]
        for i in range(field.count):
            at = word + i * field.words
            if struct is ZONELIST and not self.m[at]:
                break
            name = index_name(struct, field.name, i)
            if nested is not None and not any(self.m[at : at + field.words].tolist()):
                lines.append(f"{indent}  [{name}] = {{(all zero)}},")
                continue
            lines.append(f"{indent}  [{name}] = {self.value(field, nested, at, indent + '  ')},")
        return [*lines, f"{indent}}},"]

    def value(self, field: Field, nested: Struct | None, word: int, indent: str) -> str:
        if nested is not None:
            return self.struct(nested, word, indent)
        if field.ctype == "struct list_head":
            return self.list_head(word)
        value = _scalar(field, self.m[word])
        if field.ctype.endswith("*"):
            assert isinstance(value, int)
            return self.pointer(value)
        if field.name in _HEX or field.ctype == "nodemask_t":
            return f"{value:#x}"
        return str(value)


def struct(memory: PhysicalMemory, args: list[str]) -> Report:
    """`struct NAME ADDRESS [COUNT]`: COUNT structures one behind the other.

    ADDRESS: virtual or physical, `page:PFN`, `0:DMA32`, `node:0`; `kernel_globals` needs none.
    Raises BadRequest for an unknown structure or an address where none can be.
    """
    m = memory.words
    if not args or args[0] not in STRUCTS:
        raise BadRequest(f"struct: one of {', '.join(STRUCTS)}")
    kind = STRUCTS[args[0]]
    if kind is GLOBALS and len(args) == 1:
        args = [*args, hex(KDATA << 3)]
    if not 2 <= len(args) <= 3:
        raise BadRequest(f"struct: {kind.name} address [count]")
    count = parse_number(args[2]) if len(args) == 3 else 1
    phys = physical_of(m, parse_address(m, args[1]))
    if not 1 <= count <= MAX_ELEMENTS or phys & 7:
        raise BadRequest(f"struct: {args[1]} is not 8-aligned, or the count is out of range")
    memory.check(phys, kind.size * count)
    printer = _Printer(m)
    text = ""
    data: list[Json] = []
    for i in range(count):
        word = (phys >> 3) + i * kind.words
        where = unsigned(PAGE_OFFSET + (word << 3))
        name = printer.symbols.of_physical(word << 3)
        text += f"struct {kind.name} at {where:#x}"
        text += f" ({name})" if name else ""
        text += " " + printer.struct(kind, word, "") + "\n"
        entry: dict[str, Json] = {"struct": kind.name, "address": where, "symbol": name}
        data.append(entry | {"fields": decode(m, kind, word)})
    return Report(text, data[0] if count == 1 else data)
