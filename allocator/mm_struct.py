# SPDX-License-Identifier: GPL-2.0-only
"""Address spaces and tasks as they lie in guest RAM (include/linux/mm_types.h, sched.h).

An `mm_struct` is an address space: the list and tree of its areas, its page tables, its accounts.
A `vm_area_struct` is one range [vm_start, vm_end) of bytes with one protection and one backing. A
process's task_struct begins as every task does (`layout.TASK`, which idle tasks have alone) and
goes on with what only processes need: relatives, kernel stack, scheduling, the registers of a guest
process that is not running, and why it died.

Everything is a word; offsets are words from the start of the structure. Pointers are direct map
addresses. MM_ an address space, VMA_ an area, TASK_ a task, VMF_ a fault under way, which lies in
the CPU's block (`vm_fault`). Areas sit in three trees, each through nodes of its own: the mm's tree
(`vm_rb`), the file's or none (`shared`, an interval tree node), and through anon_vma_chains.
"""

from __future__ import annotations

from .layout import TASK
from .rbtree import INTERVAL_NODE, RB_NODE
from .structs import Struct, array, list_head, scalar

# --- struct vm_area_struct ------------------------------------------------------------------------
VM_AREA_STRUCT = Struct(
    "vm_area_struct",
    [
        scalar("vm_start"),
        scalar("vm_end"),
        scalar("vm_next", "struct vm_area_struct *"),
        scalar("vm_prev", "struct vm_area_struct *"),
        ("vm_rb", "struct rb_node", RB_NODE, 1),
        scalar("rb_subtree_gap"),
        scalar("vm_mm", "struct mm_struct *"),
        scalar("vm_page_prot", "pgprot_t"),
        scalar("vm_flags"),
        ("shared", "struct interval_node", INTERVAL_NODE, 1),
        list_head("anon_vma_chain"),
        scalar("anon_vma", "struct anon_vma *"),
        scalar("vm_ops", "int"),
        scalar("vm_pgoff"),
        scalar("vm_file", "struct file *"),
        scalar("vm_private_data", "void *"),
        scalar("swap_readahead_info", "atomic_long_t"),
        scalar("vm_policy", "struct mempolicy *"),
    ],
    words=32,
)
VMA_START = VM_AREA_STRUCT["vm_start"]
VMA_END = VM_AREA_STRUCT["vm_end"]
VMA_NEXT = VM_AREA_STRUCT["vm_next"]
VMA_PREV = VM_AREA_STRUCT["vm_prev"]
VMA_RB = VM_AREA_STRUCT["vm_rb"]
VMA_GAP = VM_AREA_STRUCT["rb_subtree_gap"]
VMA_MM = VM_AREA_STRUCT["vm_mm"]
VMA_PROT = VM_AREA_STRUCT["vm_page_prot"]
VMA_FLAGS = VM_AREA_STRUCT["vm_flags"]
VMA_SHARED = VM_AREA_STRUCT["shared"]
VMA_ANON_CHAIN = VM_AREA_STRUCT["anon_vma_chain"]
VMA_ANON_VMA = VM_AREA_STRUCT["anon_vma"]
VMA_OPS = VM_AREA_STRUCT["vm_ops"]
VMA_PGOFF = VM_AREA_STRUCT["vm_pgoff"]
VMA_FILE = VM_AREA_STRUCT["vm_file"]
VMA_PRIVATE = VM_AREA_STRUCT["vm_private_data"]
VMA_SWAP_RA = VM_AREA_STRUCT["swap_readahead_info"]
VMA_POLICY = VM_AREA_STRUCT["vm_policy"]
VMA_WORDS = VM_AREA_STRUCT.words

# vm_ops: 0 is an anonymous area, as NULL is in C
VM_OPS_NONE = 0
VM_OPS_FILE = 1
VM_OPS_SHMEM = 2

VM_NONE = 0
VM_READ = 0x1
VM_WRITE = 0x2
VM_EXEC = 0x4
VM_SHARED = 0x8
VM_MAYREAD = 0x10
VM_MAYWRITE = 0x20
VM_MAYEXEC = 0x40
VM_MAYSHARE = 0x80
VM_GROWSDOWN = 0x100
VM_PFNMAP = 0x400
VM_DENYWRITE = 0x800
VM_LOCKED = 0x2000
VM_IO = 0x4000
VM_SEQ_READ = 0x8000
VM_RAND_READ = 0x10000
VM_DONTCOPY = 0x20000
VM_DONTEXPAND = 0x40000
VM_LOCKONFAULT = 0x80000
VM_ACCOUNT = 0x100000
VM_NORESERVE = 0x200000
VM_HUGETLB = 0x400000
VM_WIPEONFORK = 0x2000000
VM_DONTDUMP = 0x4000000
VM_SOFTDIRTY = 0x8000000
VM_MIXEDMAP = 0x10000000
VM_HUGEPAGE = 0x20000000
VM_NOHUGEPAGE = 0x40000000
VM_MERGEABLE = 0x80000000
VM_ACCESS_FLAGS = VM_READ | VM_WRITE | VM_EXEC
VM_STACK_FLAGS = VM_GROWSDOWN | VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
VM_STACK_FLAGS |= VM_ACCOUNT
VM_SPECIAL = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP
VM_LOCKED_MASK = VM_LOCKED | VM_LOCKONFAULT

