# SPDX-License-Identifier: GPL-2.0-only
"""The trace ring as text: what `cat /sys/kernel/debug/tracing/trace` shows of the kmem events.

The six tracepoints of the kmem group come out byte for byte as TP_printk of
include/trace/events/kmem.h prints them, in lines as kernel/trace/trace_output.c lays them out:

    <task>-<pid> [cpu] flags seconds.microseconds: event: fields

With `irq_info=False` the flags column is left out, which is the layout (option noirq-info) that the
stock post-processing scripts of Documentation/trace/postprocess want. `%p` prints the true vmemmap
address of the struct page: there is no hashing secret here to hide it behind. The name of a task is
looked up by pid when the text is made, as the kernel does; pid 0 is `<idle>`, unknown ones `<...>`.

Those of the compaction, vmscan, oom, migrate and page_isolation groups are in `tracepoints_vm`.
The finer events of ours are no tracepoints of 4.20; `describe` prints them with their field names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .gfp import format_gfp
from .kernel_globals import (
    G_NR_CPU_IDS,
    G_NUM_ONLINE_CPUS,
    G_TRACE_BASE,
    G_TRACE_HEAD,
    G_TRACE_SIZE,
)
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    HARDIRQ_MASK,
    INIT_TASKS,
    NMI_MASK,
    PAGE_OFFSET,
    RECORD_WORDS,
    SOFTIRQ_OFFSET,
    TASK_COMM,
    TASK_PID,
    TASK_WORDS,
    VMEMMAP_START,
    unsigned,
)
from .mmzone import PAGEBLOCK_ORDER
from .trace_events import (
    EV_COMPACTION_BEGIN,
    EV_MM_PAGE_ALLOC,
    EV_MM_PAGE_ALLOC_EXTFRAG,
    EV_MM_PAGE_ALLOC_ZONE_LOCKED,
    EV_MM_PAGE_FREE,
    EV_MM_PAGE_FREE_BATCHED,
    EV_MM_PAGE_PCPU_DRAIN,
    EVENTS,
)
from .tracepoints_vm import FORMATS, NAMES

# Tracepoints that lie where the kernel has interrupts off
IRQS_OFF = frozenset(
    {
        EV_MM_PAGE_FREE_BATCHED,
        EV_MM_PAGE_ALLOC_ZONE_LOCKED,
        EV_MM_PAGE_PCPU_DRAIN,
        EV_MM_PAGE_ALLOC_EXTFRAG,
    }
)
NULL_POINTER = f"{'(null)':>16}"


@dataclass(frozen=True)
class TraceRecord:
    """One record of the ring: number, time (ns), event, CPU, arguments, and whose it was."""

    seq: int
    time: int
    event: int
    cpu: int
    args: tuple[int, ...]
    preempt_count: int
    pid: int


def trace_records(m: memoryview, first: int = 0) -> Iterator[TraceRecord]:
    """The records still in the ring from number `first` on, oldest first.

    A record whose event or CPU no longer makes sense (a guest wrote over the ring) is left out.
    """
    head, size, base = m[G_TRACE_HEAD], m[G_TRACE_SIZE], m[G_TRACE_BASE]
    if size <= 0 or size & (size - 1) or base < 0 or base + size * RECORD_WORDS > len(m):
        return
    for seq in range(max(first, head - size, 0), head):
        r = base + (seq & (size - 1)) * RECORD_WORDS
        event, cpu = m[r + 1], m[r + 2]
        if event in EVENTS and 0 <= cpu < max(m[G_NR_CPU_IDS], 1):
            args = tuple(m[r + 3 + i] for i in range(len(EVENTS[event][1])))
            known = event <= EV_MM_PAGE_ALLOC_EXTFRAG or event >= EV_COMPACTION_BEGIN
            preempt, pid = (m[r + 14], m[r + 15]) if known else (0, 0)
            yield TraceRecord(seq, m[r], event, cpu, args, preempt, pid)


def page_pointer(pfn: int) -> str:
    """`%p` of the struct page of `pfn`: 16 hex digits, or the padded `(null)` for -1."""
    return f"{unsigned(VMEMMAP_START + (pfn << 6)):016x}" if pfn >= 0 else NULL_POINTER


def page_fields(pfn: int) -> str:
    """`page=... pfn=...`, the beginning of every kmem event."""
    return f"page={page_pointer(pfn)} pfn={max(pfn, 0)}"


def format_kmem(event: int, args: tuple[int, ...]) -> str:
    """The fields of a kmem tracepoint as its TP_printk writes them."""
    if event == EV_MM_PAGE_ALLOC:
        pfn, order, gfp, mt = args
        return f"{page_fields(pfn)} order={order} migratetype={mt} gfp_flags={format_gfp(gfp)}"
    if event == EV_MM_PAGE_FREE:
        return f"{page_fields(args[0])} order={args[1]}"
    if event == EV_MM_PAGE_FREE_BATCHED:
        return f"{page_fields(args[0])} order=0"
    if event == EV_MM_PAGE_ALLOC_ZONE_LOCKED:
        pfn, order, mt = args
        refill = int(order == 0)
        return f"{page_fields(pfn)} order={order} migratetype={mt} percpu_refill={refill}"
    if event == EV_MM_PAGE_PCPU_DRAIN:
        pfn, order, mt = args
        return f"{page_fields(pfn)} order={order} migratetype={mt}"
    _, _, pfn, order, fallback_order, mt, fallback_mt, _, block_mt = args
    return (
        f"{page_fields(pfn)} alloc_order={order} fallback_order={fallback_order} "
        f"pageblock_order={PAGEBLOCK_ORDER} alloc_migratetype={mt} "
        f"fallback_migratetype={fallback_mt} fragmenting={int(fallback_order < PAGEBLOCK_ORDER)} "
        f"change_ownership={int(mt == block_mt)}"
    )


def describe(record: TraceRecord) -> str:
    """`event: fields` of any record; ours as name=value."""
    name, fields = EVENTS[record.event]
    if record.event <= EV_MM_PAGE_ALLOC_EXTFRAG:
        return f"{name}: {format_kmem(record.event, record.args)}"
    if record.event in FORMATS:
        return f"{NAMES.get(record.event, name)}: {FORMATS[record.event](record.args)}"
    values = zip(fields, record.args, strict=True)
    return f"{name}: " + " ".join(
        f"{field}={value:#x}" if "flags" in field else f"{field}={value}" for field, value in values
    )


def latency_flags(record: TraceRecord) -> str:
    """The four flag characters: interrupts off, need-resched, interrupt kind, preempt depth."""
    count = record.preempt_count
    hard, soft, nmi = count & HARDIRQ_MASK, count & SOFTIRQ_OFFSET, count & NMI_MASK
    if nmi:
        kind = "Z" if hard else "z"
    elif hard:
        kind = "H" if soft else "h"
    else:
        kind = "s" if soft else "."
    off = "d" if record.event in IRQS_OFF or hard or nmi else "."
    depth = f"{count & 0xFF:x}" if count & 0xFF else "."
    return f"{off}.{kind}{depth}"


def task_names(m: memoryview) -> dict[int, str]:
    """Names by pid of the tasks there are, with `<idle>` for pid 0."""
    names = {0: "<idle>"}
    for cpu in range(min(max(m[G_NR_CPU_IDS], 0), 256)):
        current = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
        for task in (INIT_TASKS + cpu * TASK_WORDS, current):
            if 0 <= task < len(m) - TASK_WORDS:
                names.setdefault(
                    m[task + TASK_PID], comm_text(m[task + TASK_COMM : task + TASK_COMM + 2])
                )
    return names


def comm_text(words: Iterable[int]) -> str:
    """A task's 16-byte name as text."""
    raw = b"".join(word.to_bytes(8, "little", signed=True) for word in words)
    return raw.split(b"\0", 1)[0].decode("ascii", "replace")


