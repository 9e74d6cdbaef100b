# SPDX-License-Identifier: GPL-2.0-only
"""Watermarks, lowmem reserves and the sysctls that move them (mm/page_alloc.c, mm/khugepaged.c).

From `min_free_kbytes` - four times the square root of memory, within bounds - every zone gets its
share as the min watermark; low and high lie a quarter of it, or watermark_scale_factor / 10000 of
the zone, further up each. `lowmem_reserve` keeps requests that could use a higher zone from eating
up a lower one. All is computed from managed pages as they are when the function is called; later
growth of a zone does not change it. The sysctl functions write the value and redo what hangs on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

from .boot_context import all_zones, node_word, online_nodes, populated_zones
from .gfp import GFP_USER, gfp_zone
from .kernel_globals import (
    G_LOWMEM_RATIO,
    G_MIN_FREE_KBYTES,
    G_TOTALRESERVE,
    G_USER_MIN_FREE_KBYTES,
    G_WATERMARK_SCALE,
)
from .layout import PAGE_OFFSET
from .mm_types import PAGE_SHIFT, PAGE_SIZE
from .mmzone import (
    MAX_NR_ZONES,
    MIGRATE_PCPTYPES,
    ND_TOTALRESERVE,
    PAGEBLOCK_NR_PAGES,
    PGLIST_DATA,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_PGDAT,
    Z_WMARK,
    ZONE_WORDS,
)
from .pageset import EINVAL, refresh_zone_stat_thresholds
from .pcp import zone_idx
from .printk import Printk
from .zonelist import nr_free_zone_pages

DEFAULT_MIN_FREE_KBYTES = 1024
DEFAULT_WATERMARK_SCALE = 10
DEFAULT_LOWMEM_RATIO = (256, 256, 32, 0)
MIN_UNMAPPED_RATIO, MIN_SLAB_RATIO = 1, 5
MAX_WATERMARK_SCALE = 1000
_INT_MAX = (1 << 31) - 1


def init_defaults(m: memoryview) -> None:
    """The sysctls' initial values."""
    m[G_MIN_FREE_KBYTES] = DEFAULT_MIN_FREE_KBYTES
    m[G_USER_MIN_FREE_KBYTES] = -1
    m[G_WATERMARK_SCALE] = DEFAULT_WATERMARK_SCALE
    for zid, ratio in enumerate(DEFAULT_LOWMEM_RATIO):
        m[G_LOWMEM_RATIO + zid] = ratio


def calculate_totalreserve_pages(m: memoryview) -> None:
    """Pages that no request can have for good: high watermark plus the largest lowmem reserve."""
    total = 0
    for nid in online_nodes(m):
        nd = node_word(m, nid)
        node_total = 0
        for zid in range(MAX_NR_ZONES):
            z = nd + zid * ZONE_WORDS
            reserve = max(0, *(m[z + Z_LOWMEM_RESERVE + j] for j in range(zid, MAX_NR_ZONES)))
            node_total += min(reserve + m[z + Z_WMARK + WMARK_HIGH], m[z + Z_MANAGED])
        m[nd + ND_TOTALRESERVE] = node_total
        total += node_total
    m[G_TOTALRESERVE] = total


def setup_per_zone_lowmem_reserve(m: memoryview) -> None:
    """What each zone keeps back from requests whose preferred zone is higher."""
    for nid in online_nodes(m):
        nd = node_word(m, nid)
        for j in range(MAX_NR_ZONES):
            z = nd + j * ZONE_WORDS
            managed = m[z + Z_MANAGED]
            m[z + Z_LOWMEM_RESERVE + j] = 0
            for idx in range(j - 1, -1, -1):
                lower = nd + idx * ZONE_WORDS
                ratio = m[G_LOWMEM_RATIO + idx]
                if ratio < 1:
                    m[G_LOWMEM_RATIO + idx] = 0
                    m[lower + Z_LOWMEM_RESERVE + j] = 0
                else:
                    m[lower + Z_LOWMEM_RESERVE + j] = managed // ratio
                managed += m[lower + Z_MANAGED]
    calculate_totalreserve_pages(m)