# --- struct mm_struct -----------------------------------------------------------------------------
MM_FILEPAGES = 0
MM_ANONPAGES = 1
MM_SWAPENTS = 2
MM_SHMEMPAGES = 3
NR_MM_COUNTERS = 4

MM_STRUCT = Struct(
    "mm_struct",
    [
        scalar("mmap", "struct vm_area_struct *"),
        scalar("mm_rb", "struct rb_root"),
        scalar("vmacache_seqnum", "u64"),
        scalar("mmap_base"),
        scalar("task_size"),
        scalar("highest_vm_end"),
        scalar("pgd", "pgd_t *"),
        scalar("mm_users", "atomic_t"),
        scalar("mm_count", "atomic_t"),
        scalar("pgtables_bytes", "atomic_long_t"),
        scalar("map_count", "int"),
        list_head("mmlist"),
        scalar("hiwater_rss"),
        scalar("hiwater_vm"),
        scalar("total_vm"),
        scalar("locked_vm"),
        scalar("pinned_vm"),
        scalar("data_vm"),
        scalar("exec_vm"),
        scalar("stack_vm"),
        scalar("def_flags"),
        scalar("start_code"),
        scalar("end_code"),
        scalar("start_data"),
        scalar("end_data"),
        scalar("start_brk"),
        scalar("brk"),
        scalar("start_stack"),
        array("rss_stat", NR_MM_COUNTERS, "atomic_long_t"),
        scalar("flags"),
        scalar("owner", "struct task_struct *"),
        scalar("context_pgd", "phys_addr_t"),
        scalar("vmacache", "struct vm_area_struct *"),
        array("rlim_cur", 8),
    ],
    words=64,
)
MM_MMAP = MM_STRUCT["mmap"]
MM_RB = MM_STRUCT["mm_rb"]
MM_VMACACHE_SEQ = MM_STRUCT["vmacache_seqnum"]
MM_MMAP_BASE = MM_STRUCT["mmap_base"]
MM_TASK_SIZE = MM_STRUCT["task_size"]
MM_HIGHEST_VM_END = MM_STRUCT["highest_vm_end"]
MM_PGD = MM_STRUCT["pgd"]
MM_USERS = MM_STRUCT["mm_users"]
MM_COUNT = MM_STRUCT["mm_count"]
MM_PGTABLES_BYTES = MM_STRUCT["pgtables_bytes"]
MM_MAP_COUNT = MM_STRUCT["map_count"]
MM_MMLIST = MM_STRUCT["mmlist"]
MM_HIWATER_RSS = MM_STRUCT["hiwater_rss"]
MM_HIWATER_VM = MM_STRUCT["hiwater_vm"]
MM_TOTAL_VM = MM_STRUCT["total_vm"]
MM_LOCKED_VM = MM_STRUCT["locked_vm"]
MM_DATA_VM = MM_STRUCT["data_vm"]
MM_EXEC_VM = MM_STRUCT["exec_vm"]
MM_STACK_VM = MM_STRUCT["stack_vm"]
MM_DEF_FLAGS = MM_STRUCT["def_flags"]
MM_START_BRK = MM_STRUCT["start_brk"]
MM_BRK = MM_STRUCT["brk"]
MM_START_STACK = MM_STRUCT["start_stack"]
MM_RSS = MM_STRUCT["rss_stat"]
MM_FLAGS = MM_STRUCT["flags"]
MM_OWNER = MM_STRUCT["owner"]
MM_VMACACHE = MM_STRUCT["vmacache"]
MM_RLIM = MM_STRUCT["rlim_cur"]
MM_WORDS = MM_STRUCT.words

RLIM_DATA = 0
RLIM_STACK = 1
RLIM_MEMLOCK = 2
RLIM_AS = 3
RLIM_INFINITY = (1 << 63) - 1
STACK_LIMIT = 8 << 20
MEMLOCK_LIMIT = 64 << 10

MMF_UNSTABLE = 1 << 22

