# SPDX-License-Identifier: GPL-2.0-only
"""Who uses a slot of swap: the swap map of every area (mm/swapfile.c, mm/swap_slots.c).

A swap area is a row of slots of a page each, the first holding the area's header. Its `swap_map`
says of every slot how many page-table entries name it, and whether it has a page in the swap cache
(SWAP_HAS_CACHE); a slot with neither is free. The map's entries have 16 bits here, where Linux has
8 and continuation pages behind them: 16,381 processes may share a slot.

While swap is plentiful slots come and go through a cache per CPU, as in 4.20: up to 64 slots
taken from the areas at once, and up to 64 that are free but not given back yet. Both kinds carry
SWAP_HAS_CACHE in the map.

All hot. `si` is the word index of a swap_info_struct, `offset` a slot, `entry` a swap entry.
"""

from __future__ import annotations

from .address_space import SWAP_INFO, swap_info
from .kernel_globals import (
    G_NR_CPU_IDS,
    G_NR_SWAP_PAGES,
    G_NR_SWAPFILES,
    G_NUM_ONLINE_CPUS,
    G_SWAP_SLOTS,
    G_SWAP_SLOTS_ACTIVE,
    G_TOTAL_SWAP_PAGES,
)
from .layout import CPU_BLOCKS, CPU_ONLINE, CPU_WORDS, PAGE_OFFSET
from .structs import Struct, array, scalar
from .swapops import MAX_SWAPFILES, swp_entry, swp_offset, swp_type

SI_FLAGS = SWAP_INFO["flags"]
SI_PRIO = SWAP_INFO["prio"]
SI_TYPE = SWAP_INFO["type"]
SI_MAX = SWAP_INFO["max"]
SI_PAGES = SWAP_INFO["pages"]
SI_MAP = SWAP_INFO["swap_map"]
SI_LOWEST = SWAP_INFO["lowest_bit"]
SI_HIGHEST = SWAP_INFO["highest_bit"]
SI_INUSE = SWAP_INFO["inuse_pages"]
SI_CLUSTER_NEXT = SWAP_INFO["cluster_next"]
SI_CLUSTER_NR = SWAP_INFO["cluster_nr"]
SI_BDEV = SWAP_INFO["bdev"]
SI_AVAIL_STAMP = SWAP_INFO["avail_stamp"]

SWP_USED = 1
SWP_WRITEOK = 2
SWAPFILE_CLUSTER = 256
SWAP_BATCH = 64
SWAP_HAS_CACHE = 0x4000
SWAP_MAP_BAD = 0x3FFF
SWAP_MAP_SHMEM = 0x3FFE
"""The count of a slot whose only user is the xarray of shared memory."""
SWAP_MAP_MAX = 0x3FFD
SLOT_MASK = 0xFFFF
SLOTS_A_WORD = 4

SWAP_SLOTS_CACHE = Struct(
    "swap_slots_cache",
    [
        scalar("nr", "int"),
        scalar("cur", "int"),
        scalar("n_ret", "int"),
        array("slots", SWAP_BATCH, "swp_entry_t"),
        array("slots_ret", SWAP_BATCH, "swp_entry_t"),
        array("got", SWAP_BATCH, "swp_entry_t"),
    ],
    words=256,
)
SC_NR = SWAP_SLOTS_CACHE["nr"]
SC_CUR = SWAP_SLOTS_CACHE["cur"]
SC_N_RET = SWAP_SLOTS_CACHE["n_ret"]
SC_SLOTS = SWAP_SLOTS_CACHE["slots"]
SC_SLOTS_RET = SWAP_SLOTS_CACHE["slots_ret"]
SC_GOT = SWAP_SLOTS_CACHE["got"]
SC_WORDS = SWAP_SLOTS_CACHE.words
SLOTS_DISABLED = -1
"""No slots are cached while an area is given up: none of its may be left behind anywhere."""
SLOTS_CACHE_ACTIVATE = 5 * SWAP_BATCH
SLOTS_CACHE_DEACTIVATE = 2 * SWAP_BATCH
ENOENT, ENOMEM, EEXIST, EINVAL = 2, 12, 17, 22


# --- the map --------------------------------------------------------------------------------------
def slot_usage(m: memoryview, si: int, offset: int) -> int:
    """The map's entry of a slot: count, and SWAP_HAS_CACHE. Hot."""
    w = (m[si + SI_MAP] - PAGE_OFFSET >> 3) + (offset >> 2)
    return m[w] >> ((offset & 3) << 4) & SLOT_MASK


