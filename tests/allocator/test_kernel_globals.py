# SPDX-License-Identifier: GPL-2.0-only
"""allocator/kernel_globals.py: the kernel's variables at their constant addresses."""

from __future__ import annotations

from itertools import pairwise

from allocator import kernel_globals
from allocator.kernel_globals import GLOBALS, KDATA, KERNEL_BASE
from tests.allocator.machines import boot

INDICES = {name: value for name, value in vars(kernel_globals).items() if name.startswith("G_")}
KEYS = [value for name, value in vars(kernel_globals).items() if name.startswith("KEY_")]


def test_every_index_is_that_of_a_variable_and_no_two_are_the_same() -> None:
    starts = {KDATA + field.offset for field in GLOBALS}
    assert set(INDICES.values()) <= starts
    assert len(set(INDICES.values())) == len(INDICES)


def test_variables_do_not_overlap_and_fit_their_page() -> None:
    ends = [(field.offset, field.offset + field.words) for field in GLOBALS]
    assert all(end <= start for (_, end), (start, _) in pairwise(sorted(ends)))
    assert max(end for _, end in ends) <= GLOBALS.words == 512


def test_the_variables_lie_where_linux_is_loaded() -> None:
    assert KERNEL_BASE == KDATA << 3 == 16 << 20


def test_static_keys_are_single_bits() -> None:
    assert all(key & (key - 1) == 0 for key in KEYS)
    assert len(set(KEYS)) == len(KEYS)


def test_a_booted_kernel_says_so_in_its_first_words() -> None:
    m = boot("1x48M").m
    assert m[kernel_globals.G_MAGIC] == kernel_globals.KERNEL_MAGIC
    assert m[kernel_globals.G_LAYOUT_VERSION] == kernel_globals.LAYOUT_VERSION
