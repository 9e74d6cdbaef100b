# SPDX-License-Identifier: GPL-2.0-only
"""Where things are: guest virtual and physical addresses, and the kernel's own static data.

Three address spaces meet here. *Physical* addresses index guest RAM; the word array `m` of the
hot path is indexed by physical address / 8. *Direct map* addresses (PAGE_OFFSET + physical) are
what list heads, zones and nodes are linked by; *vmemmap* addresses (VMEMMAP_START + 64 * pfn)
are what struct pages are linked by. All are kept as signed 64-bit words, so PAGE_OFFSET and
VMEMMAP_START are negative numbers here and VMEMMAP_START > PAGE_OFFSET.

A struct page's physical place depends on its 128 MiB section: `mem_section[]` tells it, and its
fourth field is a ready word index, `m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)` being the
word index of the struct page of `pfn`.

The kernel's static data starts where Linux's _text does, physical 16 MiB, at constant addresses:
the globals page (G_), tables by node and by CPU, mem_section, memblock's region arrays, the
log ring, the trace ring and a mailbox page a CPU.
"""

from __future__ import annotations

from .mmzone import MAX_NR_ZONES, NR_CPUS, PSET_WORDS
from .mmzone import MAX_NUMNODES as MAX_NUMNODES
from .structs import Struct, array, list_head, scalar
from .vm_events import NR_VM_EVENT_ITEMS

PAGE_OFFSET = 0xFFFF888000000000 - (1 << 64)
VMEMMAP_START = 0xFFFFEA0000000000 - (1 << 64)
KERNEL_BASE = 0x1000000

SECTION_SHIFT = 27
PFN_SECTION_SHIFT = SECTION_SHIFT - 12
PAGES_PER_SECTION = 1 << PFN_SECTION_SHIFT
MAX_PHYSMEM_BITS = 42
NR_MEM_SECTIONS = 1 << (MAX_PHYSMEM_BITS - SECTION_SHIFT)
SECTION_MARKED_PRESENT = 1
SECTION_HAS_MEM_MAP = 2
SECTION_IS_ONLINE = 4

# --- the globals page -------------------------------------------------------------------------
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

# --- tables by node and by CPU ------------------------------------------------------------------
NODE_DATA = KDATA + GLOBALS.words
NODE_DISTANCE = NODE_DATA + MAX_NUMNODES
ZONE_NAME_STRINGS = NODE_DISTANCE + MAX_NUMNODES * MAX_NUMNODES
MIGRATE_RESERVED = ZONE_NAME_STRINGS + 8

CPU = Struct(
    "cpu_block",
    [
        scalar("current", "struct task_struct *"),
        scalar("preempt_count", "int"),
        scalar("numa_node", "int"),
        scalar("early_node", "int"),
        scalar("online", "bool"),
        scalar("present", "bool"),
        scalar("apicid", "u32"),
        scalar("memcg_stock_cached", "struct mem_cgroup *"),
        scalar("memcg_stock_nr_pages", "unsigned int"),
        list_head("bulk_free"),
        array("vm_event_states", NR_VM_EVENT_ITEMS),
        scalar("page_owner_site"),
        array("vmf", 16),
        scalar("reclaimed_slab"),
        list_head("runqueue"),
        scalar("need_resched", "bool"),
        scalar("forking", "struct task_struct *"),
    ],
    words=128,
)
CPU_BLOCKS = ((MIGRATE_RESERVED + 511) >> 9) << 9
CPU_WORDS = CPU.words
CPU_CURRENT = CPU["current"]
CPU_PREEMPT_COUNT = CPU["preempt_count"]
CPU_NUMA_NODE = CPU["numa_node"]
CPU_EARLY_NODE = CPU["early_node"]
CPU_ONLINE = CPU["online"]
CPU_PRESENT = CPU["present"]
CPU_APICID = CPU["apicid"]
CPU_MEMCG_STOCK = CPU["memcg_stock_cached"]
CPU_MEMCG_STOCK_PAGES = CPU["memcg_stock_nr_pages"]
CPU_BULK_FREE = CPU["bulk_free"]
CPU_EVENTS = CPU["vm_event_states"]
CPU_PAGE_OWNER_SITE = CPU["page_owner_site"]
CPU_VMF = CPU["vmf"]
CPU_RECLAIMED_SLAB = CPU["reclaimed_slab"]
CPU_RUNQUEUE = CPU["runqueue"]
CPU_NEED_RESCHED = CPU["need_resched"]
CPU_FORKING = CPU["forking"]

