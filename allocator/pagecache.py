# SPDX-License-Identifier: GPL-2.0-only
"""Files come into being: the first use of the page cache (pagecache_init, vfs_caches_init).

Makes the caches of nodes, devices, names, inodes and open files, finds the disk, takes its file
system as it is or makes an empty one, and registers the shrinkers. Nothing of this happens at boot:
a machine that uses no files has none of it. Also here: drop_caches.
"""

from __future__ import annotations

from .address_space import AS_NRPAGES
from .blockdev import BD_HOST_MAP, BD_READ_ONLY, bdev_create, blockdev_init, host_map_words
from .dcache import super_block
from .flatfs import flatfs_mount
from .fs import (
    BDI_WRITEBACK,
    DENTRY,
    FILE,
    INODE,
    INODE_MAPPING,
    INODE_SB_LIST,
    SB_BDEV,
    SB_DENTRIES,
    SB_DENTRY_LRU,
    SB_INODE_LRU,
    SB_INODES,
    SUPER_BLOCK,
    WB_DIRTY,
    WB_IO,
    WB_LAST_OLD_FLUSH,
    WB_MORE_IO,
)
from .gfp import GFP_KERNEL, GFP_ZERO_BIT
from .kernel_globals import (
    G_BDI_WB,
    G_CLOCK,
    G_DENTRY_CACHEP,
    G_DISK_BLOCKS,
    G_DISK_READ_ONLY,
    G_FILP_CACHEP,
    G_INODE_CACHEP,
    G_SHADOW_NODES,
    G_STORAGE_WORDS,
    G_SUPER_BLOCK,
)
from .layout import NODE_DATA, va_of_word, word_of_va
from .list_head import list_init
from .list_lru import list_lru_init
from .mmzone import MAX_NUMNODES
from .shrinker import (
    DEFAULT_SEEKS,
    SHRINKER_SHADOW,
    SHRINKER_SUPER,
    register_shrinker,
    shrink_slab,
    shrinker_init,
)
from .slab import SLAB_HWCACHE_ALIGN, SLAB_PANIC, SLAB_RECLAIM_ACCOUNT
from .slab_common import kmalloc, kmem_cache_create
from .truncate import LAST_INDEX, invalidate_mapping_pages
from .vm_events import DROP_PAGECACHE, DROP_SLAB
from .vmstat import count_vm_events
from .xarray import radix_tree_init

ENOMEM = 12
EINVAL = 22
SUPER_BATCH = 1024
DROP_PAGES = 1
DROP_OBJECTS = 2


def make_caches(m: memoryview, cpu: int) -> bool:
    """Caches of dentries, inodes and files; False without memory."""
    reclaimable = SLAB_PANIC | SLAB_RECLAIM_ACCOUNT
    for pointer, name, size, flags in (
        (G_DENTRY_CACHEP, b"dentry", DENTRY.size, reclaimable),
        (G_INODE_CACHEP, b"inode_cache", INODE.size, reclaimable),
        (G_FILP_CACHEP, b"filp", FILE.size, SLAB_HWCACHE_ALIGN | SLAB_PANIC),
    ):
        s = kmem_cache_create(m, cpu, name, size, 0, flags)
        if s == 0:
            return False
        m[pointer] = va_of_word(s)
    return True


def follow_host(m: memoryview, cpu: int, bdev: int) -> bool:
    """A disk that stands for a file of the host is read-only, or gets a map of what has changed;
    False without memory."""
    m[bdev + BD_READ_ONLY] = m[G_DISK_READ_ONLY]
    if m[G_DISK_BLOCKS] == 0 or m[G_DISK_READ_ONLY]:
        return True
    size = host_map_words(m[G_DISK_BLOCKS]) << 3
    changed = kmalloc(m, cpu, size, GFP_KERNEL | GFP_ZERO_BIT)
    m[bdev + BD_HOST_MAP] = va_of_word(changed) if changed else 0
    return changed != 0


