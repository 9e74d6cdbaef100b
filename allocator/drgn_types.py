# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's types for drgn, made from our own Struct descriptions.

A field that is a whole word in guest RAM but an `int`, `bool` or `u16` in C is declared with its C
type and lies in the low bytes of its word, which on a little-endian machine is the same value; only
arrays of such small types are declared as arrays of `long`. `struct page` is declared as in
include/linux/mm_types.h with its unions, because drgn's helpers look for their members.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .inspect.structure import STRUCTS
from .mm_types import PAGE, PAGE_FLAG_NAMES
from .mmzone import (
    MAX_NUMNODES,
    MIGRATE_TYPES,
    NODE_STAT_NAMES,
    NR_VM_NODE_STAT_ITEMS,
    NR_VM_NUMA_STAT_ITEMS,
    NR_VM_ZONE_STAT_ITEMS,
    NUMA_STAT_NAMES,
    ZONE_STAT_NAMES,
)
from .structs import Field, Struct
from .vm_events import NR_VM_EVENT_ITEMS, VM_EVENT_NAMES

_INTS = {
    "unsigned long": (8, False),
    "long": (8, True),
    "unsigned int": (4, False),
    "int": (4, True),
    "unsigned short": (2, False),
    "short": (2, True),
    "unsigned char": (1, False),
    "signed char": (1, True),
    "char": (1, True),
    "unsigned long long": (8, False),
    "long long": (8, True),
}
_TYPEDEFS = {
    "phys_addr_t": "unsigned long",
    "pid_t": "int",
    "gfp_t": "unsigned int",
    "u8": "unsigned char",
    "s8": "signed char",
    "u16": "unsigned short",
    "u32": "unsigned int",
    "s32": "int",
    "u64": "unsigned long",
    "s64": "long",
    "size_t": "unsigned long",
    "ptrdiff_t": "long",
    "umode_t": "unsigned short",
    "loff_t": "long long",
    "blkcnt_t": "u64",
    "sector_t": "u64",
    "fmode_t": "unsigned int",
    "slab_flags_t": "unsigned int",
}
_SMALL = {"int", "s8", "u16", "u32", "bool", "unsigned int", "atomic_t"}
_ENUM_NAMES = {
    "zone_type": ("ZONE_DMA", "ZONE_DMA32", "ZONE_NORMAL", "ZONE_MOVABLE", "__MAX_NR_ZONES"),
    "migratetype": (
        "MIGRATE_UNMOVABLE",
        "MIGRATE_MOVABLE",
        "MIGRATE_RECLAIMABLE",
        "MIGRATE_HIGHATOMIC",
        "MIGRATE_CMA",
        "MIGRATE_ISOLATE",
        "MIGRATE_TYPES",
    ),
    "slab_state": ("DOWN", "PARTIAL", "UP"),
    "zone_watermarks": ("WMARK_MIN", "WMARK_LOW", "WMARK_HIGH", "NR_WMARK"),
    "node_states": (
        "N_POSSIBLE",
        "N_ONLINE",
        "N_NORMAL_MEMORY",
        "N_MEMORY",
        "N_CPU",
        "NR_NODE_STATES",
    ),
    "pageflags": (*(f"PG_{name}" for name in PAGE_FLAG_NAMES), "__NR_PAGEFLAGS"),
    "zone_stat_item": (
        "NR_FREE_PAGES",
        "NR_ZONE_INACTIVE_ANON",
        "NR_ZONE_ACTIVE_ANON",
        "NR_ZONE_INACTIVE_FILE",
        "NR_ZONE_ACTIVE_FILE",
        "NR_ZONE_UNEVICTABLE",
        "NR_ZONE_WRITE_PENDING",
        "NR_MLOCK",
        "NR_PAGETABLE",
        "NR_KERNEL_STACK_KB",
        "NR_BOUNCE",
        "NR_FREE_CMA_PAGES",
        "NR_VM_ZONE_STAT_ITEMS",
    ),
    "numa_stat_item": (
        "NUMA_HIT",
        "NUMA_MISS",
        "NUMA_FOREIGN",
        "NUMA_INTERLEAVE_HIT",
        "NUMA_LOCAL",
        "NUMA_OTHER",
        "NR_VM_NUMA_STAT_ITEMS",
    ),
    "node_stat_item": (
        "NR_INACTIVE_ANON",
        "NR_ACTIVE_ANON",
        "NR_INACTIVE_FILE",
        "NR_ACTIVE_FILE",
        "NR_UNEVICTABLE",
        "NR_SLAB_RECLAIMABLE",
        "NR_SLAB_UNRECLAIMABLE",
        "NR_ISOLATED_ANON",
        "NR_ISOLATED_FILE",
        "WORKINGSET_NODES",
        "WORKINGSET_REFAULT",
        "WORKINGSET_ACTIVATE",
        "WORKINGSET_RESTORE",
        "WORKINGSET_NODERECLAIM",
        "NR_ANON_MAPPED",
        "NR_FILE_MAPPED",
        "NR_FILE_PAGES",
        "NR_FILE_DIRTY",
        "NR_WRITEBACK",
        "NR_WRITEBACK_TEMP",
        "NR_SHMEM",
        "NR_SHMEM_THPS",
        "NR_SHMEM_PMDMAPPED",
        "NR_ANON_THPS",
        "NR_UNSTABLE_NFS",
        "NR_VMSCAN_WRITE",
        "NR_VMSCAN_IMMEDIATE",
        "NR_DIRTIED",
        "NR_WRITTEN",
        "NR_KERNEL_MISC_RECLAIMABLE",
        "NR_VM_NODE_STAT_ITEMS",
    ),
    "vm_event_item": (*(name.upper() for name in VM_EVENT_NAMES), "NR_VM_EVENT_ITEMS"),
}
assert len(_ENUM_NAMES["zone_stat_item"]) == NR_VM_ZONE_STAT_ITEMS + 1 == len(ZONE_STAT_NAMES) + 1
assert len(_ENUM_NAMES["numa_stat_item"]) == NR_VM_NUMA_STAT_ITEMS + 1 == len(NUMA_STAT_NAMES) + 1
assert len(_ENUM_NAMES["node_stat_item"]) == NR_VM_NODE_STAT_ITEMS + 1 == len(NODE_STAT_NAMES) + 1
assert len(_ENUM_NAMES["vm_event_item"]) == NR_VM_EVENT_ITEMS + 1
assert len(_ENUM_NAMES["migratetype"]) == MIGRATE_TYPES + 1
_ENUMS: dict[str, dict[str, int]] = {
    name: {enumerator: i for i, enumerator in enumerate(names)}
    for name, names in _ENUM_NAMES.items()
}
_ENUMS["node_states"]["N_HIGH_MEMORY"] = _ENUMS["node_states"]["N_NORMAL_MEMORY"]
_ENUMS["migratetype"]["MIGRATE_PCPTYPES"] = _ENUMS["migratetype"]["MIGRATE_HIGHATOMIC"]