SOFTIRQ_OFFSET = 0x100
SOFTIRQ_MASK = 0xFF00
HARDIRQ_OFFSET = 0x10000
HARDIRQ_MASK = 0xF0000
NMI_MASK = 0x100000
IN_INTERRUPT_MASK = SOFTIRQ_MASK | HARDIRQ_MASK | NMI_MASK

TASK = Struct(
    "task_struct",
    [
        scalar("flags", "unsigned int"),
        scalar("pid", "pid_t"),
        array("comm", 2, "char[16]"),
        scalar("prio", "int"),
        scalar("mems_allowed", "nodemask_t"),
        scalar("hardwall_mems", "nodemask_t"),
        scalar("oom_mm", "struct mm_struct *"),
        scalar("mempolicy_mode", "int"),
        scalar("mempolicy_flags", "int"),
        scalar("mempolicy_nodes", "nodemask_t"),
        scalar("il_prev", "int"),
        scalar("memcg", "struct mem_cgroup *"),
        scalar("cpu", "int"),
        scalar("fatal_signal_pending", "bool"),
        scalar("cpuset", "struct cpuset *"),
        scalar("mempolicy_user_nodemask", "nodemask_t"),
        scalar("mempolicy_preferred_node", "int"),
        scalar("mempolicy_cpuset_mems", "nodemask_t"),
        scalar("cpuset_mem_spread_rotor", "int"),
        scalar("cpuset_slab_spread_rotor", "int"),
        scalar("atomic_flags"),
        scalar("fail_nth", "unsigned int"),
        scalar("state", "long"),
        scalar("mm", "struct mm_struct *"),
        scalar("active_mm", "struct mm_struct *"),
        scalar("oom_score_adj", "short"),
    ],
    words=32,
)
TASK_FLAGS = TASK["flags"]
TASK_PID = TASK["pid"]
TASK_COMM = TASK["comm"]
TASK_PRIO = TASK["prio"]
TASK_MEMS_ALLOWED = TASK["mems_allowed"]
TASK_HARDWALL_MEMS = TASK["hardwall_mems"]
TASK_OOM_MM = TASK["oom_mm"]
TASK_POLICY_MODE = TASK["mempolicy_mode"]
TASK_POLICY_FLAGS = TASK["mempolicy_flags"]
TASK_POLICY_NODES = TASK["mempolicy_nodes"]
TASK_IL_PREV = TASK["il_prev"]
TASK_MEMCG = TASK["memcg"]
TASK_FATAL_SIGNAL = TASK["fatal_signal_pending"]
TASK_CPUSET = TASK["cpuset"]
TASK_POLICY_USER_NODES = TASK["mempolicy_user_nodemask"]
TASK_POLICY_PREFERRED = TASK["mempolicy_preferred_node"]
TASK_POLICY_CPUSET_MEMS = TASK["mempolicy_cpuset_mems"]
TASK_MEM_SPREAD_ROTOR = TASK["cpuset_mem_spread_rotor"]
TASK_SLAB_SPREAD_ROTOR = TASK["cpuset_slab_spread_rotor"]
TASK_ATOMIC_FLAGS = TASK["atomic_flags"]
TASK_FAIL_NTH = TASK["fail_nth"]
TASK_STATE = TASK["state"]
TASK_MM = TASK["mm"]
TASK_ACTIVE_MM = TASK["active_mm"]
TASK_OOM_SCORE_ADJ = TASK["oom_score_adj"]
PFA_SPREAD_PAGE = 1 << 1
PFA_SPREAD_SLAB = 1 << 2
PF_EXITING = 0x4
PF_DUMPCORE = 0x200
PF_MEMALLOC = 0x800
PF_KTHREAD = 0x200000
PF_KSWAPD = 0x20000
PF_SWAPWRITE = 0x800000
PF_MEMALLOC_NOFS = 0x40000
PF_MEMALLOC_NOIO = 0x80000
MAX_RT_PRIO = 100
DEFAULT_PRIO = 120

