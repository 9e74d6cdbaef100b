# SPDX-License-Identifier: GPL-2.0-only
"""When dirty files are written: limits, the flusher's turns, writers that wait
(mm/page-writeback.c balance_dirty_pages, fs/fs-writeback.c wb_workfn).

Files with dirty pages wait on a list, oldest last. The flusher visits them: every five seconds of
modelled time those that have been dirty for thirty; at once when the machine as a whole has more
dirty pages than the background limit; and when somebody asks. Whoever dirties pages is asked now
and then whether there is too much: past the background limit the flusher starts, past the middle
between the two limits the writer waits for the disk. (4.20 puts it to sleep by a rate that it
measures; here it waits until it is below that middle.)

All hot; limits are pages, times ns.
"""

from __future__ import annotations

from .blockdev import blk_poll, blk_wait_any
from .fs import (
    INODE_DIRTIED_WHEN,
    INODE_IO_LIST,
    WB_DIRTY,
    WB_IO,
    WB_LAST_OLD_FLUSH,
    WB_RUNNING,
    WB_STATE,
)
from .kernel_globals import (
    G_BDI_WB,
    G_CLOCK,
    G_DIRTY_BACKGROUND_BYTES,
    G_DIRTY_BACKGROUND_RATIO,
    G_DIRTY_EXPIRE_INTERVAL,
    G_DIRTY_WRITEBACK_INTERVAL,
    G_NR_DIRTIED,
    G_VM_DIRTY_BYTES,
    G_VM_DIRTY_RATIO,
)
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_WORDS,
    MAX_RT_PRIO,
    PAGE_OFFSET,
    TASK_FLAGS,
    TASK_PRIO,
)
from .mm_types import PAGE_SHIFT, PAGE_SIZE
from .mmzone import NR_FILE_DIRTY, NR_UNSTABLE_NFS, NR_WRITEBACK
from .page_writeback import PF_LESS_THROTTLE, global_dirtyable_memory
from .vmstat import global_node_page_state
from .writeback import LAST_INDEX, WB_SYNC_ALL, WB_SYNC_NONE, move_inode, writeback_single_inode

CENTISECOND = 10_000_000
RATELIMIT_PAGES = 32
"""Pages that may be dirtied between two looks at the limits."""
MIN_WRITEBACK_PAGES = 1024
HARD = 0
BACKGROUND = 1


# --- limits ---------------------------------------------------------------------------------------
def dirty_limit(m: memoryview, available: int, which: int) -> int:
    """The hard (0) or background (1) limit of an ordinary task where `available` pages could be
    dirty. Hot."""
    ratio = m[G_VM_DIRTY_RATIO] * PAGE_SIZE // 100
    bg_ratio = m[G_DIRTY_BACKGROUND_RATIO] * PAGE_SIZE // 100
    thresh = ratio * available // PAGE_SIZE
    if m[G_VM_DIRTY_BYTES]:
        thresh = (m[G_VM_DIRTY_BYTES] + PAGE_SIZE - 1) >> PAGE_SHIFT
    background = bg_ratio * available // PAGE_SIZE
    if m[G_DIRTY_BACKGROUND_BYTES]:
        background = (m[G_DIRTY_BACKGROUND_BYTES] + PAGE_SIZE - 1) >> PAGE_SHIFT
    if background >= thresh:
        background = thresh // 2
    return background if which == BACKGROUND else thresh


def domain_dirty_limit(m: memoryview, cpu: int, available: int, which: int) -> int:
    """dirty_limit() of the task on `cpu`: realtime and less throttled ones have more room. Hot
    (domain_dirty_limits)."""
    limit = dirty_limit(m, available, which)
    task = (m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT] - PAGE_OFFSET) >> 3
    if m[task + TASK_FLAGS] & PF_LESS_THROTTLE or m[task + TASK_PRIO] < MAX_RT_PRIO:
        limit += limit // 4 + dirty_limit(m, available, HARD) // 32
    return limit


def nr_reclaimable(m: memoryview) -> int:
    """Dirty pages of the machine that are not being written. Hot."""
    return global_node_page_state(m, NR_FILE_DIRTY) + global_node_page_state(m, NR_UNSTABLE_NFS)


def over_background_limit(m: memoryview, cpu: int) -> bool:
    """True if the flusher should be at work. Hot (wb_over_bg_thresh)."""
    available = global_dirtyable_memory(m)
    return nr_reclaimable(m) > domain_dirty_limit(m, cpu, available, BACKGROUND)


def over_freerun(m: memoryview, cpu: int) -> bool:
    """True if writers must wait: more is dirty or being written than the middle between the limits.
    Hot (dirty_freerun_ceiling)."""
    available = global_dirtyable_memory(m)
    thresh = domain_dirty_limit(m, cpu, available, HARD)
    background = domain_dirty_limit(m, cpu, available, BACKGROUND)
    return nr_reclaimable(m) + global_node_page_state(m, NR_WRITEBACK) > (thresh + background) // 2


