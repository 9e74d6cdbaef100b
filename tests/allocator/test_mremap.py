# SPDX-License-Identifier: GPL-2.0-only
"""mremap: bytes come along, accounts stay right, and what Linux refuses is refused."""

from __future__ import annotations

import errno

import pytest

from allocator.check import check_frames
from allocator.errors import ProcessKilled, SystemCallError
from allocator.kernel import Kernel
from allocator.kernel_globals import G_COMMITTED_AS, G_MAX_MAP_COUNT, G_THP_FLAGS
from allocator.mm_struct import MM_DATA_VM, MM_LOCKED_VM, MM_MAP_COUNT, MM_TOTAL_VM
from allocator.mm_types import PG_HEAD
from allocator.mremap import MREMAP_FIXED, MREMAP_MAYMOVE
from allocator.process import Process
from tests.allocator.machines import boot

PAGE = 4096
MIB = 1 << 20


@pytest.fixture
def kernel() -> Kernel:
    return boot("1x64M")


@pytest.fixture
def process(kernel: Kernel) -> Process:
    return kernel.create_process("p")


def sound(kernel: Kernel) -> bool:
    report = check_frames(kernel.memory)
    assert report.sound, str(report)
    return True


def fill(process: Process, area: int, pages: int) -> None:
    for i in range(pages):
        process.write(area + i * PAGE, f"page {i:8}".encode())


def filled(process: Process, area: int, pages: int) -> bool:
    return all(process.read(area + i * PAGE, 13) == f"page {i:8}".encode() for i in range(pages))


def accounts(kernel: Kernel, process: Process) -> tuple[int, int, int, int]:
    """Pages mapped, pages of data, areas, pages committed."""
    m, mm = kernel.m, process.mm
    numbers = (m[mm + MM_TOTAL_VM], m[mm + MM_DATA_VM], m[mm + MM_MAP_COUNT])
    return (*numbers, m[G_COMMITTED_AS])


def test_it_shrinks_in_place(kernel: Kernel, process: Process) -> None:
    area = process.mmap(8 * PAGE)
    fill(process, area, 8)
    assert process.mremap(area, 8 * PAGE, 3 * PAGE) == area
    assert filled(process, area, 3)
    assert accounts(kernel, process) == (3, 3, 1, 3)
    assert process.counters["anon"] == 3
    with pytest.raises(ProcessKilled):
        process.read(area + 3 * PAGE, 1)
    assert sound(kernel)


def test_it_grows_in_place_where_there_is_room(kernel: Kernel, process: Process) -> None:
    room = process.mmap(16 * PAGE)
    process.munmap(room + 4 * PAGE, 12 * PAGE)
    fill(process, room, 4)
    assert process.mremap(room, 4 * PAGE, 16 * PAGE) == room
    fill(process, room + 8 * PAGE, 8)
    assert filled(process, room, 4)
    assert accounts(kernel, process) == (16, 16, 1, 16)
    assert sound(kernel)


@pytest.mark.parametrize("touched", [True, False])
def test_it_moves_where_there_is_none(kernel: Kernel, process: Process, touched: bool) -> None:
    area = process.mmap(6 * PAGE)
    blocker = process.mmap(PAGE, "r", address=area + 6 * PAGE, fixed=True)
    if touched:
        fill(process, area, 6)
    with pytest.raises(SystemCallError) as refusal:
        process.mremap(area, 6 * PAGE, 9 * PAGE)
    assert refusal.value.errno == errno.ENOMEM
    frames = [page.pfn for i in range(6) if (page := process.page(area + i * PAGE))]
    moved = process.mremap(area, 6 * PAGE, 9 * PAGE, may_move=True)
    assert moved not in (area, blocker)
    there = [page.pfn for i in range(6) if (page := process.page(moved + i * PAGE))]
    assert frames == there
    assert len(frames) == (6 if touched else 0)
    assert not touched or filled(process, moved, 6)
    process.write(moved + 8 * PAGE, b"new")
    assert accounts(kernel, process) == (10, 9, 2, 9)
    assert sound(kernel)


