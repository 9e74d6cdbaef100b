# SPDX-License-Identifier: GPL-2.0-only
"""Names and inodes in memory: looking up, making, and giving up what nobody uses
(fs/dcache.c, fs/inode.c, fs/super.c).

A name that is looked up becomes a dentry, its file an inode; both are kept when the last user has
gone, because they will be wanted again. When memory is short the shrinker takes the oldest unused
ones: first dentries, which let go of their inodes, then inodes, with the clean pages of their
files. What is taken can be read back from the disk.

Names are NAME_WORDS words, zero-padded. Hot but `mount`.
"""

from __future__ import annotations

from .address_space import AOPS_FILE, AS_A_OPS, AS_GFP, AS_HOST, AS_I_PAGES, AS_NRPAGES
from .blockdev import BD_READ_ONLY
from .flatfs import (
    clear_record,
    find_record,
    flatfs_shrink,
    names_equal,
    new_record,
    orphan_record,
    read_inode,
    write_inode,
)
from .fs import (
    DCACHE_REFERENCED,
    DENTRY_CHILD,
    DENTRY_COUNT,
    DENTRY_FLAGS,
    DENTRY_INODE,
    DENTRY_LRU,
    DENTRY_NAME,
    ENOENT,
    ENOMEM,
    ENOSPC,
    EROFS,
    FILE_COUNT,
    FILE_DENTRY,
    FILE_INODE,
    FILE_MAPPING,
    FILE_MODE,
    FILE_RA,
    FMODE_WRITE,
    I_REFERENCED,
    INODE_BDEV,
    INODE_COUNT,
    INODE_INO,
    INODE_IO_LIST,
    INODE_LRU,
    INODE_MAPPING,
    INODE_MODE,
    INODE_NLINK,
    INODE_SB_LIST,
    INODE_STATE,
    INODE_WRITECOUNT,
    NAME_WORDS,
    RA_PAGES,
    RA_PREV_POS,
    S_IFREG,
    SB_BDEV,
    SB_DENTRIES,
    SB_DENTRY_LRU,
    SB_INODE_LRU,
    SB_INODES,
    SB_NR_DENTRY,
    SB_NR_INODES,
    dget,
    dput,
    iput,
)
from .gfp import GFP_FS_BIT, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from .kernel_globals import (
    G_DENTRY_CACHEP,
    G_FILP_CACHEP,
    G_INODE_CACHEP,
    G_SUPER_BLOCK,
    G_VFS_CACHE_PRESSURE,
)
from .layout import CPU_BLOCKS, CPU_RECLAIMED_SLAB, CPU_WORDS, PAGE_OFFSET
from .list_head import list_add_tail, list_del, list_init
from .list_lru import list_lru_count_node, list_lru_del, list_lru_first, list_lru_rotate
from .readahead import VM_MAX_READAHEAD
from .slub import kmem_cache_free, kmem_cache_zalloc
from .truncate import LAST_INDEX, invalidate_mapping_pages, truncate_inode_pages
from .vm_events import PGINODESTEAL
from .vmstat import count_vm_events
from .xarray import XA_FLAGS_SHADOWS, xa_init


def super_block(m: memoryview) -> int:
    """The mounted file system. Hot."""
    return (m[G_SUPER_BLOCK] - PAGE_OFFSET) >> 3


# --- inodes ---------------------------------------------------------------------------------------
def find_inode(m: memoryview, ino: int) -> int:
    """The inode of a number if it is in memory, else 0. Hot."""
    head = super_block(m) + SB_INODES
    va = m[head]
    while va != PAGE_OFFSET + (head << 3):
        inode = ((va - PAGE_OFFSET) >> 3) - INODE_SB_LIST
        if m[inode + INODE_INO] == ino:
            return inode
        va = m[inode + INODE_SB_LIST]
    return 0


