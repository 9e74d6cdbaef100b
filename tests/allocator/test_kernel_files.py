# SPDX-License-Identifier: GPL-2.0-only
"""Files from Python: the calls, their refusals, and that they live with the machine."""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from allocator.errors import BadRequest, SystemCallError
from allocator.flatfs import DS_FREE, fs_base
from allocator.kernel import Kernel
from allocator.kernel_globals import G_CLOCK, G_MM_INIT_DONE, G_SUPER_BLOCK
from machine import InputError
from machine.snapshot import load_snapshot, save_snapshot
from tests.allocator.machines import boot

PAGE = 4096


@pytest.fixture
def kernel() -> Kernel:
    return boot("2x64M")


def refused(code: int) -> AbstractContextManager[object]:
    """Expects a SystemCallError; the match is its name."""
    return pytest.raises(SystemCallError, match=errno.errorcode[code])


def test_nothing_of_files_exists_before_the_first(kernel: Kernel) -> None:
    assert kernel.m[G_MM_INIT_DONE] == kernel.m[G_SUPER_BLOCK] == 0
    assert kernel.files == {}
    kernel.create_file("f").close()
    assert kernel.files == {"f": 0}


def test_a_file_is_read_as_it_was_written(kernel: Kernel) -> None:
    with kernel.create_file("f", 100) as file:
        assert file.read() == bytes(100)
        assert file.read() == b""
        file.pos = 10
        assert file.write(b"hello") == 5
        assert file.pos == 15
        assert file.read(5, 10) == b"hello"
        assert file.write(b"!", 5000, cpu=1) == 1
        assert file.size == 5001
        assert sorted(file.pages) == [0, 1]
        file.truncate(12)
        assert file.read(-1, 8) == bytes(2) + b"he"
    with refused(errno.EBADF):
        file.read(1)
    file.close()


def test_what_linux_refuses_is_refused_with_its_errno(kernel: Kernel) -> None:
    with refused(errno.ENOENT):
        kernel.open_file("f")
    file = kernel.create_file("f", data=b"x")
    with refused(errno.EEXIST):
        kernel.create_file("f")
    for name in ("", "a/b", "x" * 56, "a\0b"):
        with refused(errno.EINVAL):
            kernel.create_file(name)
    reader, writer = kernel.open_file("f", "r"), kernel.open_file("f", "w")
    with refused(errno.EBADF):
        reader.write(b"y")
    with refused(errno.EBADF):
        writer.read(1)
    with refused(errno.EINVAL):
        file.read(1, -5)
    with refused(errno.EINVAL):
        file.truncate(-1)
    with refused(errno.ENOSPC):
        file.truncate(1 << 36)
    with refused(errno.EINVAL):
        kernel.drop_caches(4)
    with pytest.raises(BadRequest, match="mode"):
        kernel.open_file("f", "a")
    with pytest.raises(BadRequest, match="no cpu 7"):
        kernel.create_file("g", cpu=7)
    with pytest.raises(BadRequest, match="time does not go back"):
        kernel.advance_clock(-1)


def test_a_mapped_file_stays_open_without_its_opening(kernel: Kernel) -> None:
    file = kernel.create_file("f", data=b"abc")
    process = kernel.create_process()
    start = process.mmap(PAGE, file=file, shared=True)
    file.close()
    assert process.read(start, 3) == b"abc"
    kernel.unlink("f")
    assert kernel.files == {}
    with refused(errno.ENOENT):
        kernel.open_file("f")
    child = process.fork()
    child.write(start, b"d")
    process.munmap(start, PAGE)
    kernel.sync()
    kernel.drop_caches()
    assert child.read(start, 3) == b"dbc"
    used = kernel.m[fs_base(kernel.m) + DS_FREE]
    child.munmap(start, PAGE)
    assert kernel.m[fs_base(kernel.m) + DS_FREE] > used
    kernel.create_file("f").close()
    assert kernel.files == {"f": 0}


