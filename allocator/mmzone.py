# SPDX-License-Identifier: GPL-2.0-only
"""Nodes, zones and per-cpu pagesets as they lie in guest RAM (include/linux/mmzone.h).

A node is one `struct pglist_data`; its zones are an array at its start, its two zonelists (with
fallback, and for __GFP_THISNODE) follow. A zone holds eleven free areas of six lists; its
`pageset` points to an array of `struct per_cpu_pageset`, one a CPU. The list of a zone's node,
watermarks, counters and flags have Linux's names. Everything is a word; offsets below are words
from the start of the structure.

Constants of the hot path: Z_ a zone, FA_ a free area, PSET_ a pageset, ND_ a node.
"""

from __future__ import annotations

from .structs import Struct, array, list_head, scalar

MAX_ORDER = 11
MAX_ORDER_NR_PAGES = 1 << (MAX_ORDER - 1)
PAGEBLOCK_ORDER = 9
PAGEBLOCK_NR_PAGES = 1 << PAGEBLOCK_ORDER
PAGE_ALLOC_COSTLY_ORDER = 3

MIGRATE_UNMOVABLE = 0
MIGRATE_MOVABLE = 1
MIGRATE_RECLAIMABLE = 2
MIGRATE_PCPTYPES = 3
MIGRATE_HIGHATOMIC = 3
MIGRATE_CMA = 4
MIGRATE_ISOLATE = 5
MIGRATE_TYPES = 6
MIGRATETYPE_NAMES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate")

ZONE_DMA = 0
ZONE_DMA32 = 1
ZONE_NORMAL = 2
ZONE_MOVABLE = 3
MAX_NR_ZONES = 4
ZONE_NAMES = ("DMA", "DMA32", "Normal", "Movable")

MAX_NUMNODES = 64
NR_CPUS = 256
MAX_ZONES_PER_ZONELIST = MAX_NUMNODES * MAX_NR_ZONES
ZONELIST_FALLBACK = 0
ZONELIST_NOFALLBACK = 1
MAX_ZONELISTS = 2

WMARK_MIN = 0
WMARK_LOW = 1
WMARK_HIGH = 2
NR_WMARK = 3

# zone_stat_item
ZONE_STAT_NAMES = (
    "nr_free_pages",
    "nr_zone_inactive_anon",
    "nr_zone_active_anon",
    "nr_zone_inactive_file",
    "nr_zone_active_file",
    "nr_zone_unevictable",
    "nr_zone_write_pending",
    "nr_mlock",
    "nr_page_table_pages",
    "nr_kernel_stack",
    "nr_bounce",
    "nr_free_cma",
)
NR_FREE_PAGES = 0
NR_ZONE_LRU_BASE = 1
NR_ZONE_WRITE_PENDING = 6
NR_MLOCK = 7
NR_PAGETABLE = 8
NR_KERNEL_STACK_KB = 9
NR_BOUNCE = 10
NR_FREE_CMA_PAGES = 11
NR_VM_ZONE_STAT_ITEMS = len(ZONE_STAT_NAMES)

# numa_stat_item
NUMA_STAT_NAMES = (
    "numa_hit",
    "numa_miss",
    "numa_foreign",
    "numa_interleave",
    "numa_local",
    "numa_other",
)
NUMA_HIT = 0
NUMA_MISS = 1
NUMA_FOREIGN = 2
NUMA_INTERLEAVE_HIT = 3
NUMA_LOCAL = 4
NUMA_OTHER = 5
NR_VM_NUMA_STAT_ITEMS = len(NUMA_STAT_NAMES)

