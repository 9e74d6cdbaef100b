# SPDX-License-Identifier: GPL-2.0-only
"""Pages that belong to processes and files: mapcounts, references, places, accounts.

The page tables of all processes say how often a frame is mapped. Its mapcount must be just that,
and every reference must be accounted for: one a mapping, one for page or swap cache, one for each
pagevec it waits in, one for private data. The other way round every mapping must be one that the
reverse map finds: the page's index is the address's place in its area, and its anon_vma belongs to
the area's family. An address space's counters are the numbers of its entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..anon_vma import AV_ROOT
from ..kernel_globals import G_LRU_PVECS, G_MM_INIT_DONE
from ..layout import VMEMMAP_START
from ..memmap_scan import KIND_BUDDY, KIND_FLAGGED, KIND_OWNED, KIND_TAIL
from ..mm_inline import COMPOUND_MAPCOUNT, PG_DOUBLE_MAP, PG_SWAPCACHE
from ..mm_struct import (
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_MMAP,
    MM_RSS,
    MM_SHMEMPAGES,
    MM_SWAPENTS,
    VMA_ANON_VMA,
    VMA_END,
    VMA_NEXT,
    VMA_PGOFF,
    VMA_START,
    VMA_WORDS,
)
from ..mm_types import (
    COMPOUND_MAPCOUNT_SHIFT,
    P_COUNTS,
    P_INDEX,
    P_MAPPING,
    P_NEXT,
    PAGE_MAPPING_ANON,
    PAGE_MAPPING_FLAGS,
    PG_HEAD,
    PG_HWPOISON,
    PG_LRU,
    PG_PRIVATE,
    PG_SLAB,
    PG_SWAPBACKED,
)
from ..pagevec import NR_PVECS, PAGEVEC_SIZE, PAGEVEC_WORDS, PVECS_WORDS
from ..swapops import MAX_SWAPFILES
from .mappings import frame_indices
from .registry import register

if TYPE_CHECKING:
    from .context import Check

    Ids = npt.NDArray[np.int64]

RULES = {
    "task-list": "the list of processes is a ring of tasks in RAM",
    "task-mm": "mm of a process and its top page table are in RAM",
    "table-entry": "an upper page-table entry leads to a frame of RAM",
    "table-frame": "a frame that is a page table is allocated, and used as one once",
    "pte-frame": "a page-table entry maps an allocated frame of RAM",
    "mapcount": "the mapcount of a page is the number of page-table entries that map it",
    "page-references": "every reference of a page of a process or file is accounted for",
    "pagevec": "a pagevec holds at most 15 pages, each of them with a reference",
    "vma-list": "the areas of an address space are in order and in RAM",
    "rmap": "a mapped page's index and anon_vma are those of the place where it is mapped",
    "mm-counter": "the page counters of an address space are the numbers of its entries",
}
MAX_AREAS = 1 << 17
_TYPED = 0xF0000000


def check_tables(check: Check) -> None:
    """Frames that are page tables, and frames that entries map."""
    frames, maps = check.frames, check.mappings
    uses = np.bincount(maps.tables[maps.tables >= 0], minlength=frames.size)
    check.add_frames("table-frame", np.flatnonzero(uses > 1), "page table that two entries lead to")
    tables = np.flatnonzero(uses)
    bad = tables[check.free[tables] | (frames.refcount[tables] != 1)]
    check.add_frames("table-frame", bad, "page table, but free or with other users")
    lost = np.flatnonzero(maps.present & (maps.frames < 0))
    mapped = maps.frames[maps.frames >= 0]
    unsound = np.unique(mapped[check.free[mapped]])
    for i in lost[:8].tolist():
        text = f"maps address {int(maps.addresses[i]):#x} to no frame of RAM"
        check.add("pte-frame", f"process {int(maps.owners[i])}", text, int(maps.words[i]))
    check.add_frames("pte-frame", unsound, "free, but a process maps it")


def check_mapcounts(check: Check) -> None:
    """_mapcount and compound_mapcount of all frames that are not free and not typed."""
    frames, maps = check.frames, check.mappings
    due = maps.small_counts - 1
    whole = maps.huge_counts
    heads = np.flatnonzero(whole)
    heads = np.union1d(heads, _huge_heads(check))
    said = frames.column(heads, COMPOUND_MAPCOUNT) >> COMPOUND_MAPCOUNT_SHIFT
    wrong = heads[said + 1 != whole[heads]]
    check.add_frames(
        "mapcount", wrong, lambda i: f"huge entries map it {int(whole[i])} times", P_COUNTS
    )
    double = heads[frames.flags[np.minimum(heads + 1, frames.size - 1)] & PG_DOUBLE_MAP != 0]
    for head in double.tolist():
        due[head : head + 512] += 1
    # of all others both are -1
    at = np.union1d(np.flatnonzero(due != -1), frames.odd)
    kinds = frames.page_type[at]
    odd = ((kinds < _TYPED) | (kinds == 0xFFFFFFFF)) & (kinds.view(np.int32) != due[at])
    odd &= ~check.free[at] & ~frames.unborn[at] & ~frames.has(at, KIND_BUDDY)

    def text(i: int) -> str:
        actual = int(frames.page_type[i].view(np.int32))
        return f"_mapcount is {actual}, but {int(due[i]) + 1} small entries map it"

    check.add_frames("mapcount", at[odd], text)


def _huge_heads(check: Check) -> Ids:
    """Array indices of heads of order-9 compound pages that have an anonymous mapping."""
    frames = check.frames
    heads = frames.where(KIND_FLAGGED)
    heads = heads[frames.flags[heads] & (PG_HEAD | PG_LRU) == PG_HEAD | PG_LRU]
    return np.asarray(heads, dtype=np.int64)


def pagevec_counts(check: Check) -> Ids:
    """How many pagevecs each frame waits in."""
    counts = np.zeros(check.frames.size, dtype=np.int64)
    m = check.m
    if not m[G_LRU_PVECS]:
        return counts
    first = check.structure(m[G_LRU_PVECS], check.cpus * PVECS_WORDS)
    if first < 0:
        check.add("pagevec", "pagevecs", "lru_pvecs leads nowhere", G_LRU_PVECS)
        return counts
    for cpu in range(check.cpus):
        for i in range(NR_PVECS):
            pv = first + cpu * PVECS_WORDS + i * PAGEVEC_WORDS
            if not 0 <= m[pv] < PAGEVEC_SIZE:
                check.add("pagevec", f"cpu {cpu}", f"pagevec {i} holds {m[pv]} pages", pv)
                continue
            vas = check.q[pv + 1 : pv + 1 + m[pv]].astype(np.int64)
            at = frame_indices(check, (vas - VMEMMAP_START) >> 6)
            if (at < 0).any() or (vas & 63).any():
                check.add("pagevec", f"cpu {cpu}", f"pagevec {i} holds something else", pv)
                at = at[at >= 0]
            np.add.at(counts, at, 1)
    return counts


def check_references(check: Check) -> None:
    """References of pages that are mapped, listed, cached or in a pagevec."""
    frames, maps = check.frames, check.mappings
    waiting = pagevec_counts(check)
    users = maps.small_counts + maps.huge_counts
    tails = frames.where(KIND_TAIL)
    tails = tails[maps.small_counts[tails] > 0]
    owners = frame_indices(check, (frames.column(tails, P_NEXT) - 1 - VMEMMAP_START) >> 6)
    np.add.at(users, owners[owners >= 0], users[tails[owners >= 0]])
    users[tails] = 0
    at = np.union1d(np.flatnonzero(users + waiting), frames.where(KIND_FLAGGED | KIND_OWNED))
    at = at[~check.free[at] & frames.ram[at] & ~check.compounds.tails[at]]
    flags = frames.flags[at]
    own = (users[at] + waiting[at] > 0) | (flags & PG_LRU != 0)
    own |= frames.has(at, KIND_OWNED) & ~frames.has(at, KIND_TAIL)
    at = at[own & (flags & PG_SLAB == 0)]
    mapping = frames.column(at, P_MAPPING)
    flags = frames.flags[at]
    cached = (flags & PG_SWAPCACHE != 0) & (mapping & PAGE_MAPPING_FLAGS <= PAGE_MAPPING_ANON)
    cached |= (mapping != 0) & (mapping & PAGE_MAPPING_FLAGS == 0)
    due = users[at] + waiting[at] + cached + (flags & PG_PRIVATE != 0)
    # memory_failure() keeps the reference of a page that it could not free
    due += flags & PG_HWPOISON != 0
    ours = (users[at] + waiting[at] > 0) | (flags & PG_LRU != 0) | cached
    drivers = mapping & PAGE_MAPPING_FLAGS > PAGE_MAPPING_ANON
    wrong = ours & ~drivers & (frames.refcount[at] != due)
    text = dict(zip(at[wrong].tolist(), due[wrong].tolist(), strict=True))
    check.add_frames(
        "page-references",
        at[wrong],
        lambda i: (
            f"refcount is {int(frames.refcount[i])}, but {text[i]} are accounted for: "
            f"{int(users[i])} mappings, {int(waiting[i])} pagevecs, the rest caches"
        ),
    )


def read_areas(check: Check, mm: int, number: int) -> npt.NDArray[np.int64]:
    """(start, end, pgoff, anon_vma, word) of an address space's areas, as rows."""
    m = check.m
    rows: list[tuple[int, int, int, int, int]] = []
    va, end = m[mm + MM_MMAP], 0
    while va and len(rows) < MAX_AREAS:
        vma = check.structure(va, VMA_WORDS)
        if vma < 0 or not end <= m[vma + VMA_START] < m[vma + VMA_END]:
            check.add("vma-list", f"process {number}", "its areas are out of order", mm + MM_MMAP)
            break
        end = m[vma + VMA_END]
        rows.append((m[vma + VMA_START], end, m[vma + VMA_PGOFF], m[vma + VMA_ANON_VMA], vma))
        va = m[vma + VMA_NEXT]
    return np.array(rows, dtype=np.int64).reshape(-1, 5)


