# SPDX-License-Identifier: GPL-2.0-only
"""The log ring as text: bad pages, failed allocations and warnings in the kernel's words.

The hot path leaves numbers; here they become what printk would have said (bad_page, __dump_page,
warn_alloc, WARN_ON_ONCE, page poisoning, fault injection of 4.20). A report tells the state of its
moment, so it is decoded from the record alone: the struct page comes from the LOG_RAW_PAGE record
that follows it. Only what no record holds is read from RAM as it is now: the owner of a bad page
(page_owner=on), its compound map count, the cpuset's name, and, if asked for, Mem-Info.

Pointers are printed as they are, `%p` included. There are no modules and no call trace to print.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .cpuset_fs import cpuset_name, task_cs
from .gfp import GFP_MOVABLE_MASK, GFP_MOVABLE_SHIFT, format_gfp
from .kernel_globals import G_LOG_HEAD, G_MOBILITY_DISABLED, G_STATIC_KEYS, KEY_PAGE_OWNER
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    LOG_RECORDS,
    LOG_RING,
    PAGE_OFFSET,
    RECORD_WORDS,
    SECTION_PAGES,
    VMEMMAP_START,
    unsigned,
)
from .memory_failure_report import failure_line
from .mm_types import (
    COMPOUND_MAPCOUNT_SHIFT,
    NR_PAGEFLAGS,
    P_COUNTS,
    P_FLAGS,
    P_INDEX,
    P_MAPPING,
    P_MEMCG,
    P_NEXT,
    P_PREV,
    PAGE_FLAG_NAMES,
    PG_HEAD,
    PG_SLAB,
    REF_SHIFT,
)
from .mmzone import MAX_NUMNODES, MIGRATETYPE_NAMES
from .oom_report import OOM_RECORDS, oom_lines
from .page_check import (
    BAD_COMPOUND_HEAD,
    BAD_COMPOUND_MAPCOUNT,
    BAD_COMPOUND_ORDER,
    BAD_DOUBLE_FREE,
    BAD_FLAGS_FREE,
    BAD_FLAGS_NEW,
    BAD_FREE_OF_TAIL,
    BAD_HWPOISON,
    BAD_MAPCOUNT,
    BAD_MAPPING,
    BAD_MEMCG,
    BAD_ON_LIST,
    BAD_PFN,
    BAD_REFCOUNT_FREE,
    BAD_REFCOUNT_NEW,
    BAD_TAIL_MAPPING,
    BAD_TAIL_NOT_SET,
    BAD_UNALIGNED,
)
from .page_owner import page_owner_of
from .page_poison import corrupted_bytes
from .show_mem import show_mem
from .trace_events import (
    LOG_BAD_PAGE,
    LOG_COMM,
    LOG_FAULT_INJECTED,
    LOG_MEMORY_FAILURE,
    LOG_MEMS,
    LOG_OOM_INVOKED,
    LOG_PAGE_POISON,
    LOG_PID,
    LOG_RAW_PAGE,
    LOG_WARN_ALLOC,
    LOG_WARN_ONCE_NOFAIL_ORDER,
    LOG_WARN_ONCE_NOFAIL_WAIT,
    LOG_WARN_ONCE_ORDER,
)
from .tracepoints import comm_text

# 4.20's words; from BAD_DOUBLE_FREE on what VM_BUG_ON_PAGE or nothing says there
BAD_REASONS = {
    BAD_MAPCOUNT: "nonzero mapcount",
    BAD_MAPPING: "non-NULL mapping",
    BAD_REFCOUNT_FREE: "nonzero _refcount",
    BAD_FLAGS_FREE: "PAGE_FLAGS_CHECK_AT_FREE flag(s) set",
    BAD_MEMCG: "page still charged to cgroup",
    BAD_REFCOUNT_NEW: "nonzero _count",
    BAD_FLAGS_NEW: "PAGE_FLAGS_CHECK_AT_PREP flag set",
    BAD_HWPOISON: "HWPoisoned (hardware-corrupted)",
    BAD_COMPOUND_MAPCOUNT: "nonzero compound_mapcount",
    BAD_TAIL_MAPPING: "corrupted mapping in tail page",
    BAD_TAIL_NOT_SET: "PageTail not set",
    BAD_COMPOUND_HEAD: "compound_head not consistent",
    BAD_DOUBLE_FREE: "VM_BUG_ON_PAGE(page_ref_count(page) == 0)",
    BAD_FREE_OF_TAIL: "VM_BUG_ON_PAGE(PageTail(page))",
    BAD_COMPOUND_ORDER: "VM_BUG_ON_PAGE(compound && compound_order(page) != order)",
    BAD_ON_LIST: "page is on a free list",
    BAD_UNALIGNED: "VM_BUG_ON_PAGE(pfn & ((1 << order) - 1))",
    BAD_PFN: "no such page frame",
}
PRINT_FLAGS = (0, 7, 8, 1, 2, 3, 4, 5, 6, *range(9, NR_PAGEFLAGS))
MIGRATE_REASONS = (
    "compaction",
    "memory_failure",
    "memory_hotplug",
    "syscall_or_cpuset",
    "mempolicy_mbind",
    "numa_misplaced",
    "cma",
)
# Where the WARN_ON_ONCEs are in 4.20.1's mm/page_alloc.c
WARNINGS = {
    LOG_WARN_ONCE_ORDER: (4361, "__alloc_pages_nodemask"),
    LOG_WARN_ONCE_NOFAIL_ORDER: (3003, "rmqueue"),
    LOG_WARN_ONCE_NOFAIL_WAIT: (4259, "__alloc_pages_slowpath"),
}
CUT_HERE = "------------[ cut here ]------------"


@dataclass(frozen=True)
class LogRecord:
    """One record of the log ring: number, time (ns), kind, CPU, all sixteen words."""

    seq: int
    time: int
    kind: int
    cpu: int
    words: tuple[int, ...]

    @property
    def args(self) -> tuple[int, ...]:
        """The six arguments."""
        return self.words[3:9]

    @property
    def comm(self) -> str:
        """Name of the task that was current."""
        return comm_text(self.words[LOG_COMM : LOG_COMM + 2])


def log_records(m: memoryview, first: int = 0) -> Iterator[LogRecord]:
    """The records still in the ring from number `first` on, oldest first."""
    head = m[G_LOG_HEAD]
    for seq in range(max(first, head - LOG_RECORDS, 0), head):
        r = LOG_RING + (seq & (LOG_RECORDS - 1)) * RECORD_WORDS
        words = tuple(m[r + i] for i in range(RECORD_WORDS))
        yield LogRecord(seq, words[0], words[1], words[2], words)


def hex_ptr(value: int) -> str:
    """`%px`: sixteen hex digits."""
    return f"{unsigned(value):016x}"


def format_page_flags(flags: int) -> str:
    """`%pGp`: the names of a page's flags, zone and node bits left out."""
    flags = unsigned(flags) & (1 << NR_PAGEFLAGS) - 1
    return "|".join(PAGE_FLAG_NAMES[bit] for bit in PRINT_FLAGS if flags >> bit & 1)


