# SPDX-License-Identifier: GPL-2.0-only
"""`numastat -p PID`: on which nodes a process has its memory, as the tool of numactl shows it.

Frames are counted where the process's page tables map them, in the tool's four kinds: huge pages,
the heap (brk area), stacks (areas that grow down), and all else; MB with two digits.
"""

from __future__ import annotations

from ..errors import BadRequest
from ..helpers.mmzone import for_each_online_pgdat
from ..helpers.prog import Prog, words
from ..layout import TASK_MM, word_of_va
from ..mm_struct import (
    MM_BRK,
    MM_MMAP,
    MM_START_BRK,
    VM_GROWSDOWN,
    VMA_END,
    VMA_FLAGS,
    VMA_NEXT,
    VMA_START,
)
from ..views import Page, pfn_valid
from .fields import Json, Report, Table
from .process_pages import mapped_pages, task_name, task_pid, tasks

KINDS = ("Huge", "Heap", "Stack", "Private")
PAGES_PER_MB = 256


def stack_ranges(m: memoryview, mm: int) -> list[tuple[int, int]]:
    """User addresses [start, end) of the areas that grow down."""
    found: list[tuple[int, int]] = []
    va = m[mm + MM_MMAP]
    while va and len(found) < 1 << 16:
        vma = word_of_va(va)
        if m[vma + VMA_FLAGS] & VM_GROWSDOWN:
            found.append((m[vma + VMA_START], m[vma + VMA_END]))
        va = m[vma + VMA_NEXT]
    return found


def node_pages(m: memoryview, task: int) -> dict[str, dict[int, int]]:
    """Pages of a process by kind and node."""
    counts: dict[str, dict[int, int]] = {kind: {} for kind in KINDS}
    if not m[task + TASK_MM]:
        return counts
    mm = word_of_va(m[task + TASK_MM])
    stacks = stack_ranges(m, mm)
    for mapped in mapped_pages(m, task):
        if not pfn_valid(m, mapped.pfn):
            continue
        nid = Page(m, mapped.pfn).nid
        if mapped.pages > 1:
            kind = "Huge"
        elif m[mm + MM_START_BRK] <= mapped.address < m[mm + MM_BRK]:
            kind = "Heap"
        elif any(start <= mapped.address < end for start, end in stacks):
            kind = "Stack"
        else:
            kind = "Private"
        counts[kind][nid] = counts[kind].get(nid, 0) + mapped.pages
    return counts


def numastat_process(prog: Prog, pid: int) -> Report:
    """One process's memory by node. Raises BadRequest if there is no such process."""
    m = words(prog)
    task = next((task for task in tasks(m) if task_pid(m, task) == pid), 0)
    if task == 0:
        raise BadRequest(f"there is no process {pid}")
    nodes = [node.nid for node in for_each_online_pgdat(prog)]
    counts = node_pages(m, task)
    lines = {kind: [counts[kind].get(nid, 0) for nid in nodes] for kind in KINDS}
    lines["Total"] = [sum(lines[kind][i] for kind in KINDS) for i in range(len(nodes))]
    heads = [f"Node {nid}" for nid in nodes] + ["Total"]
    rule = " ".join(["-" * 15] * len(heads))
    text = f"\nPer-node process memory usage (in MBs) for PID {pid} ({task_name(m, task)})\n"
    text += " " * 17 + "".join(f"{head:>16}" for head in heads).rstrip() + "\n"
    text += f"{'':17} {rule}\n"
    rows = []
    for kind, pages in lines.items():
        if kind == "Total":
            text += f"{'-' * 16:17} {rule}\n"
        numbers = [f"{n / PAGES_PER_MB:.2f}" for n in [*pages, sum(pages)]]
        text += f"{kind:17}" + "".join(f"{number:>16}" for number in numbers) + "\n"
        rows.append((kind, *numbers))
    data: dict[str, Json] = {
        "pid": pid,
        "pages": {
            kind: {str(nid): n for nid, n in zip(nodes, pages, strict=True)}
            for kind, pages in lines.items()
        },
    }
    title = f"memory of process {pid} by node (MB)"
    return Report(text, data, (Table(title, ("", *heads), tuple(rows)),))