# init_task: one idle task a CPU, which is "current" until processes exist
INIT_TASKS = CPU_BLOCKS + NR_CPUS * CPU_WORDS
TASK_WORDS = TASK.words
BOOT_PAGESETS = INIT_TASKS + NR_CPUS * TASK_WORDS

MEM_SECTION = Struct(
    "mem_section",
    [
        scalar("section_mem_map"),
        scalar("pageblock_flags", "unsigned long *"),
        scalar("page_ext", "struct page_ext *"),
        scalar("memmap_words"),
    ],
)
MEM_SECTIONS = BOOT_PAGESETS + NR_CPUS * PSET_WORDS
SECTION_MEM_MAP = MEM_SECTIONS + MEM_SECTION["section_mem_map"]
SECTION_USEMAP = MEM_SECTIONS + MEM_SECTION["pageblock_flags"]
SECTION_PAGE_EXT = MEM_SECTIONS + MEM_SECTION["page_ext"]
SECTION_PAGES = MEM_SECTIONS + MEM_SECTION["memmap_words"]
USEMAP_WORDS = 4

MEMBLOCK_REGION = Struct(
    "memblock_region",
    [
        scalar("base", "phys_addr_t"),
        scalar("size", "phys_addr_t"),
        scalar("flags", "enum memblock_flags"),
        scalar("nid", "int"),
    ],
)
MEMBLOCK_MAX_REGIONS = 2048
MEMBLOCK_MEMORY = MEM_SECTIONS + NR_MEM_SECTIONS * MEM_SECTION.words
MEMBLOCK_RESERVED = MEMBLOCK_MEMORY + MEMBLOCK_MAX_REGIONS * MEMBLOCK_REGION.words
MEMBLOCK_ALLOC_ANYWHERE = 0

# --- rings of fixed-size records ------------------------------------------------------------------
RECORD_WORDS = 16
LOG_RECORDS = 1024
LOG_RING = MEMBLOCK_RESERVED + MEMBLOCK_MAX_REGIONS * MEMBLOCK_REGION.words
TRACE_RECORDS = 4096
TRACE_RING = LOG_RING + LOG_RECORDS * RECORD_WORDS

# --- two template pages (for clearing and poisoning), then the mailboxes, page-aligned ----------
EMPTY_ZERO_PAGE = ((TRACE_RING + TRACE_RECORDS * RECORD_WORDS + 511) >> 9) << 9
POISON_PAGE = EMPTY_ZERO_PAGE + 512
PAGE_POISON = 0xAA
MAILBOXES = POISON_PAGE + 512
MAILBOX_WORDS = 512

# --- control groups and contiguous memory areas ----------------------------------------------
PAGE_COUNTER = Struct(
    "page_counter",
    [
        scalar("usage", "atomic_long_t"),
        scalar("min"),
        scalar("low"),
        scalar("max"),
        scalar("parent", "struct page_counter *"),
        scalar("watermark"),
        scalar("failcnt"),
    ],
)
MEM_CGROUP = Struct(
    "mem_cgroup",
    [
        scalar("id", "int"),
        scalar("css_refcnt", "atomic_long_t"),
        scalar("parent", "struct mem_cgroup *"),
        scalar("events_max", "atomic_long_t"),
        scalar("high"),
        ("memory", "struct page_counter", PAGE_COUNTER, 1),
        ("memsw", "struct page_counter", PAGE_COUNTER, 1),
        ("kmem", "struct page_counter", PAGE_COUNTER, 1),
        scalar("nodeinfo", "struct mem_cgroup_per_node **"),
        scalar("serial_nr", "u64"),
        scalar("workingset_activate"),
    ],
    words=32,
)
MAX_MEM_CGROUPS = 64
MEM_CGROUPS = MAILBOXES + NR_CPUS * MAILBOX_WORDS
MEM_CGROUP_WORDS = MEM_CGROUP.words

