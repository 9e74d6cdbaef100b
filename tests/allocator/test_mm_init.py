# SPDX-License-Identifier: GPL-2.0-only
"""The first use sets everything up, once."""

from __future__ import annotations

from allocator.kernel_globals import G_MM_INIT_DONE, G_THP_FLAGS
from allocator.mm_init import mm_init
from allocator.slab import kmem_cache_name, slab_caches

from .processes import boot, sound


def test_nothing_is_there_before_the_first_use_and_all_of_it_after() -> None:
    kernel = boot()
    free = kernel.nr_free_pages
    assert kernel.m[G_MM_INIT_DONE] == 0
    assert kernel.processes == []
    kernel.mm_init()
    assert kernel.m[G_MM_INIT_DONE] == 1
    names = {kmem_cache_name(kernel.m, cache) for cache in slab_caches(kernel.m)}
    assert {"task_struct", "mm_struct", "vm_area_struct", "anon_vma"} <= names
    assert kernel.nr_free_pages < free
    sound(kernel)


def test_a_second_time_changes_nothing() -> None:
    kernel = boot()
    kernel.mm_init()
    image = bytes(kernel.memory.bytes[: 64 << 20])
    assert mm_init(kernel.m, 0) == 0
    assert bytes(kernel.memory.bytes[: 64 << 20]) == image


def test_small_machines_begin_without_huge_pages() -> None:
    small, large = boot("1x64M"), boot("1x1G")
    small.mm_init()
    large.mm_init()
    assert small.m[G_THP_FLAGS] == 0
    assert large.m[G_THP_FLAGS] != 0
