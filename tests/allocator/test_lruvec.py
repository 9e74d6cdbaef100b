# SPDX-License-Identifier: GPL-2.0-only
"""allocator/lruvec.py: every page is on the lists of its node and its control group."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.kernel import Kernel
from allocator.kernel_policy import MemCgroup
from allocator.layout import MEM_CGROUPS, NODE_DATA, TASK_MEMCG, va_of_word, word_of_va
from allocator.lruvec import (
    lruvec_lru_size,
    lruvec_memcg,
    lruvec_node,
    mem_cgroup_lruvec,
    page_lruvec,
)
from allocator.mmzone import (
    LRU_ACTIVE_ANON,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    MAX_NR_ZONES,
    ND_LRUVEC,
    ND_MEMCG_LRU,
    NR_LRU_LISTS,
)
from allocator.process import Process

from .processes import PAGE, boot, sound


def member(kernel: Kernel, group: MemCgroup) -> Process:
    process = kernel.create_process("member")
    kernel.m[process.task + TASK_MEMCG] = va_of_word(group.word)
    return process


def node(kernel: Kernel, nid: int = 0) -> int:
    return word_of_va(kernel.m[NODE_DATA + nid])


def anon(kernel: Kernel, lv: int) -> int:
    lists = (LRU_ACTIVE_ANON, LRU_INACTIVE_ANON)
    return sum(lruvec_lru_size(kernel.m, lv, lru, MAX_NR_ZONES) for lru in lists)


def test_a_page_is_on_the_lists_of_whom_it_is_charged_to() -> None:
    kernel = boot("2x64M")
    m = kernel.m
    outside = kernel.create_process("outside")
    group = kernel.create_memcg()
    inside = member(kernel, group)
    kernel.lru_add_drain_all()
    nd = node(kernel)
    own, shared = mem_cgroup_lruvec(m, nd, group.word), mem_cgroup_lruvec(m, nd, MEM_CGROUPS)
    before = anon(kernel, own), anon(kernel, shared)
    for process, pages in ((outside, 30), (inside, 50)):
        at = process.mmap(pages * PAGE)
        process.touch(at, pages * PAGE)
        page = process.page(at)
        assert page is not None
        expected = own if process is inside else shared
        assert page_lruvec(m, page.word) == expected
    kernel.lru_add_drain_all()
    assert (anon(kernel, own), anon(kernel, shared)) == (before[0] + 50, before[1] + 30)
    assert shared == nd + ND_LRUVEC
    assert lruvec_node(m, own) == lruvec_node(m, shared) == nd
    assert (lruvec_memcg(m, own), lruvec_memcg(m, shared)) == (group.word, MEM_CGROUPS)
    sound(kernel)


def test_pages_of_the_cache_are_charged_to_whoever_reads_them_first() -> None:
    kernel = boot()
    log = kernel.create_file("log", data=bytes(40 * PAGE))
    kernel.sync()
    kernel.drop_caches(1)
    group = kernel.create_memcg()
    reader = member(kernel, group)
    at = reader.mmap(40 * PAGE, "r", file=log)
    reader.touch(at, 40 * PAGE, write=False)
    kernel.lru_add_drain_all()
    own = mem_cgroup_lruvec(kernel.m, node(kernel), group.word)
    assert len(log.pages) == 40
    assert {page_lruvec(kernel.m, page.word) for page in log.pages.values()} == {own}
    assert lruvec_lru_size(kernel.m, own, LRU_INACTIVE_FILE, MAX_NR_ZONES) == 40
    assert group.usage() >= 40
    sound(kernel)


def test_a_page_of_the_swap_cache_changes_its_lists_when_it_is_charged() -> None:
    kernel = boot()
    kernel.swapon(pages=8192)
    group = kernel.create_memcg()
    process = kernel.create_process("mover")
    at = process.mmap(64 * PAGE)
    for i in range(64):
        process.write(at + i * PAGE, i.to_bytes(8, "little"))
    kernel.lru_add_drain_all()
    squeezed = kernel.create_process("hog")
    hog = squeezed.mmap(60 << 20)
    squeezed.touch(hog, 60 << 20)
    squeezed.exit()
    kernel.m[process.task + TASK_MEMCG] = va_of_word(group.word)
    # readahead brings neighbours in, uncharged; they are charged when they are mapped
    for i in range(64):
        assert process.read(at + i * PAGE, 8) == i.to_bytes(8, "little")
        sound(kernel)
    assert group.usage() > 0


def test_without_groups_a_node_counts_nothing_for_them() -> None:
    kernel = boot()
    process = kernel.create_process("alone")
    process.touch(process.mmap(40 * PAGE), 40 * PAGE)
    kernel.lru_add_drain_all()
    at = node(kernel) + ND_MEMCG_LRU
    assert not any(kernel.m[at : at + MAX_NR_ZONES * NR_LRU_LISTS])


def test_no_memory_for_a_groups_lists_is_enomem_and_no_group() -> None:
    kernel = boot()
    kernel.create_process("first").exit()
    kernel.exhaust(0, "GFP_ATOMIC|__GFP_HIGH|__GFP_NOWARN")

    def many_groups() -> None:
        for _ in range(60):
            kernel.create_memcg()

    with pytest.raises(BadRequest, match="ENOMEM"):
        many_groups()
    sound(kernel)
