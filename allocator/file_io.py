# SPDX-License-Identifier: GPL-2.0-only
"""Bytes in and out of files (fs/read_write.c vfs_read, vfs_write).

The page cache hands over pages one at a time; here the bytes are copied between them and the
caller, whoever that is: Python, or a hypercall on behalf of a process. After each page written the
limits for dirty pages are looked at, so a writer may have to wait, in modelled time.

`file` is the word index of a struct file, positions and lengths are bytes, errors negative errnos.
"""

from __future__ import annotations

from machine import PhysicalMemory

from .filemap import read_page, write_begin, write_end
from .flusher import balance_dirty_pages_ratelimited, writeback_tick
from .fs import (
    EBADF,
    EINVAL,
    FMODE_READ,
    FMODE_WRITE,
    INODE_SIZE,
    NAME_BYTES,
    file_inode,
    file_mapping,
    file_mode,
)
from .layout import signed
from .mm_inline import page_to_pfn
from .mm_types import PAGE_SHIFT, PAGE_SIZE
from .pagevec import put_page_p


def name_words(name: bytes) -> list[int] | None:
    """A file's name as the words that guest RAM holds; None for one that cannot be a name."""
    if not 0 < len(name) <= NAME_BYTES or b"\0" in name or b"/" in name:
        return None
    raw = name.ljust(NAME_BYTES + 1, b"\0")
    return [signed(int.from_bytes(raw[i : i + 8], "little")) for i in range(0, len(raw), 8)]


def vfs_read(memory: PhysicalMemory, cpu: int, file: int, pos: int, count: int) -> bytes | int:
    """Up to `count` bytes from `pos` on, fewer at the end of the file; or a negative errno, if not
    one byte could be read."""
    m = memory.words
    if file_mode(m, file) & FMODE_READ == 0:
        return -EBADF
    if pos < 0 or count < 0:
        return -EINVAL
    writeback_tick(m, cpu)
    inode = file_inode(m, file)
    out = bytearray()
    asked = pos + count
    while True:
        end = min(pos + count - len(out), m[inode + INODE_SIZE])
        if pos >= end:
            return bytes(out)
        p = read_page(m, cpu, file, pos, end, asked)
        if p < 0:
            return bytes(out) if out else p
        at = (page_to_pfn(m, p) << PAGE_SHIFT) + (pos & PAGE_SIZE - 1)
        n = min(end - pos, PAGE_SIZE - (pos & PAGE_SIZE - 1))
        out += memory.bytes[at : at + n]
        put_page_p(m, cpu, p)
        pos += n
        if len(out) >= count:
            return bytes(out)


def vfs_write(memory: PhysicalMemory, cpu: int, file: int, pos: int, data: bytes) -> int:
    """Writes `data` at `pos`: bytes written, fewer when disk or memory ran out; or a negative
    errno, if not one byte could be written."""
    m = memory.words
    if file_mode(m, file) & FMODE_WRITE == 0:
        return -EBADF
    if pos < 0:
        return -EINVAL
    writeback_tick(m, cpu)
    done = 0
    while done < len(data):
        n = min(len(data) - done, PAGE_SIZE - (pos & PAGE_SIZE - 1))
        p = write_begin(m, cpu, file, pos, n)
        if p < 0:
            return done or p
        at = (page_to_pfn(m, p) << PAGE_SHIFT) + (pos & PAGE_SIZE - 1)
        memory.bytes[at : at + n] = data[done : done + n]
        write_end(m, cpu, file, p, pos, n)
        balance_dirty_pages_ratelimited(m, cpu, file_mapping(m, file))
        pos += n
        done += n
    return done
