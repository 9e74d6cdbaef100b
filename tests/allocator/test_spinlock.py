# SPDX-License-Identifier: GPL-2.0-only
"""allocator/spinlock.py: what shared words and locks do on either engine."""

from __future__ import annotations

import pytest

from allocator.engine import compiled_available, hot_functions, load_engine
from allocator.gfp import parse_gfp
from allocator.kernel_globals import G_TRACE_MASK
from allocator.mmzone import Z_LOCK
from allocator.spinlock import (
    add_to_word,
    lock_zone,
    others_inside,
    replace_word,
    set_word_bits,
    unlock_zone,
)
from allocator.team import side_by_side
from allocator.views import for_each_zone
from tests.allocator.machines import boot

needs_numba = pytest.mark.skipif(not compiled_available(), reason="numba is not installed")


def test_word_grows_by_what_is_added_and_tells_what_it_was() -> None:
    m = memoryview(bytearray(16)).cast("q")
    assert [add_to_word(m, 1, 5), add_to_word(m, 1, -7), m[1], m[0]] == [0, 5, -2, 0]


def test_only_the_masked_bits_of_a_word_change() -> None:
    m = memoryview(bytearray(8)).cast("q")
    m[0] = -1
    set_word_bits(m, 0, 0xFF00, 0x1200)
    assert m[0] == -1 & ~0xFF00 | 0x1200
    set_word_bits(m, 0, -1 << 61, 0)
    assert m[0] == (1 << 61) - 1 & ~0xFF00 | 0x1200


def test_a_word_is_replaced_if_it_is_what_was_expected() -> None:
    m = memoryview(bytearray(16)).cast("q")
    m[1] = 7
    assert [replace_word(m, 1, 8, 9), m[1]] == [0, 7]
    assert [replace_word(m, 1, 7, 9), m[1]] == [1, 9]
    assert others_inside(m) == 0


def test_zone_locks_leave_no_trace_while_cpus_take_turns() -> None:
    m = boot("1x64M").m
    z = next(iter(for_each_zone(m))).word
    before = m.tobytes()
    lock_zone(m, z)
    unlock_zone(m, z)
    assert m.tobytes() == before


@needs_numba
def test_a_lock_that_is_never_given_back_holds_a_thread_until_it_is_ended() -> None:
    kernel, hot = boot("1x64M,cpus=2"), load_engine("compiled")
    kernel.m[G_TRACE_MASK] = 0
    for zone in kernel.zones:
        kernel.m[zone.word + Z_LOCK] = 1
    gfp = parse_gfp("GFP_KERNEL")

    def blocked() -> int:
        pfn: int = hot.alloc_pages_nodemask(kernel.m, 0, gfp, 3, 0, 0)
        return pfn

    def impatient() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        side_by_side(kernel.m, hot, [blocked, impatient])
    for zone in kernel.zones:
        kernel.m[zone.word + Z_LOCK] = 0
    assert side_by_side(kernel.m, hot, [blocked])[0] >= 0


def test_all_of_them_are_hot() -> None:
    names = {"lock_zone", "unlock_zone", "go_alone", "let_others_go", "add_to_word"}
    names |= {"set_word_bits", "prefetch", "others_inside", "replace_word"}
    assert names <= set(hot_functions())