def anon_roots(check: Check, vas: Ids) -> Ids:
    """Address of the root of each anon_vma (addresses), 0 where there is none."""
    roots = {0: 0}
    for va in np.unique(vas).tolist():
        av = check.structure(va, 5)
        roots[va] = check.m[av + AV_ROOT] if av >= 0 else -1
    return np.array([roots[va] for va in vas.tolist()], dtype=np.int64)


def check_places(check: Check) -> None:
    """Every mapping against its area, and every address space's counters."""
    maps = check.mappings
    for number, mm in enumerate(maps.mms):
        areas = read_areas(check, mm, number)
        mine = maps.owners == number
        chosen = np.flatnonzero(mine & (maps.frames >= 0))
        addresses, at = maps.addresses[chosen], maps.frames[chosen]
        slot = np.searchsorted(areas[:, 0], addresses, side="right") - 1
        inside = slot >= 0
        inside[inside] = addresses[inside] < areas[slot[inside], 1]
        for i in np.flatnonzero(~inside)[:8].tolist():
            text = f"address {int(addresses[i]):#x} is mapped but lies in no area"
            check.add("rmap", f"process {number}", text, int(maps.words[chosen[i]]))
        addresses, at, area = addresses[inside], at[inside], areas[slot[inside]]
        heads = _heads(check, at)
        mapping = check.frames.column(heads, P_MAPPING)
        index = check.frames.column(heads, P_INDEX) + (at - heads)
        anon = mapping & PAGE_MAPPING_ANON != 0
        place = area[:, 2] + (addresses - area[:, 0] >> 12)
        wrong = index != place
        roots = anon_roots(check, np.where(anon, mapping - PAGE_MAPPING_ANON, 0))
        wrong |= anon & (roots != anon_roots(check, np.where(anon, area[:, 3], 0)))
        wrong |= mapping == 0
        check.add_frames("rmap", np.unique(heads[wrong]), "is mapped where rmap will not find it")
        _check_counters(check, number, mm, heads)