def set_slot_usage(m: memoryview, si: int, offset: int, usage: int) -> None:
    """Writes the map's entry of a slot. Hot."""
    w = (m[si + SI_MAP] - PAGE_OFFSET >> 3) + (offset >> 2)
    shift = (offset & 3) << 4
    m[w] = m[w] & ~(SLOT_MASK << shift) | usage << shift


def swap_info_get(m: memoryview, entry: int) -> int:
    """The swap area of an entry, 0 if it names no slot of an area in use. Hot."""
    kind = swp_type(entry)
    if entry == 0 or kind >= MAX_SWAPFILES or kind >= m[G_NR_SWAPFILES]:
        return 0
    si = swap_info(m, kind)
    if m[si + SI_FLAGS] & SWP_USED == 0 or swp_offset(entry) >= m[si + SI_MAX]:
        return 0
    return si


def vm_swap_full(m: memoryview) -> bool:
    """True if more than half of all swap is used: slots of pages in memory are taken back. Hot."""
    return m[G_NR_SWAP_PAGES] * 2 < m[G_TOTAL_SWAP_PAGES]


def swp_swapcount(m: memoryview, entry: int) -> int:
    """How many page-table entries name the slot. Hot (__swp_swapcount)."""
    si = swap_info_get(m, entry)
    return slot_usage(m, si, swp_offset(entry)) & ~SWAP_HAS_CACHE if si else 0


def swap_range_alloc(m: memoryview, si: int, offset: int) -> None:
    """A slot is taken: the area's bounds and count of used pages. Hot."""
    if offset == m[si + SI_LOWEST]:
        m[si + SI_LOWEST] += 1
    if offset == m[si + SI_HIGHEST]:
        m[si + SI_HIGHEST] -= 1
    m[si + SI_INUSE] += 1
    if m[si + SI_INUSE] == m[si + SI_PAGES]:
        m[si + SI_LOWEST] = m[si + SI_MAX]
        m[si + SI_HIGHEST] = 0


def swap_entry_free(m: memoryview, entry: int) -> None:
    """Makes a slot free that only the cache or nobody held. Hot."""
    si = swap_info(m, swp_type(entry))
    offset = swp_offset(entry)
    set_slot_usage(m, si, offset, 0)
    m[si + SI_LOWEST] = min(m[si + SI_LOWEST], offset)
    m[si + SI_HIGHEST] = max(m[si + SI_HIGHEST], offset)
    m[G_NR_SWAP_PAGES] += 1
    m[si + SI_INUSE] -= 1


def slot_put(m: memoryview, cpu: int, si: int, offset: int, usage: int) -> int:
    """Takes one user (`usage` 1) or the cache (SWAP_HAS_CACHE) off a slot; what is left. Hot.

    A slot without any goes to the CPU's returned slots. (__swap_entry_free)
    """
    old = slot_usage(m, si, offset)
    if usage == SWAP_HAS_CACHE:
        new = old & ~SWAP_HAS_CACHE
    elif old & SWAP_MAP_BAD == SWAP_MAP_SHMEM:
        new = old & ~SWAP_MAP_BAD
    else:
        new = old - 1 if old & SWAP_MAP_BAD else old
    set_slot_usage(m, si, offset, new if new else SWAP_HAS_CACHE)
    if new == 0:
        free_swap_slot(m, cpu, swp_entry(m[si + SI_TYPE], offset))
    return new


def swap_free(m: memoryview, cpu: int, entry: int) -> None:
    """One page-table entry less names the slot. Hot."""
    si = swap_info_get(m, entry)
    if si:
        slot_put(m, cpu, si, swp_offset(entry), 1)


def put_swap_page(m: memoryview, cpu: int, p: int, entry: int) -> None:  # noqa: ARG001
    """The slot's page has left the swap cache. Hot."""
    si = swap_info_get(m, entry)
    if si:
        slot_put(m, cpu, si, swp_offset(entry), SWAP_HAS_CACHE)


