# SPDX-License-Identifier: GPL-2.0-only
"""Shared memory: every inode's xarray against the pages and the swap slots that it holds.

The inodes of shared anonymous memory are on one list. An inode's xarray has a page or a swap entry
where somebody has written; a page there is swap-backed and knows inode and index, and the inode's
counters are the numbers of both. The swap entries are the only users of their slots, which
`swap_rules` looks at (`shared_slots`). Damaged nodes are not followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..address_space import AS_I_PAGES, AS_NRPAGES
from ..fs import INODE, INODE_MAPPING, INODE_SB_LIST
from ..kernel_globals import G_MM_INIT_DONE, G_SHMEM_INODES
from ..layout import PAGE_OFFSET, VMEMMAP_START
from ..mm_types import P_INDEX, P_MAPPING, PG_SWAPBACKED
from ..shmem import SHMEM_SWAPPED, radix_to_swp_entry
from ..xarray import XA_CHUNK_SHIFT, XA_CHUNK_SIZE, XA_HEAD, XA_NODE, XN_SLOTS
from .mappings import frame_indices
from .registry import register

if TYPE_CHECKING:
    from .context import Check

    Ids = npt.NDArray[np.int64]

RULES = {
    "shmem-list": "the list of inodes of shared memory is a ring of inodes in RAM",
    "shmem-tree": "the xarray of an inode of shared memory has sound nodes",
    "shmem-page": "a page in the xarray of an inode of shared memory is the inode's at that index",
    "shmem-counter": "an inode of shared memory counts its pages and its slots as they are",
}
MAX_SHIFT = 60
MAX_INODES = 1 << 20


def shmem_inodes(check: Check) -> list[int]:
    """Word indices of all inodes of shared memory; stops where the list is broken."""
    m = check.m
    found: list[int] = []
    seen: set[int] = set()
    at = m[G_SHMEM_INODES]
    while at and len(found) < MAX_INODES:
        node = check.structure(at, 2)
        if node == G_SHMEM_INODES:
            break
        inode = node - INODE_SB_LIST
        if node < 0 or node in seen or not check.is_ram(inode, INODE.words):
            check.add("shmem-list", "shared memory", "the list is broken", G_SHMEM_INODES)
            break
        seen.add(node)
        found.append(inode)
        at = m[node]
    return found


def entries(check: Check, inode: int) -> list[tuple[int, int]]:
    """(index, entry) of all that an inode's xarray holds."""
    head = check.m[inode + INODE_MAPPING + AS_I_PAGES + XA_HEAD]
    found: list[tuple[int, int]] = []
    # node address, the shift it must have (-1: any, of the top one), index of its first slot
    work = [(head, -1, 0)] if head else []
    seen: set[int] = set()
    while work:
        entry, shift, base = work.pop()
        if entry & 3 != 2:
            found.append((base, entry))
            continue
        node = check.structure(entry - 2, XA_NODE.words)
        own = check.m[node] & 0xFF if node >= 0 else -1
        bad = own % XA_CHUNK_SHIFT or not 0 <= own <= MAX_SHIFT or shift not in (-1, own)
        if bad or node in seen:
            check.add("shmem-tree", "shared memory", "a node leads nowhere", inode)
            return found
        seen.add(node)
        slots = check.q[node + XN_SLOTS : node + XN_SLOTS + XA_CHUNK_SIZE]
        for i in np.flatnonzero(slots).tolist():
            value = int(slots[i])
            if value & 3 == 2 and own == 0:
                check.add("shmem-tree", "shared memory", "a node lies below the lowest", inode)
                return found
            work.append((value, own - XA_CHUNK_SHIFT, base + (i << own)))
    return found


def slots_of(found: list[tuple[int, int]]) -> list[int]:
    """The swap entries among an xarray's entries."""
    return [radix_to_swp_entry(entry) for _, entry in found if entry & 1]


def shared_slots(check: Check) -> Ids:
    """Swap entries that the xarrays of shared memory hold."""
    slots = [slot for inode in shmem_inodes(check) for slot in slots_of(entries(check, inode))]
    return np.array(slots, dtype=np.int64)


def check_inode(check: Check, inode: int) -> None:
    """One inode: its pages are its own, its counters right."""
    m, frames = check.m, check.frames
    mapping = inode + INODE_MAPPING
    found = entries(check, inode)
    pages = [(index, entry) for index, entry in found if not entry & 1]
    said, due = m[mapping + AS_NRPAGES], len(pages)
    if (said, m[inode + SHMEM_SWAPPED]) != (due, len(found) - due):
        text = f"an inode counts {said} pages, {m[inode + SHMEM_SWAPPED]} in swap; it has {due} and"
        check.add("shmem-counter", "shared memory", f"{text} {len(found) - due}", inode)
    if not pages:
        return
    indexes, vas = np.array(pages, dtype=np.int64).T
    at = frame_indices(check, (vas - VMEMMAP_START) >> 6)
    lost = (at < 0) | (vas & 63 != 0)
    if lost.any():
        check.add("shmem-page", "shared memory", "an entry is no page", inode)
    at, indexes = at[~lost], indexes[~lost]
    wrong = frames.column(at, P_MAPPING) != PAGE_OFFSET + (mapping << 3)
    wrong |= (frames.column(at, P_INDEX) != indexes) | check.free[at]
    wrong |= frames.flags[at] & PG_SWAPBACKED == 0
    check.add_frames("shmem-page", at[wrong], "is in the xarray of shared memory it is not of")


def run(check: Check) -> None:
    """All rules about shared memory."""
    if check.m[G_MM_INIT_DONE]:
        for inode in shmem_inodes(check):
            check_inode(check, inode)


register("shmem", RULES, run, rank=97)
