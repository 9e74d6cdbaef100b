# SPDX-License-Identifier: GPL-2.0-only
"""The files' disk in a file of the host: what is written is there, and no other file is taken."""

from __future__ import annotations

import errno
import os
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from allocator.errors import SystemCallError
from allocator.flatfs import DI_SIZE, first_data_block
from allocator.kernel import Kernel
from machine import ImageError, InputError, OutputError
from machine.snapshot import load_snapshot, save_snapshot
from tests.allocator.machines import boot

PAGE = 4096
MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, 8 * MIB)
    return path


def machine_with(disk: Path, read_only: bool = False) -> Kernel:
    kernel = boot("2x64M")
    kernel.attach_disk(disk, read_only)
    return kernel


def refused(code: int) -> AbstractContextManager[object]:
    return pytest.raises(SystemCallError, match=errno.errorcode[code])


def with_files(disk: Path) -> bytes:
    """Makes files on the disk; the contents of "a"."""
    data = bytes(range(256)) * 200
    kernel = machine_with(disk)
    kernel.create_file("a", data=data).close()
    kernel.create_file("gone", data=b"x" * 9000).close()
    kernel.create_file("b", 5).close()
    kernel.unlink("gone")
    kernel.detach_disk()
    return data


def test_a_second_machine_sees_the_files_of_the_first(disk: Path) -> None:
    data = with_files(disk)
    kernel = machine_with(disk)
    assert kernel.files == {"a": len(data), "b": 5}
    assert kernel.open_file("a").read() == data
    assert kernel.open_file("b").read() == bytes(5)
    kernel.create_file("c", data=b"third").close()
    kernel.detach_disk()
    assert machine_with(disk, read_only=True).open_file("c", "r").read() == b"third"


def test_what_is_written_back_is_in_the_file_and_what_is_dirty_is_not(disk: Path) -> None:
    kernel = machine_with(disk)
    file = kernel.create_file("a", data=b"needle" * 1000)
    assert b"needleneedle" not in disk.read_bytes()
    file.fsync()
    assert b"needleneedle" in disk.read_bytes()
    process = kernel.create_process()
    area = process.mmap(PAGE, "rw", file=file, shared=True)
    process.write(area, b"through a mapping")
    assert b"through a mapping" not in disk.read_bytes()
    kernel.advance_clock(40_000_000_000)
    kernel.advance_clock(1_000_000_000)
    assert b"through a mapping" in disk.read_bytes()
    file.truncate(0)
    assert b"through a mapping" not in disk.read_bytes()


def test_what_had_no_name_when_the_power_went_is_gone(disk: Path) -> None:
    kernel = machine_with(disk)
    file = kernel.create_file("f", data=b"x" * 9000)
    kernel.unlink("f")
    file.fsync()
    assert kernel.machine is not None
    assert kernel.machine.host_disk is not None
    kernel.machine.host_disk.detach()
    assert b"xxxx" in disk.read_bytes()
    later = machine_with(disk)
    assert later.files == {}
    later.create_file("all of it", 7 * MIB).close()
    assert later.open_file("all of it").read() == bytes(7 * MIB)


def test_free_space_is_what_the_file_says_it_is(disk: Path) -> None:
    kernel = machine_with(disk)
    with refused(errno.ENOSPC):
        kernel.create_file("big", 8 * MIB)
    kernel.create_file("fits", 7 * MIB).close()


def test_a_read_only_file_refuses_writes_and_stays_as_it_is(disk: Path) -> None:
    data = with_files(disk)
    disk.chmod(0o444)
    before = disk.read_bytes()
    kernel = machine_with(disk, read_only=True)
    other = machine_with(disk, read_only=True)
    assert kernel.open_file("a", "r").read() == other.open_file("a", "r").read() == data
    for refusal in (
        lambda: kernel.open_file("a", "rw"),
        lambda: kernel.open_file("a", "w"),
        lambda: kernel.create_file("new"),
        lambda: kernel.unlink("a"),
        lambda: kernel.unlink("missing"),
    ):
        with refused(errno.EROFS):
            refusal()
    with refused(errno.ENOENT):
        kernel.open_file("missing", "w")
    process = kernel.create_process()
    with kernel.open_file("a", "r") as file:
        private = process.mmap(PAGE, "rw", file=file)
        process.write(private, b"mine")
        with refused(errno.EACCES):
            process.mmap(PAGE, "rw", file=file, shared=True)
    kernel.drop_caches()
    kernel.detach_disk()
    assert disk.read_bytes() == before


def test_what_is_no_disk_costs_one_line(tmp_path: Path) -> None:
    def attach(size: int | None, content: bytes = b"") -> str:
        path = tmp_path / "d"
        path.write_bytes(content)
        if size is not None:
            os.truncate(path, size)
        with pytest.raises((InputError, ImageError)) as told:
            boot("1x64M").attach_disk(path)
        with path.open("rb") as file:
            assert file.read(len(content)) == content
        assert "\n" not in str(told.value)
        return str(told.value).removeprefix(f"{path}: ")

    assert attach(0) == "0 bytes are too short for a disk"
    assert attach(100_001) == "100,001 bytes are no multiple of a sector of 512"
    assert attach(512) == "512 bytes are too short for a disk"
    assert attach(64 << 10) == "16 blocks are too few for a file system (128)"
    assert "more than" in attach(1 << 40)
    assert attach(MIB, b"somebody's letters") == "there is no file system of numalab's on it"
    assert attach(MIB, bytes(700_000) + b"x") == "there is no file system of numalab's on it"
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            boot("1x64M").attach_disk(path)
    blank = tmp_path / "d"
    blank.write_bytes(bytes(MIB))
    with pytest.raises(ImageError, match="no file system"):
        boot("1x64M").attach_disk(blank, read_only=True)