# node_stat_item, under the names that /proc/vmstat gives them
NODE_STAT_NAMES = (
    "nr_inactive_anon",
    "nr_active_anon",
    "nr_inactive_file",
    "nr_active_file",
    "nr_unevictable",
    "nr_slab_reclaimable",
    "nr_slab_unreclaimable",
    "nr_isolated_anon",
    "nr_isolated_file",
    "workingset_nodes",
    "workingset_refault",
    "workingset_activate",
    "workingset_restore",
    "workingset_nodereclaim",
    "nr_anon_pages",
    "nr_mapped",
    "nr_file_pages",
    "nr_dirty",
    "nr_writeback",
    "nr_writeback_temp",
    "nr_shmem",
    "nr_shmem_hugepages",
    "nr_shmem_pmdmapped",
    "nr_anon_transparent_hugepages",
    "nr_unstable",
    "nr_vmscan_write",
    "nr_vmscan_immediate_reclaim",
    "nr_dirtied",
    "nr_written",
    "nr_kernel_misc_reclaimable",
)
NR_VM_NODE_STAT_ITEMS = len(NODE_STAT_NAMES)
NR_LRU_BASE = 0
NR_INACTIVE_ANON = 0
NR_ACTIVE_ANON = 1
NR_INACTIVE_FILE = 2
NR_ACTIVE_FILE = 3
NR_SLAB_RECLAIMABLE = 5
NR_SLAB_UNRECLAIMABLE = 6
NR_ISOLATED_ANON = 7
NR_ISOLATED_FILE = 8
WORKINGSET_NODES = 9
WORKINGSET_REFAULT = 10
WORKINGSET_ACTIVATE = 11
WORKINGSET_RESTORE = 12
WORKINGSET_NODERECLAIM = 13
NR_ANON_MAPPED = 14
NR_FILE_MAPPED = 15
NR_FILE_PAGES = 16
NR_SHMEM = 20
NR_FILE_DIRTY = 17
NR_WRITEBACK = 18
NR_ANON_THPS = 23
NR_UNSTABLE_NFS = 24
NR_VMSCAN_WRITE = 25
NR_VMSCAN_IMMEDIATE = 26
NR_DIRTIED = 27
NR_WRITTEN = 28
NR_LRU_LISTS = 5
LRU_INACTIVE_ANON = 0
LRU_ACTIVE_ANON = 1
LRU_INACTIVE_FILE = 2
LRU_ACTIVE_FILE = 3
LRU_UNEVICTABLE = 4
LRU_ACTIVE = 1
LRU_FILE = 2

FREE_AREA = Struct("free_area", [list_head("free_list", MIGRATE_TYPES), scalar("nr_free")])
FA_NR_FREE = FREE_AREA["nr_free"]
FA_WORDS = FREE_AREA.words

ZONE = Struct(
    "zone",
    [
        array("watermark", NR_WMARK),
        scalar("nr_reserved_highatomic"),
        array("lowmem_reserve", MAX_NR_ZONES, "long"),
        scalar("node", "int"),
        scalar("zone_pgdat", "struct pglist_data *"),
        scalar("pageset", "struct per_cpu_pageset *"),
        scalar("zone_start_pfn"),
        scalar("managed_pages"),
        scalar("spanned_pages"),
        scalar("present_pages"),
        scalar("name", "const char *"),
        scalar("nr_isolate_pageblock"),
        scalar("initialized", "int"),
        ("free_area", "struct free_area", FREE_AREA, MAX_ORDER),
        scalar("flags"),
        scalar("lock", "spinlock_t"),
        scalar("percpu_drift_mark"),
        scalar("compact_cached_free_pfn"),
        array("compact_cached_migrate_pfn", 2),
        scalar("compact_considered", "unsigned int"),
        scalar("compact_defer_shift", "unsigned int"),
        scalar("compact_order_failed", "int"),
        scalar("compact_blockskip_flush", "bool"),
        scalar("contiguous", "bool"),
        array("vm_stat", NR_VM_ZONE_STAT_ITEMS, "atomic_long_t"),
        array("vm_numa_stat", NR_VM_NUMA_STAT_ITEMS, "atomic_long_t"),
    ],
    words=224,
)
Z_WMARK = ZONE["watermark"]
Z_NR_HIGHATOMIC = ZONE["nr_reserved_highatomic"]
Z_LOWMEM_RESERVE = ZONE["lowmem_reserve"]
Z_NODE = ZONE["node"]
Z_PGDAT = ZONE["zone_pgdat"]
Z_PAGESET = ZONE["pageset"]
Z_START_PFN = ZONE["zone_start_pfn"]
Z_MANAGED = ZONE["managed_pages"]
Z_SPANNED = ZONE["spanned_pages"]
Z_PRESENT = ZONE["present_pages"]
Z_NAME = ZONE["name"]
Z_NR_ISOLATE = ZONE["nr_isolate_pageblock"]
Z_INITIALIZED = ZONE["initialized"]
Z_FREE_AREA = ZONE["free_area"]
Z_FLAGS = ZONE["flags"]
Z_LOCK = ZONE["lock"]
Z_DRIFT_MARK = ZONE["percpu_drift_mark"]
Z_COMPACT_FREE_PFN = ZONE["compact_cached_free_pfn"]
Z_COMPACT_MIGRATE_PFN = ZONE["compact_cached_migrate_pfn"]
Z_COMPACT_CONSIDERED = ZONE["compact_considered"]
Z_COMPACT_DEFER_SHIFT = ZONE["compact_defer_shift"]
Z_COMPACT_ORDER_FAILED = ZONE["compact_order_failed"]
Z_COMPACT_BLOCKSKIP_FLUSH = ZONE["compact_blockskip_flush"]
Z_CONTIGUOUS = ZONE["contiguous"]
Z_VM_STAT = ZONE["vm_stat"]
Z_NUMA_STAT = ZONE["vm_numa_stat"]
Z_FREE_PAGES = Z_VM_STAT + NR_FREE_PAGES
Z_FREE_CMA = Z_VM_STAT + NR_FREE_CMA_PAGES
ZONE_WORDS = ZONE.words

