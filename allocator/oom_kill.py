# SPDX-License-Identifier: GPL-2.0-only
"""The OOM killer: when nothing can be reclaimed, one process gives its memory back (mm/oom_kill.c).

`out_of_memory` chooses the process with the highest badness - resident pages, swap entries and page
tables, shifted by oom_score_adj - or one of its children, kills it, and lets the reaper take its
private memory at once, without waiting for it to run. The process that asked may be the victim
itself; then it may use part of the reserves until it dies on its way back to the guest.

Init and kernel threads are never killed. If nobody is left, 4.20 panics: PANIC_DEADLOCK is left in
G_PANIC. What it does is reported in the log in the kernel's words (`oom_report`).

`task` and `mm` are word indices.
"""

from __future__ import annotations

from dataclasses import dataclass

from .cpuset import cpuset_zone_allowed
from .get_page import first_zones_zonelist
from .gfp import GFP_FS_BIT, GFP_THISNODE_BIT, GFP_ZONEMASK, ZONE_TABLE
from .kernel_globals import (
    G_CHILD_REAPER,
    G_NODES_MEMORY,
    G_OOM_KILL_ALLOCATING,
    G_OOM_RS,
    G_PANIC,
    G_PANIC_ON_OOM,
    G_STATIC_KEYS,
    G_TASKS,
    G_TOTAL_SWAP_PAGES,
    G_TOTALRAM,
    G_TRACE_MASK2,
    G_VM_SWAPPINESS,
    KEY_CPUSETS,
)
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    NODE_DATA,
    PAGE_OFFSET,
    PF_EXITING,
    PF_KTHREAD,
    TASK_FATAL_SIGNAL,
    TASK_FLAGS,
    TASK_MEMCG,
    TASK_MEMS_ALLOWED,
    TASK_MM,
    TASK_OOM_MM,
    TASK_OOM_SCORE_ADJ,
    TASK_PID,
    TASK_POLICY_MODE,
    TASK_POLICY_NODES,
)
from .memcg import MC_MEMORY, MC_MEMSW, PC_MAX, is_descendant
from .memory_zap import unmap_page_range
from .mempolicy import MPOL_BIND, MPOL_INTERLEAVE
from .mm_struct import (
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_FLAGS,
    MM_MMAP,
    MM_PGTABLES_BYTES,
    MM_RSS,
    MM_SHMEMPAGES,
    MM_SWAPENTS,
    MM_TOTAL_VM,
    TASK_CHILDREN,
    TASK_FAULT_ADDRESS,
    TASK_FAULT_CODE,
    TASK_FAULT_SIGNAL,
    TASK_SIBLING,
    TASK_TASKS,
    VM_LOCKED,
    VM_PFNMAP,
    VM_SHARED,
    VMA_END,
    VMA_FLAGS,
    VMA_NEXT,
    VMA_START,
)
from .mm_types import PAGE_SHIFT
from .mmzone import MAX_NUMNODES, ND_SPANNED, ZONEREF_WORDS, ZR_ZONE
from .page_poison import ratelimit
from .pgtable import flush_tlb_mm
from .trace import log_record, log_task, trace
from .trace_events import (
    EV_FINISH_TASK_REAPING,
    EV_MARK_VICTIM,
    EV_SKIP_TASK_REAPING,
    EV_START_TASK_REAPING,
    EV_WAKE_REAPER,
    LOG_OOM_INVOKED,
    LOG_OOM_KILL,
    LOG_OOM_KILLED,
    LOG_OOM_NOBODY,
    LOG_OOM_REAPED,
    LOG_OOM_TASK,
)
from .vm_events import VM_EVENT_NAMES
from .vmstat import count_vm_events

OOM_SCORE_ADJ_MIN = -1000
OOM_SCORE_ADJ_MAX = 1000
SIGKILL = 9
SI_KERNEL = 0x80
MMF_OOM_SKIP = 1 << 21
MMF_UNSTABLE = 1 << 22
PANIC_DEADLOCK = 2
OOM_KILL = VM_EVENT_NAMES.index("oom_kill")
OOM_INTERVAL, OOM_BURST = 5_000_000_000, 10

# enum oom_constraint
CONSTRAINT_NONE = 0
CONSTRAINT_CPUSET = 1
CONSTRAINT_MEMORY_POLICY = 2
CONSTRAINT_MEMCG = 3


@dataclass
class OomControl:
    """The request that ran out of memory, and who shall pay (struct oom_control).

    `zonelist` is 0 for a page fault's; `memcg` the group at its limit, 0 for all memory;
    `total_pages` what badness is measured against."""

    gfp: int = 0
    order: int = 0
    zonelist: int = 0
    high_zoneidx: int = 0
    nodemask: int = 0
    memcg: int = 0
    total_pages: int = 0
    chosen: int = 0
    points: int = 0