def test_the_middle_of_an_area_moves_and_both_ends_stay(kernel: Kernel, process: Process) -> None:
    area = process.mmap(9 * PAGE)
    fill(process, area, 9)
    target = process.mmap(64 * PAGE) + 20 * PAGE
    process.write(target, b"in the way")
    before = accounts(kernel, process)
    moved = process.mremap(area + 3 * PAGE, 3 * PAGE, 4 * PAGE, new_address=target)
    assert moved == target
    assert process.read(target + PAGE, 13) == b"page        4"
    assert filled(process, area, 3)
    assert process.read(area + 8 * PAGE, 13) == b"page        8"
    after = accounts(kernel, process)
    # three pages less where they were; the four at the target take the place of four others
    assert (after[0], after[1], after[3]) == (before[0] - 3, before[1] - 3, before[3] - 3)
    assert sound(kernel)
    process.exit()
    assert kernel.m[G_COMMITTED_AS] == 0
    assert sound(kernel)


def test_it_may_become_shorter_on_its_way(kernel: Kernel, process: Process) -> None:
    area = process.mmap(6 * PAGE)
    fill(process, area, 6)
    target = process.mmap(2 * PAGE)
    assert process.mremap(area, 6 * PAGE, 2 * PAGE, new_address=target) == target
    assert filled(process, target, 2)
    assert accounts(kernel, process)[0] == 2
    assert sound(kernel)


def test_pages_in_swap_and_shared_with_a_child_move(kernel: Kernel, process: Process) -> None:
    kernel.swapon(16384)
    pages = 4 * MIB // PAGE
    area = process.mmap(pages * PAGE)
    fill(process, area, pages)
    hog = kernel.create_process("hog")
    hog.touch(hog.mmap(100 * MIB), 100 * MIB)
    assert process.counters["swap"] > 0
    child = process.fork()
    target = process.mmap(3 * pages * PAGE, "-")
    moved = process.mremap(area, pages * PAGE, 2 * pages * PAGE, new_address=target + PAGE)
    assert sound(kernel)
    assert filled(process, moved, pages)
    process.write(moved, b"mine")
    assert filled(child, area, pages)
    assert sound(kernel)