CPUSET = Struct(
    "cpuset",
    [
        scalar("id", "int"),
        scalar("flags"),
        scalar("parent", "struct cpuset *"),
        scalar("mems_allowed", "nodemask_t"),
        scalar("effective_mems", "nodemask_t"),
        scalar("nr_tasks", "int"),
        array("name", 8, "char[64]"),
    ],
    words=16,
)
MAX_CPUSETS = 64
CPUSETS = MEM_CGROUPS + MAX_MEM_CGROUPS * MEM_CGROUP_WORDS
CPUSET_WORDS = CPUSET.words

CMA = Struct(
    "cma",
    [
        scalar("base_pfn"),
        scalar("count"),
        scalar("bitmap", "unsigned long *"),
        scalar("order_per_bit", "unsigned int"),
        array("name", 4, "char[32]"),
    ],
)
MAX_CMA_AREAS = 8
CMA_AREAS = CPUSETS + MAX_CPUSETS * CPUSET_WORDS
CMA_WORDS = CMA.words

# --- compaction: what a run knows, one a CPU and one for alloc_contig_range -------------------
COMPACT_CONTROL = Struct(
    "compact_control",
    [
        list_head("freepages"),
        list_head("migratepages"),
        scalar("zone", "struct zone *"),
        scalar("nr_freepages"),
        scalar("nr_migratepages"),
        scalar("total_migrate_scanned"),
        scalar("total_free_scanned"),
        scalar("free_pfn"),
        scalar("migrate_pfn"),
        scalar("last_migrated_pfn"),
        scalar("gfp_mask", "gfp_t"),
        scalar("order", "int"),
        scalar("migratetype", "int"),
        scalar("alloc_flags", "unsigned int"),
        scalar("classzone_idx", "int"),
        scalar("mode", "enum migrate_mode"),
        scalar("ignore_skip_hint", "bool"),
        scalar("no_set_skip_hint", "bool"),
        scalar("ignore_block_suitable", "bool"),
        scalar("direct_compaction", "bool"),
        scalar("whole_zone", "bool"),
        scalar("contended", "bool"),
        scalar("finishing_block", "bool"),
    ],
    words=32,
)
COMPACT_CONTROLS = CMA_AREAS + MAX_CMA_AREAS * CMA_WORDS
COMPACT_CONTROL_WORDS = COMPACT_CONTROL.words
CONTIG_CONTROL = COMPACT_CONTROLS + NR_CPUS * COMPACT_CONTROL_WORDS

KERNEL_END_WORD = ((CONTIG_CONTROL + COMPACT_CONTROL_WORDS + 511) >> 9) << 9
KERNEL_IMAGE_SIZE = (KERNEL_END_WORD << 3) - KERNEL_BASE


def va_of_word(index: int) -> int:
    """Direct-map guest virtual address (signed) of word index `index`."""
    return PAGE_OFFSET + (index << 3)


def word_of_va(va: int) -> int:
    """Word index of a direct-map guest virtual address (signed)."""
    return (va - PAGE_OFFSET) >> 3


def page_va(pfn: int) -> int:
    """vmemmap guest virtual address (signed) of the struct page of `pfn` (page frame number)."""
    return VMEMMAP_START + (pfn << 6)


def mailbox_phys(cpu: int) -> int:
    """Physical address of CPU `cpu`'s hypercall mailbox page."""
    return (MAILBOXES + cpu * MAILBOX_WORDS) << 3


def unsigned(value: int) -> int:
    """The same 64 bits as an unsigned number, for people."""
    return value & 0xFFFFFFFFFFFFFFFF


def signed(value: int) -> int:
    """The same 64 bits as the signed word that RAM holds."""
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value
