# SPDX-License-Identifier: GPL-2.0-only
"""Bad frames in every state."""

from __future__ import annotations

import errno

import pytest

from allocator.check import check_frames
from allocator.errors import BadRequest, SystemCallError
from allocator.fault import (
    BUS_MCEERR_AO,
    BUS_MCEERR_AR,
    SI_KERNEL,
    SIGBUS,
    SIGKILL,
    access_process,
)
from allocator.gfp import GFP_HIGHUSER_MOVABLE
from allocator.hwpoison import is_free_buddy_page
from allocator.kernel import Kernel
from allocator.kernel_globals import G_NUM_POISONED_PAGES
from allocator.layout import SECTION_PAGES, TASK_FATAL_SIGNAL
from allocator.memory_failure import (
    EBUSY,
    ENXIO,
    ME_HUGE,
    ME_KERNEL,
    ME_LRU_CLEAN,
    ME_LRU_DIRTY,
    ME_SWAPCACHE_CLEAN,
    ME_SWAPCACHE_DIRTY,
    ME_UNKNOWN,
    MF_ACTION_REQUIRED,
    error_state,
    memory_failure,
)
from allocator.mm_inline import PG_SWAPCACHE, page_mapped, page_to_pfn
from allocator.mm_struct import TASK_FAULT_CODE, TASK_FAULT_SIGNAL
from allocator.mm_types import (
    P_COUNTS,
    PG_DIRTY,
    PG_HEAD,
    PG_HWPOISON,
    PG_LRU,
    PG_MLOCKED,
    PG_RESERVED,
    PG_SLAB,
    PG_SWAPBACKED,
    PG_UNEVICTABLE,
    REF_ONE,
)
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.process import Process
from allocator.swapops import is_hwpoison_entry, pte_to_swp_entry
from allocator.views import Page
from tests.allocator import processes
from tests.allocator.process_support import PAGE, READ, Lab, page_out
from tests.allocator.test_huge_split import HugeProcess

SC = PG_SWAPCACHE | PG_SWAPBACKED


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        (PG_RESERVED | PG_LRU, ME_KERNEL),
        (PG_SLAB, ME_KERNEL),
        (PG_HEAD | PG_LRU, ME_HUGE),
        (SC | PG_LRU | PG_DIRTY, ME_SWAPCACHE_DIRTY),
        (SC | PG_LRU, ME_SWAPCACHE_CLEAN),
        (PG_SWAPCACHE | PG_LRU, ME_LRU_CLEAN),
        (PG_MLOCKED | PG_DIRTY | PG_LRU, ME_LRU_DIRTY),
        (PG_MLOCKED, ME_LRU_CLEAN),
        (PG_UNEVICTABLE | PG_DIRTY, ME_LRU_DIRTY),
        (PG_UNEVICTABLE, ME_LRU_CLEAN),
        (PG_LRU | PG_DIRTY | PG_SWAPBACKED, ME_LRU_DIRTY),
        (PG_LRU, ME_LRU_CLEAN),
        (PG_DIRTY, ME_UNKNOWN),
        (0, ME_UNKNOWN),
    ],
)
def test_flags_say_what_a_page_is(flags: int, state: int) -> None:
    assert error_state(flags)[0] == state


def process(lab: Lab) -> tuple[int, int, int]:
    """A process with a dirty anonymous page: task, address, struct page."""
    task = lab.process()
    at = lab.map(task, 4)
    for i in range(4):
        lab.poke(task, at + i * PAGE, 7 + i)
    lab.drain()
    return task, at, lab.page(task, at)


def fault(lab: Lab, task: int, address: int) -> int:
    """The signal that a process dies of when it reads there, 0 for none."""
    with lab.acting(task):
        return max(0, -access_process(lab.m, 0, task, address, READ))


def test_a_free_block_is_safe_since_its_bad_page_is_never_given_out(lab: Lab) -> None:
    m = lab.m
    pfn = alloc_pages_nodemask(m, 0, GFP_HIGHUSER_MOVABLE, 3, 0, 0)
    free_pages(m, 0, pfn, 3)
    assert is_free_buddy_page(m, pfn + 2)
    assert memory_failure(m, 0, pfn + 2) == 0
    assert m[G_NUM_POISONED_PAGES] == 1
    assert memory_failure(m, 0, pfn + 2) == 0
    assert m[G_NUM_POISONED_PAGES] == 1
    assert lab.check().sound


