# SPDX-License-Identifier: GPL-2.0-only
"""Shared anonymous memory: one set of pages for all who map it, in memory or in swap."""

from __future__ import annotations

import pytest

from allocator.check import check_frames
from allocator.check.context import Check
from allocator.check.lru_rules import node_counter
from allocator.errors import ProcessKilled, SystemCallError
from allocator.inspect.meminfo import meminfo_kb
from allocator.inspect.owner import Owners
from allocator.kernel import Kernel
from allocator.kernel_globals import G_COMMITTED_AS, G_SHMEM_INODES
from allocator.layout import PAGE_OFFSET
from allocator.mm_types import PG_SWAPBACKED
from allocator.mmap import MAP_GROWSDOWN, MAP_NORESERVE
from allocator.mmzone import NODE_STAT_NAMES
from allocator.process import Process
from allocator.shmem import radix_to_swp_entry, swp_to_radix_entry
from allocator.swapops import swp_entry
from tests.allocator.machines import boot

PAGE = 4096
SIGBUS = 7
MIB = 1 << 20


@pytest.fixture
def kernel() -> Kernel:
    return boot("1x32M")


@pytest.fixture
def init(kernel: Kernel) -> Process:
    return kernel.create_process("init")


def sound(kernel: Kernel) -> bool:
    report = check_frames(kernel.memory)
    assert not report.findings, "\n".join(str(finding) for finding in report.findings[:5])
    return True


def state(kernel: Kernel, name: str) -> int:
    item = NODE_STAT_NAMES.index(name)
    return sum(node_counter(Check(kernel.memory), node.word, item) for node in kernel.nodes)


def shared_inodes(kernel: Kernel) -> bool:
    return kernel.m[G_SHMEM_INODES] not in (0, PAGE_OFFSET + (G_SHMEM_INODES << 3))


def fill(process: Process, area: int, pages: int, salt: int) -> None:
    for i in range(pages):
        process.write(area + i * PAGE, (i * 7919 + salt).to_bytes(8, "little"))


def filled(process: Process, area: int, pages: int, salt: int) -> bool:
    return all(
        process.read(area + i * PAGE, 8) == (i * 7919 + salt).to_bytes(8, "little")
        for i in range(pages)
    )


def test_parent_and_child_see_what_the_other_writes(kernel: Kernel, init: Process) -> None:
    area = init.mmap(4 * PAGE, shared=True)
    init.write(area, b"before")
    child = init.fork()
    grandchild = child.fork()
    assert grandchild.read(area, 6) == b"before"
    child.write(area, b"after ")
    child.write(area + 3 * PAGE, b"new page")
    assert init.read(area, 6) == grandchild.read(area, 6) == b"after "
    assert init.read(area + 3 * PAGE, 8) == b"new page"
    page = init.page(area)
    assert page is not None
    assert page.pfn == child.page(area).pfn  # type: ignore[union-attr]
    assert page.flags & PG_SWAPBACKED
    assert sound(kernel)
    init.exit()
    child.exit()
    assert grandchild.read(area, 6) == b"after "
    grandchild.exit()
    assert not shared_inodes(kernel)
    assert sound(kernel)


def test_reading_gives_zeroes_that_all_share(kernel: Kernel, init: Process) -> None:
    area = init.mmap(2 * PAGE, shared=True)
    child = init.fork()
    assert init.read(area, PAGE) == bytes(PAGE)
    assert child.read(area, PAGE) == bytes(PAGE)
    init.write(area, b"x")
    assert child.read(area, 1) == b"x"


def test_two_areas_share_nothing_and_do_not_merge(kernel: Kernel, init: Process) -> None:
    first = init.mmap(PAGE, shared=True)
    second = init.mmap(PAGE, address=first - PAGE, fixed=True, shared=True)
    init.write(first, b"one")
    assert init.read(second, 3) == bytes(3)
    assert len(init.areas) == 2
    assert "s 00000000 /dev/zero (deleted)" in init.maps


def test_a_part_that_is_unmapped_stays_with_the_rest(kernel: Kernel, init: Process) -> None:
    area = init.mmap(8 * PAGE, shared=True)
    fill(init, area, 8, 1)
    child = init.fork()
    init.munmap(area + 2 * PAGE, 3 * PAGE)
    init.mprotect(area + 6 * PAGE, PAGE, "r")
    with pytest.raises(ProcessKilled):
        child.fork().write(area + 9 * PAGE, b"x")
    assert filled(child, area, 8, 1)
    init.mprotect(area + 6 * PAGE, PAGE, "rw")
    init.write(area + 6 * PAGE, b"again")
    assert child.read(area + 6 * PAGE, 5) == b"again"
    init.madvise(area, PAGE, "dontneed")
    assert init.read(area, 8) == (1).to_bytes(8, "little")
    assert sound(kernel)


def test_its_pages_are_counted_as_shared_memory(kernel: Kernel, init: Process) -> None:
    before = state(kernel, "nr_file_pages"), state(kernel, "nr_shmem")
    area = init.mmap(10 * PAGE, shared=True)
    fill(init, area, 10, 0)
    after = state(kernel, "nr_file_pages"), state(kernel, "nr_shmem")
    assert (after[0] - before[0], after[1] - before[1]) == (10, 10)
    assert init.counters["shmem"] == 10
    assert init.counters["file"] == init.counters["anon"] == 0
    page = init.page(area + PAGE)
    assert page is not None
    name = Owners(kernel.m).name(page.pfn)
    assert name == f"shared anonymous, offset 0x1000, init[{init.pid}] at {area + PAGE:#x}"
    init.munmap(area, 10 * PAGE)
    assert (state(kernel, "nr_file_pages"), state(kernel, "nr_shmem")) == before
    assert sound(kernel)


