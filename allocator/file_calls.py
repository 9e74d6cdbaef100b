# SPDX-License-Identifier: GPL-2.0-only
"""The hypercalls of files: OPEN, READ, WRITE and so on (fs/open.c, fs/read_write.c).

Each is Linux's system call on behalf of the process that is current on the CPU, with the same
errnos. A file is named by a number of the process, 0 to 15. Buffers are addresses of the process;
code of a boot image may also use addresses of the identity and direct maps, where its own data
lies. Numbers begin at 64; `firmware/scripts/include/numalab.inc` says the same to the assembler.
"""

from __future__ import annotations

from collections.abc import Callable

from machine.walk import ram_table

from .call_numbers import FILE_CALLS
from .dcache import open_file, unlink
from .fault import READ, WRITE, access_process
from .file_io import name_words, vfs_read, vfs_write
from .file_table import fput
from .flusher import sync_inodes, writeback_tick
from .fs import (
    EBADF,
    EEXIST,
    EINVAL,
    EIO,
    ENOENT,
    ENOMEM,
    FILE_POS,
    FMODE_READ,
    FMODE_WRITE,
    INODE_SIZE,
    file_inode,
    file_mode,
)
from .gfp import GFP_KERNEL
from .guest_calls import EFAULT, ram_address
from .guest_process import GuestProcesses
from .kernel_globals import G_SUPER_BLOCK
from .mm_struct import NR_OPEN, TASK_FILES
from .slab_common import kmalloc
from .slub import kfree
from .truncate import LAST_INDEX, do_truncate
from .vma import vma_va, vma_word
from .writeback import fsync_range

EMFILE, ENODEV = 24, 19


O_ACCMODE = 3
O_RDONLY = 0
O_WRONLY = 1
O_RDWR = 2
O_CREAT = 0x40
O_EXCL = 0x80
O_TRUNC = 0x200
MAX_TRANSFER = 1 << 24
"""Bytes of one READ or WRITE; a longer one does so much."""
USER_START = 1 << 39
USER_END = 1 << 47

Answer = tuple[int, int]
Call = Callable[[int, int, int], Answer]