def test_frames_without_struct_pages_and_kernel_pages_cannot_be_helped(lab: Lab) -> None:
    m = lab.m
    assert memory_failure(m, 0, 1 << 29) == -ENXIO
    assert memory_failure(m, 0, -1) == -ENXIO
    slab = page_to_pfn(m, lab.page_at((lab.mm(lab.process()) << 3) >> 12))
    assert memory_failure(m, 0, slab) == -EBUSY
    block = lab.new_page(2)
    assert memory_failure(m, 0, page_to_pfn(m, block) + 1) == -EBUSY


def test_a_lost_page_leaves_a_trap_and_nothing_else(lab: Lab) -> None:
    m = lab.m
    task, at, p = process(lab)
    child = lab.fork(task)
    assert memory_failure(m, 0, page_to_pfn(m, p)) == 0
    assert not page_mapped(m, p)
    assert not m[p] & PG_LRU
    for who in (task, child):
        assert is_hwpoison_entry(pte_to_swp_entry(lab.pte(who, at)))
        assert fault(lab, who, at) == SIGBUS
        assert lab.peek(who, at + PAGE) == 8
    assert not m[task + TASK_FATAL_SIGNAL]
    lab.exit(child)
    lab.exit(task)
    assert m[p] & PG_HWPOISON
    assert lab.references(p) == 1
    assert lab.check().sound


def test_when_action_is_required_all_users_die_at_once(lab: Lab) -> None:
    m = lab.m
    task, _, p = process(lab)
    child, stranger = lab.fork(task), lab.process()
    assert memory_failure(m, 0, page_to_pfn(m, p), MF_ACTION_REQUIRED) == 0
    for who, dies in ((task, 1), (child, 1), (stranger, 0)):
        assert m[who + TASK_FATAL_SIGNAL] == dies
    assert m[task + TASK_FAULT_SIGNAL] == SIGBUS


def test_a_clean_page_of_the_swap_cache_is_read_again(lab: Lab) -> None:
    lab.swap(64)
    m = lab.m
    task, at, p = process(lab)
    assert lab.page_out(p)
    assert memory_failure(m, 0, page_to_pfn(m, p)) == 0
    assert not m[p] & PG_SWAPCACHE
    assert lab.peek(task, at) == 7
    assert lab.page(task, at) != p
    assert lab.check().sound


def test_a_dirty_page_of_the_swap_cache_is_lost_when_it_is_used(lab: Lab) -> None:
    lab.swap(64)
    m = lab.m
    task, at, p = process(lab)
    assert lab.page_out(p)
    m[p] |= PG_DIRTY
    assert memory_failure(m, 0, page_to_pfn(m, p)) == 0
    assert fault(lab, task, at) == SIGBUS
    lab.drain()
    assert lab.check().sound


def test_a_page_that_somebody_holds_is_lost_but_not_safe(lab: Lab) -> None:
    m = lab.m
    task, at, p = process(lab)
    m[p + P_COUNTS] += REF_ONE
    assert memory_failure(m, 0, page_to_pfn(m, p)) == -EBUSY
    assert fault(lab, task, at) == SIGBUS


@pytest.mark.parametrize("part", [0, 7, 511])
def test_of_a_huge_page_only_the_bad_part_is_lost(part: int) -> None:
    huge = HugeProcess()
    m, lab = huge.m, huge.lab
    assert memory_failure(m, 0, page_to_pfn(m, huge.p) + part) == 0
    assert [bool(m[huge.p + 8 * i] & PG_HWPOISON) for i in range(512)] == [
        i == part for i in range(512)
    ]
    assert fault(lab, huge.task, huge.at + part * PAGE) == SIGBUS
    for i in range(0, 512, 7):
        if i != part:
            assert lab.peek(huge.task, huge.at + i * PAGE) == 1000 + i
    lab.drain()
    assert lab.check().sound