Member = tuple[Any, str | None, int]


class Types:
    """The types of one drgn program, made when they are first asked for."""

    def __init__(self, prog: Any) -> None:
        self.prog = prog
        self._made: dict[str, Any] = {}

    def enumerator(self, name: str) -> Any:
        """The constant called `name` as an object of its enum type, or None."""
        import drgn

        for enum, values in _ENUMS.items():
            if name in values:
                return drgn.Object(self.prog, self.get(f"enum {enum}"), values[name])
        return None

    def get(self, name: str) -> Any:
        """The type called `name`: "struct page", "enum pageflags", "u16". Raises KeyError."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def find(self, kind: str, name: str) -> Any:
        """A type by drgn's kind word ("struct", "union", "enum" or "") and tag, or None."""
        try:
            return self.get(f"{kind} {name}".strip())
        except KeyError:
            return None

    def _make(self, name: str) -> Any:
        if name in _INTS:
            size, is_signed = _INTS[name]
            return self.prog.int_type(name, size, is_signed)
        if name == "_Bool":
            return self.prog.bool_type(name, 1)
        if name == "bool":
            return self.prog.typedef_type(name, self.get("_Bool"))
        if name in _TYPEDEFS:
            return self.prog.typedef_type(name, self.get(_TYPEDEFS[name]))
        maker = _SPECIAL.get(name)
        if maker is not None:
            return maker(self)
        kind, _, tag = name.partition(" ")
        if kind == "enum" and tag in _ENUMS:
            return self._enum(tag)
        if kind == "struct" and tag in STRUCTS:
            return self._struct(STRUCTS[tag])
        raise KeyError(name)

    def _enum(self, tag: str) -> Any:
        import drgn

        enumerators = [drgn.TypeEnumerator(name, value) for name, value in _ENUMS[tag].items()]
        return self.prog.enum_type(tag, self.get("unsigned int"), enumerators)

    def _struct(self, struct: Struct) -> Any:
        import drgn

        if struct is PAGE:
            return self.page()
        members = [
            drgn.TypeMember(partial(self.field, struct, field), field.name, field.offset * 64)
            for field in struct
        ]
        return self.prog.struct_type(struct.name, struct.size, members)

    def _nested(self, struct: Struct) -> Any:
        """A structure inside another, also one that is not found by name."""
        name = f"struct {struct.name}"
        if name not in self._made and name not in _SPECIAL and struct.name not in STRUCTS:
            self._made[name] = self._struct(struct)
        return self.get(name)

    def field(self, struct: Struct, field: Field) -> Any:
        """Type of one field of a structure."""
        nested = struct.nested.get(field.name)
        if nested is not None:
            element = self._nested(nested)
        elif field.ctype == "unsigned char[4]":
            return self.prog.array_type(self.get("unsigned char"), 4)
        elif field.ctype.startswith("char["):
            return self.prog.array_type(self.get("char"), field.words * field.count * 8)
        elif field.ctype.endswith("*"):
            element = self.pointer(field.ctype)
        elif field.count > 1 and field.ctype in _SMALL:
            element = self.get("long")
        else:
            element = self.get(field.ctype)
        return self.prog.array_type(element, field.count) if field.count > 1 else element

    def pointer(self, ctype: str) -> Any:
        """A pointer type; to an incomplete structure where the target is not declared here."""
        target = ctype.removesuffix("*").strip().removeprefix("const ")
        try:
            return self.prog.pointer_type(self.get(target))
        except KeyError:
            tag = target.removeprefix("struct ")
            return self.prog.pointer_type(self.prog.struct_type(tag, None, None))

    def struct(self, tag: str | None, size: int, members: list[Member]) -> Any:
        """A structure of `size` bytes from (type or how to get it, name, byte offset)."""
        import drgn

        made = [drgn.TypeMember(kind, name, offset * 8) for kind, name, offset in members]
        return self.prog.struct_type(tag, size, made)

    def union(self, size: int, members: list[Member]) -> Any:
        """An anonymous union of `size` bytes from (type, name, 0)."""
        import drgn

        made = [drgn.TypeMember(kind, name, offset * 8) for kind, name, offset in members]
        return self.prog.union_type(None, size, made)

    def page(self) -> Any:
        """struct page of 4.20."""
        ulong, void_pointer = (
            self.get("unsigned long"),
            self.prog.pointer_type(self.prog.void_type()),
        )
        cache = self.struct(
            None,
            32,
            [
                (self.get("struct list_head"), "lru", 0),
                (self.pointer("struct address_space *"), "mapping", 16),
                (ulong, "index", 24),
            ],
        )
        private = self.struct(None, 40, [(cache, None, 0), (ulong, "private", 32)])
        tail = self.struct(
            None,
            40,
            [
                (ulong, "compound_head", 0),
                (self.get("unsigned char"), "compound_dtor", 8),
                (self.get("unsigned char"), "compound_order", 9),
                (self.get("atomic_t"), "compound_mapcount", 12),
            ],
        )
        slab = self.struct(None, 40, [(void_pointer, "freelist", 16), (void_pointer, "s_mem", 24)])
        first = self.union(40, [(private, None, 0), (tail, None, 0), (slab, None, 0)])
        counts = self.union(
            4,
            [(self.get("atomic_t"), "_mapcount", 0), (self.get("unsigned int"), "page_type", 0)],
        )
        return self.struct(
            "page",
            PAGE.size,
            [
                (ulong, "flags", 0),
                (first, None, 8),
                (counts, None, 48),
                (self.get("atomic_t"), "_refcount", 52),
                (partial(self.pointer, "struct mem_cgroup *"), "mem_cgroup", 56),
            ],
        )