def iget(m: memoryview, cpu: int, ino: int) -> int:
    """The inode of a number, read from the disk if need be, with a reference; 0: no memory. Hot."""
    inode = find_inode(m, ino)
    if inode:
        m[inode + INODE_COUNT] += 1
        return inode
    inode = kmem_cache_zalloc(m, cpu, (m[G_INODE_CACHEP] - PAGE_OFFSET) >> 3, GFP_KERNEL)
    if inode == 0:
        return 0
    sb = super_block(m)
    m[inode + INODE_MODE] = S_IFREG
    m[inode + INODE_INO] = ino
    m[inode + INODE_COUNT] = 1
    m[inode + INODE_BDEV] = m[sb + SB_BDEV]
    list_init(m, inode + INODE_IO_LIST)
    list_init(m, inode + INODE_LRU)
    mapping = inode + INODE_MAPPING
    m[mapping + AS_HOST] = PAGE_OFFSET + (inode << 3)
    m[mapping + AS_A_OPS] = AOPS_FILE
    m[mapping + AS_GFP] = GFP_HIGHUSER_MOVABLE
    xa_init(m, mapping + AS_I_PAGES, XA_FLAGS_SHADOWS)
    read_inode(m, inode)
    node = inode + INODE_SB_LIST
    list_add_tail(m, node, PAGE_OFFSET + (node << 3), sb + SB_INODES)
    m[sb + SB_NR_INODES] += 1
    return inode


def evict(m: memoryview, cpu: int, inode: int) -> None:
    """Takes an unused, clean inode and all its pages out of memory. Hot."""
    sb = super_block(m)
    truncate_inode_pages(m, cpu, inode + INODE_MAPPING, 0)
    list_lru_del(m, (m[sb + SB_INODE_LRU] - PAGE_OFFSET) >> 3, inode + INODE_LRU)
    list_del(m, inode + INODE_IO_LIST)
    list_del(m, inode + INODE_SB_LIST)
    m[sb + SB_NR_INODES] -= 1
    kmem_cache_free(m, cpu, (m[G_INODE_CACHEP] - PAGE_OFFSET) >> 3, inode)


def is_read_only(m: memoryview) -> bool:
    """True if nothing may be changed on the disk (sb_rdonly). Hot."""
    return m[((m[super_block(m) + SB_BDEV] - PAGE_OFFSET) >> 3) + BD_READ_ONLY] != 0


# --- names ----------------------------------------------------------------------------------------
def d_lookup(m: memoryview, name: int) -> int:
    """The dentry of the name at word `name` if it is in memory, else 0. Hot."""
    head = super_block(m) + SB_DENTRIES
    va = m[head]
    while va != PAGE_OFFSET + (head << 3):
        dentry = ((va - PAGE_OFFSET) >> 3) - DENTRY_CHILD
        if names_equal(m, dentry + DENTRY_NAME, name):
            return dentry
        va = m[dentry + DENTRY_CHILD]
    return 0


def d_alloc(m: memoryview, cpu: int, name: int, ino: int) -> int:
    """A dentry for a file that is on the disk, with a user: it, or 0 without memory. Hot."""
    inode = iget(m, cpu, ino)
    if inode == 0:
        return 0
    dentry = kmem_cache_zalloc(m, cpu, (m[G_DENTRY_CACHEP] - PAGE_OFFSET) >> 3, GFP_KERNEL)
    if dentry == 0:
        iput(m, inode)
        return 0
    sb = super_block(m)
    m[dentry + DENTRY_COUNT] = 1
    m[dentry + DENTRY_INODE] = PAGE_OFFSET + (inode << 3)
    for i in range(NAME_WORDS):
        m[dentry + DENTRY_NAME + i] = m[name + i]
    list_init(m, dentry + DENTRY_LRU)
    node = dentry + DENTRY_CHILD
    list_add_tail(m, node, PAGE_OFFSET + (node << 3), sb + SB_DENTRIES)
    m[sb + SB_NR_DENTRY] += 1
    return dentry


def d_kill(m: memoryview, cpu: int, dentry: int) -> None:
    """Frees an unused dentry, which lets go of its inode. Hot (__dentry_kill)."""
    sb = super_block(m)
    list_lru_del(m, (m[sb + SB_DENTRY_LRU] - PAGE_OFFSET) >> 3, dentry + DENTRY_LRU)
    list_del(m, dentry + DENTRY_CHILD)
    m[sb + SB_NR_DENTRY] -= 1
    inode = (m[dentry + DENTRY_INODE] - PAGE_OFFSET) >> 3
    kmem_cache_free(m, cpu, (m[G_DENTRY_CACHEP] - PAGE_OFFSET) >> 3, dentry)
    iput(m, inode)