def test_a_file_is_one_machines_at_a_time(disk: Path) -> None:
    kernel = machine_with(disk)
    for read_only in (False, True):
        with pytest.raises(InputError, match="in use by another machine"):
            machine_with(disk, read_only)
    kernel.detach_disk()
    machine_with(disk)


def test_attaching_comes_before_files(disk: Path) -> None:
    kernel = boot("1x64M")
    kernel.create_file("f").close()
    with refused(errno.EBUSY):
        kernel.attach_disk(disk)


def test_a_damaged_file_system_is_not_mounted_and_not_written_to(disk: Path) -> None:
    with_files(disk)
    words = np.frombuffer(disk.read_bytes(), dtype=np.int64).copy()
    record = first_data_block(8 * MIB >> 12) - 64 << 9
    words[record + DI_SIZE] = 1 << 40
    disk.write_bytes(words.tobytes())
    kernel = boot("1x64M")
    with pytest.raises(ImageError, match=r"disk\.img: file 1 of its file system has"):
        kernel.attach_disk(disk)
    assert disk.read_bytes() == words.tobytes()
    kernel.create_file("f", data=b"on a disk of its own").close()
    kernel.sync()
    assert kernel.files == {"f": 20}


def test_a_lost_bitmap_and_lost_blocks_are_put_right(disk: Path) -> None:
    data = with_files(disk)
    words = np.frombuffer(disk.read_bytes(), dtype=np.int64).copy()
    words[512:1024] = 0
    words[-512:] = 77
    disk.write_bytes(words.tobytes())
    kernel = machine_with(disk)
    kernel.create_file("new", 7 * MIB).close()
    assert kernel.open_file("new").read() == bytes(7 * MIB)
    assert kernel.open_file("a").read() == data


def test_going_back_to_before_it_came_lets_go_of_the_file(disk: Path) -> None:
    kernel = boot("1x64M")
    assert kernel.machine is not None
    moment = kernel.machine.checkpoint()
    kernel.attach_disk(disk)
    kernel.create_file("f", data=b"there").close()
    kernel.sync()
    before = disk.read_bytes()
    moment.rewind()
    kernel.create_file("g", data=b"elsewhere").close()
    kernel.sync()
    assert disk.read_bytes() == before
    assert machine_with(disk).files == {"f": 5}


def test_the_file_follows_a_machine_that_goes_back(disk: Path) -> None:
    kernel = machine_with(disk)
    assert kernel.machine is not None
    with kernel.create_file("f", data=b"early" * 100) as file:
        file.fsync()
        moment = kernel.machine.checkpoint()
        file.write(b"later" * 100, 0)
        file.fsync()
        assert b"laterlater" in disk.read_bytes()
        moment.rewind()
        kernel.sync()
        assert b"earlyearly" in disk.read_bytes()
        assert b"laterlater" not in disk.read_bytes()


def test_a_snapshot_holds_the_disk_and_shares_nothing(disk: Path, tmp_path: Path) -> None:
    kernel = machine_with(disk)
    assert kernel.machine is not None
    kernel.create_file("f", data=b"then").close()
    kernel.sync()
    save_snapshot(kernel.machine, tmp_path / "snap")
    with kernel.open_file("f") as file:
        file.write(b"now!", 0)
    kernel.detach_disk()
    loaded = Kernel.attach((machine := load_snapshot(tmp_path / "snap")).memory, machine)
    assert loaded.open_file("f").read() == b"then"
    before = disk.read_bytes()
    with loaded.open_file("f") as file:
        file.write(b"elsewhere", 0)
        file.fsync()
    assert disk.read_bytes() == before


def test_what_the_host_refuses_is_told_and_tried_again(disk: Path) -> None:
    kernel = machine_with(disk)
    assert kernel.machine is not None
    file = kernel.create_file("f", data=b"stubborn")
    host = kernel.machine.host_disk.file  # type: ignore[union-attr]
    fd, host._fd = host._fd, os.open(disk, os.O_RDONLY)
    with pytest.raises(OutputError, match=r"disk\.img"):
        file.fsync()
    assert b"stubborn" not in disk.read_bytes()
    os.close(host._fd)
    host._fd = fd
    kernel.detach_disk()
    assert b"stubborn" in disk.read_bytes()


def test_a_file_that_is_cut_short_under_the_machine_does_no_harm(disk: Path) -> None:
    kernel = machine_with(disk)
    os.truncate(disk, 0)
    file = kernel.create_file("f", data=b"still here")
    kernel.sync()
    kernel.drop_caches()
    assert file.read() == b"still here"
