# SPDX-License-Identifier: GPL-2.0-only
"""Closing files (fs/file_table.c): what goes when the last user of a struct file does.

A file of the disk lets go of its name, which stays in memory for the next; one that was unlinked
meanwhile ends here, with its pages and blocks. A file behind shared memory has no name, and its
inode goes with it.

Hot: `file` is a word index.
"""

from __future__ import annotations

from .address_space import AOPS_SHMEM, AS_A_OPS
from .dcache import d_unhashed, end_unlinked
from .fs import (
    DENTRY_COUNT,
    FILE_COUNT,
    FILE_DENTRY,
    FILE_MODE,
    FMODE_WRITE,
    INODE_COUNT,
    INODE_MAPPING,
    INODE_WRITECOUNT,
    dput,
    file_inode,
)
from .kernel_globals import G_FILP_CACHEP
from .layout import PAGE_OFFSET
from .shmem import shmem_evict_inode
from .slub import kmem_cache_free


def fput(m: memoryview, cpu: int, file: int) -> None:
    """Drops a reference to an open file; the last one closes it. Hot."""
    m[file + FILE_COUNT] -= 1
    if m[file + FILE_COUNT]:
        return
    inode = file_inode(m, file)
    dentry = m[file + FILE_DENTRY]
    if m[file + FILE_MODE] & FMODE_WRITE:
        m[inode + INODE_WRITECOUNT] -= 1
    kmem_cache_free(m, cpu, (m[G_FILP_CACHEP] - PAGE_OFFSET) >> 3, file)
    if m[inode + INODE_MAPPING + AS_A_OPS] == AOPS_SHMEM:
        m[inode + INODE_COUNT] -= 1
        if m[inode + INODE_COUNT] == 0:
            shmem_evict_inode(m, cpu, inode)
        return
    word = (dentry - PAGE_OFFSET) >> 3
    if m[word + DENTRY_COUNT] == 1 and d_unhashed(m, word):
        end_unlinked(m, cpu, word)
    else:
        dput(m, word)