def lookup(m: memoryview, cpu: int, name: int, create: bool) -> int:
    """The dentry of a name, with a user more; made with an empty file if `create` and there is
    none: it, or -ENOENT, -ENOSPC, -EROFS, -ENOMEM. Hot."""
    dentry = d_lookup(m, name)
    if dentry:
        dget(m, dentry)
        return dentry
    ino = find_record(m, name)
    if ino == 0:
        if not create:
            return -ENOENT
        if is_read_only(m):
            return -EROFS
        ino = new_record(m, name)
        if ino == 0:
            return -ENOSPC
    dentry = d_alloc(m, cpu, name, ino)
    return dentry if dentry else -ENOMEM


def open_file(m: memoryview, cpu: int, name: int, mode: int, create: bool) -> int:
    """Opens the file whose name lies at word `name` with FMODE_ bits: a struct file, or a negative
    errno. Hot (do_filp_open)."""
    dentry = lookup(m, cpu, name, create)
    if dentry < 0:
        return dentry
    if mode & FMODE_WRITE and is_read_only(m):
        dput(m, dentry)
        return -EROFS
    file = kmem_cache_zalloc(m, cpu, (m[G_FILP_CACHEP] - PAGE_OFFSET) >> 3, GFP_KERNEL)
    if file == 0:
        dput(m, dentry)
        return -ENOMEM
    inode = (m[dentry + DENTRY_INODE] - PAGE_OFFSET) >> 3
    m[file + FILE_MODE] = mode
    m[file + FILE_COUNT] = 1
    m[file + FILE_INODE] = PAGE_OFFSET + (inode << 3)
    m[file + FILE_MAPPING] = PAGE_OFFSET + ((inode + INODE_MAPPING) << 3)
    m[file + FILE_DENTRY] = PAGE_OFFSET + (dentry << 3)
    m[file + FILE_RA + RA_PAGES] = VM_MAX_READAHEAD
    m[file + FILE_RA + RA_PREV_POS] = -1
    if mode & FMODE_WRITE:
        m[inode + INODE_WRITECOUNT] += 1
    return file


def unlink(m: memoryview, cpu: int, name: int) -> int:
    """Takes a file its name: 0, -EROFS, -ENOENT or -ENOMEM. Hot (vfs_unlink, d_delete).

    A file that nobody has open ends here. Another one lives on without a name until the last who
    has it open or mapped lets go (`end_unlinked`); its record on the disk is an orphan's meanwhile.
    """
    if is_read_only(m):
        return -EROFS
    dentry = lookup(m, cpu, name, False)
    if dentry < 0:
        return dentry
    inode = (m[dentry + DENTRY_INODE] - PAGE_OFFSET) >> 3
    m[inode + INODE_NLINK] = 0
    m[dentry + DENTRY_COUNT] -= 1
    node = dentry + DENTRY_CHILD
    list_del(m, node)
    list_init(m, node)
    m[super_block(m) + SB_NR_DENTRY] -= 1
    if m[dentry + DENTRY_COUNT] == 0:
        end_unlinked(m, cpu, dentry)
    else:
        orphan_record(m, inode)
    return 0


def d_unhashed(m: memoryview, dentry: int) -> bool:
    """True for a name that has been taken from its file. Hot."""
    return m[dentry + DENTRY_CHILD] == PAGE_OFFSET + (dentry + DENTRY_CHILD << 3)


def end_unlinked(m: memoryview, cpu: int, dentry: int) -> None:
    """Ends a file without a name, which nobody has any more: its pages are dropped unwritten, its
    blocks and its record on the disk are free. Hot."""
    sb = super_block(m)
    inode = (m[dentry + DENTRY_INODE] - PAGE_OFFSET) >> 3
    list_lru_del(m, (m[sb + SB_DENTRY_LRU] - PAGE_OFFSET) >> 3, dentry + DENTRY_LRU)
    kmem_cache_free(m, cpu, (m[G_DENTRY_CACHEP] - PAGE_OFFSET) >> 3, dentry)
    truncate_inode_pages(m, cpu, inode + INODE_MAPPING, 0)
    flatfs_shrink(m, inode, 0)
    clear_record(m, m[inode + INODE_INO])
    m[inode + INODE_STATE] = 0
    m[inode + INODE_COUNT] = 0
    evict(m, cpu, inode)


