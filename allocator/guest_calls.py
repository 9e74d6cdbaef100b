# SPDX-License-Identifier: GPL-2.0-only
"""Guest requests served on the words of guest RAM alone: the mailbox, and the ring beside it.

A CPU's mailbox page holds one request (words 0-9) and, behind it, a ring for many requests per
doorbell. The guest fills submission entries, moves SQ_TAIL behind them and asks with RING; the
kernel serves them in order from SQ_HEAD on, leaves a completion for each at CQ_TAIL, and the guest
takes completions from CQ_HEAD on. Indexes count up for ever, modulo 2^32; entry `n` lies in slot
`n % RING_ENTRIES`.

    word 16 SQ_HEAD  17 SQ_TAIL  18 CQ_HEAD  19 CQ_TAIL
    words 64-319     32 submissions: number, six arguments, user data
    words 320-447    32 completions: user data, result, errno, number

`serve_mailbox` and `serve_ring` answer everything that needs no more than RAM: allocating, freeing,
bulk, questions, draining. What needs the machine (starting a CPU, yielding, printing, exiting) is
left alone with NEEDS_MACHINE in the mailbox, and completes with ENOSYS in the ring. Nothing a guest
writes is believed: numbers, orders, nodes, frames, buffers and indexes are checked, one call does a
bounded amount of work.

All hot, so that a native doorbell can run the same source compiled. `ram` is the host's own table
of what is RAM, physical [start, end) pairs in ascending order: it is not kept in guest memory,
where a guest could write to it. `a` is the word index of a request's first argument, `out` of where
its result goes. `allocator.hypercall` is the machine's side.
"""

from __future__ import annotations

from .gfp import GFP_BITS_MASK, GFP_MOVABLE_MASK, GFP_ZONE_BAD, GFP_ZONEMASK
from .kernel_globals import G_CLOCK, G_NODES_ONLINE, G_NR_CPU_IDS
from .layout import (
    CPU_BLOCKS,
    CPU_NUMA_NODE,
    CPU_ONLINE,
    CPU_WORDS,
    MAILBOX_WORDS,
    MAILBOXES,
    NODE_DATA,
    NR_MEM_SECTIONS,
    PAGE_OFFSET,
    PFN_SECTION_SHIFT,
    SECTION_MEM_MAP,
)
from .mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    MAX_ORDER,
    NR_CPUS,
    NR_FREE_PAGES,
    Z_PRESENT,
    ZONE_WORDS,
)
from .page_alloc import FREE_REFUSED, alloc_pages_nodemask, free_pages
from .pcp import drain_all_pages
from .spinlock import others_inside
from .vmstat import zone_page_state_snapshot

# What the serve functions say
SERVED = 0
SERVED_LATER = 1
"""Served, and the kernel has waited for something meanwhile: its clock has moved on."""
NEEDS_MACHINE = -1

ENOMEM, EFAULT, EBUSY, EINVAL, ENOSYS = 12, 14, 16, 22, 38

ALLOC_PAGES = 1
FREE_PAGES = 2
ALLOC_BULK = 3
FREE_BULK = 4
START_CPU = 5
YIELD = 6
PRINT = 7
EXIT = 8
INFO = 9
DRAIN_ALL_PAGES = 10
RING = 11
PROCESS_CALLS_FIRST = 32
PROCESS_CALLS_LAST = 95
"""Calls on behalf of processes and their files."""

INFO_NR_CPUS = 0
INFO_NR_NODES = 1
INFO_NODE_MASK = 2
INFO_THIS_NODE = 3
INFO_FREE_PAGES = 4
INFO_CLOCK = 5
INFO_PGLIST_DATA = 6

BULK_MAX = 512
"""Blocks of one ALLOC_BULK or FREE_BULK: a page full of PFNs."""
NUMA_NO_NODE = -1
MAX_PHYS = 1 << 46

# --- the mailbox page, in words -------------------------------------------------------------------
BOX_NUMBER = 0
BOX_ARGS = 1
BOX_RESULT = 7
BOX_ERRNO = 8
BOX_STACK = 9
SQ_HEAD = 16
SQ_TAIL = 17
CQ_HEAD = 18
CQ_TAIL = 19
RING_ENTRIES = 32
SQ_ENTRIES = 64
SQE_NUMBER = 0
SQE_ARGS = 1
SQE_USER = 7
SQE_WORDS = 8
CQ_ENTRIES = SQ_ENTRIES + RING_ENTRIES * SQE_WORDS
CQE_USER = 0
CQE_RESULT = 1
CQE_ERRNO = 2
CQE_NUMBER = 3
CQE_WORDS = 4
INDEX_MASK = 0xFFFFFFFF


def cpu_is_online(m: memoryview, cpu: int) -> bool:
    """True if the kernel booted with CPU `cpu` (it may not have: nr_cpus=, maxcpus=). Hot."""
    if cpu < 0 or cpu >= m[G_NR_CPU_IDS] or cpu >= NR_CPUS:
        return False
    return m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_ONLINE] != 0


