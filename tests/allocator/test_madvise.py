# SPDX-License-Identifier: GPL-2.0-only
"""madvise: what each advice does, and what is refused."""

from __future__ import annotations

import pytest

from allocator.mm_struct import (
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_HUGEPAGE,
    VM_NOHUGEPAGE,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_WIPEONFORK,
)

from .processes import PAGE, boot, killed, maps, process, refused, settle, sound


@pytest.mark.parametrize(
    ("address", "length", "advice", "errno"),
    [
        (1, PAGE, 0, "EINVAL"),
        (0, -PAGE, 0, "EINVAL"),
        (0, PAGE, 5, "EINVAL"),
        (0, PAGE, -1, "EINVAL"),
        (0, PAGE, 12, "EINVAL"),
        (1 << 40, PAGE, 4, "ENOMEM"),
    ],
)
def test_bad_advice_is_refused(address: int, length: int, advice: int, errno: str) -> None:
    proc = process()
    refused(lambda: proc.madvise(address, length, advice), errno)


@pytest.mark.parametrize(
    ("advice", "bit"),
    [
        ("sequential", VM_SEQ_READ),
        ("random", VM_RAND_READ),
        ("dontfork", VM_DONTCOPY),
        ("dontdump", VM_DONTDUMP),
        ("wipeonfork", VM_WIPEONFORK),
        ("hugepage", VM_HUGEPAGE),
        ("nohugepage", VM_NOHUGEPAGE),
    ],
)
def test_lasting_advice_marks_just_its_range(advice: str, bit: int) -> None:
    proc = process()
    start = proc.mmap(6 * PAGE)
    proc.madvise(start + 2 * PAGE, 2 * PAGE, advice)
    assert [bool(area.flags & bit) for area in proc.areas] == [False, True, False]
    back = {
        "dontfork": "dofork",
        "dontdump": "dodump",
        "wipeonfork": "keeponfork",
        "hugepage": "nohugepage",
        "nohugepage": "hugepage",
    }.get(advice, "normal")
    proc.madvise(start, 6 * PAGE, back)
    assert not any(area.flags & bit for area in proc.areas)
    assert len(proc.areas) == 1


def test_dontneed_gives_frames_back_at_once() -> None:
    proc = process()
    start = proc.mmap(8 * PAGE)
    proc.write(start, b"x" * 8 * PAGE)
    proc.madvise(start + 2 * PAGE, 4 * PAGE, "dontneed")
    assert proc.counters["anon"] == 4
    assert proc.read(start + 3 * PAGE, 1) == b"\0"
    assert proc.read(start + 7 * PAGE, 1) == b"x"
    sound(proc.kernel)
    proc.mlock(start, PAGE)
    refused(lambda: proc.madvise(start, PAGE, "dontneed"), "EINVAL")


def test_a_hole_is_told_at_the_end_and_the_rest_is_done() -> None:
    proc = process()
    start = proc.mmap(6 * PAGE)
    proc.write(start, b"x" * 6 * PAGE)
    proc.munmap(start + 2 * PAGE, PAGE)
    refused(lambda: proc.madvise(start, 6 * PAGE, "dontneed"), "ENOMEM")
    assert proc.counters["anon"] == 0


def test_children_get_neither_what_is_not_to_be_copied_nor_what_is_wiped() -> None:
    proc = process()
    start = proc.mmap(6 * PAGE)
    proc.write(start, b"x" * 6 * PAGE)
    proc.madvise(start, 2 * PAGE, "dontfork")
    proc.madvise(start + 2 * PAGE, 2 * PAGE, "wipeonfork")
    child = proc.fork()
    assert maps(child) == [(2, "rw-p"), (2, "rw-p")]
    assert child.read(start + 2 * PAGE, 1) == b"\0"
    assert child.read(start + 4 * PAGE, 1) == b"x"
    sound(proc.kernel)
    killed(lambda: child.read(start, 1), 11, 1)


def test_freed_pages_stay_until_memory_is_wanted_and_a_write_keeps_them() -> None:
    kernel = boot("1x40M")
    kernel.swapon(20000)
    proc = kernel.create_process("test")
    start = proc.mmap(64 * PAGE)
    proc.write(start, b"f" * 64 * PAGE)
    kernel.lru_add_drain_all()
    proc.madvise(start, 64 * PAGE, "free")
    assert proc.read(start, 1) in (b"f", b"\0")
    proc.write(start + PAGE, b"k")
    sound(kernel)
    other = kernel.create_process("hungry")
    hungry = other.mmap(9000 * PAGE)
    other.touch(hungry, 9000 * PAGE)
    assert proc.read(start + PAGE, 1) == b"k"
    assert proc.read(start + 5 * PAGE, 1) in (b"f", b"\0")
    sound(kernel)


def test_advice_costs_no_frames() -> None:
    proc = process()
    free = settle(proc.kernel)
    start = proc.mmap(16 * PAGE)
    for n in range(0, 16, 2):
        proc.madvise(start + n * PAGE, PAGE, "random")
    proc.madvise(start, 16 * PAGE, "normal")
    assert maps(proc) == [(16, "rw-p")]
    proc.munmap(start, 16 * PAGE)
    assert settle(proc.kernel) == free


def test_a_huge_page_is_given_up_whole_and_split_for_a_part() -> None:
    kernel = boot("1x128M")
    kernel.transparent_hugepage("always")
    proc = kernel.create_process("huge")
    start = -(-proc.mmap(8 << 20) // (2 << 20)) * (2 << 20)
    proc.write(start, b"h" * (4 << 20))
    kernel.lru_add_drain_all()
    proc.madvise(start, 2 << 20, "free")
    sound(kernel)
    proc.madvise(start + (2 << 20), 8 * PAGE, "free")
    proc.write(start + (2 << 20), b"kept")
    assert proc.read(start + (2 << 20), 4) == b"kept"
    assert proc.read(start + (3 << 20), 1) == b"h"
    sound(kernel)


def test_a_file_is_read_ahead_of_its_use() -> None:
    kernel = boot()
    file = kernel.create_file("ahead", data=b"a" * 32 * PAGE)
    kernel.sync()
    kernel.drop_caches()
    proc = kernel.create_process("test")
    start = proc.mmap(32 * PAGE, "r", file=file)
    proc.madvise(start + 4 * PAGE, 8 * PAGE, "willneed")
    assert set(range(4, 12)) <= set(file.pages)
    assert proc.read(start + 5 * PAGE, 1) == b"a"
    sound(kernel)
