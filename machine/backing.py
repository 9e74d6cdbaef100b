# SPDX-License-Identifier: GPL-2.0-only
"""What RAM is made of on the host, and how it is held still without copying it.

RAM is a memory file (memfd) mapped shared: the host tells which parts of the file exist
(SEEK_DATA), so finding touched RAM costs nothing that grows with the machine. When somebody wants
the contents held still (`overlay`), the mapping moves aside, page tables and all, to become the
*window* on the file, and a private mapping of the same file takes its place at the same address:
from then on the file is the *base*, every page written is a private copy of the host's making, and
forgetting the private pages brings the base back. This takes about 0.15 ms whatever the machine,
and pointers and views into RAM stay good, because the address never changes.

A fork would make two processes share the file. So before one, every RAM is overlaid and its base
*frozen*: nobody writes to it again, both sides go on with private copies, and whoever needs to
change the base makes one of his own first.

Where the host has no memfd or does not tell private pages, RAM stays plain anonymous memory
(`fd` is -1), and checkpoints copy what is touched. `physmem` owns the backing, `ramhistory` uses
base and overlay. Offsets are physical addresses."""

from __future__ import annotations

import errno
import gc
import os
import weakref
from typing import TYPE_CHECKING

from machine import hostmap
from machine.hostmap import Runs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_COPY = 1 << 20
"""Bytes copied at a time from one base to another."""


def _memory_file(size: int) -> int:
    """A memfd of `size` zeroes; -1 when the host gives none."""
    for last in (False, True):
        try:
            fd = os.memfd_create("numalab-ram", os.MFD_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or last:
                return -1
            gc.collect()  # machines that nobody refers to any more hold one file each
            continue
        try:
            os.ftruncate(fd, size)
        except (OSError, OverflowError):
            os.close(fd)
            return -1
        return fd
    return -1


class _Store:
    """A memory file and the window on it; released together."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self.window = 0

    def release(self) -> None:
        """Close the file, remove the window."""
        if self.window:
            hostmap.unmap(self.window, self.size)
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self.window = -1, 0


class Backing:
    """The pages behind `size` bytes mapped at host `address` (anonymous memory, which this lays a
    memory file over where the host can do all that is needed)."""

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size
        self.method = hostmap.find_method()
        """How private pages are found: "scan", "pagemap", or "" (not at all)."""
        self.overlaid = False
        self.frozen = False
        self._stale = False
        self._store = _Store(_memory_file(size) if self.method else -1, size)
        if self.fd >= 0:
            try:
                hostmap.map_file(self.fd, size, private=False, address=address)
            except OSError:
                self._store.release()
        weakref.finalize(self, self._store.release)
        _live.add(self)

    @property
    def fd(self) -> int:
        """The memory file; -1 when RAM is anonymous memory."""
        return self._store.fd

    def overlay(self) -> None:
        """From now on writes to RAM leave the base alone. Only with a memory file."""
        if self.overlaid:
            return
        store = self._store
        try:
            store.window = hostmap.move_mapping(self.address, self.size)
        except OSError:  # an older kernel moves no shared mapping
            store.window = hostmap.map_file(self.fd, self.size, private=False)
        hostmap.map_file(self.fd, self.size, private=True, address=self.address)
        self.overlaid = True

    def freeze(self) -> None:
        """Another process is about to get hold of the base: it must not change any more."""
        if self.fd >= 0:
            self.overlay()
            self.frozen = True

    def written(self) -> Runs:
        """Pages of RAM that differ from the base, or may: those written since `overlay` or
        `settle`."""
        return hostmap.private_runs(self.method, self.address, self.size)

    def base(self) -> npt.NDArray[np.int64]:
        """The base for reading, one row of 512 words a page. Only while overlaid."""
        return hostmap.as_pages(self._store.window, self.size)

    def writable_base(self) -> npt.NDArray[np.int64]:
        """The base for writing. `settle` must follow: until then RAM may show either state of a
        page that has not been written. Raises `OSError` when the host has no room for a copy of a
        frozen base."""
        if self.frozen:
            self._replace(self._copy_of_base())
            self.frozen = False
            self._stale = True
        return self.base()

    def settle(self, runs: Runs) -> None:
        """Forget the written pages in `runs` (all that `written` gave): RAM shows the base."""
        if self._stale:
            hostmap.map_file(self.fd, self.size, private=True, address=self.address)
            self._stale = False
            return
        for start, end in runs:
            hostmap.drop_pages(self.address + start, end - start)

    def touched(self, start: int = 0, end: int | None = None) -> Runs:
        """The parts of [start, end) that may hold something but zeroes; whole pages."""
        end = self.size if end is None else end
        if self.fd >= 0:
            runs = hostmap.data_runs(self.fd, start, end)
            if not self.overlaid:
                return runs
            return hostmap.merge_runs(runs + self._private(start, end))
        return self._private(start, end) if self.method else [(start, end)]

    def clear(self) -> None:
        """All zeroes, and every page back to the host. Nothing may depend on the base."""
        fresh = _memory_file(self.size) if self.fd >= 0 else -1
        if self.fd >= 0 and fresh < 0:
            raise OSError(errno.ENOMEM, "no memory file")
        if fresh < 0:
            hostmap.drop_pages(self.address, self.size)
            return
        self._store.release()
        self._store.fd = fresh
        hostmap.map_file(fresh, self.size, private=False, address=self.address)
        self.overlaid = self.frozen = False

    def _private(self, start: int, end: int) -> Runs:
        runs = hostmap.private_runs(self.method, self.address + start, end - start)
        return [(start + first, start + last) for first, last in runs]

    def _copy_of_base(self) -> _Store:
        store = _Store(_memory_file(self.size), self.size)
        try:
            store.window = hostmap.map_file(store.fd, self.size, private=False)
            source, target = self.base(), hostmap.as_pages(store.window, self.size)
            for start, end in hostmap.data_runs(self.fd, 0, self.size):
                for at in range(start, end, _COPY):
                    piece = slice(at // hostmap.PAGE, min(at + _COPY, end) // hostmap.PAGE)
                    target[piece] = source[piece]
        except BaseException:
            store.release()
            raise
        return store

    def _replace(self, store: _Store) -> None:
        """Take over what `store` holds (the finaliser keeps to the one made at first)."""
        self._store.release()
        self._store.fd, self._store.window = store.fd, store.window


_live: weakref.WeakSet[Backing] = weakref.WeakSet()


def _before_fork() -> None:
    for backing in list(_live):
        backing.freeze()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)