def test_its_whole_size_is_committed_once_or_page_by_page(kernel: Kernel, init: Process) -> None:
    m = kernel.m
    start = m[G_COMMITTED_AS]
    area = init.mmap(100 * PAGE, shared=True)
    child = init.fork()
    fill(child, area, 3, 0)
    assert m[G_COMMITTED_AS] == start + 100
    child.exit()
    init.munmap(area, 50 * PAGE)
    assert m[G_COMMITTED_AS] == start + 100
    init.munmap(area + 50 * PAGE, 50 * PAGE)
    assert m[G_COMMITTED_AS] == start
    area = init.mmap(100 * PAGE, shared=True, flags=MAP_NORESERVE)
    fill(init, area, 3, 0)
    assert m[G_COMMITTED_AS] == start + 3
    init.exit()
    assert m[G_COMMITTED_AS] == start


def test_an_area_that_grows_does_not_make_its_memory_grow(kernel: Kernel, init: Process) -> None:
    area = init.mmap(2 * PAGE, shared=True)
    grown = init.mremap(area, 2 * PAGE, 4 * PAGE, may_move=True)
    init.write(grown + PAGE, b"x")
    with pytest.raises(ProcessKilled) as death:
        init.write(grown + 2 * PAGE, b"x")
    assert death.value.signal == SIGBUS


def test_meminfo_shows_it(kernel: Kernel, init: Process) -> None:
    init.touch(init.mmap(25 * PAGE, shared=True), 25 * PAGE)
    for cpu in range(kernel.nr_cpus):
        kernel.fold_vm_stats(cpu)
    assert meminfo_kb(kernel.m, kernel.memory)["Shmem"] == 100


def test_what_linux_refuses_is_refused(kernel: Kernel, init: Process) -> None:
    with pytest.raises(SystemCallError, match="EINVAL"):
        init.mmap(PAGE, shared=True, flags=MAP_GROWSDOWN)
    with pytest.raises(SystemCallError, match="ENOMEM"):
        init.mmap(1 << 40, shared=True)
    assert not shared_inodes(kernel)


def test_it_survives_swap_and_comes_back_to_all(kernel: Kernel, init: Process) -> None:
    kernel.swapon(16384)
    pages = 40 * MIB // PAGE
    area = init.mmap(pages * PAGE, shared=True)
    child = init.fork()
    fill(init, area, pages, 5)
    assert state(kernel, "nr_shmem") < pages
    assert sound(kernel)
    assert filled(child, area, pages, 5)
    fill(child, area, pages // 4, 6)
    assert filled(init, area, pages // 4, 6)
    assert child.counters["majflt"] > 0
    assert sound(kernel)
    init.exit()
    child.exit()
    assert kernel.m[G_COMMITTED_AS] == 0
    assert sound(kernel)


def test_giving_the_swap_area_up_brings_it_back(kernel: Kernel, init: Process) -> None:
    area_number = kernel.swapon(16384)
    pages = 4 * MIB // PAGE
    area = init.mmap(pages * PAGE, shared=True)
    fill(init, area, pages, 9)
    hog = kernel.create_process("hog")
    hog.touch(hog.mmap(56 * MIB), 56 * MIB)
    swapped = pages - state(kernel, "nr_shmem")
    assert swapped > 0
    hog.exit()
    kernel.swapoff(area_number)
    assert state(kernel, "nr_shmem") == pages
    assert filled(init, area, pages, 9)
    assert sound(kernel)


def test_without_swap_it_stays_and_the_killer_comes(kernel: Kernel, init: Process) -> None:
    area = init.mmap(4 * MIB, shared=True)
    fill(init, area, 1024, 3)
    hog = kernel.create_process("hog")
    with pytest.raises(ProcessKilled):
        hog.touch(hog.mmap(40 * MIB, flags=MAP_NORESERVE), 40 * MIB)
    assert filled(init, area, 1024, 3)
    assert sound(kernel)


def test_a_bad_frame_of_it_is_nobodys_any_more(kernel: Kernel, init: Process) -> None:
    area = init.mmap(2 * PAGE, shared=True)
    fill(init, area, 2, 1)
    page = init.page(area)
    assert page is not None
    kernel.memory_failure(page.pfn)
    with pytest.raises(ProcessKilled):
        init.read(area, 1)
    assert kernel.create_process().alive
    assert sound(kernel)


def test_its_pages_move_between_nodes() -> None:
    kernel = boot("2x64M")
    init = kernel.create_process("init")
    area = init.mmap(16 * PAGE, shared=True)
    fill(init, area, 16, 4)
    child = init.fork()
    assert filled(child, area, 16, 4)
    pages = [area + i * PAGE for i in range(16)]
    for nid in (1, 0):
        assert child.move_pages(pages, [nid] * 16, all_users=True) == [nid] * 16
        assert sound(kernel)
    init.mbind(area, 16 * PAGE, "bind", [1])
    init.madvise(area, 16 * PAGE, "dontneed")
    assert filled(init, area, 16, 4)
    assert sound(kernel)


@pytest.mark.parametrize("kind", [0, 1, 15, 16, 28])
def test_a_swap_entry_comes_back_out_of_the_xarray_as_it_went_in(kind: int) -> None:
    entry = swp_entry(kind, (1 << 50) - 7)
    value = swp_to_radix_entry(entry)
    assert value & 1
    assert -(1 << 63) <= value < 1 << 63
    assert radix_to_swp_entry(value) == entry