def test_a_huge_page_that_is_held_stays_as_it_was() -> None:
    huge = HugeProcess()
    m = huge.m
    m[huge.p + P_COUNTS] += REF_ONE
    assert memory_failure(m, 0, page_to_pfn(m, huge.p) + 5) == -EBUSY
    assert m[G_NUM_POISONED_PAGES] == 0
    m[huge.p + P_COUNTS] -= REF_ONE
    huge.check()


def test_a_process_that_a_bad_frame_kills_dies_of_sigbus_with_the_reason() -> None:
    proc = processes.process()
    at = proc.mmap(PAGE, "rw")
    proc.write(at, b"gone")
    page = proc.page(at)
    assert page is not None
    proc.kernel.memory_failure(page.pfn, kill=True)
    death = processes.killed(lambda: proc.mmap(PAGE), SIGBUS, BUS_MCEERR_AO)
    assert f"SIGBUS at {at:#x}: hardware memory error in its memory" in str(death)
    assert not proc.alive


# --- every state a frame can be in, through the public face ---------------------------------------


def fail(kernel: Kernel, page: Page, said: str, refused: str = "") -> None:
    """The frame goes bad: the kernel reports its state and what it did, refuses or not."""
    if refused:
        with pytest.raises(BadRequest, match=refused):
            kernel.memory_failure(page.pfn)
    else:
        kernel.memory_failure(page.pfn)
    assert page.flags & PG_HWPOISON
    lines = [line.split("] ", 1)[-1] for line in kernel.log if "Memory failure" in line]
    assert lines[-1] == f"Memory failure: {page.pfn:#x}: recovery action for {said}"
    report = check_frames(kernel.memory)
    assert report.sound, str(report)


def started() -> tuple[Kernel, Process]:
    kernel = processes.boot("1x64M")
    return kernel, kernel.create_process("test")


def mapped(proc: Process, at: int) -> Page:
    proc.kernel.lru_add_drain_all()
    page = proc.page(at)
    assert page is not None
    return page


def test_clean_unmapped_file_page_is_dropped_and_read_again() -> None:
    kernel, _ = started()
    file = kernel.create_file("file", data=b"x" * 9000)
    file.fsync()
    kernel.lru_add_drain_all()
    bad = file.pages[1]
    fail(kernel, bad, "clean LRU page: Recovered")
    assert 1 not in file.pages
    assert file.read(offset=0) == b"x" * 9000
    assert file.pages[1].pfn != bad.pfn
    file.fsync()


@pytest.mark.parametrize("shared", [False, True])
def test_clean_mapped_file_page_is_dropped_and_nobody_notices(shared: bool) -> None:
    kernel, proc = started()
    file = kernel.create_file("file", data=b"x" * 9000)
    file.fsync()
    at = proc.mmap(3 * PAGE, "rw", file=file, shared=shared)
    assert proc.read(at, 5) == b"xxxxx"
    bad = mapped(proc, at)
    fail(kernel, bad, "clean LRU page: Recovered")
    assert any("corrupted page was clean: dropped without side effects" in s for s in kernel.log)
    assert proc.page(at) is None
    assert proc.read(at, 9000) == b"x" * 9000
    assert mapped(proc, at).pfn != bad.pfn


def test_dirty_unmapped_file_page_is_lost_and_the_next_fsync_says_so_once() -> None:
    kernel, _ = started()
    file = kernel.create_file("file", data=b"old" * 3000)
    file.fsync()
    file.write(b"new", 0)
    kernel.lru_add_drain_all()
    bad = file.pages[0]
    fail(kernel, bad, "dirty LRU page: Recovered")
    assert 0 not in file.pages
    with pytest.raises(SystemCallError) as lost:
        file.fsync()
    assert lost.value.errno == errno.EIO
    file.fsync()
    assert file.read(6, offset=0) == b"oldold"


def test_dirty_mapped_file_page_leaves_a_trap_for_who_had_it() -> None:
    kernel, proc = started()
    other = kernel.create_process("other")
    file = kernel.create_file("file", data=b"old" * 3000)
    file.fsync()
    at = proc.mmap(3 * PAGE, "rw", file=file, shared=True)
    proc.write(at, b"new")
    fail(kernel, mapped(proc, at), "dirty LRU page: Recovered")
    processes.killed(lambda: proc.read(at, 1), SIGBUS, BUS_MCEERR_AR)
    assert other.alive
    # others read what is on the disk
    elsewhere = other.mmap(PAGE, "r", file=file, shared=True)
    assert other.read(elsewhere, 3) == b"old"
    with pytest.raises(SystemCallError):
        file.fsync()