def node_of_request(m: memoryview, cpu: int, nid: int) -> int:
    """The node id that a request means (NUMA_NO_NODE: the CPU's), -1 if it does not exist. Hot."""
    if nid == NUMA_NO_NODE:
        nid = m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]
    if nid < 0 or nid >= MAX_NUMNODES or m[NODE_DATA + nid] == 0:
        return -1
    return nid


def request_node(m: memoryview, cpu: int, gfp: int, order: int, nid: int) -> int:
    """The node of a sound allocation request, -1 of any other. Hot."""
    if gfp < 0 or gfp > GFP_BITS_MASK or order < 0 or order >= MAX_ORDER:
        return -1
    if GFP_ZONE_BAD >> (gfp & GFP_ZONEMASK) & 1 or gfp & GFP_MOVABLE_MASK == GFP_MOVABLE_MASK:
        return -1
    if not cpu_is_online(m, cpu):
        return -1
    return node_of_request(m, cpu, nid)


def frame_exists(m: memoryview, pfn: int) -> bool:
    """True if frame `pfn` has a struct page (pfn_valid). Hot."""
    if pfn < 0 or pfn >= NR_MEM_SECTIONS << PFN_SECTION_SHIFT:
        return False
    return m[SECTION_MEM_MAP + (pfn >> PFN_SECTION_SHIFT << 2)] != 0


def ram_address(ram: memoryview, address: int, length: int) -> int:
    """Physical address of `length` > 0 bytes that a guest named by direct map or physical address;
    -1 when they are not all RAM. Hot."""
    if address >= PAGE_OFFSET and address < PAGE_OFFSET + MAX_PHYS:
        address -= PAGE_OFFSET
    if address < 0 or address >= MAX_PHYS or length <= 0 or length > MAX_PHYS:
        return -1
    for i in range(0, len(ram), 2):
        if address >= ram[i] and address < ram[i + 1]:
            return address if address + length <= ram[i + 1] else -1
    return -1


def bulk_buffer(ram: memoryview, address: int, count: int) -> int:
    """Word index of `count` words at a guest address; -1 if unaligned or not in RAM. Hot."""
    phys = ram_address(ram, address, (count if count > 1 else 1) << 3)
    if phys < 0 or phys & 7:
        return -1
    return phys >> 3


def call_alloc_pages(m: memoryview, cpu: int, a: int, out: int) -> int:
    """ALLOC_PAGES(gfp, order, nid, nodemask): PFN; errno. Hot."""
    m[out] = -1
    gfp = m[a]
    order = m[a + 1]
    nid = request_node(m, cpu, gfp, order, m[a + 2])
    if nid < 0:
        return EINVAL
    pfn = alloc_pages_nodemask(m, cpu, gfp, order, nid, m[a + 3])
    if pfn < 0:
        return ENOMEM
    m[out] = pfn
    return 0


def call_free_pages(m: memoryview, cpu: int, a: int, out: int) -> int:
    """FREE_PAGES(pfn, order): 0, or 1 when references are left; errno. Hot."""
    m[out] = 0
    pfn = m[a]
    order = m[a + 1]
    if order < 0 or order >= MAX_ORDER or not frame_exists(m, pfn) or not cpu_is_online(m, cpu):
        return EINVAL
    said = free_pages(m, cpu, pfn, order)
    if said == FREE_REFUSED:
        return EINVAL
    m[out] = said
    return 0


def call_alloc_bulk(m: memoryview, ram: memoryview, cpu: int, a: int, out: int) -> int:
    """ALLOC_BULK(gfp, order, nid, count, buffer): blocks got, PFNs in the buffer; errno. Hot."""
    m[out] = 0
    gfp = m[a]
    order = m[a + 1]
    count = m[a + 3]
    nid = request_node(m, cpu, gfp, order, m[a + 2])
    if nid < 0 or count < 0 or count > BULK_MAX:
        return EINVAL
    buffer = bulk_buffer(ram, m[a + 4], count)
    if buffer < 0:
        return EFAULT
    for got in range(count):
        pfn = alloc_pages_nodemask(m, cpu, gfp, order, nid, 0)
        if pfn < 0:
            m[out] = got
            return ENOMEM
        m[buffer + got] = pfn
    m[out] = count
    return 0


def call_free_bulk(m: memoryview, ram: memoryview, cpu: int, a: int, out: int) -> int:
    """FREE_BULK(order, count, buffer): blocks freed, up to the first bad one; errno. Hot."""
    m[out] = 0
    order = m[a]
    count = m[a + 1]
    if order < 0 or order >= MAX_ORDER or count < 0 or count > BULK_MAX:
        return EINVAL
    if not cpu_is_online(m, cpu):
        return EINVAL
    buffer = bulk_buffer(ram, m[a + 2], count)
    if buffer < 0:
        return EFAULT
    for done in range(count):
        pfn = m[buffer + done]
        if not frame_exists(m, pfn) or free_pages(m, cpu, pfn, order) == FREE_REFUSED:
            m[out] = done
            return EINVAL
    m[out] = count
    return 0