def signed32(value: int) -> int:
    """The low 32 bits as C's int."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def node_list(mask: int) -> str:
    """`%*pbl` of a nodemask: 0-1,3; `(null)` is the caller's."""
    bits = [nid for nid in range(MAX_NUMNODES) if mask >> nid & 1]
    parts: list[str] = []
    for nid in bits:
        if nid - 1 in bits:
            if nid + 1 not in bits:
                parts[-1] += f"-{nid}"
        else:
            parts.append(str(nid))
    return ",".join(parts)


def dump_page(m: memoryview, pfn: int, raw: tuple[int, ...], reason: str | None) -> Iterator[str]:
    """__dump_page() of a struct page given as its eight words."""
    flags = raw[P_FLAGS]
    mapcount = 0 if flags & PG_SLAB else signed32(raw[P_COUNTS]) + 1
    compound = ""
    head = pfn if flags & PG_HEAD else (raw[P_NEXT] - 1 - VMEMMAP_START) >> 6
    if (flags & PG_HEAD or raw[P_NEXT] & 1) and 0 <= head < 1 << 30:
        base = m[SECTION_PAGES + (head >> 15 << 2)]
        if base:
            whole = (m[base + ((head + 1) << 3) + P_PREV] >> COMPOUND_MAPCOUNT_SHIFT) + 1
            mapcount += whole
            compound = f" compound_mapcount: {whole}"
    yield (
        f"page:{hex_ptr(VMEMMAP_START + (pfn << 6))} count:{signed32(raw[P_COUNTS] >> REF_SHIFT)} "
        f"mapcount:{mapcount} mapping:{hex_ptr(raw[P_MAPPING])} "
        f"index:{unsigned(raw[P_INDEX]):#x}{compound}"
    )
    yield f"flags: {unsigned(flags):#x}({format_page_flags(flags)})"
    for i in (0, 4):
        yield "raw: " + " ".join(hex_ptr(word) for word in raw[i : i + 4])
    if reason:
        yield f"page dumped because: {reason}"
    if raw[P_MEMCG]:
        yield f"page->mem_cgroup:{hex_ptr(raw[P_MEMCG])}"


def dump_page_owner(m: memoryview, pfn: int) -> Iterator[str]:
    """__dump_page_owner(), with the place that asked for the page instead of a call trace."""
    order, gfp, reason, handle, _ = page_owner_of(m, pfn)
    if order < 0:
        yield "page_owner info is not active (free page?)"
        return
    mt = 0 if m[G_MOBILITY_DISABLED] else (gfp & GFP_MOVABLE_MASK) >> GFP_MOVABLE_SHIFT
    name = MIGRATETYPE_NAMES[min(mt, 3)]
    yield (
        f"page allocated via order {order}, migratetype {name}, "
        f"gfp_mask {gfp:#x}({format_gfp(gfp)})"
    )
    if handle:
        yield f" {unsigned(handle):#x}"
    if 0 <= reason < len(MIGRATE_REASONS):
        yield f"page has been migrated, last migrate reason: {MIGRATE_REASONS[reason]}"


