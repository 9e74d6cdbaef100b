# SPDX-License-Identifier: GPL-2.0-only
"""allocator/explain/scratch.py: what is thrown away leaves no trace."""

from __future__ import annotations

import pytest

from allocator.explain.scratch import thrown_away
from allocator.kernel import Kernel
from tests.allocator.machines import boot


def test_ram_is_as_before_to_the_last_byte() -> None:
    kernel = boot("2x64M")
    before = bytes(kernel.memory.bytes)
    with thrown_away(kernel) as other:
        for order in range(6):
            assert other.alloc_pages("GFP_KERNEL|__GFP_ZERO", order, nid=1) is not None
        other.drain_all_pages()
        assert bytes(kernel.memory.bytes) != before
    assert bytes(kernel.memory.bytes) == before


def test_an_exception_inside_is_undone_too_and_logs_stay_apart() -> None:
    kernel = boot("1x64M")
    before, log = bytes(kernel.memory.bytes), list(kernel.log)

    def fail(other: Kernel) -> None:
        other.exhaust(0)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError), thrown_away(kernel) as other:
        fail(other)
    assert bytes(kernel.memory.bytes) == before
    assert kernel.log == log


def test_a_bare_memory_image_needs_no_machine() -> None:
    kernel = Kernel.attach(boot("1x64M").memory)
    free = kernel.nr_free_pages
    with thrown_away(kernel) as other:
        other.alloc_pages("GFP_KERNEL", 4)
        assert kernel.nr_free_pages == free - 16
    assert kernel.nr_free_pages == free
