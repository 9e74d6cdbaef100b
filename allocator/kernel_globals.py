# SPDX-License-Identifier: GPL-2.0-only
"""The globals page: the kernel's variables, at constant addresses from physical 16 MiB on.

A variable `name` of 4.20 is a word (or several) of the structure GLOBALS, and G_NAME is its index
in the word array `m` (physical address / 8). KEY_ are the bits of `static_keys`: features that cost
nothing while they are off.
"""

from __future__ import annotations

from .mmzone import MAX_NR_ZONES
from .structs import Struct, array, list_head, scalar

KERNEL_BASE = 0x1000000

GLOBALS = Struct(
    "kernel_globals",
    [
        scalar("magic"),
        scalar("layout_version"),
        scalar("static_keys"),
        scalar("gfp_allowed_mask", "gfp_t"),
        scalar("trace_mask"),
        scalar("trace_base"),
        scalar("trace_size"),
        scalar("trace_head"),
        scalar("log_head"),
        scalar("clock"),
        scalar("nr_cpu_ids", "unsigned int"),
        scalar("num_online_cpus", "unsigned int"),
        scalar("nr_online_nodes", "unsigned int"),
        scalar("node_states_online", "nodemask_t"),
        scalar("node_states_memory", "nodemask_t"),
        scalar("node_states_cpu", "nodemask_t"),
        scalar("max_pfn"),
        scalar("max_low_pfn"),
        scalar("highest_memmap_pfn"),
        scalar("totalram_pages"),
        scalar("totalreserve_pages"),
        scalar("totalcma_pages"),
        scalar("page_group_by_mobility_disabled", "int"),
        scalar("node_reclaim_mode", "int"),
        scalar("percpu_pagelist_fraction", "int"),
        scalar("min_free_kbytes", "int"),
        scalar("user_min_free_kbytes", "int"),
        scalar("watermark_scale_factor", "int"),
        array("sysctl_lowmem_reserve_ratio", MAX_NR_ZONES, "int"),
        scalar("movable_zone", "int"),
        scalar("vm_dirty_ratio", "int"),
        scalar("debug_guardpage_minorder", "unsigned int"),
        scalar("warned_once"),
        scalar("ratelimit_nopage_begin"),
        scalar("ratelimit_nopage_printed"),
        scalar("ratelimit_nopage_missed"),
        scalar("ratelimit_show_mem_begin"),
        scalar("ratelimit_show_mem_printed"),
        scalar("ratelimit_show_mem_missed"),
        scalar("bad_page_resume"),
        scalar("bad_page_nr_shown"),
        scalar("bad_page_nr_unshown"),
        scalar("fail_probability"),
        scalar("fail_interval"),
        scalar("fail_times", "atomic_t"),
        scalar("fail_space", "atomic_t"),
        scalar("fail_verbose"),
        scalar("fail_count"),
        scalar("fail_min_order", "u32"),
        scalar("fail_ignore_gfp_highmem", "bool"),
        scalar("fail_ignore_gfp_reclaim", "bool"),
        scalar("prandom_state"),
        scalar("memblock_memory_cnt"),
        scalar("memblock_reserved_cnt"),
        scalar("memblock_current_limit"),
        scalar("memblock_bottom_up", "bool"),
        scalar("swapper_pg_dir", "phys_addr_t"),
        scalar("page_ext_base"),
        scalar("meminit_done"),
        scalar("ratelimit_poison_begin"),
        scalar("ratelimit_poison_printed"),
        scalar("ratelimit_poison_missed"),
        scalar("memcg_on_dfl", "bool"),
        scalar("memcg_do_swap_account", "bool"),
        scalar("vm_dirty_bytes"),
        scalar("number_of_cpusets", "int"),
        scalar("cma_area_count", "unsigned int"),
        scalar("deferred_pages"),
        scalar("slab_state", "enum slab_state"),
        list_head("slab_caches"),
        scalar("kmem_cache", "struct kmem_cache *"),
        scalar("kmem_cache_node", "struct kmem_cache *"),
        array("kmalloc_caches", 42, "struct kmem_cache *"),
        scalar("radix_tree_node_cachep", "struct kmem_cache *"),
        scalar("shadow_nodes", "struct list_lru_node *"),
        scalar("storage_start"),
        scalar("storage_words"),
        list_head("block_devices"),
        scalar("bdev_cachep", "struct kmem_cache *"),
        scalar("bio_cachep", "struct kmem_cache *"),
        scalar("blk_next_completion"),
        scalar("super_block", "struct super_block *"),
        scalar("inode_cachep", "struct kmem_cache *"),
        scalar("dentry_cachep", "struct kmem_cache *"),
        scalar("filp_cachep", "struct kmem_cache *"),
        scalar("bdi_wb", "struct bdi_writeback *"),
        scalar("dirty_background_ratio", "int"),
        scalar("dirty_background_bytes"),
        scalar("dirty_writeback_interval", "unsigned int"),
        scalar("dirty_expire_interval", "unsigned int"),
        scalar("nr_dirtied_since_balance", "int"),
        list_head("shrinker_list"),
        scalar("shrinker_cachep", "struct kmem_cache *"),
        scalar("vfs_cache_pressure", "int"),
        scalar("skbuff_head_cache", "struct kmem_cache *"),
        scalar("netdev_alloc_cache", "struct page_frag_cache *"),
        list_head("skb_list"),
        scalar("mm_init_done", "bool"),
        scalar("tlb_gen"),
        scalar("last_pid", "pid_t"),
        list_head("tasks"),
        list_head("pgd_list"),
        list_head("mmlist"),
        scalar("child_reaper", "struct task_struct *"),
        scalar("task_struct_cachep", "struct kmem_cache *"),
        scalar("mm_cachep", "struct kmem_cache *"),
        scalar("vm_area_cachep", "struct kmem_cache *"),
        scalar("vm_committed_as", "long"),
        scalar("overcommit_memory", "int"),
        scalar("overcommit_ratio", "int"),
        scalar("max_map_count", "int"),
        scalar("stack_guard_gap"),
        scalar("transparent_hugepage_flags"),
        scalar("huge_zero_page", "struct page *"),
        scalar("huge_zero_refcount", "atomic_t"),
        scalar("fault_around_bytes"),
        scalar("lru_pvecs", "struct pagevec *"),
        scalar("memmap_index", "long *"),
        scalar("memmap_index_len"),
        scalar("anon_vma_cachep", "struct kmem_cache *"),
        scalar("anon_vma_chain_cachep", "struct kmem_cache *"),
        scalar("numa_policy_cachep", "struct kmem_cache *"),
        scalar("page_cluster", "int"),
        scalar("nr_swapfiles", "unsigned int"),
        scalar("nr_swap_pages", "atomic_long_t"),
        scalar("total_swap_pages", "long"),
        scalar("least_priority", "int"),
        scalar("swap_info", "struct swap_info_struct *"),
        list_head("swap_active_head"),
        scalar("swapin_readahead_hits", "atomic_t"),
        scalar("swapin_prev_offset"),
        scalar("swapin_last_readahead_pages", "atomic_t"),
        scalar("enable_vma_readahead", "bool"),
        scalar("nr_rotate_swap", "atomic_t"),
        scalar("swap_avail_stamp"),
        array("swap_cache_info", 4),
        scalar("swap_slots", "struct swap_slots_cache *"),
        scalar("swap_slot_cache_active", "bool"),
        scalar("num_poisoned_pages", "atomic_long_t"),
        scalar("extfrag_threshold", "int"),
        scalar("compact_unevictable_allowed", "int"),
        scalar("trace_mask2"),
        scalar("vm_swappiness", "int"),
        scalar("panic"),
        scalar("scripted_reclaim"),
        scalar("scripted_reclaim_calls"),
        scalar("panic_on_oom", "int"),
        scalar("oom_kill_allocating_task", "int"),
        scalar("ratelimit_oom_begin"),
        scalar("ratelimit_oom_printed"),
        scalar("ratelimit_oom_missed"),
        scalar("disk_blocks"),
        scalar("disk_read_only", "bool"),
        list_head("shmem_inodes"),
        list_head("shmem_swaplist"),
    ],
    words=512,
)
KDATA = KERNEL_BASE >> 3
G_MAGIC = KDATA + GLOBALS["magic"]
G_LAYOUT_VERSION = KDATA + GLOBALS["layout_version"]
G_STATIC_KEYS = KDATA + GLOBALS["static_keys"]
G_GFP_ALLOWED = KDATA + GLOBALS["gfp_allowed_mask"]
G_TRACE_MASK = KDATA + GLOBALS["trace_mask"]
G_TRACE_BASE = KDATA + GLOBALS["trace_base"]
G_TRACE_SIZE = KDATA + GLOBALS["trace_size"]
G_TRACE_HEAD = KDATA + GLOBALS["trace_head"]
G_LOG_HEAD = KDATA + GLOBALS["log_head"]
G_CLOCK = KDATA + GLOBALS["clock"]
G_NR_CPU_IDS = KDATA + GLOBALS["nr_cpu_ids"]
G_NUM_ONLINE_CPUS = KDATA + GLOBALS["num_online_cpus"]
G_NR_ONLINE_NODES = KDATA + GLOBALS["nr_online_nodes"]
G_NODES_ONLINE = KDATA + GLOBALS["node_states_online"]
G_NODES_MEMORY = KDATA + GLOBALS["node_states_memory"]
G_NODES_CPU = KDATA + GLOBALS["node_states_cpu"]
G_MAX_PFN = KDATA + GLOBALS["max_pfn"]
G_MAX_LOW_PFN = KDATA + GLOBALS["max_low_pfn"]
G_HIGHEST_MEMMAP_PFN = KDATA + GLOBALS["highest_memmap_pfn"]
G_TOTALRAM = KDATA + GLOBALS["totalram_pages"]
G_TOTALRESERVE = KDATA + GLOBALS["totalreserve_pages"]
G_TOTALCMA = KDATA + GLOBALS["totalcma_pages"]
G_MOBILITY_DISABLED = KDATA + GLOBALS["page_group_by_mobility_disabled"]
G_NODE_RECLAIM_MODE = KDATA + GLOBALS["node_reclaim_mode"]
G_PERCPU_PAGELIST_FRACTION = KDATA + GLOBALS["percpu_pagelist_fraction"]
G_MIN_FREE_KBYTES = KDATA + GLOBALS["min_free_kbytes"]
G_USER_MIN_FREE_KBYTES = KDATA + GLOBALS["user_min_free_kbytes"]
G_WATERMARK_SCALE = KDATA + GLOBALS["watermark_scale_factor"]
G_LOWMEM_RATIO = KDATA + GLOBALS["sysctl_lowmem_reserve_ratio"]
G_MOVABLE_ZONE = KDATA + GLOBALS["movable_zone"]
G_VM_DIRTY_RATIO = KDATA + GLOBALS["vm_dirty_ratio"]
G_GUARDPAGE_MINORDER = KDATA + GLOBALS["debug_guardpage_minorder"]
G_WARNED_ONCE = KDATA + GLOBALS["warned_once"]
G_NOPAGE_RS = KDATA + GLOBALS["ratelimit_nopage_begin"]
G_SHOW_MEM_RS = KDATA + GLOBALS["ratelimit_show_mem_begin"]
G_BAD_PAGE_RESUME = KDATA + GLOBALS["bad_page_resume"]
G_BAD_PAGE_SHOWN = KDATA + GLOBALS["bad_page_nr_shown"]
G_BAD_PAGE_UNSHOWN = KDATA + GLOBALS["bad_page_nr_unshown"]
G_FAIL_PROBABILITY = KDATA + GLOBALS["fail_probability"]
G_FAIL_INTERVAL = KDATA + GLOBALS["fail_interval"]
G_FAIL_TIMES = KDATA + GLOBALS["fail_times"]
G_FAIL_SPACE = KDATA + GLOBALS["fail_space"]
G_FAIL_VERBOSE = KDATA + GLOBALS["fail_verbose"]
G_FAIL_COUNT = KDATA + GLOBALS["fail_count"]
G_FAIL_MIN_ORDER = KDATA + GLOBALS["fail_min_order"]
G_FAIL_IGNORE_HIGHMEM = KDATA + GLOBALS["fail_ignore_gfp_highmem"]
G_FAIL_IGNORE_RECLAIM = KDATA + GLOBALS["fail_ignore_gfp_reclaim"]
G_PRANDOM = KDATA + GLOBALS["prandom_state"]
G_MEMBLOCK_MEMORY_CNT = KDATA + GLOBALS["memblock_memory_cnt"]
G_MEMBLOCK_RESERVED_CNT = KDATA + GLOBALS["memblock_reserved_cnt"]
G_MEMBLOCK_LIMIT = KDATA + GLOBALS["memblock_current_limit"]
G_MEMBLOCK_BOTTOM_UP = KDATA + GLOBALS["memblock_bottom_up"]
G_PGD = KDATA + GLOBALS["swapper_pg_dir"]
G_PAGE_EXT_BASE = KDATA + GLOBALS["page_ext_base"]
G_MEMINIT_DONE = KDATA + GLOBALS["meminit_done"]
G_POISON_RS = KDATA + GLOBALS["ratelimit_poison_begin"]
G_MEMCG_ON_DFL = KDATA + GLOBALS["memcg_on_dfl"]
G_MEMCG_SWAP_ACCOUNT = KDATA + GLOBALS["memcg_do_swap_account"]
G_VM_DIRTY_BYTES = KDATA + GLOBALS["vm_dirty_bytes"]
G_NR_CPUSETS = KDATA + GLOBALS["number_of_cpusets"]
G_CMA_AREA_COUNT = KDATA + GLOBALS["cma_area_count"]
G_DEFERRED_PAGES = KDATA + GLOBALS["deferred_pages"]
G_MM_INIT_DONE = KDATA + GLOBALS["mm_init_done"]
G_TLB_GEN = KDATA + GLOBALS["tlb_gen"]
G_LAST_PID = KDATA + GLOBALS["last_pid"]
G_TASKS = KDATA + GLOBALS["tasks"]
G_PGD_LIST = KDATA + GLOBALS["pgd_list"]
G_MMLIST = KDATA + GLOBALS["mmlist"]
G_CHILD_REAPER = KDATA + GLOBALS["child_reaper"]
G_TASK_CACHEP = KDATA + GLOBALS["task_struct_cachep"]
G_MM_CACHEP = KDATA + GLOBALS["mm_cachep"]
G_VMA_CACHEP = KDATA + GLOBALS["vm_area_cachep"]
G_COMMITTED_AS = KDATA + GLOBALS["vm_committed_as"]
G_OVERCOMMIT = KDATA + GLOBALS["overcommit_memory"]
G_OVERCOMMIT_RATIO = KDATA + GLOBALS["overcommit_ratio"]
G_MAX_MAP_COUNT = KDATA + GLOBALS["max_map_count"]
G_STACK_GUARD_GAP = KDATA + GLOBALS["stack_guard_gap"]
G_THP_FLAGS = KDATA + GLOBALS["transparent_hugepage_flags"]
G_HUGE_ZERO_PAGE = KDATA + GLOBALS["huge_zero_page"]
G_HUGE_ZERO_REFS = KDATA + GLOBALS["huge_zero_refcount"]
G_FAULT_AROUND = KDATA + GLOBALS["fault_around_bytes"]
G_LRU_PVECS = KDATA + GLOBALS["lru_pvecs"]
G_MEMMAP_INDEX = KDATA + GLOBALS["memmap_index"]
G_MEMMAP_INDEX_LEN = KDATA + GLOBALS["memmap_index_len"]
G_ANON_VMA_CACHEP = KDATA + GLOBALS["anon_vma_cachep"]
G_ANON_VMA_CHAIN_CACHEP = KDATA + GLOBALS["anon_vma_chain_cachep"]
G_POLICY_CACHEP = KDATA + GLOBALS["numa_policy_cachep"]
G_PAGE_CLUSTER = KDATA + GLOBALS["page_cluster"]
G_NR_SWAPFILES = KDATA + GLOBALS["nr_swapfiles"]
G_NR_SWAP_PAGES = KDATA + GLOBALS["nr_swap_pages"]
G_TOTAL_SWAP_PAGES = KDATA + GLOBALS["total_swap_pages"]
G_LEAST_PRIORITY = KDATA + GLOBALS["least_priority"]
G_SWAP_INFO = KDATA + GLOBALS["swap_info"]
G_SWAP_ACTIVE = KDATA + GLOBALS["swap_active_head"]
G_SWAPIN_HITS = KDATA + GLOBALS["swapin_readahead_hits"]
G_SWAPIN_PREV = KDATA + GLOBALS["swapin_prev_offset"]
G_SWAPIN_LAST = KDATA + GLOBALS["swapin_last_readahead_pages"]
G_VMA_READAHEAD = KDATA + GLOBALS["enable_vma_readahead"]
G_NR_ROTATE_SWAP = KDATA + GLOBALS["nr_rotate_swap"]
G_SWAP_AVAIL_STAMP = KDATA + GLOBALS["swap_avail_stamp"]
G_SWAP_CACHE_INFO = KDATA + GLOBALS["swap_cache_info"]
G_SWAP_SLOTS = KDATA + GLOBALS["swap_slots"]
G_SWAP_SLOTS_ACTIVE = KDATA + GLOBALS["swap_slot_cache_active"]
G_NUM_POISONED_PAGES = KDATA + GLOBALS["num_poisoned_pages"]
G_SLAB_STATE = KDATA + GLOBALS["slab_state"]
G_SLAB_CACHES = KDATA + GLOBALS["slab_caches"]
G_KMEM_CACHE = KDATA + GLOBALS["kmem_cache"]
G_KMEM_CACHE_NODE = KDATA + GLOBALS["kmem_cache_node"]
G_KMALLOC_CACHES = KDATA + GLOBALS["kmalloc_caches"]
G_RADIX_TREE_NODE_CACHEP = KDATA + GLOBALS["radix_tree_node_cachep"]
G_SHADOW_NODES = KDATA + GLOBALS["shadow_nodes"]
G_STORAGE_START = KDATA + GLOBALS["storage_start"]
G_STORAGE_WORDS = KDATA + GLOBALS["storage_words"]
G_DISK_BLOCKS = KDATA + GLOBALS["disk_blocks"]
"""Blocks of 4 KiB of the files' disk where it is a file of the host, else 0."""
G_SHMEM_INODES = KDATA + GLOBALS["shmem_inodes"]
G_SHMEM_SWAPLIST = KDATA + GLOBALS["shmem_swaplist"]
G_DISK_READ_ONLY = KDATA + GLOBALS["disk_read_only"]
G_BLOCK_DEVICES = KDATA + GLOBALS["block_devices"]
G_BDEV_CACHEP = KDATA + GLOBALS["bdev_cachep"]
G_BIO_CACHEP = KDATA + GLOBALS["bio_cachep"]
G_BLK_NEXT = KDATA + GLOBALS["blk_next_completion"]
G_SUPER_BLOCK = KDATA + GLOBALS["super_block"]
G_INODE_CACHEP = KDATA + GLOBALS["inode_cachep"]
G_DENTRY_CACHEP = KDATA + GLOBALS["dentry_cachep"]
G_FILP_CACHEP = KDATA + GLOBALS["filp_cachep"]
G_BDI_WB = KDATA + GLOBALS["bdi_wb"]
G_DIRTY_BACKGROUND_RATIO = KDATA + GLOBALS["dirty_background_ratio"]
G_DIRTY_BACKGROUND_BYTES = KDATA + GLOBALS["dirty_background_bytes"]
G_DIRTY_WRITEBACK_INTERVAL = KDATA + GLOBALS["dirty_writeback_interval"]
G_DIRTY_EXPIRE_INTERVAL = KDATA + GLOBALS["dirty_expire_interval"]
G_NR_DIRTIED = KDATA + GLOBALS["nr_dirtied_since_balance"]
G_SHRINKER_LIST = KDATA + GLOBALS["shrinker_list"]
G_SHRINKER_CACHEP = KDATA + GLOBALS["shrinker_cachep"]
G_VFS_CACHE_PRESSURE = KDATA + GLOBALS["vfs_cache_pressure"]
G_SKBUFF_CACHEP = KDATA + GLOBALS["skbuff_head_cache"]
G_NETDEV_CACHES = KDATA + GLOBALS["netdev_alloc_cache"]
G_SKB_LIST = KDATA + GLOBALS["skb_list"]
G_EXTFRAG_THRESHOLD = KDATA + GLOBALS["extfrag_threshold"]
G_COMPACT_UNEVICTABLE = KDATA + GLOBALS["compact_unevictable_allowed"]
G_TRACE_MASK2 = KDATA + GLOBALS["trace_mask2"]
G_VM_SWAPPINESS = KDATA + GLOBALS["vm_swappiness"]
G_PANIC = KDATA + GLOBALS["panic"]
G_SCRIPTED_RECLAIM = KDATA + GLOBALS["scripted_reclaim"]
G_SCRIPTED_RECLAIM_CALLS = KDATA + GLOBALS["scripted_reclaim_calls"]
G_PANIC_ON_OOM = KDATA + GLOBALS["panic_on_oom"]
G_OOM_KILL_ALLOCATING = KDATA + GLOBALS["oom_kill_allocating_task"]
G_OOM_RS = KDATA + GLOBALS["ratelimit_oom_begin"]

KERNEL_MAGIC = int.from_bytes(b"numalab\0", "little")
LAYOUT_VERSION = 3

# Static keys: one bit a feature that costs nothing while it is off.
KEY_CPUSETS = 1 << 0
KEY_FAIL_PAGE_ALLOC = 1 << 1
KEY_MEMCG_KMEM = 1 << 2
KEY_PAGE_POISONING = 1 << 3
KEY_PAGE_OWNER = 1 << 4
KEY_DEBUG_GUARDPAGE = 1 << 5
KEY_NUMA_STAT_OFF = 1 << 6
KEY_DRAIN_ONE_ZONE = 1 << 8
KEY_SCRIPTED_RECLAIM = 1 << 9
