# SPDX-License-Identifier: GPL-2.0-only
"""Modelled disks: ranges of the machine's storage, with queues that take modelled time.

Storage lies behind RAM in the word array (`machine.physmem`), so a transfer is a copy within it,
and checkpoints, rewinding and snapshots carry the disks. A `block_device` is a range of it, cut
into blocks of a page. A request (`bio`) is one page to or from one block; it is queued, and done
when the device's clock says so: a device serves its requests in order, one that does not follow the
block before costs a seek, and each block the time of its transfer. What waits for a page jumps the
modelled clock to the moment the page is done; whoever runs the machine catches up with it.

    read:   the page is locked; done: its bytes, PG_uptodate (or PG_error), unlocked
    write:  the page is under writeback; its bytes leave at once; done: end_page_writeback()

All hot but making and ending devices: `bdev` and `p` are word indices, blocks count from 0, times
are ns. Nothing fails unless a test marks blocks as bad (bd_bad_first, bd_bad_count).
"""

from __future__ import annotations

from .gfp import GFP_NOIO, GFP_NOWARN_BIT
from .kernel_globals import (
    G_BDEV_CACHEP,
    G_BIO_CACHEP,
    G_BLK_NEXT,
    G_BLOCK_DEVICES,
    G_CLOCK,
    G_STORAGE_START,
    G_STORAGE_WORDS,
)
from .layout import PAGE_OFFSET, va_of_word, word_of_va
from .list_head import list_add_tail, list_del, list_init
from .mm_inline import page_to_pfn, page_va_of, unlock_page, va_to_page
from .mm_types import P_FLAGS, PG_ERROR, PG_LOCKED, PG_UPTODATE, PG_WRITEBACK
from .page_dirty import end_page_writeback
from .slab import SLAB_HWCACHE_ALIGN, SLAB_PANIC
from .slab_common import kmem_cache_create
from .slub import kmem_cache_alloc, kmem_cache_free, kmem_cache_zalloc
from .structs import Struct, array, list_head, scalar
from .vm_events import PGPGIN, PGPGOUT
from .vmstat import count_vm_events

ENOMEM = 12
SECTORS_PER_BLOCK = 8
SEEK_NS = 100_000
"""What a request costs that does not follow the one before on the disk."""
TRANSFER_NS = 20_000
"""What each block costs: about 200 MB/s."""
NR_REQUESTS = 128
"""Requests that a queue holds (BLKDEV_MAX_RQ); who submits another waits. This is what slows
reclaim down to the speed of the disk."""
NEVER = (1 << 63) - 1

BLOCK_DEVICE = Struct(
    "block_device",
    [
        array("bd_name", 4, "char[32]"),
        list_head("bd_list"),
        scalar("bd_start_word"),
        scalar("bd_nr_blocks"),
        list_head("bd_queue"),
        scalar("bd_busy_until"),
        scalar("bd_next_block"),
        scalar("bd_reads"),
        scalar("bd_writes"),
        scalar("bd_io_ns"),
        scalar("bd_bad_first"),
        scalar("bd_bad_count"),
        scalar("bd_in_flight"),
        scalar("bd_read_only", "bool"),
        scalar("bd_host_map", "unsigned long *"),
    ],
    words=20,
)
BD_NAME = BLOCK_DEVICE["bd_name"]
BD_LIST = BLOCK_DEVICE["bd_list"]
BD_START_WORD = BLOCK_DEVICE["bd_start_word"]
BD_NR_BLOCKS = BLOCK_DEVICE["bd_nr_blocks"]
BD_QUEUE = BLOCK_DEVICE["bd_queue"]
BD_BUSY_UNTIL = BLOCK_DEVICE["bd_busy_until"]
BD_NEXT_BLOCK = BLOCK_DEVICE["bd_next_block"]
BD_READS = BLOCK_DEVICE["bd_reads"]
BD_WRITES = BLOCK_DEVICE["bd_writes"]
BD_IO_NS = BLOCK_DEVICE["bd_io_ns"]
BD_BAD_FIRST = BLOCK_DEVICE["bd_bad_first"]
BD_BAD_COUNT = BLOCK_DEVICE["bd_bad_count"]
BD_IN_FLIGHT = BLOCK_DEVICE["bd_in_flight"]
BD_READ_ONLY = BLOCK_DEVICE["bd_read_only"]
BD_HOST_MAP = BLOCK_DEVICE["bd_host_map"]

