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
the globals page (in kernel_globals), tables by node and by CPU, mem_section, memblock's region
arrays, the log ring, the trace ring and a mailbox page a CPU.
"""

from __future__ import annotations

from .kernel_globals import GLOBALS, KDATA, KERNEL_BASE
from .mmzone import MAX_NUMNODES, NR_CPUS, PSET_WORDS
from .structs import Struct, array, list_head, scalar
from .vm_events import NR_VM_EVENT_ITEMS

PAGE_OFFSET = 0xFFFF888000000000 - (1 << 64)
VMEMMAP_START = 0xFFFFEA0000000000 - (1 << 64)

SECTION_SHIFT = 27
PFN_SECTION_SHIFT = SECTION_SHIFT - 12
PAGES_PER_SECTION = 1 << PFN_SECTION_SHIFT
MAX_PHYSMEM_BITS = 42
NR_MEM_SECTIONS = 1 << (MAX_PHYSMEM_BITS - SECTION_SHIFT)
SECTION_MARKED_PRESENT = 1
SECTION_HAS_MEM_MAP = 2
SECTION_IS_ONLINE = 4

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