def to_word(va: int) -> int:
    """Word index of a direct-map pointer, 0 of NULL."""
    return (va - PAGE_OFFSET) >> 3 if va else 0


def processes(m: memoryview) -> list[int]:
    """All processes, oldest first."""
    found = []
    va = m[G_TASKS]
    while va and va != PAGE_OFFSET + (G_TASKS << 3):
        at = (va - PAGE_OFFSET) >> 3
        found.append(at - TASK_TASKS)
        va = m[at]
    return found


def children(m: memoryview, task: int) -> list[int]:
    """A process's children, in the order of the list."""
    found = []
    head = task + TASK_CHILDREN
    va = m[head]
    while va and va != PAGE_OFFSET + (head << 3):
        at = (va - PAGE_OFFSET) >> 3
        found.append(at - TASK_SIBLING)
        va = m[at]
    return found


def has_intersects_mems_allowed(m: memoryview, cpu: int, task: int, nodemask: int) -> bool:
    """True if the process may have memory where it is wanted."""
    if nodemask:
        if m[task + TASK_POLICY_MODE] in (MPOL_BIND, MPOL_INTERLEAVE):
            return m[task + TASK_POLICY_NODES] & nodemask != 0
        return True
    current = to_word(m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT])
    return m[current + TASK_MEMS_ALLOWED] & m[task + TASK_MEMS_ALLOWED] != 0


def oom_unkillable_task(m: memoryview, cpu: int, task: int, memcg: int, nodemask: int) -> bool:
    """True for init, kernel threads, and whose end would not help this request."""
    if task == to_word(m[G_CHILD_REAPER]) or m[task + TASK_FLAGS] & PF_KTHREAD:
        return True
    if memcg:
        group = to_word(m[task + TASK_MEMCG])
        if not group or not is_descendant(m, group, memcg):
            return True
    return not has_intersects_mems_allowed(m, cpu, task, nodemask)


def mm_rss(m: memoryview, mm: int) -> int:
    """Resident pages of an address space."""
    return sum(max(m[mm + MM_RSS + i], 0) for i in (MM_FILEPAGES, MM_ANONPAGES, MM_SHMEMPAGES))


def oom_badness(
    m: memoryview, cpu: int, task: int, memcg: int, nodemask: int, total_pages: int
) -> int:
    """What killing the process would free (pages, shifted by oom_score_adj); 0: never."""
    if oom_unkillable_task(m, cpu, task, memcg, nodemask):
        return 0
    mm = to_word(m[task + TASK_MM])
    adj = m[task + TASK_OOM_SCORE_ADJ]
    if not mm or adj == OOM_SCORE_ADJ_MIN or m[mm + MM_FLAGS] & MMF_OOM_SKIP:
        return 0
    points = mm_rss(m, mm) + max(m[mm + MM_RSS + MM_SWAPENTS], 0)
    points += m[mm + MM_PGTABLES_BYTES] >> PAGE_SHIFT
    points += adj * (total_pages // 1000)
    return points if points > 0 else 1


def node_pages(m: memoryview, mask: int) -> int:
    """Pages that the nodes of a mask span."""
    total = 0
    for nid in range(MAX_NUMNODES):
        if mask >> nid & 1 and m[NODE_DATA + nid]:
            total += m[to_word(m[NODE_DATA + nid]) + ND_SPANNED]
    return total


def mem_cgroup_get_max(m: memoryview, memcg: int) -> int:
    """The pages that a control group may have, in memory and swap (mm/memcontrol.c)."""
    most = m[memcg + MC_MEMORY + PC_MAX]
    if m[G_VM_SWAPPINESS]:
        most = min(most + m[G_TOTAL_SWAP_PAGES], m[memcg + MC_MEMSW + PC_MAX])
    return most


def constrained_alloc(m: memoryview, cpu: int, oc: OomControl) -> int:
    """What confines the request: one of CONSTRAINT_; sets the pages that badness counts against."""
    swap = m[G_TOTAL_SWAP_PAGES]
    if oc.memcg:
        oc.total_pages = mem_cgroup_get_max(m, oc.memcg) or 1
        return CONSTRAINT_MEMCG
    oc.total_pages = m[G_TOTALRAM] + swap
    if not oc.zonelist or oc.gfp & GFP_THISNODE_BIT:
        return CONSTRAINT_NONE
    if oc.nodemask and m[G_NODES_MEMORY] & ~oc.nodemask:
        oc.total_pages = swap + node_pages(m, oc.nodemask)
        return CONSTRAINT_MEMORY_POLICY
    if m[G_STATIC_KEYS] & KEY_CPUSETS and cpuset_limits(m, cpu, oc):
        current = to_word(m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT])
        oc.total_pages = swap + node_pages(m, m[current + TASK_MEMS_ALLOWED])
        return CONSTRAINT_CPUSET
    return CONSTRAINT_NONE