BIO = Struct(
    "bio",
    [
        list_head("bi_list"),
        scalar("bi_bdev", "struct block_device *"),
        scalar("bi_opf", "unsigned int"),
        scalar("bi_block", "sector_t"),
        scalar("bi_page", "struct page *"),
        scalar("bi_done_at"),
    ],
    words=8,
)
BI_BDEV = BIO["bi_bdev"]
BI_OPF = BIO["bi_opf"]
BI_BLOCK = BIO["bi_block"]
BI_PAGE = BIO["bi_page"]
BI_DONE_AT = BIO["bi_done_at"]
REQ_OP_READ = 0
REQ_OP_WRITE = 1


# --- devices --------------------------------------------------------------------------------------
def blockdev_init(m: memoryview, cpu: int) -> int:
    """Makes the caches and the list of devices, once: 0 or -ENOMEM."""
    if m[G_BIO_CACHEP]:
        return 0
    list_init(m, G_BLOCK_DEVICES)
    bdevs = kmem_cache_create(m, cpu, b"bdev_cache", BLOCK_DEVICE.size, 0, SLAB_PANIC)
    bios = kmem_cache_create(m, cpu, b"bio", BIO.size, 0, SLAB_HWCACHE_ALIGN | SLAB_PANIC)
    if bdevs == 0 or bios == 0:
        return -ENOMEM
    m[G_BDEV_CACHEP] = va_of_word(bdevs)
    m[G_BIO_CACHEP] = va_of_word(bios)
    return 0


def block_devices(m: memoryview) -> list[int]:
    """All devices in the order of their place in storage."""
    found = []
    va = m[G_BLOCK_DEVICES]
    while va not in (va_of_word(G_BLOCK_DEVICES), 0):
        found.append(word_of_va(va) - BD_LIST)
        va = m[word_of_va(va)]
    return sorted(found, key=lambda bdev: m[bdev + BD_START_WORD])


def find_storage(m: memoryview, words: int) -> int:
    """First word of the lowest unused range of storage of so many words, 0 if there is none."""
    at = m[G_STORAGE_START]
    for bdev in block_devices(m):
        if m[bdev + BD_START_WORD] - at >= words:
            return at
        at = m[bdev + BD_START_WORD] + (m[bdev + BD_NR_BLOCKS] << 9)
    return at if m[G_STORAGE_START] + m[G_STORAGE_WORDS] - at >= words else 0


def bdev_create(m: memoryview, cpu: int, name: bytes, nr_blocks: int) -> int:
    """A device of so many blocks of 4 KiB: its word index, or 0 without storage or memory. It holds
    what storage holds there: zeroes, unless another device was there before."""
    start = find_storage(m, nr_blocks << 9) if nr_blocks > 0 else 0
    if start == 0:
        return 0
    bdev = kmem_cache_zalloc(m, cpu, word_of_va(m[G_BDEV_CACHEP]), GFP_NOIO)
    if bdev == 0:
        return 0
    text = name[:31].ljust(32, b"\0")
    for i in range(4):
        m[bdev + BD_NAME + i] = int.from_bytes(text[8 * i : 8 * i + 8], "little", signed=True)
    m[bdev + BD_START_WORD] = start
    m[bdev + BD_NR_BLOCKS] = nr_blocks
    list_init(m, bdev + BD_QUEUE)
    list_add_tail(m, bdev + BD_LIST, va_of_word(bdev + BD_LIST), G_BLOCK_DEVICES)
    return bdev


def bdev_destroy(m: memoryview, cpu: int, bdev: int) -> None:
    """Ends a device once its queue has run empty; its place in storage may be used again."""
    while m[bdev + BD_QUEUE] != va_of_word(bdev + BD_QUEUE):
        blk_wait_any(m, cpu)
    list_del(m, bdev + BD_LIST)
    kmem_cache_free(m, cpu, word_of_va(m[G_BDEV_CACHEP]), bdev)