def call_info(m: memoryview, cpu: int, a: int, out: int) -> int:
    """INFO(what, argument): one number about the machine; errno. Hot."""
    what = m[a]
    nid = m[a + 1]
    m[out] = 0
    if what == INFO_NR_CPUS:
        m[out] = m[G_NR_CPU_IDS]
    elif what == INFO_NR_NODES:
        for i in range(MAX_NUMNODES):
            if m[G_NODES_ONLINE] >> i & 1:
                m[out] = i + 1
    elif what == INFO_NODE_MASK:
        m[out] = m[G_NODES_ONLINE]
    elif what == INFO_THIS_NODE:
        m[out] = node_of_request(m, cpu, NUMA_NO_NODE)
    elif what == INFO_CLOCK:
        m[out] = m[G_CLOCK]
    elif what in (INFO_FREE_PAGES, INFO_PGLIST_DATA):
        if nid < 0 or nid >= MAX_NUMNODES or m[NODE_DATA + nid] == 0:
            return EINVAL
        if what == INFO_PGLIST_DATA:
            m[out] = m[NODE_DATA + nid]
            return 0
        free = 0
        for zid in range(MAX_NR_ZONES):
            z = ((m[NODE_DATA + nid] - PAGE_OFFSET) >> 3) + zid * ZONE_WORDS
            if m[z + Z_PRESENT]:
                free += zone_page_state_snapshot(m, z, NR_FREE_PAGES)
        m[out] = free
    else:
        return EINVAL
    return 0


def serve_call(m: memoryview, ram: memoryview, cpu: int, number: int, a: int, out: int) -> int:
    """One request: the result goes to word `out`; errno, or NEEDS_MACHINE and nothing done. Hot."""
    if number == ALLOC_PAGES:
        return call_alloc_pages(m, cpu, a, out)
    if number == FREE_PAGES:
        return call_free_pages(m, cpu, a, out)
    if number == ALLOC_BULK:
        return call_alloc_bulk(m, ram, cpu, a, out)
    if number == FREE_BULK:
        return call_free_bulk(m, ram, cpu, a, out)
    if number == INFO:
        return call_info(m, cpu, a, out)
    if number >= START_CPU and number <= EXIT:
        return NEEDS_MACHINE
    if number >= PROCESS_CALLS_FIRST and number <= PROCESS_CALLS_LAST:
        return NEEDS_MACHINE
    m[out] = 0
    if number == DRAIN_ALL_PAGES:
        drain_all_pages(m, -1)
        return 0
    return ENOSYS


def serve_ring(m: memoryview, ram: memoryview, cpu: int, budget: int) -> int:
    """Serves at most `budget` submissions of the CPU's ring, fewer when completions have no room.

    How many were served, -1 for indexes that make no sense. Hot.
    """
    box = MAILBOXES + cpu * MAILBOX_WORDS
    head = m[box + SQ_HEAD]
    tail = m[box + CQ_TAIL]
    waiting = (m[box + SQ_TAIL] - head) & INDEX_MASK
    taken = (tail - m[box + CQ_HEAD]) & INDEX_MASK
    if waiting > RING_ENTRIES or taken > RING_ENTRIES:
        return -1
    count = min(waiting, RING_ENTRIES - taken, budget)
    for _ in range(count):
        entry = box + SQ_ENTRIES + (head & (RING_ENTRIES - 1)) * SQE_WORDS
        done = box + CQ_ENTRIES + (tail & (RING_ENTRIES - 1)) * CQE_WORDS
        number = m[entry + SQE_NUMBER]
        errno = serve_call(m, ram, cpu, number, entry + SQE_ARGS, done + CQE_RESULT)
        if errno == NEEDS_MACHINE:
            m[done + CQE_RESULT] = 0
            errno = ENOSYS
        m[done + CQE_USER] = m[entry + SQE_USER]
        m[done + CQE_ERRNO] = errno
        m[done + CQE_NUMBER] = number
        head = (head + 1) & INDEX_MASK
        tail = (tail + 1) & INDEX_MASK
        m[box + SQ_HEAD] = head
        m[box + CQ_TAIL] = tail
    return count


def serve_mailbox(m: memoryview, ram: memoryview, cpu: int, now: int) -> int:
    """Serves the request in the mailbox of `cpu` at clock `now` (ns).

    SERVED, SERVED_LATER, or NEEDS_MACHINE: then only the kernel's clock has been set. Hot. (Where
    others are inside, they set the clock as well; whoever waits is alone.)
    """
    m[G_CLOCK] = now
    box = MAILBOXES + cpu * MAILBOX_WORDS
    number = m[box + BOX_NUMBER]
    if number == RING:
        count = serve_ring(m, ram, cpu, RING_ENTRIES)
        m[box + BOX_RESULT] = max(count, 0)
        m[box + BOX_ERRNO] = EINVAL if count < 0 else 0
        return SERVED if others_inside(m) or m[G_CLOCK] == now else SERVED_LATER
    errno = serve_call(m, ram, cpu, number, box + BOX_ARGS, box + BOX_RESULT)
    if errno == NEEDS_MACHINE:
        return NEEDS_MACHINE
    m[box + BOX_ERRNO] = errno
    return SERVED if others_inside(m) or m[G_CLOCK] == now else SERVED_LATER