ZONEREF = Struct("zoneref", [scalar("zone", "struct zone *"), scalar("zone_idx", "int")])
ZR_ZONE = 0
ZR_IDX = 1
ZONEREF_WORDS = ZONEREF.words
ZONELIST = Struct(
    "zonelist", [("_zonerefs", "struct zoneref", ZONEREF, MAX_ZONES_PER_ZONELIST + 1)]
)

LRUVEC = Struct(
    "lruvec",
    [
        list_head("lists", NR_LRU_LISTS),
        array("recent_rotated", 2),
        array("recent_scanned", 2),
        scalar("inactive_age", "atomic_long_t"),
        scalar("refaults"),
        scalar("pgdat", "struct pglist_data *"),
    ],
)

PER_CPU_NODESTAT = Struct(
    "per_cpu_nodestat",
    [
        scalar("stat_threshold", "s8"),
        array("vm_node_stat_diff", NR_VM_NODE_STAT_ITEMS, "s8"),
    ],
    words=32,
)
NODESTAT_THRESHOLD = PER_CPU_NODESTAT["stat_threshold"]
NODESTAT_DIFF = PER_CPU_NODESTAT["vm_node_stat_diff"]
NODESTAT_WORDS = PER_CPU_NODESTAT.words

PGLIST_DATA = Struct(
    "pglist_data",
    [
        ("node_zones", "struct zone", ZONE, MAX_NR_ZONES),
        ("node_zonelists", "struct zonelist", ZONELIST, MAX_ZONELISTS),
        scalar("nr_zones", "int"),
        scalar("node_start_pfn"),
        scalar("node_present_pages"),
        scalar("node_spanned_pages"),
        scalar("node_id", "int"),
        scalar("kswapd", "struct task_struct *"),
        scalar("kswapd_order", "int"),
        scalar("kswapd_classzone_idx", "enum zone_type"),
        scalar("kswapd_failures", "int"),
        scalar("kcompactd_max_order", "int"),
        scalar("kcompactd_classzone_idx", "enum zone_type"),
        scalar("kcompactd", "struct task_struct *"),
        scalar("totalreserve_pages"),
        scalar("min_unmapped_pages"),
        scalar("min_slab_pages"),
        scalar("lru_lock", "spinlock_t"),
        scalar("first_deferred_pfn"),
        scalar("static_init_pgcnt"),
        list_head("split_queue"),
        scalar("split_queue_len"),
        ("lruvec", "struct lruvec", LRUVEC, 1),
        scalar("flags"),
        scalar("per_cpu_nodestats", "struct per_cpu_nodestat *"),
        array("vm_stat", NR_VM_NODE_STAT_ITEMS, "atomic_long_t"),
        array("memcg_lru_size", MAX_NR_ZONES * NR_LRU_LISTS),
        # what the daemons' wait queues and stacks hold in the kernel
        scalar("kswapd_state", "int"),
        scalar("kswapd_nap_end"),
        scalar("kswapd_alloc_order", "int"),
        scalar("kswapd_reclaim_order", "int"),
        scalar("kswapd_classzone", "enum zone_type"),
        scalar("kcompactd_woken", "bool"),
    ],
    words=2048,
)
ND_ZONES = PGLIST_DATA["node_zones"]
ND_ZONELISTS = PGLIST_DATA["node_zonelists"]
ND_NOFALLBACK = ND_ZONELISTS + ZONELIST.words
ND_NR_ZONES = PGLIST_DATA["nr_zones"]
ND_START_PFN = PGLIST_DATA["node_start_pfn"]
ND_PRESENT = PGLIST_DATA["node_present_pages"]
ND_SPANNED = PGLIST_DATA["node_spanned_pages"]
ND_NODE_ID = PGLIST_DATA["node_id"]
ND_KSWAPD_ORDER = PGLIST_DATA["kswapd_order"]
ND_KSWAPD_CLASSZONE = PGLIST_DATA["kswapd_classzone_idx"]
ND_KSWAPD_FAILURES = PGLIST_DATA["kswapd_failures"]
ND_KCOMPACTD_ORDER = PGLIST_DATA["kcompactd_max_order"]
ND_KCOMPACTD_CLASSZONE = PGLIST_DATA["kcompactd_classzone_idx"]
ND_KSWAPD_STATE = PGLIST_DATA["kswapd_state"]
ND_KSWAPD_NAP_END = PGLIST_DATA["kswapd_nap_end"]
ND_KSWAPD_ALLOC_ORDER = PGLIST_DATA["kswapd_alloc_order"]
ND_KSWAPD_RECLAIM_ORDER = PGLIST_DATA["kswapd_reclaim_order"]
ND_KSWAPD_OWN_CLASSZONE = PGLIST_DATA["kswapd_classzone"]
ND_KCOMPACTD_WOKEN = PGLIST_DATA["kcompactd_woken"]
ND_TOTALRESERVE = PGLIST_DATA["totalreserve_pages"]
ND_MIN_UNMAPPED = PGLIST_DATA["min_unmapped_pages"]
ND_MIN_SLAB = PGLIST_DATA["min_slab_pages"]
ND_FIRST_DEFERRED_PFN = PGLIST_DATA["first_deferred_pfn"]
ND_FLAGS = PGLIST_DATA["flags"]
ND_LRUVEC = PGLIST_DATA["lruvec"]
ND_LRU_LISTS = ND_LRUVEC + LRUVEC["lists"]
ND_RECENT_ROTATED = ND_LRUVEC + LRUVEC["recent_rotated"]
ND_RECENT_SCANNED = ND_LRUVEC + LRUVEC["recent_scanned"]
ND_REFAULTS = ND_LRUVEC + LRUVEC["refaults"]
ND_INACTIVE_AGE = ND_LRUVEC + LRUVEC["inactive_age"]
ND_SPLIT_QUEUE = PGLIST_DATA["split_queue"]
ND_SPLIT_QUEUE_LEN = PGLIST_DATA["split_queue_len"]
ND_PER_CPU_NODESTATS = PGLIST_DATA["per_cpu_nodestats"]
ND_VM_STAT = PGLIST_DATA["vm_stat"]
ND_MEMCG_LRU = PGLIST_DATA["memcg_lru_size"]
PGLIST_DATA_WORDS = PGLIST_DATA.words