def cpuset_limits(m: memoryview, cpu: int, oc: OomControl) -> bool:
    """True if the cpuset keeps the request from a zone that could serve it."""
    high = ZONE_TABLE[oc.gfp & GFP_ZONEMASK]
    zr = first_zones_zonelist(m, oc.zonelist, high, oc.nodemask)
    while m[zr + ZR_ZONE]:
        if not cpuset_zone_allowed(m, cpu, to_word(m[zr + ZR_ZONE]), oc.gfp):
            return True
        zr = first_zones_zonelist(m, zr + ZONEREF_WORDS, high, oc.nodemask)
    return False


def select_bad_process(m: memoryview, cpu: int, oc: OomControl) -> bool:
    """Chooses the worst process; False if a victim that still has memory must be awaited."""
    for task in processes(m):
        if oom_unkillable_task(m, cpu, task, oc.memcg, oc.nodemask):
            continue
        victim_mm = to_word(m[task + TASK_OOM_MM])
        if victim_mm:
            if m[victim_mm + MM_FLAGS] & MMF_OOM_SKIP:
                continue
            return False
        points = oom_badness(m, cpu, task, oc.memcg, oc.nodemask, oc.total_pages)
        if points and points > oc.points:
            oc.chosen, oc.points = task, points
    return True


def note(m: memoryview, cpu: int, ev: int, pid: int) -> None:
    """Records an oom tracepoint that names a process."""
    if m[G_TRACE_MASK2] >> (ev - 64) & 1:
        trace(m, ev, cpu, pid, 0, 0, 0, 0, 0, 0)


def mark_oom_victim(m: memoryview, cpu: int, task: int) -> None:
    """The task may use the reserves until it is gone."""
    m[task + TASK_OOM_MM] = m[task + TASK_MM]
    note(m, cpu, EV_MARK_VICTIM, m[task + TASK_PID])


def task_will_free_mem(m: memoryview, task: int) -> bool:
    """True if the process is dying anyway, and will free its memory."""
    mm = to_word(m[task + TASK_MM])
    if not mm or m[mm + MM_FLAGS] & MMF_OOM_SKIP:
        return False
    return m[task + TASK_FATAL_SIGNAL] != 0 or m[task + TASK_FLAGS] & PF_EXITING != 0


def oom_reap_task(m: memoryview, cpu: int, task: int) -> None:
    """Takes the private memory of a victim that does not run (oom_reaper).

    The task that runs now is left alone: it may be in the middle of a fault, and dies soon."""
    pid = m[task + TASK_PID]
    note(m, cpu, EV_WAKE_REAPER, pid)
    mm = to_word(m[task + TASK_OOM_MM])
    running = [
        to_word(m[CPU_BLOCKS + other * CPU_WORDS + CPU_CURRENT]) == task for other in range(256)
    ]
    if any(running) or not mm or m[mm + MM_FLAGS] & MMF_OOM_SKIP:
        note(m, cpu, EV_SKIP_TASK_REAPING, pid)
        return
    note(m, cpu, EV_START_TASK_REAPING, pid)
    m[mm + MM_FLAGS] |= MMF_UNSTABLE
    vma = to_word(m[mm + MM_MMAP])
    while vma:
        flags = m[vma + VMA_FLAGS]
        if flags & (VM_LOCKED | VM_PFNMAP | VM_SHARED) == 0:
            unmap_page_range(m, cpu, vma, m[vma + VMA_START], m[vma + VMA_END], 0)
        vma = to_word(m[vma + VMA_NEXT])
    flush_tlb_mm(m, cpu, mm)
    rss = [m[mm + MM_RSS + i] for i in (MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES)]
    log_task(m, LOG_OOM_REAPED, cpu, task, rss[0], rss[1], rss[2], 0, 0)
    m[mm + MM_FLAGS] |= MMF_OOM_SKIP
    note(m, cpu, EV_FINISH_TASK_REAPING, pid)


def kill_task(m: memoryview, cpu: int, victim: int) -> None:
    """Sends SIGKILL, opens the reserves, wakes the reaper (__oom_kill_process)."""
    mm = to_word(m[victim + TASK_MM])
    if not mm:
        return
    count_vm_events(m, cpu, OOM_KILL, 1)
    m[victim + TASK_FATAL_SIGNAL] = 1
    m[victim + TASK_FAULT_SIGNAL] = SIGKILL
    m[victim + TASK_FAULT_CODE] = SI_KERNEL
    m[victim + TASK_FAULT_ADDRESS] = 0
    mark_oom_victim(m, cpu, victim)
    rss = [m[mm + MM_RSS + i] for i in (MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES)]
    log_task(m, LOG_OOM_KILLED, cpu, victim, m[mm + MM_TOTAL_VM], rss[0], rss[1], rss[2], 0)
    oom_reap_task(m, cpu, victim)