def raw_page(m: memoryview, record: LogRecord) -> tuple[int, ...]:
    """The struct page of a bad-page report: from the next record, else from its arguments."""
    follower = next(log_records(m, record.seq + 1), None)
    pfn, _, _, flags, counts, mapping = record.args
    if follower and follower.kind == LOG_RAW_PAGE and follower.words[3] == pfn:
        return follower.words[4:12]
    base = m[SECTION_PAGES + (pfn >> 15 << 2)] if 0 <= pfn < 1 << 30 else 0
    raw = [m[base + (pfn << 3) + i] for i in range(8)] if base else [0] * 8
    raw[P_FLAGS], raw[P_COUNTS], raw[P_MAPPING] = flags, counts, mapping
    return tuple(raw)


def report_bad_page(m: memoryview, record: LogRecord) -> Iterator[str]:
    """bad_page()."""
    pfn, reason, bad_flags = record.args[:3]
    raw = raw_page(m, record)
    yield f"BUG: Bad page state in process {record.comm}  pfn:{pfn:05x}"
    yield from dump_page(m, pfn, raw, BAD_REASONS.get(reason))
    bad_flags &= raw[P_FLAGS]
    if bad_flags:
        yield f"bad because of flags: {unsigned(bad_flags):#x}({format_page_flags(bad_flags)})"
    if m[G_STATIC_KEYS] & KEY_PAGE_OWNER:
        yield from dump_page_owner(m, pfn)


def report_warn_alloc(m: memoryview, record: LogRecord) -> Iterator[str]:
    """warn_alloc(), up to where it would dump the stack."""
    order, gfp, nodemask = record.args[:3]
    mask = node_list(nodemask) if nodemask else "(null)"
    yield (
        f"{record.comm}: page allocation failure: order:{order}, "
        f"mode:{gfp:#x}({format_gfp(gfp)}), nodemask={mask}"
    )
    current = m[CPU_BLOCKS + record.cpu * CPU_WORDS + CPU_CURRENT]
    name = cpuset_name(m, task_cs(m, (current - PAGE_OFFSET) >> 3)) if current else ""
    mems = node_list(record.words[LOG_MEMS])
    yield f"{record.comm} cpuset={name or '/'} mems_allowed={mems}"


def report_warning(record: LogRecord) -> Iterator[str]:
    """A WARN_ON_ONCE of the allocator."""
    line, function = WARNINGS[record.kind]
    yield CUT_HERE
    yield (
        f"WARNING: CPU: {record.cpu} PID: {record.words[LOG_PID]} at mm/page_alloc.c:{line} "
        f"{function}"
    )


def report_poison(m: memoryview, record: LogRecord) -> Iterator[str]:
    """check_poison_mem(): the verdict and a hex dump of the damage."""
    address, _, single = record.args[:3]
    yield "pagealloc: single bit error" if single else "pagealloc: memory corruption"
    data = corrupted_bytes(m, record.seq)
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        yield f"{hex_ptr(address + at)}: {row.hex(' '):<48} {text}"


def report_fault(record: LogRecord) -> Iterator[str]:
    """fail_dump()."""
    interval, probability, space, times = record.args[:4]
    yield "FAULT_INJECTION: forcing a failure."
    yield (
        f"name fail_page_alloc, interval {unsigned(interval)}, "
        f"probability {unsigned(probability)}, space {space}, times {times}"
    )


def report(m: memoryview, record: LogRecord, mem_info: bool = False) -> Iterator[str]:
    """The lines of one record; none for the records that only continue another.

    `mem_info`: let warn_alloc be followed by Mem-Info, as memory is now.
    """
    if record.kind == LOG_BAD_PAGE:
        yield from report_bad_page(m, record)
    elif record.kind == LOG_WARN_ALLOC:
        yield from report_warn_alloc(m, record)
        if mem_info:
            yield from show_mem(m, record.cpu)
    elif record.kind in WARNINGS:
        yield from report_warning(record)
    elif record.kind == LOG_PAGE_POISON:
        yield from report_poison(m, record)
    elif record.kind == LOG_FAULT_INJECTED:
        yield from report_fault(record)
    elif record.kind == LOG_MEMORY_FAILURE:
        names = format_page_flags(record.args[3])
        yield failure_line(record.args, record.words[LOG_PID], record.comm, names)
    elif record.kind in OOM_RECORDS:
        mask = node_list(record.args[2]) if record.args[2] else "(null)"
        pid = record.words[LOG_PID]
        yield from oom_lines(record.kind, record.args, pid, record.comm, mask)
        if mem_info and record.kind == LOG_OOM_INVOKED:
            yield from show_mem(m, record.cpu)


def log_lines(m: memoryview, first: int = 0, mem_info: bool = False) -> Iterator[str]:
    """The log ring as dmesg shows it, `[seconds.microseconds] text` (times of the modelled clock).

    `mem_info`: as for `report`.
    """
    for record in log_records(m, first):
        micros = record.time // 1000
        stamp = f"[{micros // 1_000_000:5}.{micros % 1_000_000:06}] "
        for line in report(m, record, mem_info):
            yield stamp + line
