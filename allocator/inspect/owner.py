# SPDX-License-Identifier: GPL-2.0-only
"""`owner`: whose frame is this, by name.

A frame in use belongs to a slab cache, a file, the swap cache, processes that map it, a process's
page tables or kernel stack, network buffers, a table that a global points to, or to somebody who
asked for it and left no name (boot scripts that allocate pages are of that kind). `Owners` reads
all of this out of RAM once and then names frames; `owner` shows one frame, or how many frames each
owner has.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from machine import PhysicalMemory

from ..address_space import AOPS_FILE, AOPS_SHMEM, AS_A_OPS, AS_HOST
from ..errors import BadRequest
from ..fs import (
    DENTRY_CHILD,
    DENTRY_INODE,
    DENTRY_NAME,
    INODE_INO,
    NAME_WORDS,
    SB_DENTRIES,
)
from ..kernel_globals import G_MAX_PFN, G_NETDEV_CACHES, G_NR_CPU_IDS, G_SUPER_BLOCK, GLOBALS, KDATA
from ..layout import (
    NR_MEM_SECTIONS,
    PAGE_OFFSET,
    SECTION_MEM_MAP,
    SECTION_PAGES,
    unsigned,
    va_of_word,
    word_of_va,
)
from ..mm_inline import PG_SWAPCACHE
from ..mm_types import (
    MAPCOUNT_MASK,
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    P_NEXT,
    P_PRIVATE,
    PAGE_MAPPING_FLAGS,
    PG_RESERVED,
    PG_SLAB,
    PG_TABLE_TYPE,
    REF_SHIFT,
)
from ..page_frag import NC_VA, PAGE_FRAG_CACHE, compound_head_pfn
from ..skbuff import SKB_CPU, SKB_HEAD, SKB_HEAD_FRAG, skb_next
from ..slab import kmem_cache_name, slab_caches
from ..swapops import swp_offset, swp_type
from ..views import Page, pfn_valid
from .fields import Json, Report, Table, cells
from .process_pages import (
    LEVELS,
    mapped_pages,
    page_tables,
    stack_pfn,
    task_name,
    task_pid,
    tasks,
)
from .symbols import parse_number

STACK_PAGES = 4
UNTYPED_POINTERS = ("memmap_index", "lru_pvecs", "swap_info")
MOST_NAMED = 4
"""Mappings of one frame that are named."""
FREE = "free, or inside a block that is not compound"
RESERVED = "reserved"
NAMELESS = "no known owner"


class Owners:
    """Names of all owners in the guest whose words are `m`."""

    def __init__(self, m: memoryview) -> None:
        self.m = m
        self.caches = {va_of_word(s): kmem_cache_name(m, s) for s in slab_caches(m)}
        self.files = self._file_names()
        self.mappings: dict[int, list[str]] = {}
        self.tables: dict[int, str] = {}
        self.stacks: dict[int, str] = {}
        self.globals = self._global_tables()
        self.packets = self._packet_blocks()
        for task in tasks(m):
            self._process(task)

    def _process(self, task: int) -> None:
        m = self.m
        who = f"{task_name(m, task)}[{task_pid(m, task)}]"
        first = stack_pfn(m, task)
        if first >= 0:
            for i in range(STACK_PAGES):
                self.stacks[first + i] = f"kernel stack of {who}"
        for pfn, level in page_tables(m, task):
            self.tables[pfn] = f"page table ({LEVELS[level]}) of {who}"
        for mapped in mapped_pages(m, task):
            for i in range(mapped.pages):
                at = f"{who} at {mapped.address + (i << 12):#x}"
                self.mappings.setdefault(mapped.pfn + i, []).append(at)

    def _file_names(self) -> dict[int, str]:
        """Names of the inodes in memory, by their address."""
        m = self.m
        names: dict[int, str] = {}
        if m[G_SUPER_BLOCK] == 0:
            return names
        head = word_of_va(m[G_SUPER_BLOCK]) + SB_DENTRIES
        va = m[head]
        while va != va_of_word(head) and len(names) < 1 << 16:
            dentry = word_of_va(va) - DENTRY_CHILD
            words = (unsigned(m[dentry + DENTRY_NAME + i]) for i in range(NAME_WORDS))
            raw = b"".join(word.to_bytes(8, "little") for word in words).split(b"\0")[0]
            names[m[dentry + DENTRY_INODE]] = raw.decode("utf-8", "replace")
            va = m[word_of_va(va)]
        return names

    def _packet_blocks(self) -> dict[int, str]:
        """Blocks of page fragments: those that CPUs hand out of, and those that packets lie in."""
        m = self.m
        found: dict[int, str] = {}
        if not m[G_NETDEV_CACHES]:
            return found
        blocks = [
            (m[word_of_va(m[G_NETDEV_CACHES]) + cpu * PAGE_FRAG_CACHE.words + NC_VA], cpu)
            for cpu in range(m[G_NR_CPU_IDS])
        ]
        skb = skb_next(m, 0)
        while skb and len(blocks) < 1 << 16:
            blocks.append(
                (m[skb + SKB_HEAD], m[skb + SKB_CPU]) if m[skb + SKB_HEAD_FRAG] else (0, 0)
            )
            skb = skb_next(m, skb)
        for va, cpu in blocks:
            head = compound_head_pfn(m, (va - PAGE_OFFSET) >> 12) if va else -1
            if head >= 0:
                found[head] = f"network buffers of cpu {cpu}"
        return found

    def _global_tables(self) -> dict[int, str]:
        """Frames that a kernel global points to the start of."""
        found: dict[int, str] = {}
        for field in GLOBALS:
            pointer = "*" in field.ctype or field.name in UNTYPED_POINTERS
            if field.words == 1 and pointer:
                for i in range(field.count):
                    va = self.m[KDATA + field.offset + i]
                    if va < 0 and not va & 0xFFF and (va - PAGE_OFFSET) >> 12 < 1 << 30:
                        found[(va - PAGE_OFFSET) >> 12] = f"kernel: {field.name}"
        return found

    # --- one frame --------------------------------------------------------------------------------

    def name(self, pfn: int) -> str:
        """The owner of a frame, with the place of the frame in what it owns."""
        m = self.m
        if not pfn_valid(m, pfn):
            raise BadRequest(f"frame {pfn:#x} has no struct page")
        head = compound_head_pfn(m, pfn)
        first = head if head >= 0 else pfn
        p = Page(m, first).word
        flags, counts, mapping = m[p + P_FLAGS], m[p + P_COUNTS], m[p + P_MAPPING]
        if flags & PG_SLAB:
            return f"slab {self.caches.get(mapping, 'of no cache')}"
        if pfn in self.stacks:
            return self.stacks[pfn]
        if pfn in self.tables:
            return self.tables[pfn]
        if counts & MAPCOUNT_MASK >= 0xF0000000 and not counts & PG_TABLE_TYPE:
            return "page table of no process"
        if mapping and not mapping & PAGE_MAPPING_FLAGS:
            return self._file_page(p, mapping, pfn)
        if flags & PG_SWAPCACHE:
            entry = m[p + P_PRIVATE]
            return f"swap cache, area {swp_type(entry)} slot {swp_offset(entry)}{self._mapped(pfn)}"
        if mapping & 1:
            return f"anonymous{self._mapped(pfn) or ', mapped by nobody'}"
        if first in self.packets:
            return self.packets[first]
        if first in self.globals:
            return self.globals[first]
        if flags & PG_RESERVED:
            return RESERVED
        if counts >> REF_SHIFT == 0:
            return FREE
        return NAMELESS

    def _file_page(self, p: int, mapping: int, pfn: int) -> str:
        m = self.m
        space = word_of_va(mapping)
        if 0 < space < len(m) - 16 and m[space + AS_A_OPS] == AOPS_SHMEM:
            return f"shared anonymous, offset {m[p + P_INDEX] << 12:#x}{self._mapped(pfn)}"
        if not 0 < space < len(m) - 16 or m[space + AS_A_OPS] != AOPS_FILE:
            return f"address space at {unsigned(mapping):#x}"
        host = m[space + AS_HOST]
        inode = word_of_va(host)
        unnamed = f"inode {m[inode + INODE_INO]}" if 0 < inode < len(m) else "?"
        name = self.files.get(host, unnamed)
        return f"file {name} offset {m[p + P_INDEX] << 12:#x}{self._mapped(pfn)}"

    def _mapped(self, pfn: int) -> str:
        at = self.mappings.get(pfn, [])
        more = f" and {len(at) - MOST_NAMED} more" if len(at) > MOST_NAMED else ""
        return (", " + ", ".join(at[:MOST_NAMED]) + more) if at else ""

    def kind(self, pfn: int) -> str:
        """The owner alone, for counting: as name(), without the place."""
        name = self.name(pfn)
        for word in (" offset ", ", ", " at "):
            name = name.split(word)[0]
        if name in ("anonymous", "shared anonymous"):
            users = {place.split(" at ")[0] for place in self.mappings.get(pfn, [])}
            return f"{name} of {', '.join(sorted(users))}" if users else name
        return name


def used_frames(memory: PhysicalMemory, m: memoryview) -> list[int]:
    """Frames in use that somebody asked for: referenced heads and their tails, no reserved ones."""
    found: list[int] = []
    for section in range(NR_MEM_SECTIONS):
        if not m[SECTION_MEM_MAP + (section << 2)]:
            continue
        first = m[SECTION_PAGES + (section << 2)] + (section << 18)
        rows = memory.q[first : first + (1 << 18)].reshape(-1, 8)
        held = rows[:, P_COUNTS] >> REF_SHIFT > 0
        held |= rows[:, P_NEXT] & 1 != 0
        held &= rows[:, P_FLAGS] & PG_RESERVED == 0
        found += (np.flatnonzero(held) + (section << 15)).tolist()
    return [pfn for pfn in found if pfn < m[G_MAX_PFN]]


def owner(memory: PhysicalMemory, args: list[str]) -> Report:
    """`owner [FRAME]`: one frame by number, or how many each owner has. Raises BadRequest."""
    if len(args) > 1:
        raise BadRequest("owner: one frame at most")
    m = memory.words
    owners = Owners(m)
    if args:
        pfn = parse_number(args[0])
        name = owners.name(pfn)
        return Report(f"frame {pfn:#x}: {name}\n", {"pfn": pfn, "owner": name})
    frames = set(used_frames(memory, m)) | set(owners.stacks)
    counts = Counter(owners.kind(pfn) for pfn in frames)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    data: dict[str, Json] = dict(ordered)
    text = "".join(f"{pages:8} {name}\n" for name, pages in ordered)
    rows = tuple(cells(name, pages) for name, pages in ordered)
    return Report(text, data, (Table("frames in use", ("owner", "pages"), rows),))