def dump_header(m: memoryview, cpu: int, oc: OomControl) -> None:
    """Reports the request and all processes that could be killed."""
    current = to_word(m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT])
    adj = m[current + TASK_OOM_SCORE_ADJ]
    log_record(m, LOG_OOM_INVOKED, cpu, oc.gfp, oc.order, oc.nodemask, adj, oc.memcg, 0)
    for task in processes(m):
        mm = to_word(m[task + TASK_MM])
        if not mm or oom_unkillable_task(m, cpu, task, oc.memcg, oc.nodemask):
            continue
        swap = m[mm + MM_RSS + MM_SWAPENTS]
        tables, adj = m[mm + MM_PGTABLES_BYTES], m[task + TASK_OOM_SCORE_ADJ]
        total, rss = m[mm + MM_TOTAL_VM], mm_rss(m, mm)
        log_task(m, LOG_OOM_TASK, cpu, task, total, rss, tables, swap, adj)


def oom_kill_process(m: memoryview, cpu: int, oc: OomControl, kind: int) -> None:
    """Kills the chosen process, or the worst of its children in its place.

    `kind`: 0 out of memory, 1 a control group, 2 the process that asked."""
    p = oc.chosen
    if task_will_free_mem(m, p):
        mark_oom_victim(m, cpu, p)
        oom_reap_task(m, cpu, p)
        return
    if ratelimit(m, G_OOM_RS, OOM_INTERVAL, OOM_BURST):
        dump_header(m, cpu, oc)
    log_task(m, LOG_OOM_KILL, cpu, p, oc.points, kind, 0, 0, 0)
    victim, worst = p, 0
    for child in children(m, p):
        if m[child + TASK_MM] == m[p + TASK_MM]:
            continue
        points = oom_badness(m, cpu, child, oc.memcg, oc.nodemask, oc.total_pages)
        if points > worst:
            victim, worst = child, points
    kill_task(m, cpu, victim)


def oom_select_and_kill(m: memoryview, cpu: int, oc: OomControl) -> bool:
    """out_of_memory() for a prepared request; True if somebody's memory is or will be free."""
    current = to_word(m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT])
    if task_will_free_mem(m, current):
        mark_oom_victim(m, cpu, current)
        oom_reap_task(m, cpu, current)
        return True
    if oc.gfp and oc.gfp & GFP_FS_BIT == 0:
        return True
    constraint = constrained_alloc(m, cpu, oc)
    if constraint != CONSTRAINT_MEMORY_POLICY:
        oc.nodemask = 0
    mode = m[G_PANIC_ON_OOM]
    if mode == 2 or (mode and constraint == CONSTRAINT_NONE):
        dump_header(m, cpu, oc)
        m[G_PANIC] = PANIC_DEADLOCK
        return False
    if not oc.memcg and m[G_OOM_KILL_ALLOCATING] and m[current + TASK_MM]:
        unkillable = oom_unkillable_task(m, cpu, current, 0, oc.nodemask)
        if not unkillable and m[current + TASK_OOM_SCORE_ADJ] != OOM_SCORE_ADJ_MIN:
            oc.chosen = current
            oom_kill_process(m, cpu, oc, 2)
            return True
    if not select_bad_process(m, cpu, oc):
        return True
    if not oc.chosen:
        dump_header(m, cpu, oc)
        log_record(m, LOG_OOM_NOBODY, cpu, 0, 0, 0, 0, 0, 0)
        if not oc.memcg:
            m[G_PANIC] = PANIC_DEADLOCK
        return False
    oom_kill_process(m, cpu, oc, 1 if oc.memcg else 0)
    return True


def out_of_memory(
    m: memoryview,
    cpu: int,
    gfp: int,
    order: int,
    zonelist: int,
    high_zoneidx: int,
    nodemask: int,
) -> bool:
    """The allocator has nothing left for this request; True if a retry makes sense."""
    oc = OomControl(gfp, order, zonelist, high_zoneidx, nodemask)
    return oom_select_and_kill(m, cpu, oc)


def mem_cgroup_out_of_memory(m: memoryview, cpu: int, memcg: int, gfp: int, order: int) -> bool:
    """A control group is at its limit and nothing in it can be reclaimed (mm/memcontrol.c)."""
    return oom_select_and_kill(m, cpu, OomControl(gfp, order, memcg=memcg))


def pagefault_out_of_memory(m: memoryview, cpu: int) -> bool:
    """A fault could not be served for lack of memory."""
    return oom_select_and_kill(m, cpu, OomControl())