# --- giving up ------------------------------------------------------------------------------------
def prune_dcache(m: memoryview, cpu: int, nid: int, nr: int) -> int:
    """Looks at `nr` unused dentries of a node, oldest first, and frees those not used lately: how
    many. Hot (prune_dcache_sb)."""
    lru = (m[super_block(m) + SB_DENTRY_LRU] - PAGE_OFFSET) >> 3
    freed = 0
    while nr > 0:
        item = list_lru_first(m, lru, nid)
        if item == 0:
            break
        nr -= 1
        dentry = item - DENTRY_LRU
        if m[dentry + DENTRY_COUNT]:
            list_lru_del(m, lru, item)
        elif m[dentry + DENTRY_FLAGS] & DCACHE_REFERENCED:
            m[dentry + DENTRY_FLAGS] &= ~DCACHE_REFERENCED
            list_lru_rotate(m, lru, item)
        else:
            d_kill(m, cpu, dentry)
            freed += 1
    return freed


def prune_icache(m: memoryview, cpu: int, nid: int, nr: int) -> int:
    """Looks at `nr` unused inodes of a node, oldest first, and frees those without pages and not
    used lately; others lose their clean pages or get another turn: how many. Hot
    (prune_icache_sb)."""
    lru = (m[super_block(m) + SB_INODE_LRU] - PAGE_OFFSET) >> 3
    freed = 0
    while nr > 0:
        item = list_lru_first(m, lru, nid)
        if item == 0:
            break
        nr -= 1
        inode = item - INODE_LRU
        mapping = inode + INODE_MAPPING
        if m[inode + INODE_COUNT] or m[inode + INODE_STATE] & ~I_REFERENCED:
            list_lru_del(m, lru, item)
        elif m[inode + INODE_STATE] & I_REFERENCED or m[mapping + AS_NRPAGES] > 1:
            m[inode + INODE_STATE] &= ~I_REFERENCED
            list_lru_rotate(m, lru, item)
        elif m[mapping + AS_NRPAGES]:
            reap = invalidate_mapping_pages(m, cpu, mapping, 0, LAST_INDEX)
            count_vm_events(m, cpu, PGINODESTEAL, reap)
            m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_RECLAIMED_SLAB] += reap
            list_lru_rotate(m, lru, item)
        else:
            write_inode(m, inode)
            evict(m, cpu, inode)
            freed += 1
    return freed


def super_cache_count(m: memoryview, nid: int) -> int:
    """Unused dentries and inodes of a node, weighed by vfs_cache_pressure (percent). Hot."""
    sb = super_block(m)
    total = list_lru_count_node(m, (m[sb + SB_DENTRY_LRU] - PAGE_OFFSET) >> 3, nid)
    total += list_lru_count_node(m, (m[sb + SB_INODE_LRU] - PAGE_OFFSET) >> 3, nid)
    return total * m[G_VFS_CACHE_PRESSURE] // 100


def super_cache_scan(m: memoryview, cpu: int, nid: int, nr: int, gfp: int) -> int:
    """Frees dentries and inodes in proportion, looking at `nr`: how many, -1 where the request may
    not enter the file system. Hot."""
    if gfp & GFP_FS_BIT == 0:
        return -1
    sb = super_block(m)
    dentries = list_lru_count_node(m, (m[sb + SB_DENTRY_LRU] - PAGE_OFFSET) >> 3, nid)
    inodes = list_lru_count_node(m, (m[sb + SB_INODE_LRU] - PAGE_OFFSET) >> 3, nid)
    total = dentries + inodes + 1
    freed = prune_dcache(m, cpu, nid, nr * dentries // total + 1)
    return freed + prune_icache(m, cpu, nid, nr * inodes // total + 1)