def test_with_kill_everybody_whose_area_shows_the_lost_page_of_the_file_dies() -> None:
    kernel, proc = started()
    other, stranger = kernel.create_process("other"), kernel.create_process("stranger")
    file = kernel.create_file("file", data=b"old" * 3000)
    at = proc.mmap(3 * PAGE, "rw", file=file, shared=True)
    proc.write(at, b"new")
    idle = other.mmap(3 * PAGE, "r", file=file, shared=True)
    elsewhere = stranger.mmap(PAGE, "r", file=file, shared=True, offset=2 * PAGE)
    kernel.memory_failure(mapped(proc, at).pfn, kill=True)
    assert sum("due to hardware memory corruption" in line for line in kernel.log) == 2
    processes.killed(lambda: proc.read(at, 1), SIGBUS, BUS_MCEERR_AO)
    processes.killed(lambda: other.read(idle, 1), SIGBUS, BUS_MCEERR_AO)
    assert stranger.read(elsewhere, 3) == b"dol"


def test_with_kill_nobody_dies_for_a_clean_page() -> None:
    kernel, proc = started()
    file = kernel.create_file("file", data=b"x" * 100)
    file.fsync()
    at = proc.mmap(PAGE, "r", file=file, shared=True)
    assert proc.read(at, 1) == b"x"
    kernel.memory_failure(mapped(proc, at).pfn, kill=True)
    assert proc.read(at, 3) == b"xxx"


def test_the_process_that_runs_is_told_that_it_has_touched_the_frame() -> None:
    kernel, proc = started()
    at = proc.mmap(PAGE, "rw")
    proc.write(at, b"gone")
    bad = mapped(proc, at)
    with proc.running() as cpu:
        kernel.memory_failure(bad.pfn, kill=True, cpu=cpu)
    processes.killed(lambda: proc.mmap(PAGE), SIGBUS, BUS_MCEERR_AR)


def test_who_is_killed_by_the_oom_killer_already_keeps_that_signal() -> None:
    kernel, proc = started()
    at = proc.mmap(PAGE, "rw")
    proc.write(at, b"gone")
    bad = mapped(proc, at)
    m = kernel.m
    m[proc.task + TASK_FATAL_SIGNAL], m[proc.task + TASK_FAULT_SIGNAL] = 1, SIGKILL
    m[proc.task + TASK_FAULT_CODE] = SI_KERNEL
    kernel.memory_failure(bad.pfn, kill=True)
    processes.killed(lambda: proc.mmap(PAGE), SIGKILL, SI_KERNEL)


def test_anonymous_page_is_lost() -> None:
    kernel, proc = started()
    at = proc.mmap(2 * PAGE, "rw")
    proc.write(at, b"gone")
    proc.write(at + PAGE, b"kept")
    fail(kernel, mapped(proc, at), "dirty LRU page: Recovered")
    assert proc.read(at + PAGE, 4) == b"kept"
    processes.killed(lambda: proc.read(at, 1), SIGBUS, BUS_MCEERR_AR)


def test_mlocked_page_is_lost_like_any_other() -> None:
    kernel, proc = started()
    at = proc.mmap(2 * PAGE, "rw")
    proc.mlock(at, 2 * PAGE)
    proc.write(at, b"gone")
    proc.write(at + PAGE, b"kept")
    bad = mapped(proc, at)
    assert bad.flags & PG_MLOCKED
    fail(kernel, bad, "dirty LRU page: Recovered")
    assert proc.read(at + PAGE, 4) == b"kept"
    processes.killed(lambda: proc.read(at, 1), SIGBUS, BUS_MCEERR_AR)


def test_clean_mlocked_page_of_a_file_is_read_again() -> None:
    kernel, proc = started()
    file = kernel.create_file("file", data=b"x" * 100)
    file.fsync()
    at = proc.mmap(PAGE, "r", file=file, shared=True)
    proc.mlock(at, PAGE)
    bad = mapped(proc, at)
    fail(kernel, bad, "clean LRU page: Recovered")
    assert proc.read(at, 3) == b"xxx"