def _bits(types: Types, name: str, count: int) -> Any:
    ulong = types.get("unsigned long")
    array = types.prog.array_type(ulong, max(count // 64, 1))
    return types.struct(name, max(count // 8, 8), [(array, "bits", 0)])


_SPECIAL: dict[str, Any] = {
    "struct list_head": lambda types: types.struct(
        "list_head",
        16,
        [
            (partial(types.pointer, "struct list_head *"), "next", 0),
            (partial(types.pointer, "struct list_head *"), "prev", 8),
        ],
    ),
    "atomic_t": lambda types: types.prog.typedef_type(
        "atomic_t", types.struct(None, 4, [(types.get("int"), "counter", 0)])
    ),
    "atomic_long_t": lambda types: types.prog.typedef_type(
        "atomic_long_t", types.struct(None, 8, [(types.get("long"), "counter", 0)])
    ),
    "spinlock_t": lambda types: types.prog.typedef_type(
        "spinlock_t", types.struct("spinlock", 4, [(types.get("unsigned int"), "val", 0)])
    ),
    "nodemask_t": lambda types: types.prog.typedef_type(
        "nodemask_t", _bits(types, "nodemask", MAX_NUMNODES)
    ),
    "struct cpumask": lambda types: _bits(types, "cpumask", 256),
    "enum memblock_flags": lambda types: types.prog.enum_type(
        "memblock_flags", types.get("unsigned int"), []
    ),
    "struct vm_event_state": lambda types: types.struct(
        "vm_event_state",
        NR_VM_EVENT_ITEMS * 8,
        [(types.prog.array_type(types.get("unsigned long"), NR_VM_EVENT_ITEMS), "event", 0)],
    ),
    "pgd_t": lambda types: types.prog.typedef_type(
        "pgd_t", types.struct(None, 8, [(types.get("unsigned long"), "pgd", 0)])
    ),
    "pgprot_t": lambda types: types.prog.typedef_type(
        "pgprot_t", types.struct(None, 8, [(types.get("unsigned long"), "pgprot", 0)])
    ),
    "struct rb_root": lambda types: types.struct(
        "rb_root", 8, [(partial(types.pointer, "struct rb_node *"), "rb_node", 0)]
    ),
    "struct kmem_cache_order_objects": lambda types: types.struct(
        "kmem_cache_order_objects", 4, [(types.get("unsigned int"), "x", 0)]
    ),
    "struct memblock_type": lambda types: types.struct(
        "memblock_type",
        16,
        [
            (types.get("unsigned long"), "cnt", 0),
            (types.pointer("struct memblock_region *"), "regions", 8),
        ],
    ),
    "struct memblock": lambda types: types.struct(
        "memblock",
        48,
        [
            (types.get("bool"), "bottom_up", 0),
            (types.get("phys_addr_t"), "current_limit", 8),
            (types.get("struct memblock_type"), "memory", 16),
            (types.get("struct memblock_type"), "reserved", 32),
        ],
    ),
}