def test_a_huge_page_moves_whole_or_in_pieces(kernel: Kernel, process: Process) -> None:
    kernel.transparent_hugepage("always")
    assert kernel.m[G_THP_FLAGS]
    room = process.mmap(6 * MIB)
    area = -(-room // (2 * MIB)) * 2 * MIB
    fill(process, area, 512)
    assert process.page(area).flags & PG_HEAD  # type: ignore[union-attr]
    reserve = process.mmap(8 * MIB, "-")
    target = -(-reserve // (2 * MIB)) * 2 * MIB
    first = process.page(area).pfn  # type: ignore[union-attr]
    assert process.mremap(area, 2 * MIB, 2 * MIB, new_address=target) == target
    assert process.page(target).pfn == first  # type: ignore[union-attr]
    assert process.page(target).flags & PG_HEAD  # type: ignore[union-attr]
    assert sound(kernel)
    again = process.mremap(target, 2 * MIB, 2 * MIB, new_address=target + 2 * MIB + 5 * PAGE)
    assert filled(process, again, 512)
    assert sound(kernel)


def test_files_and_shared_memory_move_and_stay_shared(kernel: Kernel, process: Process) -> None:
    file = kernel.create_file("f", 8 * PAGE)
    for options in ({"file": file, "offset": 2 * PAGE}, {}):
        area = process.mmap(4 * PAGE, shared=True, **options)  # type: ignore[arg-type]
        fill(process, area, 4)
        child = process.fork()
        moved = process.mremap(area, 4 * PAGE, 4 * PAGE, new_address=area - 64 * PAGE)
        process.write(moved + PAGE, b"both see it")
        assert child.read(area + PAGE, 11) == b"both see it"
        assert sound(kernel)
    assert file.read(11, 3 * PAGE) == b"both see it"


def test_an_old_length_of_zero_maps_the_same_shared_pages_again(
    kernel: Kernel, process: Process
) -> None:
    area = process.mmap(4 * PAGE, shared=True)
    fill(process, area, 4)
    second = process.mremap(area, 0, 4 * PAGE, may_move=True)
    assert second != area
    assert filled(process, second, 4)
    process.write(second, b"seen twice")
    assert process.read(area, 10) == b"seen twice"
    process.munmap(area, 4 * PAGE)
    assert process.read(second, 10) == b"seen twice"
    assert sound(kernel)
    private = process.mmap(PAGE)
    with pytest.raises(SystemCallError, match="EINVAL"):
        process.mremap(private, 0, PAGE, may_move=True)


def test_locked_memory_is_faulted_in_as_it_grows(kernel: Kernel, process: Process) -> None:
    area = process.mmap(2 * PAGE)
    process.mlock(area, 2 * PAGE)
    moved = process.mremap(area, 2 * PAGE, 5 * PAGE, may_move=True)
    assert process.counters["anon"] == 5
    assert kernel.m[process.mm + MM_LOCKED_VM] == 5
    target = process.mmap(16 * PAGE, "-")
    moved = process.mremap(moved, 5 * PAGE, 7 * PAGE, new_address=target)
    assert kernel.m[process.mm + MM_LOCKED_VM] == process.counters["anon"] == 7
    process.munmap(moved, 7 * PAGE)
    assert kernel.m[process.mm + MM_LOCKED_VM] == 0
    assert sound(kernel)


def test_what_linux_refuses_is_refused(kernel: Kernel, process: Process) -> None:
    area = process.mmap(4 * PAGE)
    fill(process, area, 4)
    file_end = process.mmap(2 * PAGE, "r", address=area + 4 * PAGE, fixed=True)
    cases: list[tuple[tuple[int, ...], dict[str, int], int]] = [
        ((area + 1, PAGE, PAGE), {}, errno.EINVAL),
        ((area, PAGE, 0), {}, errno.EINVAL),
        ((area, PAGE, 2 * PAGE), {"flags": 8}, errno.EINVAL),
        ((area, PAGE, 2 * PAGE), {"flags": MREMAP_FIXED}, errno.EINVAL),
        ((area, -1, 2 * PAGE), {}, errno.EINVAL),
        ((area, 6 * PAGE, 7 * PAGE), {"flags": MREMAP_MAYMOVE}, errno.EFAULT),
        ((5 << 39, PAGE, 2 * PAGE), {"flags": MREMAP_MAYMOVE}, errno.EFAULT),
        ((area, 4 * PAGE, 4 * PAGE), {"new_address": area + 2 * PAGE}, errno.EINVAL),
        ((area, 4 * PAGE, 4 * PAGE), {"new_address": (5 << 39) + 7}, errno.EINVAL),
        ((area, 4 * PAGE, 4 * PAGE), {"new_address": 1 << 48}, errno.EINVAL),
        ((area, 4 * PAGE, 4 * PAGE), {"new_address": PAGE}, errno.EPERM),
        ((area, 4 * PAGE, 1 << 40), {"flags": MREMAP_MAYMOVE}, errno.ENOMEM),
    ]
    before = accounts(kernel, process)
    for numbers, options, expected in cases:
        with pytest.raises(SystemCallError) as refusal:
            process.mremap(*numbers, **options)  # type: ignore[arg-type]
        assert refusal.value.errno == expected, (numbers, options)
    assert accounts(kernel, process) == before
    kernel.m[G_MAX_MAP_COUNT] = 4
    with pytest.raises(SystemCallError, match="ENOMEM"):
        process.mremap(area, 4 * PAGE, 5 * PAGE, may_move=True)
    assert filled(process, area, 4)
    assert process.read(file_end, 1) == b"\0"
    assert sound(kernel)
