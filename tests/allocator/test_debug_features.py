# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from allocator import kernel_globals as kg
from allocator.boot_context import all_zones
from allocator.debug_guardpage import page_ext_word
from allocator.init_main import Booted, start_kernel
from allocator.mmzone import Z_FREE_PAGES
from tests.allocator.bringup_support import booted_machine


def boot(append: str) -> Booted:
    return start_kernel(booted_machine("1x64M", append=append))


def test_nothing_is_on_by_default() -> None:
    k = boot("")
    assert k.m[kg.G_STATIC_KEYS] == 0
    assert page_ext_word(k.m, 5000) == -1


def test_page_poison_fills_every_free_page() -> None:
    k = boot("page_poison=on")
    assert k.m[kg.G_STATIC_KEYS] & kg.KEY_PAGE_POISONING
    assert k.memory.read(48 << 20, 4096) == b"\xaa" * 4096


def test_page_owner_takes_a_page_ext_for_every_frame() -> None:
    plain, k = boot(""), boot("page_owner=on")
    assert k.m[kg.G_STATIC_KEYS] & kg.KEY_PAGE_OWNER
    assert page_ext_word(k.m, 5000) > 0
    free = [sum(x.m[z + Z_FREE_PAGES] for z in all_zones(x.m)) for x in (plain, k)]
    assert free[0] - free[1] == 256


def test_guard_pages_need_both_parameters() -> None:
    assert not boot("debug_guardpage_minorder=2").m[kg.G_STATIC_KEYS]
    k = boot("debug_pagealloc=on debug_guardpage_minorder=2")
    assert k.m[kg.G_STATIC_KEYS] & kg.KEY_DEBUG_GUARDPAGE
    assert k.m[kg.G_GUARDPAGE_MINORDER] == 2


def test_fault_injection_is_set_up_or_complained_about() -> None:
    k = boot("fail_page_alloc=2,50,0,-1")
    assert k.m[kg.G_STATIC_KEYS] & kg.KEY_FAIL_PAGE_ALLOC
    assert (k.m[kg.G_FAIL_INTERVAL], k.m[kg.G_FAIL_PROBABILITY]) == (2, 50)
    assert any("failed to parse arguments" in line for line in boot("fail_page_alloc=1,2").log)