def _heads(check: Check, at: Ids) -> Ids:
    """Array indices of the heads of pages."""
    frames = check.frames
    heads = at.copy()
    tails = np.flatnonzero(frames.has(at, KIND_TAIL))
    vas = frames.column(at[tails], P_NEXT) - 1 - VMEMMAP_START
    found = frame_indices(check, vas >> 6)
    heads[tails] = np.where(found >= 0, found, at[tails])
    return heads


def _check_counters(check: Check, number: int, mm: int, heads: Ids) -> None:
    """rss_stat of one address space; `heads` are the heads of its mapped pages."""
    maps, m = check.mappings, check.m
    mine = maps.owners == number
    kept = mine & (maps.frames >= 0)
    pages = np.where(maps.huge[kept], 512, 1)
    if pages.size != heads.size:
        return
    anon = check.frames.column(heads, P_MAPPING) & PAGE_MAPPING_ANON != 0
    shared = ~anon & (check.frames.flags[heads] & PG_SWAPBACKED != 0)
    swapped = maps.values[mine & maps.swapped & ~maps.huge]
    kinds = swapped >> 59 & 31
    slots = int(np.count_nonzero(kinds < MAX_SWAPFILES))
    moving = int(np.count_nonzero(kinds > MAX_SWAPFILES))
    for item, due, name in (
        (MM_ANONPAGES, int(pages[anon].sum()), "anonymous pages"),
        (MM_FILEPAGES, int(pages[~anon & ~shared].sum()), "file pages"),
        (MM_SHMEMPAGES, int(pages[shared].sum()), "pages of shared memory"),
        (MM_SWAPENTS, slots, "swap entries"),
    ):
        if m[mm + MM_RSS + item] != due and not moving:
            text = f"counts {m[mm + MM_RSS + item]} {name}, its page tables have {due}"
            check.add("mm-counter", f"process {number}", text, mm + MM_RSS + item)


def run(check: Check) -> None:
    """All rules about pages of processes and files."""
    if not check.m[G_MM_INIT_DONE]:
        return
    check_tables(check)
    check_mapcounts(check)
    check_references(check)
    check_places(check)


register("owners", RULES, run, rank=95)