# --- the flusher ----------------------------------------------------------------------------------
def queue_io(m: memoryview, wb: int, older_than: int) -> None:
    """Moves the files that became dirty before `older_than` (ns) to those to be written, the
    oldest to be the first. Hot."""
    head = PAGE_OFFSET + ((wb + WB_DIRTY) << 3)
    while m[wb + WB_DIRTY + 1] != head:
        inode = ((m[wb + WB_DIRTY + 1] - PAGE_OFFSET) >> 3) - INODE_IO_LIST
        if m[inode + INODE_DIRTIED_WHEN] > older_than:
            break
        move_inode(m, inode, wb + WB_IO)


def writeback_inodes(m: memoryview, cpu: int, wb: int, nr: int, sync: int) -> int:
    """Writes files of the list to be written, up to `nr` pages: pages and records written. Hot."""
    head = PAGE_OFFSET + ((wb + WB_IO) << 3)
    wrote = 0
    while m[wb + WB_IO + 1] != head and wrote < nr:
        inode = ((m[wb + WB_IO + 1] - PAGE_OFFSET) >> 3) - INODE_IO_LIST
        chunk = LAST_INDEX if sync == WB_SYNC_ALL else min(nr - wrote, MIN_WRITEBACK_PAGES)
        got = writeback_single_inode(m, cpu, inode, chunk, sync)
        wrote += got
    return wrote


def wb_writeback(m: memoryview, cpu: int, nr: int, older_than: int, background: bool) -> int:
    """One job of the flusher: up to `nr` pages of files dirty since before `older_than`, and with
    `background` no longer than the limit asks: what was written. Hot."""
    wb = (m[G_BDI_WB] - PAGE_OFFSET) >> 3
    if m[wb + WB_STATE] & WB_RUNNING:
        return 0
    m[wb + WB_STATE] |= WB_RUNNING
    wrote = 0
    while wrote < nr and (not background or over_background_limit(m, cpu)):
        if m[wb + WB_IO] == PAGE_OFFSET + ((wb + WB_IO) << 3):
            queue_io(m, wb, older_than)
        step = writeback_inodes(m, cpu, wb, min(nr - wrote, MIN_WRITEBACK_PAGES), WB_SYNC_NONE)
        if step == 0:
            break
        wrote += step
    m[wb + WB_STATE] &= ~WB_RUNNING
    return wrote


def wb_workfn(m: memoryview, cpu: int) -> None:
    """The flusher's turn: the periodic visit if it is time, then the background limit. Hot."""
    wb = (m[G_BDI_WB] - PAGE_OFFSET) >> 3
    interval = m[G_DIRTY_WRITEBACK_INTERVAL] * CENTISECOND
    if interval and m[G_CLOCK] >= m[wb + WB_LAST_OLD_FLUSH] + interval:
        m[wb + WB_LAST_OLD_FLUSH] = m[G_CLOCK]
        older = m[G_CLOCK] - m[G_DIRTY_EXPIRE_INTERVAL] * CENTISECOND
        wb_writeback(m, cpu, LAST_INDEX, older, False)
    if over_background_limit(m, cpu):
        wb_writeback(m, cpu, LAST_INDEX, m[G_CLOCK], True)


def writeback_tick(m: memoryview, cpu: int) -> None:
    """What is due by the modelled clock: transfers that are done, and the flusher's visit. Whoever
    enters the kernel calls it. Hot."""
    if m[G_BDI_WB] == 0:
        return
    blk_poll(m, cpu)
    wb = (m[G_BDI_WB] - PAGE_OFFSET) >> 3
    interval = m[G_DIRTY_WRITEBACK_INTERVAL] * CENTISECOND
    if interval and m[G_CLOCK] >= m[wb + WB_LAST_OLD_FLUSH] + interval:
        wb_workfn(m, cpu)


def wakeup_flusher_threads(m: memoryview, cpu: int) -> int:
    """Has all dirty files written, without waiting: what was. Hot."""
    if m[G_BDI_WB] == 0:
        return 0
    return wb_writeback(m, cpu, LAST_INDEX, m[G_CLOCK], False)


def sync_inodes(m: memoryview, cpu: int) -> None:
    """Writes all files and waits for the disks (sync). Hot."""
    wb = (m[G_BDI_WB] - PAGE_OFFSET) >> 3
    queue_io(m, wb, m[G_CLOCK])
    writeback_inodes(m, cpu, wb, LAST_INDEX, WB_SYNC_ALL)
    while blk_wait_any(m, cpu):
        continue


# --- writers --------------------------------------------------------------------------------------
def balance_dirty_pages(m: memoryview, cpu: int) -> None:
    """Starts the flusher when too much is dirty, and waits while it is far too much. Hot."""
    blk_poll(m, cpu)
    while over_freerun(m, cpu):
        wb_writeback(m, cpu, MIN_WRITEBACK_PAGES, m[G_CLOCK], True)
        if not blk_wait_any(m, cpu):
            break
    if over_background_limit(m, cpu):
        wb_writeback(m, cpu, LAST_INDEX, m[G_CLOCK], True)


def balance_dirty_pages_ratelimited(m: memoryview, cpu: int, mapping: int) -> None:  # noqa: ARG001
    """Called after each page that a writer has dirtied; looks at the limits now and then. Hot."""
    if m[G_NR_DIRTIED] >= RATELIMIT_PAGES:
        m[G_NR_DIRTIED] = 0
        balance_dirty_pages(m, cpu)