def bdev_name(m: memoryview, bdev: int) -> str:
    """The device's name."""
    raw = b"".join((m[bdev + BD_NAME + i] & (1 << 64) - 1).to_bytes(8, "little") for i in range(4))
    return raw.split(b"\0")[0].decode("latin-1")


def host_map_words(nr_blocks: int) -> int:
    """Words of the map of blocks that a file of the host has not seen yet: one that says whether
    there are any, and a bit for each block."""
    return 1 + (nr_blocks + 63 >> 6)


def mark_block(m: memoryview, bdev: int, block: int) -> None:
    """A block of the disk has changed: notes it where a file of the host follows. Hot."""
    if m[bdev + BD_HOST_MAP]:
        at = (m[bdev + BD_HOST_MAP] - PAGE_OFFSET) >> 3
        m[at] = 1
        m[at + 1 + (block >> 6)] |= 1 << (block & 63) if block & 63 < 63 else -(1 << 63)


# --- requests -------------------------------------------------------------------------------------
def submit_page(m: memoryview, cpu: int, bdev: int, write: int, block: int, p: int) -> None:
    """Queues the transfer of page `p` to (`write` 1) or from a block of the device. Hot.

    Without memory for the request it is waited for, and so is room in a full queue.
    """
    while m[bdev + BD_IN_FLIGHT] >= NR_REQUESTS and blk_wait_any(m, cpu):
        pass
    count_vm_events(m, cpu, PGPGOUT if write else PGPGIN, SECTORS_PER_BLOCK)
    now = m[G_CLOCK]
    start = max(m[bdev + BD_BUSY_UNTIL], now)
    took = TRANSFER_NS if block == m[bdev + BD_NEXT_BLOCK] else SEEK_NS + TRANSFER_NS
    done_at = start + took
    m[bdev + BD_BUSY_UNTIL] = done_at
    m[bdev + BD_NEXT_BLOCK] = block + 1
    m[bdev + BD_IO_NS] += took
    m[bdev + (BD_WRITES if write else BD_READS)] += 1
    if write and not block_is_bad(m, bdev, block):
        at = m[bdev + BD_START_WORD] + (block << 9)
        frame = page_to_pfn(m, p) << 9
        m[at : at + 512] = m[frame : frame + 512]
        mark_block(m, bdev, block)
    gfp = GFP_NOIO | GFP_NOWARN_BIT
    bio = kmem_cache_alloc(m, cpu, (m[G_BIO_CACHEP] - PAGE_OFFSET) >> 3, gfp)
    if bio == 0:
        while m[bdev + BD_QUEUE] != PAGE_OFFSET + ((bdev + BD_QUEUE) << 3):
            blk_wait_any(m, cpu)
        m[G_CLOCK] = max(m[G_CLOCK], done_at)
        end_request(m, cpu, bdev, write, block, p)
        return
    m[bio + BI_BDEV] = PAGE_OFFSET + (bdev << 3)
    m[bio + BI_OPF] = write
    m[bio + BI_BLOCK] = block
    m[bio + BI_PAGE] = page_va_of(m, p)
    m[bio + BI_DONE_AT] = done_at
    m[bdev + BD_IN_FLIGHT] += 1
    list_add_tail(m, bio, PAGE_OFFSET + (bio << 3), bdev + BD_QUEUE)
    if m[G_BLK_NEXT] == 0 or done_at < m[G_BLK_NEXT]:
        m[G_BLK_NEXT] = done_at


def block_is_bad(m: memoryview, bdev: int, block: int) -> bool:
    """True for a block that a test has marked as unreadable. Hot."""
    first = m[bdev + BD_BAD_FIRST]
    return first <= block < first + m[bdev + BD_BAD_COUNT]