def mount(m: memoryview, cpu: int) -> bool:
    """The file system on the first half of storage, or on as much of it as stands for a file of the
    host; False without storage or memory."""
    sb = kmalloc(m, cpu, SUPER_BLOCK.size, GFP_KERNEL | GFP_ZERO_BIT)
    bdev = bdev_create(m, cpu, b"vda", m[G_DISK_BLOCKS] or m[G_STORAGE_WORDS] >> 10)
    dentries, inodes = list_lru_init(m, cpu), list_lru_init(m, cpu)
    if not (sb and bdev and dentries and inodes) or not follow_host(m, cpu, bdev):
        return False
    m[sb + SB_BDEV] = va_of_word(bdev)
    list_init(m, sb + SB_INODES)
    list_init(m, sb + SB_DENTRIES)
    m[sb + SB_DENTRY_LRU] = va_of_word(dentries)
    m[sb + SB_INODE_LRU] = va_of_word(inodes)
    m[G_SUPER_BLOCK] = va_of_word(sb)
    flatfs_mount(m, bdev)
    return True


def flusher_init(m: memoryview, cpu: int) -> bool:
    """The flusher's lists; False without memory."""
    wb = kmalloc(m, cpu, BDI_WRITEBACK.size, GFP_KERNEL | GFP_ZERO_BIT)
    if wb == 0:
        return False
    for head in (WB_DIRTY, WB_IO, WB_MORE_IO):
        list_init(m, wb + head)
    m[wb + WB_LAST_OLD_FLUSH] = m[G_CLOCK]
    m[G_BDI_WB] = va_of_word(wb)
    return True


def pagecache_init(m: memoryview, cpu: int) -> int:
    """Brings files up, once: 0 or -ENOMEM. Slab and pagevecs are there already.

    A machine without storage has a page cache for swap and no files.
    """
    if radix_tree_init(m, cpu) or blockdev_init(m, cpu) or shrinker_init(m, cpu):
        return -ENOMEM
    if m[G_BDI_WB]:
        return 0
    shadows = list_lru_init(m, cpu)
    if shadows == 0 or not make_caches(m, cpu) or not flusher_init(m, cpu):
        return -ENOMEM
    m[G_SHADOW_NODES] = va_of_word(shadows)
    if m[G_STORAGE_WORDS] and not mount(m, cpu):
        return -ENOMEM
    kinds = [(SHRINKER_SHADOW, 0, 0)]
    if m[G_SUPER_BLOCK]:
        kinds.insert(0, (SHRINKER_SUPER, DEFAULT_SEEKS, SUPER_BATCH))
    made = [register_shrinker(m, cpu, kind, seeks, batch) for kind, seeks, batch in kinds]
    return 0 if all(made) else -ENOMEM


def drop_caches(m: memoryview, cpu: int, what: int) -> int:
    """Drops clean page cache (1), unused dentries and inodes (2), or both (3): 0 or -EINVAL
    (fs/drop_caches.c)."""
    if not 1 <= what <= (DROP_PAGES | DROP_OBJECTS):
        return -EINVAL
    if what & DROP_PAGES and m[G_SUPER_BLOCK]:
        head = super_block(m) + SB_INODES
        va = m[head]
        while va != va_of_word(head):
            inode = word_of_va(va) - INODE_SB_LIST
            if m[inode + INODE_MAPPING + AS_NRPAGES]:
                invalidate_mapping_pages(m, cpu, inode + INODE_MAPPING, 0, LAST_INDEX)
            va = m[word_of_va(va)]
        count_vm_events(m, cpu, DROP_PAGECACHE, 1)
    if what & DROP_OBJECTS:
        freed = 11
        while freed > 10:
            freed = sum(
                shrink_slab(m, cpu, GFP_KERNEL, nid, 0, 0)
                for nid in range(MAX_NUMNODES)
                if m[NODE_DATA + nid]
            )
        count_vm_events(m, cpu, DROP_SLAB, 1)
    return 0