def format_line(record: TraceRecord, names: dict[int, str], irq_info: bool = True) -> str:
    """One line of the trace file (trace_print_context and the event)."""
    comm = names.get(record.pid, "<...>")
    micros = (record.time + 500) // 1000
    flags = latency_flags(record) if irq_info else ""
    return (
        f"{comm:>16}-{record.pid:<5} [{record.cpu:03}] {flags} "
        f"{micros // 1_000_000:5}.{micros % 1_000_000:06}: {describe(record)}"
    )


def trace_header(m: memoryview, entries: int, irq_info: bool = True) -> list[str]:
    """The comment lines at the top; only the short layout counts the entries, as in 4.20."""
    lines = ["# tracer: nop", "#"]
    if irq_info:
        return [
            *lines,
            "#                              _-----=> irqs-off",
            "#                             / _----=> need-resched",
            "#                            | / _---=> hardirq/softirq",
            "#                            || / _--=> preempt-depth",
            "#                            ||| /     delay",
            "#           TASK-PID   CPU#  ||||    TIMESTAMP  FUNCTION",
            "#              | |       |   ||||       |         |",
        ]
    return [
        *lines,
        f"# entries-in-buffer/entries-written: {entries}/{entries}   #P:{m[G_NUM_ONLINE_CPUS]}",
        "#",
        "#           TASK-PID     CPU#   TIMESTAMP  FUNCTION",
        "#              | |         |       |         |",
    ]


def trace_lines(
    m: memoryview, irq_info: bool = True, first: int = 0, all_events: bool = False
) -> Iterator[str]:
    """The trace file line by line: header, then the kmem events (or all) still in the ring."""
    records = [
        record
        for record in trace_records(m, first)
        if all_events or record.event <= EV_MM_PAGE_ALLOC_EXTFRAG or record.event in FORMATS
    ]
    yield from trace_header(m, len(records), irq_info)
    names = task_names(m)
    for record in records:
        yield format_line(record, names, irq_info)


def trace_text(m: memoryview, irq_info: bool = True, first: int = 0) -> str:
    """The whole trace file of the kmem events, with a final newline."""
    return "".join(line + "\n" for line in trace_lines(m, irq_info, first))
