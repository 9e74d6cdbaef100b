# SPDX-License-Identifier: GPL-2.0-only
"""A file of the host behind a range of the machine's storage: a disk that outlives the machine.

The range is filled from the file once; from then on whoever changes storage says which pages have
changed, and `write` puts these into the file. So the file never has to be trusted again while the
machine runs (another program that cuts it short does no harm), checkpoints and snapshots hold the
disk as they hold RAM, and none of them shares the file. When RAM goes back to a checkpoint, so does
storage, and `write_differences` makes the file follow.

The file is locked (flock(2)): one machine may write to it, or several read it. Only regular files
of whole 512-byte sectors are taken; what lies behind the last whole page is left alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable
from os import PathLike

from machine.errors import InputError, OutputError
from machine.hostmap import data_runs
from machine.physmem import PAGE_SIZE, PhysicalMemory

SECTOR_SIZE = 512
_PIECE = 1 << 20
"""Bytes moved at a time."""


class StorageFile:
    """The file at `path`, open and locked. Raises `InputError` in one line for a file that is
    missing, in use, no regular file, shorter than a page or not a multiple of a sector."""

    def __init__(self, path: str | PathLike[str], read_only: bool = False) -> None:
        self.path = os.fspath(path)
        self.read_only = read_only
        self._fd = -1
        mode = os.O_RDONLY if read_only else os.O_RDWR
        try:
            self._fd = os.open(path, mode | os.O_CLOEXEC | os.O_NONBLOCK)
            self._take()
        except OSError as error:
            self.close()
            in_use = error.errno in (errno.EWOULDBLOCK, errno.EACCES) and self._fd >= 0
            why = "in use by another machine" if in_use else error.strerror
            raise InputError(f"{self.path}: {why}") from None
        except BaseException:
            self.close()
            raise

    def _take(self) -> None:
        info = os.fstat(self._fd)
        if not stat.S_ISREG(info.st_mode):
            raise InputError(f"{self.path}: not a regular file")
        if info.st_size % SECTOR_SIZE:
            raise InputError(
                f"{self.path}: {info.st_size:,} bytes are no multiple of a sector of {SECTOR_SIZE}"
            )
        if info.st_size < PAGE_SIZE:
            raise InputError(f"{self.path}: {info.st_size:,} bytes are too short for a disk")
        try:
            fcntl.flock(
                self._fd, (fcntl.LOCK_SH if self.read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB
            )
        except BlockingIOError:
            raise InputError(f"{self.path}: in use by another machine") from None
        self.size = info.st_size // PAGE_SIZE * PAGE_SIZE
        """Bytes of the disk, whole pages."""

    @property
    def is_open(self) -> bool:
        """False once it has been closed."""
        return self._fd >= 0

    def load(self, memory: PhysicalMemory, start: int) -> None:
        """Fill storage from byte `start` of the mapping on with the file. Raises `InputError` when
        it cannot be read."""
        rows = memory.rows
        first = start // PAGE_SIZE
        for begin, end in memory.touched(start, start + self.size):
            rows[begin // PAGE_SIZE : end // PAGE_SIZE] = 0
        whole = rows[first : first + self.size // PAGE_SIZE].data.cast("B")
        for begin, end in self._data_runs():
            at = begin
            while at < end:
                got = os.preadv(self._fd, [whole[at : min(at + _PIECE, end)]], at)
                if got <= 0:
                    raise InputError(f"{self.path}: it has become shorter")
                at += got

    def _data_runs(self) -> list[tuple[int, int]]:
        try:
            return data_runs(self._fd, 0, self.size)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise InputError(f"{self.path}: {error.strerror}") from None
            return [(0, self.size)]

    def write(self, memory: PhysicalMemory, start: int, pages: Iterable[tuple[int, int]]) -> None:
        """Put runs (first, end) of pages of the disk, whose storage begins at byte `start`, into
        the file. Raises `OutputError`; what is written then is uncertain."""
        rows = memory.rows
        first = start // PAGE_SIZE
        for begin, end in pages:
            data = rows[first + begin : first + end].data.cast("B")
            done = 0
            while done < len(data):
                piece = data[done : done + _PIECE]
                try:
                    done += os.pwrite(self._fd, piece, begin * PAGE_SIZE + done)
                except OSError as error:
                    raise OutputError(f"{self.path}: {error.strerror}") from None

    def write_differences(self, memory: PhysicalMemory, start: int) -> None:
        """Put into the file all pages of storage that differ from it. Raises `OutputError`."""
        import numpy as np

        runs = [(at - start, end - start) for at, end in memory.touched(start, start + self.size)]
        for begin, end in merge(runs + self._data_runs(), self.size):
            for at in range(begin, end, _PIECE):
                stop = min(at + _PIECE, end)
                held = os.pread(self._fd, stop - at, at).ljust(stop - at, b"\0")
                there = np.frombuffer(held, dtype=np.int64).reshape(-1, PAGE_SIZE // 8)
                here = memory.rows[(start + at) // PAGE_SIZE : (start + stop) // PAGE_SIZE]
                differ = np.flatnonzero((there != here).any(axis=1)) + at // PAGE_SIZE
                self.write(memory, start, [(page, page + 1) for page in differ.tolist()])

    def close(self) -> None:
        """Give the file and its lock back. May be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


def merge(runs: Iterable[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """Runs of bytes as runs of whole pages below `limit`, ascending and disjoint."""
    from machine.hostmap import merge_runs

    whole = [
        (begin // PAGE_SIZE * PAGE_SIZE, min(-(-end // PAGE_SIZE) * PAGE_SIZE, limit))
        for begin, end in runs
    ]
    return merge_runs(run for run in whole if run[0] < run[1])
