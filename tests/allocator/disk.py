# SPDX-License-Identifier: GPL-2.0-only
"""A hand-made memory with a disk and a page cache, for tests of files without a boot."""

from __future__ import annotations

from allocator.dcache import open_file
from allocator.dirty_sysctl import dirty_defaults
from allocator.file_io import name_words, vfs_read, vfs_write
from allocator.fs import INODE_MAPPING, file_inode
from allocator.layout import SECTION_PAGES
from allocator.mm_inline import memmap_index_init, va_to_page
from allocator.page_cache import find_get_page
from allocator.pagecache import pagecache_init
from allocator.pagevec import put_page_p
from allocator.slab_common import kmem_cache_init
from allocator.swap import swap_setup
from machine import PhysicalMemory
from tests.allocator.tiny import SCRATCH_WORD, Tiny, make_tiny

STORAGE = 64 << 20
RW = 3


class Disk:
    """A memory of `nodes` nodes whose page cache is up."""

    def __init__(self, nodes: int = 1, cpus: int = 1) -> None:
        self.tiny: Tiny = make_tiny(nodes, cpus, STORAGE)
        self.memory: PhysicalMemory = self.tiny.memory
        m = self.m = self.tiny.m
        dirty_defaults(m)
        for start in (kmem_cache_init, memmap_index_init, swap_setup, pagecache_init):
            assert start(m, 0) == 0

    def name(self, text: str) -> int:
        """Word index of a name in guest RAM."""
        for i, word in enumerate(name_words(text.encode()) or []):
            self.m[SCRATCH_WORD + i] = word
        return SCRATCH_WORD

    def open(self, text: str, mode: int = RW, create: bool = True) -> int:
        """A struct file, or a negative errno."""
        return open_file(self.m, 0, self.name(text), mode, create)

    def file(self, text: str, data: bytes = b"") -> int:
        """A new file with `data`, open."""
        file = self.open(text)
        assert file > 0
        if data:
            assert self.write(file, 0, data) == len(data)
        return file

    def write(self, file: int, pos: int, data: bytes) -> int:
        """vfs_write() on CPU 0."""
        return vfs_write(self.memory, 0, file, pos, data)

    def read(self, file: int, pos: int, count: int) -> bytes | int:
        """vfs_read() on CPU 0."""
        return vfs_read(self.memory, 0, file, pos, count)

    def inode(self, file: int) -> int:
        """The inode of an open file."""
        return file_inode(self.m, file)

    def mapping(self, file: int) -> int:
        """The address_space of an open file."""
        return file_inode(self.m, file) + INODE_MAPPING

    def page(self, file: int, index: int) -> int:
        """The struct page at `index` if it is cached, else 0; without a reference."""
        p = find_get_page(self.m, self.mapping(file), index)
        if p:
            put_page_p(self.m, 0, p)
        return p

    def page_of(self, pfn: int) -> int:
        """The struct page of a frame."""
        return self.m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)

    def at(self, va: int) -> int:
        """The struct page at a vmemmap address."""
        return va_to_page(self.m, va)