def setup_per_zone_wmarks(m: memoryview) -> None:
    """min, low and high of all zones from min_free_kbytes and watermark_scale_factor."""
    pages_min = m[G_MIN_FREE_KBYTES] >> (PAGE_SHIFT - 10)
    zones = all_zones(m)
    lowmem_pages = sum(m[z + Z_MANAGED] for z in zones)
    for z in zones:
        managed = m[z + Z_MANAGED]
        low = pages_min * managed // lowmem_pages if lowmem_pages else 0
        distance = max(low >> 2, managed * m[G_WATERMARK_SCALE] // 10000)
        m[z + Z_WMARK + WMARK_MIN] = low
        m[z + Z_WMARK + WMARK_LOW] = low + distance
        m[z + Z_WMARK + WMARK_HIGH] = low + 2 * distance
    calculate_totalreserve_pages(m)


def _setup_node_ratios(m: memoryview) -> None:
    """min_unmapped_pages and min_slab_pages of all nodes, for node reclaim."""
    for field, ratio in (
        (PGLIST_DATA["min_unmapped_pages"], MIN_UNMAPPED_RATIO),
        (PGLIST_DATA["min_slab_pages"], MIN_SLAB_RATIO),
    ):
        for nid in online_nodes(m):
            m[node_word(m, nid) + field] = 0
        for z in all_zones(m):
            nd = (m[z + Z_PGDAT] - PAGE_OFFSET) >> 3
            m[nd + field] += m[z + Z_MANAGED] * ratio // 100


def init_per_zone_wmark_min(m: memoryview, printk: Printk | None = None) -> None:
    """min_free_kbytes for this machine, unless the user set more, and everything that follows."""
    lowmem_kbytes = nr_free_zone_pages(m, gfp_zone(GFP_USER)) * (PAGE_SIZE >> 10)
    wanted = isqrt(lowmem_kbytes * 16)
    user = m[G_USER_MIN_FREE_KBYTES]
    if wanted > user:
        m[G_MIN_FREE_KBYTES] = min(max(wanted, 128), 65536)
    elif printk:
        printk.warn(
            f"min_free_kbytes is not updated to {wanted} because user defined value {user} "
            "is preferred"
        )
    setup_per_zone_wmarks(m)
    refresh_zone_stat_thresholds(m)
    setup_per_zone_lowmem_reserve(m)
    _setup_node_ratios(m)


def set_recommended_min_free_kbytes(m: memoryview, printk: Printk | None = None) -> None:
    """khugepaged's raise of min_free_kbytes: a few pageblocks a zone, at most 5% of memory."""
    highest = gfp_zone(GFP_USER)
    zones = sum(zone_idx(m, z) <= highest for z in populated_zones(m))
    recommended = PAGEBLOCK_NR_PAGES * zones * (2 + MIGRATE_PCPTYPES * MIGRATE_PCPTYPES)
    recommended = min(recommended, nr_free_zone_pages(m, highest) // 20)
    recommended <<= PAGE_SHIFT - 10
    if recommended > m[G_MIN_FREE_KBYTES]:
        if m[G_USER_MIN_FREE_KBYTES] >= 0 and printk:
            printk(
                f"raising min_free_kbytes from {m[G_MIN_FREE_KBYTES]} to {recommended} "
                "to help transparent hugepage allocations"
            )
        m[G_MIN_FREE_KBYTES] = recommended
    setup_per_zone_wmarks(m)


# --- /proc/sys/vm: 0, or -EINVAL and nothing changed ---
def min_free_kbytes_sysctl(m: memoryview, value: int) -> int:
    """Writes vm.min_free_kbytes (KiB)."""
    if not 0 <= value <= _INT_MAX:
        return -EINVAL
    m[G_MIN_FREE_KBYTES] = m[G_USER_MIN_FREE_KBYTES] = value
    setup_per_zone_wmarks(m)
    return 0


def watermark_scale_factor_sysctl(m: memoryview, value: int) -> int:
    """Writes vm.watermark_scale_factor (1 to 1000 ten-thousandths of a zone)."""
    if not 1 <= value <= MAX_WATERMARK_SCALE:
        return -EINVAL
    m[G_WATERMARK_SCALE] = value
    setup_per_zone_wmarks(m)
    return 0


def lowmem_reserve_ratio_sysctl(m: memoryview, ratios: Sequence[int]) -> int:
    """Writes vm.lowmem_reserve_ratio, the first values if there are fewer than zones."""
    if len(ratios) > MAX_NR_ZONES or any(abs(ratio) > _INT_MAX for ratio in ratios):
        return -EINVAL
    for zid, ratio in enumerate(ratios):
        m[G_LOWMEM_RATIO + zid] = ratio
    setup_per_zone_lowmem_reserve(m)
    return 0
