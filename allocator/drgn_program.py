# SPDX-License-Identifier: GPL-2.0-only
"""A real `drgn.Program` over guest RAM, so that drgn scripts and its own helpers run on the guest.

`to_drgn(kernel)` tells drgn that this is a Linux kernel (vmcoreinfo, x86-64), gives it the guest's
physical memory, and answers its questions for types (`drgn_types`) and for variables. The direct
map and vmemmap are read as what they stand for; every other address goes through drgn's own walk of
the guest's page tables. All is read live: the program shows the guest as it is at that moment.

Variables that Linux has and this kernel keeps elsewhere or sums up (node_states, vm_zone_stat, the
CPU masks ...) lie in a made-up page of virtual memory that is computed when it is read.
`global_vm_event_state()` is the one helper of drgn's vmstat module that works on machines of one
CPU only: 4.20's per-cpu areas have one stride, ours have two. drgn is an extra, imported only
here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from machine import PhysicalMemory, UsageError

from .drgn_types import Types
from .helpers.nodemask import NODE_STATE_NAMES, for_each_online_cpu, node_state_mask
from .helpers.prog import words
from .helpers.vmstat import global_numa_state
from .kernel_globals import (
    G_MEMBLOCK_BOTTOM_UP,
    G_MEMBLOCK_LIMIT,
    G_MEMBLOCK_MEMORY_CNT,
    G_MEMBLOCK_RESERVED_CNT,
    G_NR_CPU_IDS,
    G_PGD,
    GLOBALS,
    KDATA,
)
from .layout import (
    CPU_BLOCKS,
    CPU_EVENTS,
    MAX_PHYSMEM_BITS,
    MEM_SECTIONS,
    MEMBLOCK_MEMORY,
    MEMBLOCK_RESERVED,
    NODE_DATA,
    NR_MEM_SECTIONS,
    PAGE_OFFSET,
    PFN_SECTION_SHIFT,
    SECTION_PAGES,
    SECTION_SHIFT,
    VMEMMAP_START,
    unsigned,
    va_of_word,
    word_of_va,
)
from .mm_struct import MM_PGD, MM_STRUCT
from .mm_types import PAGE_SHIFT, PAGE_SIZE, STRUCT_PAGE_SIZE
from .mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MAX_ORDER,
    ND_VM_STAT,
    NR_CPUS,
    NR_VM_NODE_STAT_ITEMS,
    NR_VM_NUMA_STAT_ITEMS,
    NR_VM_ZONE_STAT_ITEMS,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    PSET_WORDS,
    Z_VM_STAT,
    ZONE_WORDS,
)
from .views import pfn_valid

if TYPE_CHECKING:
    from .kernel import Kernel

START_KERNEL_MAP = 0xFFFFFFFF80000000
MADE_UP = 0xFFFFFFFFC0000000
"""Virtual address of the made-up variables (where modules would be)."""
_DIRECT = unsigned(PAGE_OFFSET)
_VMEMMAP = unsigned(VMEMMAP_START)
_RELEASE = "4.20.0-numalab"
_CONSTANTS: dict[str, tuple[str, int]] = {
    "PAGE_SHIFT": ("int", PAGE_SHIFT),
    "PAGE_SIZE": ("unsigned long", PAGE_SIZE),
    "SECTIONS_PER_ROOT": ("unsigned long", 1),
    "NR_SECTION_ROOTS": ("unsigned long", NR_MEM_SECTIONS),
    "SECTION_SIZE_BITS": ("int", SECTION_SHIFT),
    "MAX_PHYSMEM_BITS": ("int", MAX_PHYSMEM_BITS),
    "MAX_ORDER": ("int", MAX_ORDER),
    "MAX_NR_ZONES": ("int", MAX_NR_ZONES),
    "MAX_NUMNODES": ("int", MAX_NUMNODES),
    "pageblock_order": ("int", PAGEBLOCK_ORDER),
    "pageblock_nr_pages": ("unsigned long", PAGEBLOCK_NR_PAGES),
}


def vmcoreinfo(m: memoryview) -> bytes:
    """What the kernel would tell a crash dump about itself, as far as drgn asks."""
    root = START_KERNEL_MAP + (unsigned(m[G_PGD]) & ~0xFFF)
    lines = {
        "OSRELEASE": _RELEASE,
        "PAGESIZE": str(PAGE_SIZE),
        "SYMBOL(swapper_pg_dir)": f"{root:x}",
        "LENGTH(mem_section)": str(NR_MEM_SECTIONS),
        "NUMBER(SECTION_SIZE_BITS)": str(SECTION_SHIFT),
        "NUMBER(MAX_PHYSMEM_BITS)": str(MAX_PHYSMEM_BITS),
        "NUMBER(phys_base)": "0",
        "NUMBER(pgtable_l5_enabled)": "0",
        "KERNELOFFSET": "0",
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items()).encode()


class _Reader:
    """Reads for drgn: physical memory, and the two ways the kernel sees it."""

    def __init__(self, memory: PhysicalMemory, fault: type[Exception]) -> None:
        self.memory = memory
        self.m = memory.words
        self._fault = fault

    def physical(self, address: int, count: int, offset: int, is_physical: bool) -> bytes:  # noqa: ARG002
        if not self.memory.is_ram(address, count):
            raise self._fault("no RAM is there", address)
        return bytes(self.memory.bytes[address : address + count])

    def direct(self, address: int, count: int, offset: int, is_physical: bool) -> bytes:
        return self.physical(address - _DIRECT, count, offset, is_physical)

    def vmemmap(self, address: int, count: int, offset: int, is_physical: bool) -> bytes:
        out = bytearray()
        while count:
            pfn, byte = divmod(address - _VMEMMAP, STRUCT_PAGE_SIZE)
            step = min(count, STRUCT_PAGE_SIZE - byte)
            if not pfn_valid(self.m, pfn):
                raise self._fault("no memory section is present there", address)
            word = self.m[SECTION_PAGES + (pfn >> PFN_SECTION_SHIFT << 2)] + (pfn << 3)
            out += self.physical((word << 3) + byte, step, offset, is_physical)
            address, count = address + step, count - step
        return bytes(out)


class _MadeUp:
    """Variables of Linux that are computed when they are read: type name, elements, bytes."""

    def __init__(self, m: memoryview) -> None:
        self.m = m
        self.places: dict[str, tuple[int, str, int, Callable[[], bytes]]] = {}
        self.end = 0
        cpus = m[G_NR_CPU_IDS]
        self._add("page_offset_base", "unsigned long", 0, 8, lambda: _pack([PAGE_OFFSET]))
        self._add("vmemmap_base", "unsigned long", 0, 8, lambda: _pack([VMEMMAP_START]))
        states = len(NODE_STATE_NAMES)
        self._add("node_states", "nodemask_t", states, 8 * states, self._node_states)
        for name, count, read in (
            ("vm_zone_stat", NR_VM_ZONE_STAT_ITEMS, self._zone_stat),
            ("vm_numa_stat", NR_VM_NUMA_STAT_ITEMS, self._numa_stat),
            ("vm_node_stat", NR_VM_NODE_STAT_ITEMS, self._node_stat),
        ):
            self._add(name, "atomic_long_t", count, 8 * count, read)
        for name in ("__cpu_online_mask", "__cpu_present_mask", "__cpu_possible_mask"):
            online = name == "__cpu_online_mask"
            self._add(name, "struct cpumask", 0, NR_CPUS // 8, self._cpu_mask(online))
        self._add(
            "__per_cpu_offset",
            "unsigned long",
            max(cpus, 1),
            8 * max(cpus, 1),
            lambda: _pack([cpu * PSET_WORDS * 8 for cpu in range(max(cpus, 1))]),
        )
        self._add("nr_node_ids", "int", 0, 8, lambda: _pack([self._nr_node_ids()]))
        self._add("memblock", "struct memblock", 0, 48, self._memblock)
        self._add("init_mm", "struct mm_struct", 0, MM_STRUCT.size, self._init_mm)

    def _add(self, name: str, ctype: str, count: int, size: int, read: Callable[[], bytes]) -> None:
        self.places[name] = (MADE_UP + self.end, ctype, count, read)
        self.end += size

    def read(self, address: int, count: int, offset: int, is_physical: bool) -> bytes:  # noqa: ARG002
        image = b"".join(read() for _, _, _, read in self.places.values())
        start = address - MADE_UP
        return image[start : start + count].ljust(count, b"\0")

    def _node_states(self) -> bytes:
        return _pack([node_state_mask(self.m, i) for i in range(len(NODE_STATE_NAMES))])

    def _nodes(self) -> list[int]:
        m = self.m
        return [word_of_va(m[NODE_DATA + nid]) for nid in range(MAX_NUMNODES) if m[NODE_DATA + nid]]

    def _nr_node_ids(self) -> int:
        return node_state_mask(self.m, 0).bit_length()

    def _zone_stat(self) -> bytes:
        zones = [nd + zid * ZONE_WORDS for nd in self._nodes() for zid in range(MAX_NR_ZONES)]
        items = range(NR_VM_ZONE_STAT_ITEMS)
        return _pack([sum(self.m[z + Z_VM_STAT + item] for z in zones) for item in items])

    def _numa_stat(self) -> bytes:
        return _pack([global_numa_state(self.m, i) for i in range(NR_VM_NUMA_STAT_ITEMS)])

    def _node_stat(self) -> bytes:
        items = range(NR_VM_NODE_STAT_ITEMS)
        return _pack([sum(self.m[nd + ND_VM_STAT + i] for nd in self._nodes()) for i in items])

    def _cpu_mask(self, online: bool) -> Callable[[], bytes]:
        def read() -> bytes:
            cpus = for_each_online_cpu(self.m) if online else range(self.m[G_NR_CPU_IDS])
            return sum(1 << cpu for cpu in cpus).to_bytes(NR_CPUS // 8, "little")

        return read

    def _memblock(self) -> bytes:
        m = self.m
        return _pack(
            [
                m[G_MEMBLOCK_BOTTOM_UP],
                m[G_MEMBLOCK_LIMIT],
                m[G_MEMBLOCK_MEMORY_CNT],
                va_of_word(MEMBLOCK_MEMORY),
                m[G_MEMBLOCK_RESERVED_CNT],
                va_of_word(MEMBLOCK_RESERVED),
            ]
        )

    def _init_mm(self) -> bytes:
        words = [0] * (MM_STRUCT.size // 8)
        words[MM_PGD] = START_KERNEL_MAP + (unsigned(self.m[G_PGD]) & ~0xFFF)
        return _pack(words)


def _pack(values: list[int]) -> bytes:
    return struct.pack(f"<{len(values)}Q", *(unsigned(value) for value in values))


class _Objects:
    """Answers drgn's questions for variables and constants."""

    def __init__(self, types: Types, made_up: _MadeUp) -> None:
        self.types = types
        self.made_up = made_up

    def find(self, prog: Any, name: str, flags: Any, filename: str | None) -> Any:  # noqa: ARG002
        """drgn's object finder."""
        import drgn

        if flags & drgn.FindObjectFlags.CONSTANT:
            if name in _CONSTANTS:
                kind, value = _CONSTANTS[name]
                return drgn.Object(prog, self.types.get(kind), value)
            if name == "vmemmap":
                return drgn.Object(prog, self.types.pointer("struct page *"), _VMEMMAP)
            found = self.types.enumerator(name)
            if found is not None:
                return found
        if flags & drgn.FindObjectFlags.VARIABLE:
            return self._variable(prog, name)
        return None

    def _variable(self, prog: Any, name: str) -> Any:
        import drgn

        if name in self.made_up.places:
            address, ctype, count, _ = self.made_up.places[name]
            kind = self.types.get(ctype)
            kind = prog.array_type(kind, count) if count else kind
            return drgn.Object(prog, kind, address=address)
        if name == "node_data":
            kind = prog.array_type(self.types.pointer("struct pglist_data *"), MAX_NUMNODES)
            return drgn.Object(prog, kind, address=unsigned(va_of_word(NODE_DATA)))
        if name == "mem_section":
            kind = prog.array_type(self.types.get("struct mem_section"), 1)
            kind = prog.array_type(kind, NR_MEM_SECTIONS)
            return drgn.Object(prog, kind, address=unsigned(va_of_word(MEM_SECTIONS)))
        if name == "vm_event_states" and self.made_up.m[G_NR_CPU_IDS] == 1:
            at = unsigned(va_of_word(CPU_BLOCKS + CPU_EVENTS))
            return drgn.Object(prog, self.types.get("struct vm_event_state"), address=at)
        field = GLOBALS.fields.get(name)
        if field is not None:
            at = unsigned(va_of_word(KDATA + field.offset))
            return drgn.Object(prog, self.types.field(GLOBALS, field), address=at)
        return None