def swap_duplicate(m: memoryview, entry: int) -> int:
    """One page-table entry more names the slot. Hot.

    0; -ENOENT for a slot that nobody uses, -EINVAL for no slot or one of shared memory, -ENOMEM for
    one too many.
    """
    si = swap_info_get(m, entry)
    if si == 0:
        return -EINVAL
    usage = slot_usage(m, si, swp_offset(entry))
    if usage == 0 or usage & SWAP_MAP_BAD == SWAP_MAP_BAD:
        return -ENOENT
    if usage & SWAP_MAP_BAD == SWAP_MAP_SHMEM:
        return -EINVAL
    if usage & SWAP_MAP_BAD >= SWAP_MAP_MAX:
        return -ENOMEM
    set_slot_usage(m, si, swp_offset(entry), usage + 1)
    return 0


def swap_shmem_alloc(m: memoryview, entry: int) -> None:
    """The xarray of shared memory names the slot, which so far only the swap cache has. Hot."""
    si = swap_info_get(m, entry)
    if si:
        usage = slot_usage(m, si, swp_offset(entry))
        set_slot_usage(m, si, swp_offset(entry), usage & ~SWAP_MAP_BAD | SWAP_MAP_SHMEM)


def swapcache_prepare(m: memoryview, entry: int) -> int:
    """Claims a used slot for the swap cache. Hot.

    0; -EEXIST if it is claimed, -ENOENT if nobody uses it, -EINVAL for no slot.
    """
    si = swap_info_get(m, entry)
    if si == 0:
        return -EINVAL
    usage = slot_usage(m, si, swp_offset(entry))
    if usage & SWAP_MAP_BAD == SWAP_MAP_BAD:
        return -ENOENT
    if usage & SWAP_HAS_CACHE:
        return -EEXIST
    if usage == 0:
        return -ENOENT
    set_slot_usage(m, si, swp_offset(entry), usage | SWAP_HAS_CACHE)
    return 0


# --- the CPUs' caches of slots --------------------------------------------------------------------
def slots_cache(m: memoryview, cpu: int) -> int:
    """Word index of `cpu`'s cache of slots. Hot."""
    return (m[G_SWAP_SLOTS] - PAGE_OFFSET >> 3) + cpu * SC_WORDS


def free_swap_slot(m: memoryview, cpu: int, entry: int) -> None:
    """A slot that nobody uses: kept with the CPU's returned slots while there is plenty. Hot."""
    if m[G_SWAP_SLOTS_ACTIVE] <= 0:
        swap_entry_free(m, entry)
        return
    cache = slots_cache(m, cpu)
    if m[cache + SC_N_RET] >= SWAP_BATCH:
        drain_returned_slots(m, cpu)
    n = m[cache + SC_N_RET]
    m[cache + SC_SLOTS_RET + n] = entry
    m[cache + SC_N_RET] = n + 1


def drain_returned_slots(m: memoryview, cpu: int) -> None:
    """Makes the CPU's returned slots free. Hot."""
    cache = slots_cache(m, cpu)
    for i in range(m[cache + SC_N_RET]):
        swap_entry_free(m, m[cache + SC_SLOTS_RET + i])
    m[cache + SC_N_RET] = 0


def drain_swap_slots(m: memoryview) -> None:
    """Gives all CPUs' cached slots back, taken and returned ones. Hot."""
    for cpu in range(m[G_NR_CPU_IDS]):
        if m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_ONLINE]:
            cache = slots_cache(m, cpu)
            for i in range(m[cache + SC_NR]):
                swap_entry_free(m, m[cache + SC_SLOTS + m[cache + SC_CUR] + i])
            m[cache + SC_NR] = 0
            m[cache + SC_CUR] = 0
            drain_returned_slots(m, cpu)


def check_cache_active(m: memoryview) -> bool:
    """True if slots may be cached: there are more free ones than some for every CPU. Hot."""
    cpus = m[G_NUM_ONLINE_CPUS]
    if m[G_SWAP_SLOTS_ACTIVE] == SLOTS_DISABLED:
        return False
    if m[G_SWAP_SLOTS_ACTIVE] == 0:
        if m[G_NR_SWAP_PAGES] > cpus * SLOTS_CACHE_ACTIVATE:
            m[G_SWAP_SLOTS_ACTIVE] = 1
    elif m[G_NR_SWAP_PAGES] < cpus * SLOTS_CACHE_DEACTIVATE:
        m[G_SWAP_SLOTS_ACTIVE] = 0
        drain_swap_slots(m)
    return m[G_SWAP_SLOTS_ACTIVE] != 0
