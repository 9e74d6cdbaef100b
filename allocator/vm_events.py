# SPDX-License-Identifier: GPL-2.0-only
"""VM event counters, per CPU, under the names and in the order of /proc/vmstat.

The order is that of enum vm_event_item (include/linux/vm_event_item.h) for the recorded
configuration: DMA, DMA32, Normal and Movable zones, MIGRATION, COMPACTION, HUGETLB, THP, SWAP.
A counter lives in its CPU's block (`layout.CPU_EVENTS`); nothing reads it on the hot path.
"""

from __future__ import annotations

VM_EVENT_NAMES = (
    "pgpgin",
    "pgpgout",
    "pswpin",
    "pswpout",
    "pgalloc_dma",
    "pgalloc_dma32",
    "pgalloc_normal",
    "pgalloc_movable",
    "allocstall_dma",
    "allocstall_dma32",
    "allocstall_normal",
    "allocstall_movable",
    "pgskip_dma",
    "pgskip_dma32",
    "pgskip_normal",
    "pgskip_movable",
    "pgfree",
    "pgactivate",
    "pgdeactivate",
    "pglazyfree",
    "pgfault",
    "pgmajfault",
    "pglazyfreed",
    "pgrefill",
    "pgsteal_kswapd",
    "pgsteal_direct",
    "pgscan_kswapd",
    "pgscan_direct",
    "pgscan_direct_throttle",
    "zone_reclaim_failed",
    "pginodesteal",
    "slabs_scanned",
    "kswapd_inodesteal",
    "kswapd_low_wmark_hit_quickly",
    "kswapd_high_wmark_hit_quickly",
    "pageoutrun",
    "pgrotated",
    "drop_pagecache",
    "drop_slab",
    "oom_kill",
    "pgmigrate_success",
    "pgmigrate_fail",
    "compact_migrate_scanned",
    "compact_free_scanned",
    "compact_isolated",
    "compact_stall",
    "compact_fail",
    "compact_success",
    "compact_daemon_wake",
    "compact_daemon_migrate_scanned",
    "compact_daemon_free_scanned",
    "htlb_buddy_alloc_success",
    "htlb_buddy_alloc_fail",
    "unevictable_pgs_culled",
    "unevictable_pgs_scanned",
    "unevictable_pgs_rescued",
    "unevictable_pgs_mlocked",
    "unevictable_pgs_munlocked",
    "unevictable_pgs_cleared",
    "unevictable_pgs_stranded",
    "thp_fault_alloc",
    "thp_fault_fallback",
    "thp_collapse_alloc",
    "thp_collapse_alloc_failed",
    "thp_file_alloc",
    "thp_file_mapped",
    "thp_split_page",
    "thp_split_page_failed",
    "thp_deferred_split_page",
    "thp_split_pmd",
    "thp_split_pud",
    "thp_zero_page_alloc",
    "thp_zero_page_alloc_failed",
    "thp_swpout",
    "thp_swpout_fallback",
    "swap_ra",
    "swap_ra_hit",
)
NR_VM_EVENT_ITEMS = len(VM_EVENT_NAMES)

PGALLOC = VM_EVENT_NAMES.index("pgalloc_dma")
ALLOCSTALL = VM_EVENT_NAMES.index("allocstall_dma")
PGFREE = VM_EVENT_NAMES.index("pgfree")
ZONE_RECLAIM_FAILED = VM_EVENT_NAMES.index("zone_reclaim_failed")
PGPGIN = VM_EVENT_NAMES.index("pgpgin")
PGPGOUT = VM_EVENT_NAMES.index("pgpgout")
PGINODESTEAL = VM_EVENT_NAMES.index("pginodesteal")
SLABS_SCANNED = VM_EVENT_NAMES.index("slabs_scanned")
PGFAULT = VM_EVENT_NAMES.index("pgfault")
PGMAJFAULT = VM_EVENT_NAMES.index("pgmajfault")
DROP_PAGECACHE = VM_EVENT_NAMES.index("drop_pagecache")
DROP_SLAB = VM_EVENT_NAMES.index("drop_slab")