# --- struct task_struct of a process: TASK first ------------------------------------------------
TASK_REGS = 256
PROCESS = Struct(
    "process",
    [
        ("task", "struct task_struct", TASK, 1),
        list_head("tasks"),
        scalar("real_parent", "struct task_struct *"),
        list_head("children"),
        list_head("sibling"),
        scalar("exit_state", "int"),
        scalar("exit_code", "int"),
        scalar("exit_signal", "int"),
        scalar("stack", "void *"),
        scalar("maj_flt"),
        scalar("min_flt"),
        list_head("run_list"),
        scalar("on_rq", "int"),
        scalar("wait_for", "pid_t"),
        scalar("fault_signal", "int"),
        scalar("fault_code", "int"),
        scalar("fault_address"),
        scalar("fault_ip"),
        scalar("guest", "bool"),
        array("files", 16, "struct file *"),
        array("mailbox", 10),
        array("regs", TASK_REGS),
    ],
    words=384,
)
TASK_TASKS = PROCESS["tasks"]
TASK_PARENT = PROCESS["real_parent"]
TASK_CHILDREN = PROCESS["children"]
TASK_SIBLING = PROCESS["sibling"]
TASK_EXIT_STATE = PROCESS["exit_state"]
TASK_EXIT_CODE = PROCESS["exit_code"]
TASK_EXIT_SIGNAL = PROCESS["exit_signal"]
TASK_STACK = PROCESS["stack"]
TASK_MAJ_FLT = PROCESS["maj_flt"]
TASK_MIN_FLT = PROCESS["min_flt"]
TASK_RUN_LIST = PROCESS["run_list"]
TASK_ON_RQ = PROCESS["on_rq"]
TASK_WAIT_FOR = PROCESS["wait_for"]
TASK_FAULT_SIGNAL = PROCESS["fault_signal"]
TASK_FAULT_CODE = PROCESS["fault_code"]
TASK_FAULT_ADDRESS = PROCESS["fault_address"]
TASK_FAULT_IP = PROCESS["fault_ip"]
TASK_GUEST = PROCESS["guest"]
TASK_FILES = PROCESS["files"]
TASK_MAILBOX = PROCESS["mailbox"]
TASK_SAVED_REGS = PROCESS["regs"]
NR_OPEN = 16
PROCESS_WORDS = PROCESS.words

TASK_RUNNING = 0
TASK_INTERRUPTIBLE = 1
TASK_UNINTERRUPTIBLE = 2
EXIT_ZOMBIE = 0x20
EXIT_DEAD = 0x10

# --- struct vm_fault: a fault being handled by a CPU ----------------------------------------------
VM_FAULT = Struct(
    "vm_fault",
    [
        scalar("vma", "struct vm_area_struct *"),
        scalar("flags", "unsigned int"),
        scalar("gfp_mask", "gfp_t"),
        scalar("pgoff", "pgoff_t"),
        scalar("address"),
        scalar("pmd", "pmd_t *"),
        scalar("orig_pte", "pte_t"),
        scalar("cow_page", "struct page *"),
        scalar("page", "struct page *"),
        scalar("pte", "pte_t *"),
    ],
    words=16,
)
VMF_VMA = VM_FAULT["vma"]
VMF_FLAGS = VM_FAULT["flags"]
VMF_GFP = VM_FAULT["gfp_mask"]
VMF_PGOFF = VM_FAULT["pgoff"]
VMF_ADDRESS = VM_FAULT["address"]
VMF_PMD = VM_FAULT["pmd"]
VMF_ORIG_PTE = VM_FAULT["orig_pte"]
VMF_COW_PAGE = VM_FAULT["cow_page"]
VMF_PAGE = VM_FAULT["page"]
VMF_PTE = VM_FAULT["pte"]

FAULT_FLAG_WRITE = 0x01
FAULT_FLAG_MKWRITE = 0x02
FAULT_FLAG_ALLOW_RETRY = 0x04
FAULT_FLAG_RETRY_NOWAIT = 0x08
FAULT_FLAG_KILLABLE = 0x10
FAULT_FLAG_TRIED = 0x20
FAULT_FLAG_USER = 0x40
FAULT_FLAG_REMOTE = 0x80
FAULT_FLAG_INSTRUCTION = 0x100

VM_FAULT_OOM = 0x0001
VM_FAULT_SIGBUS = 0x0002
VM_FAULT_MAJOR = 0x0004
VM_FAULT_WRITE = 0x0008
VM_FAULT_HWPOISON = 0x0010
VM_FAULT_SIGSEGV = 0x0040
VM_FAULT_NOPAGE = 0x0100
VM_FAULT_LOCKED = 0x0200
VM_FAULT_RETRY = 0x0400
VM_FAULT_FALLBACK = 0x0800
VM_FAULT_DONE_COW = 0x1000
VM_FAULT_ERROR = VM_FAULT_OOM | VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV | VM_FAULT_HWPOISON