PER_CPU_PAGESET = Struct(
    "per_cpu_pageset",
    [
        scalar("count", "int"),
        scalar("high", "int"),
        scalar("batch", "int"),
        list_head("lists", MIGRATE_PCPTYPES),
        scalar("expire", "s8"),
        array("vm_numa_stat_diff", NR_VM_NUMA_STAT_ITEMS, "u16"),
        scalar("stat_threshold", "s8"),
        array("vm_stat_diff", NR_VM_ZONE_STAT_ITEMS, "s8"),
    ],
    words=32,
)
PSET_COUNT = PER_CPU_PAGESET["count"]
PSET_HIGH = PER_CPU_PAGESET["high"]
PSET_BATCH = PER_CPU_PAGESET["batch"]
PSET_LISTS = PER_CPU_PAGESET["lists"]
PSET_EXPIRE = PER_CPU_PAGESET["expire"]
PSET_NUMA_DIFF = PER_CPU_PAGESET["vm_numa_stat_diff"]
PSET_THRESHOLD = PER_CPU_PAGESET["stat_threshold"]
PSET_STAT_DIFF = PER_CPU_PAGESET["vm_stat_diff"]
PSET_WORDS = PER_CPU_PAGESET.words
NUMA_STATS_THRESHOLD = 65533

# enum pgdat_flags
PGDAT_CONGESTED = 1 << 0
PGDAT_DIRTY = 1 << 1
PGDAT_WRITEBACK = 1 << 2
PGDAT_RECLAIM_LOCKED = 1 << 3

# struct zone flags and reclaim distances
RECLAIM_DISTANCE = 30
LOCAL_DISTANCE = 10
REMOTE_DISTANCE = 20