def test_waiting_for_the_disk_takes_modelled_time_of_the_machine_too(kernel: Kernel) -> None:
    machine = kernel.machine
    assert machine is not None
    file = kernel.create_file("f", data=b"x" * 50 * PAGE)
    before = machine.clock.now
    file.fsync()
    assert machine.clock.now - before >= 50 * 20_000
    assert kernel.m[G_CLOCK] == machine.clock.now


def test_time_that_passes_lets_the_flusher_write(kernel: Kernel) -> None:
    file = kernel.create_file("f", data=b"x")
    assert "dirty" in file.pages[0].flag_names
    kernel.advance_clock(40 * 10**9)
    assert "dirty" not in file.pages[0].flag_names
    kernel.advance_clock(10**9)
    assert "writeback" not in file.pages[0].flag_names


def test_checkpoints_take_the_disk_back_with_everything_else(kernel: Kernel) -> None:
    machine = kernel.machine
    assert machine is not None
    file = kernel.create_file("f", data=b"before" * 1000)
    file.fsync()
    with machine.checkpoint():
        file.write(b"after!" * 1000, 0)
        kernel.create_file("g")
        kernel.sync()
        kernel.drop_caches()
        assert file.read(6, 0) == b"after!"
    assert list(kernel.files) == ["f"]
    kernel.drop_caches()
    assert file.read(6, 0) == b"before"


def test_snapshots_carry_the_disk(kernel: Kernel, tmp_path: Path) -> None:
    machine = kernel.machine
    assert machine is not None
    data = bytes(range(256)) * 300
    with kernel.create_file("f", data=data) as file:
        file.fsync()
        file.write(b"not yet on the disk", 0)
    save_snapshot(machine, tmp_path / "snap")
    save_snapshot(machine, tmp_path / "same")
    assert (tmp_path / "snap").read_bytes() == (tmp_path / "same").read_bytes()
    loaded = load_snapshot(tmp_path / "snap")
    again = Kernel.attach(loaded.memory, loaded)
    assert again.files == {"f": len(data)}
    with again.open_file("f") as file:
        assert file.read() == b"not yet on the disk" + data[19:]
        again.sync()
        again.drop_caches()
        assert file.read(-1, 0) == b"not yet on the disk" + data[19:]


def test_the_same_calls_make_the_same_machine_to_the_last_word() -> None:
    machines = []
    for _ in range(2):
        kernel = boot("2x64M")
        file = kernel.create_file("f", data=b"x" * 200_000)
        process = kernel.create_process("p")
        process.write(process.mmap(50 * PAGE, file=file, shared=True), b"y" * 9000)
        kernel.advance_clock(40 * 10**9)
        kernel.drop_caches()
        file.read(50_000, 100_000)
        machines.append(kernel)
    first, second = (kernel.memory for kernel in machines)
    assert first.bytes == second.bytes
    disk = slice(first.size >> 3, (first.size >> 3) + (4 << 20 >> 3))
    assert first.words[disk] == second.words[disk]


def test_files_of_the_host_come_and_go(kernel: Kernel, tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "in").write_bytes(data)
    file = kernel.import_file("f", tmp_path / "in")
    assert file.size == len(data)
    file.write(b"changed", 100)
    file.export(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data[:100] + b"changed" + data[107:]
    assert (tmp_path / "in").read_bytes() == data
    with pytest.raises(InputError, match="absent"):
        kernel.import_file("g", tmp_path / "absent")


def test_a_restarted_kernel_finds_its_files_on_the_disk(kernel: Kernel) -> None:
    from allocator import start_kernel
    from firmware import power_on

    machine = kernel.machine
    assert machine is not None
    with kernel.create_file("f", data=b"kept") as file:
        file.fsync()
    power_on(machine)
    again = start_kernel(machine)
    again.create_file("g").close()
    assert again.files == {"f": 4, "g": 0}
    assert again.open_file("f").read() == b"kept"