def end_request(m: memoryview, cpu: int, bdev: int, write: int, block: int, p: int) -> None:
    """What happens to the page when its transfer is done. Hot (mpage_end_io and its like)."""
    bad = block_is_bad(m, bdev, block)
    if bad:
        m[p + P_FLAGS] |= PG_ERROR
    if write:
        end_page_writeback(m, cpu, p)
        return
    if bad:
        m[p + P_FLAGS] &= ~PG_UPTODATE
    else:
        at = m[bdev + BD_START_WORD] + (block << 9)
        frame = page_to_pfn(m, p) << 9
        m[frame : frame + 512] = m[at : at + 512]
        m[p + P_FLAGS] |= PG_UPTODATE
    unlock_page(m, p)


def run_queue(m: memoryview, cpu: int, bdev: int) -> int:
    """Completes what is due of a device: when the next one will be, NEVER if there is none. Hot."""
    head = bdev + BD_QUEUE
    end = PAGE_OFFSET + (head << 3)
    while m[head] != end:
        bio = (m[head] - PAGE_OFFSET) >> 3
        if m[bio + BI_DONE_AT] > m[G_CLOCK]:
            return m[bio + BI_DONE_AT]
        list_del(m, bio)
        m[bdev + BD_IN_FLIGHT] -= 1
        p = va_to_page(m, m[bio + BI_PAGE])
        write = m[bio + BI_OPF]
        block = m[bio + BI_BLOCK]
        kmem_cache_free(m, cpu, (m[G_BIO_CACHEP] - PAGE_OFFSET) >> 3, bio)
        end_request(m, cpu, bdev, write, block, p)
    return NEVER


def blk_poll(m: memoryview, cpu: int) -> None:
    """Completes all transfers that are due by the modelled clock. Hot."""
    if m[G_BLK_NEXT] == 0 or m[G_CLOCK] < m[G_BLK_NEXT]:
        return
    head = PAGE_OFFSET + (G_BLOCK_DEVICES << 3)
    earliest = NEVER
    va = m[G_BLOCK_DEVICES]
    while va != head:
        w = (va - PAGE_OFFSET) >> 3
        earliest = min(earliest, run_queue(m, cpu, w - BD_LIST))
        va = m[w]
    m[G_BLK_NEXT] = 0 if earliest == NEVER else earliest


def blk_wait_any(m: memoryview, cpu: int) -> bool:
    """Lets modelled time pass until the next transfer is done; False if none is under way. Hot."""
    if m[G_BLK_NEXT] == 0:
        return False
    m[G_CLOCK] = max(m[G_CLOCK], m[G_BLK_NEXT])
    blk_poll(m, cpu)
    return True


def wait_on_page_flag(m: memoryview, cpu: int, p: int, flag: int) -> bool:
    """Waits until a transfer takes `flag` off the page; False if none will. Hot."""
    while m[p + P_FLAGS] & flag:
        if not blk_wait_any(m, cpu):
            return False
    return True


def wait_on_page_locked(m: memoryview, cpu: int, p: int) -> bool:
    """Waits until the page that is being read is unlocked; False if nobody will. Hot."""
    return wait_on_page_flag(m, cpu, p, PG_LOCKED)


def wait_on_page_writeback(m: memoryview, cpu: int, p: int) -> bool:
    """Waits until the page has been written; False if nobody writes it. Hot."""
    return wait_on_page_flag(m, cpu, p, PG_WRITEBACK)


def lock_page_wait(m: memoryview, cpu: int, p: int) -> bool:
    """lock_page() that waits for transfers; False where it would wait for ever. Hot."""
    if m[p + P_FLAGS] & PG_LOCKED and not wait_on_page_flag(m, cpu, p, PG_LOCKED):
        return False
    m[p + P_FLAGS] |= PG_LOCKED
    return True


def bdev_read_page(m: memoryview, cpu: int, bdev: int, block: int, p: int) -> bool:
    """Reads a block into the locked page and waits; False if it cannot be read. Hot."""
    submit_page(m, cpu, bdev, REQ_OP_READ, block, p)
    wait_on_page_locked(m, cpu, p)
    return m[p + P_FLAGS] & PG_UPTODATE != 0