def swapped(dirty: bool) -> tuple[Kernel, Process, int, Page]:
    """A page in the swap cache, not mapped, its bytes on the disk; with `dirty` newer ones here."""
    kernel = processes.boot("1x64M")
    kernel.swapon(pages=1024)
    proc = kernel.create_process("test")
    at = proc.mmap(PAGE, "rw")
    proc.write(at, b"kept")
    kernel.lru_add_drain_all()
    page = mapped(proc, at)
    assert page_out(kernel.m, word_of_page(kernel, page))
    if dirty:
        kernel.m[word_of_page(kernel, page)] |= PG_DIRTY
    return kernel, proc, at, page


def word_of_page(kernel: Kernel, page: Page) -> int:
    return int(kernel.m[SECTION_PAGES + (page.pfn >> 15 << 2)] + (page.pfn << 3))


def test_clean_page_of_the_swap_cache_is_read_from_swap() -> None:
    kernel, proc, at, page = swapped(dirty=False)
    fail(kernel, page, "clean swapcache page: Recovered")
    assert proc.read(at, 4) == b"kept"
    assert mapped(proc, at).pfn != page.pfn


def test_dirty_page_of_the_swap_cache_waits_there_for_who_comes_back() -> None:
    kernel, proc, at, page = swapped(dirty=True)
    fail(kernel, page, "dirty swapcache page: Delayed")
    processes.killed(lambda: proc.read(at, 1), SIGBUS, BUS_MCEERR_AR)


def test_free_buddy_page_is_in_safe_hands() -> None:
    kernel, _ = started()
    page = kernel.alloc_pages("GFP_KERNEL", 3)
    assert page is not None
    kernel.free_pages(page, 3)
    fail(kernel, kernel.page(page.pfn + 1), "free buddy page: Delayed")
    kernel.memory_failure(page.pfn + 1)
    assert any("already hardware poisoned" in line for line in kernel.log)


def test_kernel_pages_are_left_alone() -> None:
    kernel, proc = started()
    single = kernel.alloc_pages("GFP_KERNEL", 0)
    block = kernel.alloc_pages("GFP_KERNEL", 2)
    assert single is not None
    assert block is not None
    fail(kernel, single, "unknown page: Failed", "EBUSY")
    fail(kernel, kernel.page(block.pfn + 1), "high-order kernel page: Ignored", "EBUSY")
    fail(kernel, kernel.page(0x1000), "reserved kernel page: Failed", "EBUSY")
    slab = kernel.page(proc.mm << 3 >> 12)
    head = slab.flags & PG_HEAD
    said = "high-order kernel page: Ignored" if head else "kernel slab page: Failed"
    fail(kernel, slab, said, "EBUSY")
    assert proc.alive


def test_a_page_that_somebody_holds_is_reported_with_its_users() -> None:
    kernel, proc = started()
    at = proc.mmap(PAGE, "rw")
    proc.write(at, b"gone")
    page = mapped(proc, at)
    kernel.get_page(page)
    with pytest.raises(BadRequest, match="EBUSY"):
        kernel.memory_failure(page.pfn)
    assert any("dirty LRU page still referenced by 1 users" in line for line in kernel.log)


@pytest.mark.parametrize("part", [0, 300])
def test_part_of_a_huge_page(part: int) -> None:
    kernel = processes.boot("1x64M")
    kernel.transparent_hugepage("always")
    proc = kernel.create_process("test")
    at = proc.mmap(4 << 20, "rw")
    huge = (at + (2 << 20) - 1) & -(2 << 20)
    for i in range(512):
        proc.write(huge + i * PAGE, i.to_bytes(8, "little"))
    fail(kernel, mapped(proc, huge + part * PAGE), "dirty LRU page: Recovered")
    for i in range(512):
        if i != part:
            assert proc.read(huge + i * PAGE, 8) == i.to_bytes(8, "little")
    processes.killed(lambda: proc.read(huge + part * PAGE, 1), SIGBUS, BUS_MCEERR_AR)