def to_drgn(kernel: Kernel | PhysicalMemory) -> Any:
    """A `drgn.Program` that looks into the guest: `prog["node_data"][0].node_zones[1]`.

    Raises:
        UsageError: drgn is not installed, or too old to take a kernel from a program.
    """
    try:
        import drgn
    except ImportError:
        raise UsageError("drgn is not installed: pip install 'numalab[drgn]'") from None
    memory = kernel if isinstance(kernel, PhysicalMemory) else kernel.memory
    m = words(memory.words)
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    if not hasattr(prog, "set_linux_kernel_custom"):
        raise UsageError(f"drgn {drgn.__version__} is too old: 0.3 or newer is needed")
    types, made_up, reader = Types(prog), _MadeUp(m), _Reader(memory, drgn.FaultError)

    def find_type(_: Any, kinds: Any, name: str, filename: str | None) -> Any:  # noqa: ARG001
        for kind, word in _KINDS:
            if getattr(drgn.TypeKind, kind) in kinds:
                found = types.find(word, name)
                if found is not None and found.kind in kinds:
                    return found
        return None

    prog.register_type_finder("numalab", find_type, enable_index=0)
    prog.register_object_finder("numalab", _Objects(types, made_up).find, enable_index=0)
    prog.set_linux_kernel_custom(vmcoreinfo(m), True)
    prog.set_enabled_object_finders(
        ["numalab", *(name for name in prog.enabled_object_finders() if name != "numalab")]
    )
    for start, end in memory.extents:
        prog.add_memory_segment(start, end - start, reader.physical, True)
    prog.add_memory_segment(_DIRECT, memory.size, reader.direct)
    prog.add_memory_segment(
        _VMEMMAP, (memory.size >> PAGE_SHIFT) * STRUCT_PAGE_SIZE, reader.vmemmap
    )
    prog.add_memory_segment(MADE_UP, max(made_up.end, 8), made_up.read)
    return prog


_KINDS = (
    ("STRUCT", "struct"),
    ("UNION", "union"),
    ("ENUM", "enum"),
    ("TYPEDEF", ""),
    ("INT", ""),
    ("BOOL", ""),
)
