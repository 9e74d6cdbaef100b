# SPDX-License-Identifier: GPL-2.0-only
"""The Kernel's processes and what all of them share."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.huge_memory import THP_ALWAYS, THP_DEFRAG_DIRECT, THP_MADVISE, THP_USE_ZERO_PAGE
from allocator.kernel_globals import G_THP_FLAGS, G_TOTAL_SWAP_PAGES

from .processes import PAGE, boot, sound


def test_processes_are_found_by_id_and_listed() -> None:
    kernel = boot()
    assert kernel.processes == []
    one, two = kernel.create_process("one"), kernel.create_process("two")
    assert [p.name for p in kernel.processes] == ["one", "two"]
    assert kernel.process(two.pid).name == "two"
    assert one.pid < two.pid
    for pid in (0, 999):
        with pytest.raises(BadRequest):
            kernel.process(pid)
    with pytest.raises(BadRequest):
        kernel.create_process(cpu=5)


def test_long_names_are_cut_as_the_kernel_does() -> None:
    assert boot().create_process("a" * 40).name == "a" * 15


@pytest.mark.parametrize(
    ("enabled", "defrag", "bits", "without"),
    [
        ("always", "always", THP_ALWAYS | THP_DEFRAG_DIRECT, THP_MADVISE),
        ("madvise", "never", THP_MADVISE, THP_ALWAYS | THP_DEFRAG_DIRECT),
        ("never", "madvise", 0, THP_ALWAYS | THP_MADVISE),
    ],
)
def test_huge_pages_are_switched_as_in_sys(
    enabled: str, defrag: str, bits: int, without: int
) -> None:
    kernel = boot()
    kernel.transparent_hugepage(enabled, defrag, use_zero_page=False)
    flags = kernel.m[G_THP_FLAGS]
    assert flags & bits == bits
    assert flags & (without | THP_USE_ZERO_PAGE) == 0
    with pytest.raises(BadRequest):
        kernel.transparent_hugepage("sometimes")
    with pytest.raises(BadRequest):
        kernel.transparent_hugepage("always", "sometimes")


def test_swap_space_is_a_disk_less_its_header() -> None:
    kernel = boot()
    assert kernel.swapon(512) == 0
    assert kernel.swapon(256, priority=5, name="fast") == 1
    assert kernel.m[G_TOTAL_SWAP_PAGES] == 511 + 255
    with pytest.raises(BadRequest):
        kernel.swapon(1)
    kernel.swapoff(0)
    assert kernel.m[G_TOTAL_SWAP_PAGES] == 255
    with pytest.raises(BadRequest):
        kernel.swapoff(0)
    sound(kernel)


def test_draining_without_processes_does_nothing() -> None:
    kernel = boot()
    kernel.lru_add_drain_all()
    proc = kernel.create_process()
    proc.touch(proc.mmap(PAGE))
    kernel.lru_add_drain_all()
    page = proc.page(proc.areas[0].start)
    assert page is not None
    assert page.refcount == 1
    sound(kernel)