class FileCalls:
    """Answers the calls of `FILE_CALLS` for the processes of `guests`; `table` has a function by
    number: of CPU, task and word index of the first argument, giving result and errno."""

    def __init__(self, guests: GuestProcesses) -> None:
        self.guests = guests
        self.memory = guests.machine.memory
        self.m = guests.m
        self.ram = memoryview(ram_table(self.memory))
        calls: dict[str, Call] = {
            "OPEN": self._open,
            "READ": self._read,
            "WRITE": self._write,
            "FSYNC": self._fsync,
            "FTRUNCATE": self._ftruncate,
            "CLOSE": self._close,
            "SYNC": self._sync,
            "UNLINK": self._unlink,
            "FSIZE": self._fsize,
        }
        self.table = {FILE_CALLS[name]: self._with_disk(call) for name, call in calls.items()}

    def _with_disk(self, call: Call) -> Call:
        def serve(cpu: int, task: int, a: int) -> Answer:
            if self.m[G_SUPER_BLOCK] == 0:
                return 0, ENODEV
            writeback_tick(self.m, cpu)
            return call(cpu, task, a)

        return serve

    # --- the caller's memory ----------------------------------------------------------------------

    def _pieces(
        self, cpu: int, task: int, address: int, length: int, access: int
    ) -> list[tuple[int, int]]:
        """Physical address and length of the pieces of a buffer, as far as it may be accessed."""
        if not USER_START <= address < USER_END:
            phys = ram_address(self.ram, address, length)
            return [(phys, length)] if phys >= 0 else []
        found = []
        end = min(address + length, USER_END)
        while address < end:
            at = access_process(self.m, cpu, task, address, access)
            if at < 0:
                break
            size = min(4096 - (address & 4095), end - address)
            found.append((at, size))
            address += size
        return found

    def _copy_in(self, cpu: int, task: int, address: int, length: int) -> bytes:
        """What the caller has at `address`, as far as it may be read."""
        pieces = self._pieces(cpu, task, address, length, READ) if length > 0 else []
        return b"".join(bytes(self.memory.bytes[at : at + size]) for at, size in pieces)

    def _copy_out(self, cpu: int, task: int, address: int, data: bytes) -> int:
        """Gives `data` to the caller: bytes that could be written."""
        done = 0
        while done < len(data):
            # one piece at a time: making room for the next may take the last one away
            size = min(len(data) - done, 4096 - (address + done & 4095))
            pieces = self._pieces(cpu, task, address + done, size, WRITE)
            if not pieces:
                break
            self.memory.bytes[pieces[0][0] : pieces[0][0] + size] = data[done : done + size]
            done += size
        return done

    def _name(self, cpu: int, task: int, a: int) -> int:
        """The name at the address and of the length at word `a`, as words of guest RAM that are to
        be freed; or a negative errno."""
        length = self.m[a + 1]
        if not 0 < length < 4096:
            return -EINVAL
        name = self._copy_in(cpu, task, self.m[a], length)
        if len(name) < length:
            return -EFAULT
        words = name_words(name)
        if words is None:
            return -EINVAL
        at = kmalloc(self.m, cpu, len(words) * 8, GFP_KERNEL)
        if at == 0:
            return -ENOMEM
        for i, word in enumerate(words):
            self.m[at + i] = word
        return at

    def _file(self, task: int, fd: int) -> int:
        """The open file of a number, 0 if there is none."""
        return vma_word(self.m[task + TASK_FILES + fd]) if 0 <= fd < NR_OPEN else 0

    # --- the calls --------------------------------------------------------------------------------

    def _open(self, cpu: int, task: int, a: int) -> Answer:
        m = self.m
        flags = m[a + 2]
        fd = next((n for n in range(NR_OPEN) if m[task + TASK_FILES + n] == 0), -1)
        if fd < 0:
            return 0, EMFILE
        if flags & O_ACCMODE == O_ACCMODE or flags & ~(O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC):
            return 0, EINVAL
        mode = (FMODE_READ, FMODE_WRITE, FMODE_READ | FMODE_WRITE)[flags & O_ACCMODE]
        name = self._name(cpu, task, a)
        if name < 0:
            return 0, -name
        file = open_file(m, cpu, name, mode, False)
        if file > 0 and flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL:
            fput(m, cpu, file)
            file = -EEXIST
        if file == -ENOENT and flags & O_CREAT:
            file = open_file(m, cpu, name, mode, True)
        kfree(m, cpu, name)
        if file < 0:
            return 0, -file
        if flags & O_TRUNC and mode & FMODE_WRITE:
            do_truncate(m, cpu, file_inode(m, file), 0)
        m[task + TASK_FILES + fd] = vma_va(file)
        return fd, 0

    def _transfer(self, task: int, a: int) -> tuple[int, int, int, int]:
        """File, length and offset of a READ or WRITE, and an errno."""
        m = self.m
        file = self._file(task, m[a])
        if file == 0:
            return 0, 0, 0, EBADF
        length, offset = m[a + 2], m[a + 3]
        if length < 0 or offset < -1:
            return 0, 0, 0, EINVAL
        return file, min(length, MAX_TRANSFER), m[file + FILE_POS] if offset < 0 else offset, 0

    def _moved(self, file: int, a: int, offset: int, count: int) -> Answer:
        if self.m[a + 3] < 0:
            self.m[file + FILE_POS] = offset + count
        return count, 0

    def _read(self, cpu: int, task: int, a: int) -> Answer:
        file, length, offset, errno = self._transfer(task, a)
        if errno:
            return 0, errno
        data = vfs_read(self.memory, cpu, file, offset, length)
        if isinstance(data, int):
            return 0, -data
        done = self._copy_out(cpu, task, self.m[a + 1], data)
        if done == 0 and data:
            return 0, EFAULT
        return self._moved(file, a, offset, done)

    def _write(self, cpu: int, task: int, a: int) -> Answer:
        file, length, offset, errno = self._transfer(task, a)
        if errno:
            return 0, errno
        if file_mode(self.m, file) & FMODE_WRITE == 0:
            return 0, EBADF
        data = self._copy_in(cpu, task, self.m[a + 1], length)
        if not data and length:
            return 0, EFAULT
        done = vfs_write(self.memory, cpu, file, offset, data)
        return (0, -done) if done < 0 else self._moved(file, a, offset, done)

    def _fsync(self, cpu: int, task: int, a: int) -> Answer:
        file = self._file(task, self.m[a])
        if file == 0:
            return 0, EBADF
        said = fsync_range(self.m, cpu, file_inode(self.m, file), 0, LAST_INDEX)
        return 0, -said or self._host_error()

    def _ftruncate(self, cpu: int, task: int, a: int) -> Answer:
        file = self._file(task, self.m[a])
        if file == 0:
            return 0, EBADF
        if file_mode(self.m, file) & FMODE_WRITE == 0:
            return 0, EINVAL
        return 0, -do_truncate(self.m, cpu, file_inode(self.m, file), self.m[a + 1])

    def _close(self, cpu: int, task: int, a: int) -> Answer:
        fd = self.m[a]
        file = self._file(task, fd)
        if file == 0:
            return 0, EBADF
        self.m[task + TASK_FILES + fd] = 0
        fput(self.m, cpu, file)
        return 0, 0

    def _sync(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        sync_inodes(self.m, cpu)
        self._host_error()
        return 0, 0

    def _host_error(self) -> int:
        """EIO where a file of the host follows the disk and does not take what was written."""
        disk = self.guests.machine.host_disk
        return 0 if disk is None or disk.write_out() else EIO

    def _unlink(self, cpu: int, task: int, a: int) -> Answer:
        name = self._name(cpu, task, a)
        if name < 0:
            return 0, -name
        said = unlink(self.m, cpu, name)
        kfree(self.m, cpu, name)
        return 0, -said

    def _fsize(self, cpu: int, task: int, a: int) -> Answer:  # noqa: ARG002
        file = self._file(task, self.m[a])
        return (self.m[file_inode(self.m, file) + INODE_SIZE], 0) if file else (0, EBADF)
