# SPDX-License-Identifier: GPL-2.0-only
"""The Kernel's files: making, finding and ending them, the disk and the flusher.

A part of `Kernel`. The first file sets up what files need (`mm_init`). A `File` is an opening of
one, with the calls that a process would make; `Process.mmap(file=...)` maps it. Files lie on the
machine's modelled disk, which is part of checkpoints and snapshots; `import_file` and `File.export`
copy between it and the host, and with `attach_disk` its sectors lie in a file of the host.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import InputError, Machine
from machine.outfile import replacing

from .address_space import AS_I_PAGES
from .dcache import open_file, unlink
from .errors import BadRequest, KernelOops, SystemCallError
from .file_io import name_words, vfs_read, vfs_write
from .file_table import fput
from .flatfs import DI_NAME, DI_NLINK, DI_SIZE, NR_DISK_INODES, disk_inode
from .flusher import sync_inodes, writeback_tick
from .fs import FMODE_READ, FMODE_WRITE, INODE_MAPPING, INODE_SIZE, NAME_WORDS, file_inode
from .gfp import GFP_KERNEL
from .host_disk import attach_host_disk
from .kernel_base import DAMAGE
from .kernel_globals import G_CLOCK, G_SUPER_BLOCK
from .kernel_process import KernelProcess
from .layout import unsigned
from .mm_inline import page_to_pfn, va_to_page
from .page_cache import next_cached
from .pagecache import drop_caches
from .slab_common import kmalloc
from .slub import kfree
from .timekeeping import FARTHEST, enter_kernel, leave_kernel
from .truncate import LAST_INDEX, do_truncate
from .views import Page
from .writeback import fsync_range
from .xarray import xa_load

if TYPE_CHECKING:
    from types import TracebackType

MODES = {"r": FMODE_READ, "w": FMODE_WRITE, "rw": FMODE_READ | FMODE_WRITE}
CHUNK = 1 << 20


class KernelFiles(KernelProcess):
    """Files and their disk."""

    machine: Machine | None

    def attach_disk(self, path: str | PathLike[str], read_only: bool = False, cpu: int = 0) -> None:
        """The host's file at `path` becomes the disk that files lie on; a blank one (as `truncate
        -s 64M FILE` makes it) is formatted. What the disk writes is in the file when the call ends
        that had it written; `sync` writes all. With `read_only`, what would write gets EROFS.

        Raises SystemCallError (EBUSY: files have been used already), InputError and ImageError for
        a file that no disk can be, BadRequest without a machine.
        """
        self._check_cpu(cpu)
        if self.machine is None:
            raise BadRequest("a disk needs a machine")
        if not attach_host_disk(self.machine, path, read_only):
            self._file_check(-errno.EBUSY, "attach_disk")
        self._files_ready(cpu)
        self._run_files(writeback_tick, cpu)

    def detach_disk(self, cpu: int = 0) -> None:
        """Syncs and gives the host's file back, for others to attach; the machine keeps the disk as
        it is. Raises BadRequest if there is none, OutputError if the host refuses a write."""
        if self.machine is None or self.machine.host_disk is None:
            raise BadRequest("no file of the host is attached")
        self.sync(cpu)
        self.machine.host_disk.detach()

    def create_file(self, name: str, size: int = 0, data: bytes = b"", cpu: int = 0) -> File:
        """A new file of `size` zero bytes, or with `data`, opened for reading and writing.

        Raises SystemCallError: EEXIST, ENOSPC, ENOMEM, ENODEV (no disk), EINVAL (no name: 1 to 55
        bytes without "/").
        """
        try:
            self.open_file(name, "r", cpu).close()
        except SystemCallError as error:
            if error.errno != errno.ENOENT:
                raise
        else:
            self._file_check(-errno.EEXIST, f"create {name!r}")
        file = File(self, self._open(name, MODES["rw"], True, cpu), name)
        if size:
            file.truncate(size)
        if data:
            file.write(data, 0)
        return file

    def open_file(self, name: str, mode: str = "rw", cpu: int = 0) -> File:
        """The file of this name, opened "r", "w" or "rw". Raises SystemCallError (ENOENT ...)."""
        if mode not in MODES:
            raise BadRequest(f"mode {mode!r}: r, w or rw")
        return File(self, self._open(name, MODES[mode], False, cpu), name)

    def unlink(self, name: str, cpu: int = 0) -> None:
        """Takes a file its name; it ends when nobody has it open or mapped. Raises SystemCallError:
        ENOENT, EROFS."""
        with self._named(name, cpu) as at:
            self._file_check(self._run_files(unlink, cpu, at), f"unlink {name!r}")

    def import_file(self, name: str, path: str | PathLike[str], cpu: int = 0) -> File:
        """A new file with the contents of the host's file at `path`. Raises InputError for one that
        cannot be read, and what create_file() raises."""
        try:
            with Path(path).open("rb") as source:
                file = self.create_file(name, cpu=cpu)
                at = 0
                while data := source.read(CHUNK):
                    file.write(data, at)
                    at += len(data)
                return file
        except OSError as error:
            raise InputError(f"{os.fspath(path)}: {error.strerror}") from None

    @property
    def files(self) -> dict[str, int]:
        """Names and sizes (bytes) of all files, as the disk has them."""
        m = self.m
        if m[G_SUPER_BLOCK] == 0:
            return {}
        found = {}
        for ino in range(1, NR_DISK_INODES + 1):
            d = disk_inode(m, ino)
            if m[d + DI_NLINK] > 0:
                words = (unsigned(m[d + DI_NAME + i]) for i in range(NAME_WORDS))
                raw = b"".join(word.to_bytes(8, "little") for word in words)
                found[raw.split(b"\0")[0].decode("utf-8", "replace")] = m[d + DI_SIZE]
        return found

    def sync(self, cpu: int = 0) -> None:
        """Writes all files to the disk and waits for it."""
        self._files_ready(cpu)
        self._run_files(sync_inodes, cpu)

    def drop_caches(self, what: int = 3, cpu: int = 0) -> None:
        """/proc/sys/vm/drop_caches: 1 clean pages, 2 unused names and inodes, 3 both; pages on
        their way to the LRU lists get there first. Raises SystemCallError (EINVAL)."""
        self._files_ready(cpu)
        self.lru_add_drain_all()
        self._file_check(self._run_files(drop_caches, cpu, what), "drop_caches")

    def advance_clock(self, ns: int, cpu: int = 0) -> None:
        """Lets `ns` nanoseconds of modelled time pass: transfers end, the flusher has its turns.
        Raises BadRequest for a time that is negative or longer than 13 days."""
        if not 0 <= ns < FARTHEST:
            raise BadRequest(f"{ns} ns: time does not go back, nor 13 days ahead at once")
        self._check_cpu(cpu)
        self.m[G_CLOCK] += ns
        self._run_files(writeback_tick, cpu)

    # --- plumbing ---------------------------------------------------------------------------------

    def _files_ready(self, cpu: int) -> None:
        self._check_cpu(cpu)
        self.mm_init(cpu)
        if self.m[G_SUPER_BLOCK] == 0:
            self._file_check(-errno.ENODEV, "files")

    def _open(self, name: str, mode: int, create: bool, cpu: int) -> int:
        with self._named(name, cpu) as at:
            return self._file_check(
                self._run_files(open_file, cpu, at, mode, create), f"open {name!r}"
            )

    @contextmanager
    def _named(self, name: str, cpu: int) -> Iterator[int]:
        """The name as words of guest RAM."""
        self._files_ready(cpu)
        words = name_words(name.encode())
        if words is None:
            self._file_check(-errno.EINVAL, f"name {name!r}")
        at = self._run_files(kmalloc, cpu, NAME_WORDS * 8, GFP_KERNEL)
        if at == 0:
            self._file_check(-errno.ENOMEM, f"name {name!r}")
        for i, word in enumerate(words or ()):
            self.m[at + i] = word
        try:
            yield at
        finally:
            kfree(self.m, cpu, at)

    def _run_files(self, function: Any, cpu: int, *args: Any) -> Any:
        """Runs a kernel function, with the clocks set before and after."""
        return self._timed(function, self.m, cpu, *args)

    def _timed(self, function: Any, space: Any, cpu: int, *args: Any) -> Any:
        if self.machine is not None:
            enter_kernel(self.machine)
        try:
            result = function(space, cpu, *args)
            self.daemons.turn(cpu)
            return result
        except DAMAGE as error:
            name = function.__name__
            raise KernelOops(f"{name}: the kernel followed a damaged pointer ({error})") from None
        finally:
            if self.machine is not None:
                leave_kernel(self.machine)
            self.read_reports()
            if self.machine is not None and self.machine.host_disk is not None:
                self.machine.host_disk.check()

    def _file_check(self, rc: int, what: str) -> int:
        if rc < 0:
            code = errno.errorcode.get(-rc, str(-rc))
            raise SystemCallError(f"{what}: {code} ({os.strerror(-rc)})", -rc)
        return rc


class File:
    """An open file. `word` is the word index of its struct file, `pos` where the next read or write
    begins unless an offset is given. Refusals raise SystemCallError."""

    def __init__(self, kernel: KernelFiles, word: int, name: str) -> None:
        self.kernel = kernel
        self.m = kernel.m
        self.name = name
        self.pos = 0
        self._word = word

    def __repr__(self) -> str:
        return f"<File {self.name!r}{'' if self._word else ' closed'}>"

    def __enter__(self) -> File:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def word(self) -> int:
        """Its struct file. Raises SystemCallError (EBADF) when it is closed."""
        if self._word == 0:
            self.kernel._file_check(-errno.EBADF, f"file {self.name!r}")
        return self._word

    @property
    def inode(self) -> int:
        """Word index of its inode."""
        return file_inode(self.m, self.word)

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.m[self.inode + INODE_SIZE]

    @property
    def pages(self) -> dict[int, Page]:
        """The pages of it that are in memory, by index."""
        mapping = self.inode + INODE_MAPPING
        found = {}
        index = next_cached(self.m, mapping, 0, LAST_INDEX)
        while index >= 0:
            entry = xa_load(self.m, mapping + AS_I_PAGES, index)
            if entry & 1 == 0:
                found[index] = Page(self.m, page_to_pfn(self.m, va_to_page(self.m, entry)))
            index = next_cached(self.m, mapping, index + 1, LAST_INDEX)
        return found

    def read(self, count: int = -1, offset: int | None = None, cpu: int = 0) -> bytes:
        """Up to `count` bytes (-1: all) from `offset` on, or from `pos`, which moves then."""
        at = self.pos if offset is None else offset
        wanted = max(self.size - at, 0) if count < 0 else count
        said = self.kernel._timed(vfs_read, self.kernel.memory, cpu, self.word, at, wanted)
        if isinstance(said, int):
            self.kernel._file_check(said, f"read {self.name!r}")
        data = bytes(said)
        if offset is None:
            self.pos += len(data)
        return data

    def write(self, data: bytes, offset: int | None = None, cpu: int = 0) -> int:
        """Writes `data` at `offset`, or at `pos`, which moves then: bytes written, fewer when disk
        or memory ran out."""
        at = self.pos if offset is None else offset
        rc = self.kernel._timed(vfs_write, self.kernel.memory, cpu, self.word, at, bytes(data))
        done = self.kernel._file_check(rc, f"write {self.name!r}")
        if offset is None:
            self.pos += done
        return done

    def truncate(self, size: int, cpu: int = 0) -> None:
        """Makes it `size` bytes long; what is added reads as zeroes."""
        rc = self.kernel._run_files(do_truncate, cpu, self.inode, size)
        self.kernel._file_check(rc, f"truncate {self.name!r}")

    def fsync(self, cpu: int = 0) -> None:
        """Writes what is dirty of it to the disk and waits. Raises SystemCallError (EIO)."""
        rc = self.kernel._run_files(fsync_range, cpu, self.inode, 0, LAST_INDEX)
        self.kernel._file_check(rc, f"fsync {self.name!r}")

    def export(self, path: str | PathLike[str]) -> None:
        """Writes its contents to a file of the host, all of it or nothing. Raises OutputError."""
        with replacing(path) as target:
            for at in range(0, self.size, CHUNK):
                target.write(self.read(CHUNK, at))

    def close(self, cpu: int = 0) -> None:
        """Gives the opening up; areas that map the file keep theirs."""
        if self._word:
            self.kernel._run_files(fput, cpu, self._word)
            self._word = 0
