# SPDX-License-Identifier: GPL-2.0-only
"""Host mappings: the few Linux calls that RAM's backing store and its checkpoints rest on.

A mapping can be laid over another at the same address (mmap(2) MAP_FIXED), moved together with its
page tables (mremap(2) MREMAP_DONTUNMAP), and made to forget its private pages (madvise(2)
MADV_DONTNEED). Which pages of a mapping are private, that is copied on write or anonymous, is read
from /proc/self/pagemap: by the PAGEMAP_SCAN ioctl (Linux 6.7 and newer; walks page tables, so holes
cost nothing) or entry by entry (any Linux). None of it needs a privilege, but a sandbox may lack
parts, so `find_method` tries them out once. `backing` and its tests call these; addresses are the
host process's, runs are byte offsets from the start of the mapping in question."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Runs = list[tuple[int, int]]
"""Ascending, disjoint [start, end) in bytes, whole pages."""

PAGE = 4096
_HUGE = 2 << 20
_MAP_FIXED, _MAP_NORESERVE = 0x10, 0x4000
_MREMAP_MAYMOVE, _MREMAP_FIXED, _MREMAP_DONTUNMAP = 1, 2, 4
_FAILED = ctypes.c_void_p(-1).value

# include/uapi/linux/fs.h: struct pm_scan_arg and the page categories.
_PAGEMAP_SCAN = 0xC060_6610
_IS_FILE, _IS_PRESENT, _IS_SWAPPED, _IS_PFNZERO = 1 << 2, 1 << 3, 1 << 4, 1 << 5
_REGIONS = 4096
_ENTRIES = 1 << 16
"""Pagemap entries read at a time: 256 MiB worth."""


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    address, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.mmap.restype = libc.mremap.restype = address
    libc.mmap.argtypes = [address, size, number, number, number, ctypes.c_long]
    libc.mremap.argtypes = [address, size, size, number, address]
    libc.munmap.argtypes = [address, size]
    libc.madvise.argtypes = [address, size, number]
    return libc


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def map_file(fd: int, size: int, private: bool, address: int = 0) -> int:
    """Map `size` bytes of `fd` readable and writable, over whatever is at `address` if one is
    given; the address. Raises `OSError`."""
    flags = (mmap.MAP_PRIVATE if private else mmap.MAP_SHARED) | _MAP_NORESERVE
    if address:
        flags |= _MAP_FIXED
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    found = _libc().mmap(address or None, size, protection, flags, fd, 0)
    if found == _FAILED:
        raise _failure()
    return int(found)


def move_mapping(address: int, size: int) -> int:
    """Move the pages of a shared mapping, with its page tables, elsewhere; the new address. What
    stays at `address` shows the same file and faults it in anew. Raises `OSError`."""
    libc = _libc()
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    spare = libc.mmap(None, size + _HUGE, 0, flags, -1, 0)
    if spare == _FAILED:
        raise _failure()
    # Equal offsets within 2 MiB let the kernel move whole page tables instead of their entries.
    target = int(spare) + (address - int(spare)) % _HUGE
    how = _MREMAP_MAYMOVE | _MREMAP_FIXED | _MREMAP_DONTUNMAP
    if libc.mremap(address, size, size, how, target) == _FAILED:
        error = _failure()
        unmap(spare, size + _HUGE)
        raise error
    if target > spare:
        unmap(spare, target - spare)
    unmap(target + size, spare + _HUGE - target)
    return target


def unmap(address: int, size: int) -> None:
    """Remove a mapping."""
    if size and _libc().munmap(address, size):
        raise _failure()


def drop_pages(address: int, size: int) -> None:
    """Forget the private pages of a mapping: it shows its file again, or zeroes."""
    if _libc().madvise(address, size, mmap.MADV_DONTNEED):
        raise _failure()


def as_pages(address: int, size: int) -> npt.NDArray[np.int64]:
    """The mapping as one row of 512 words a page."""
    import numpy as np

    array = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
    return np.frombuffer(array, dtype=np.int64).reshape(-1, PAGE // 8)


def data_runs(fd: int, start: int, end: int) -> Runs:
    """The parts of [start, end) of a memfd that have pages; all else reads as zero."""
    runs: Runs = []
    while start < end:
        try:
            data = os.lseek(fd, start, os.SEEK_DATA)
        except OSError:  # ENXIO: no data behind `start`
            break
        if data >= end:
            break
        start = min(os.lseek(fd, data, os.SEEK_HOLE), end)
        runs.append((data, start))
    return runs


def private_runs(method: str, address: int, size: int) -> Runs:
    """The pages of [address, address + size) that are this mapping's own, swapped out ones
    included: anonymous, or copied on write. `method` is what `find_method` returned. Raises
    `OSError`."""
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if method == "scan":
            found = _scan(pagemap, address, size)
        else:
            found = _read_entries(pagemap, address, size)
        return merge_runs(found)
    finally:
        os.close(pagemap)


def _scan(pagemap: int, address: int, size: int) -> Iterator[tuple[int, int]]:
    import fcntl

    vector = (ctypes.c_uint64 * (3 * _REGIONS))()
    unwanted = _IS_FILE | _IS_PFNZERO
    at, end = address, address + size
    while at < end:
        request = bytearray(
            struct.pack(
                "<12Q", 96, 0, at, end, 0, ctypes.addressof(vector), _REGIONS, 0,
                unwanted, unwanted, _IS_PRESENT | _IS_SWAPPED, 0,
            )
        )  # fmt: skip
        count = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, request)
        for start, stop in zip(vector[0 : 3 * count : 3], vector[1 : 3 * count : 3], strict=True):
            yield start - address, stop - address
        at = struct.unpack_from("<Q", request, 32)[0]
        if not count and at < end:
            raise OSError("PAGEMAP_SCAN made no progress")


def _read_entries(pagemap: int, address: int, size: int) -> Iterator[tuple[int, int]]:
    """Documentation/admin-guide/mm/pagemap.rst: bit 63 present, 62 swapped, 61 file page."""
    import numpy as np

    for offset in range(0, size, _ENTRIES * PAGE):
        count = min(_ENTRIES, (size - offset) // PAGE)
        raw = os.pread(pagemap, 8 * count, (address + offset) // PAGE * 8)
        if len(raw) != 8 * count:
            raise OSError("pagemap: short read")
        bits = np.frombuffer(raw, dtype="<u8") >> np.uint64(61)
        own = np.zeros(count + 2, dtype=np.int8)
        own[1:-1] = (bits > 1) & (bits & np.uint64(1) == 0)
        edges = np.diff(own)
        starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            yield offset + start * PAGE, offset + stop * PAGE


def merge_runs(runs: Iterable[tuple[int, int]]) -> Runs:
    """The union of runs in any order."""
    merged: Runs = []
    for start, end in sorted(runs):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


@cache
def find_method() -> str:
    """How this host tells private pages: "scan", "pagemap", or "" where it does not."""
    if mmap.PAGESIZE != PAGE or not hasattr(os, "memfd_create"):
        return ""
    for method in ("scan", "pagemap"):
        try:
            if _works(method):
                return method
        except OSError:
            continue
    return ""


def _works(method: str) -> bool:
    """Let the method find one written page among read ones, and the page be taken back."""
    size = 8 * PAGE
    fd = os.memfd_create("numalab-probe", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        os.pwrite(fd, b"\x01" * size, 0)
        address = map_file(fd, size, private=True)
        try:
            cells = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
            read = cells[::PAGE].tobytes()
            cells[3 * PAGE] = 7
            found = private_runs(method, address, size)
            drop_pages(address + 3 * PAGE, PAGE)
            again = private_runs(method, address, size)
            return found == [(3 * PAGE, 4 * PAGE)] and again == [] and cells[::PAGE] == read
        finally:
            unmap(address, size)
    finally:
        os.close(fd)
