# SPDX-License-Identifier: GPL-2.0-only
"""The files' disk in a file of the host: attached before the first file is used, live afterwards.

Storage holds the sectors while the machine runs, read in when the file is attached; whatever the
modelled disk writes is noted in a map of changed blocks (`blockdev.mark_block`), and these blocks
go into the host's file whenever the kernel is left. So the file always is what a disk would be
whose machine lost power at that moment. Dirty pages are not on it: `sync` first.

Checkpoints and snapshots hold the disk's contents and share nothing with the file. Going back to a
checkpoint takes the file back, too, at the next call; going back to before it was attached leaves
the file as it is, and lets go of it. A machine loaded from a snapshot has the disk as it was then,
in storage only.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from machine import ImageError, InputError, OutputError
from machine.storagefile import StorageFile

from .blockdev import BD_HOST_MAP, host_map_words
from .fs import SB_BDEV
from .kernel_globals import (
    G_DISK_BLOCKS,
    G_DISK_READ_ONLY,
    G_STORAGE_START,
    G_STORAGE_WORDS,
    G_SUPER_BLOCK,
)
from .layout import word_of_va

if TYPE_CHECKING:
    from machine import Machine


def attach_host_disk(machine: Machine, path: str | PathLike[str], read_only: bool = False) -> bool:
    """Makes the host's file the disk that the machine's files will lie on; a blank one is formatted
    when files are first used. False, and nothing done, when files have been used already.

    Raises InputError and ImageError, in one line, for a file that cannot be read, has a size that
    no disk has, or holds something else than a file system of numalab's.
    """
    memory = machine.memory
    m = memory.words
    if m[G_SUPER_BLOCK]:
        return False
    if machine.host_disk is not None:
        machine.host_disk.detach()
    file = StorageFile(path, read_only)
    blocks = file.size >> 12
    start, room = m[G_STORAGE_START] >> 9, m[G_STORAGE_WORDS] >> 9
    try:
        if blocks > room:
            most = room << 12
            raise InputError(f"{file.path}: {file.size:,} bytes are more than {most:,} of storage")
        import numpy as np

        from .flatfs_check import check_disk

        try:
            file.load(memory, start << 12)
            touched = np.zeros(blocks, dtype=np.bool_)
            for begin, end in memory.touched(start << 12, start + blocks << 12):
                touched[(begin >> 12) - start : (end >> 12) - start] = True
            check_disk(memory.rows[start : start + blocks], not read_only, touched)
        except ImageError as error:
            raise ImageError(f"{file.path}: {error}") from None
    except BaseException:
        for begin, end in memory.touched(start << 12, start + min(blocks, room) << 12):
            memory.rows[begin >> 12 : end >> 12] = 0
        file.close()
        raise
    m[G_DISK_BLOCKS] = blocks
    m[G_DISK_READ_ONLY] = read_only
    machine.host_disk = HostDisk(machine, file)
    return True


class HostDisk:
    """A host's file and the machine whose files lie in it."""

    def __init__(self, machine: Machine, file: StorageFile) -> None:
        self.machine = machine
        self.file = file
        self.memory = machine.memory
        self.error: OutputError | None = None
        """Why what the disk has written is not in the file yet."""
        self._rewinds = self.memory.rewinds
        self._compare = True

    @property
    def attached(self) -> bool:
        """False once the machine has been restarted, or taken back to before the file came."""
        m = self.memory.words
        return self.file.is_open and m[G_DISK_BLOCKS] << 12 == self.file.size

    def write_out(self) -> bool:
        """Puts into the file what the disk has written since the last time: False, and `error` says
        why, when the host refuses; it will be tried again."""
        if not self.attached:
            self.file.close()
            return True
        if self.file.read_only:
            return True
        m = self.memory.words
        if self.memory.rewinds != self._rewinds:
            self._rewinds = self.memory.rewinds
            self._compare = True
        at = self._map()
        if not self._compare and (at == 0 or m[at] == 0):
            return True
        start = m[G_STORAGE_START] << 3
        try:
            if self._compare:
                self.file.write_differences(self.memory, start)
                self._compare = False
            else:
                self.file.write(self.memory, start, self._changed(at))
        except OutputError as error:
            self.error = error
            self._compare = True
            return False
        if at:
            self._forget(at)
        self.error = None
        return True

    def detach(self) -> None:
        """Writes out and gives the file back; the machine goes on with the disk in storage. Raises
        OutputError when something could not be written."""
        done = self.write_out()
        self.file.close()
        self.machine.host_disk = None
        if not done and self.error is not None:
            raise self.error

    def check(self) -> None:
        """Raises the OutputError that keeps what the disk has written out of the file."""
        if self.error is not None:
            raise self.error

    def _map(self) -> int:
        """Word index of the map of changed blocks, 0 before the disk is mounted."""
        m = self.memory.words
        if m[G_SUPER_BLOCK] == 0:
            return 0
        bdev = word_of_va(m[word_of_va(m[G_SUPER_BLOCK]) + SB_BDEV])
        return word_of_va(m[bdev + BD_HOST_MAP]) if m[bdev + BD_HOST_MAP] else 0

    def _changed(self, at: int) -> list[tuple[int, int]]:
        """Runs of changed blocks."""
        import numpy as np

        from machine.hostmap import merge_runs

        blocks = self.file.size >> 12
        words = self.memory.q[at + 1 : at + host_map_words(blocks)]
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")[:blocks]
        return merge_runs((block, block + 1) for block in np.flatnonzero(bits).tolist())

    def _forget(self, at: int) -> None:
        self.memory.q[at : at + host_map_words(self.file.size >> 12)] = 0
