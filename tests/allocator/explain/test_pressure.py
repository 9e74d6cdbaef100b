# SPDX-License-Identifier: GPL-2.0-only
"""allocator/explain/pressure.py: reclaim, compaction and the OOM killer are told as decisions."""

from __future__ import annotations

import re

import pytest

from allocator.explain import explain_alloc
from allocator.explain.pressure import PRESSURE, PressureStepper
from allocator.explain.records import Record
from allocator.kernel import Kernel
from allocator.trace_events import EV_MARK_VICTIM, EV_RECLAIM_RETRY_ZONE, EVENTS
from tests.allocator.processes import PAGE, boot


def story(event: int, **fields: int) -> str:
    record = Record(event, EVENTS[event][0], 0, 0, fields)
    return PressureStepper().feed([record])[0].text


def fragmented(numa: str = "1x32M") -> Kernel:
    """Half of the memory free, in single pages."""
    kernel = boot(numa)
    kernel.swapon(pages=8192)
    process = kernel.create_process("hog")
    pages = kernel.nr_free_pages - 700
    base = process.mmap(pages * PAGE, "rw")
    process.touch(base, pages * PAGE)
    for index in range(0, pages, 2):
        process.madvise(base + index * PAGE, PAGE, "dontneed")
    kernel.drain_all_pages()
    return kernel


def test_a_compaction_is_one_step_with_its_counts_and_its_result() -> None:
    kernel = fragmented()
    told = explain_alloc(kernel, "GFP_USER", 9, 0)
    assert told.data["lost_records"] == 0
    assert "direct compaction for order 9" in told.text
    moved = [int(n) for n in re.findall(r"compacted \(\S+\): (\d+) pages moved", told.text)]
    assert sum(moved) > 256
    assert "direct compaction says success" in told.text
    assert told.data["result"]["pfn"] is not None


def test_telling_does_not_change_what_is_decided() -> None:
    kernel, other = fragmented(), fragmented()
    page = other.alloc_pages("GFP_USER", 9, 0)
    assert page is not None
    assert explain_alloc(kernel, "GFP_USER", 9, 0).data["result"]["pfn"] == page.pfn


def test_direct_reclaim_tells_what_it_scanned_and_freed() -> None:
    kernel = boot("1x32M")
    kernel.swapon(pages=8192)
    process = kernel.create_process("hog")
    pages = kernel.nr_free_pages
    process.touch(process.mmap(pages * PAGE, "rw"), pages * PAGE)
    while kernel.alloc_pages("__GFP_HIGH", 0):
        pass
    text = explain_alloc(kernel, "GFP_USER", 0, 0).text
    match = re.search(r"direct reclaim: (\d+) pages reclaimed \((\d+) scanned", text)
    assert match
    assert 0 < int(match[1]) <= int(match[2])
    assert "slow path, after that" in text


@pytest.mark.parametrize(("check", "said"), [(1, "would do: try again"), (0, "would not do")])
def test_should_reclaim_retry_tells_the_numbers_that_it_compared(check: int, said: str) -> None:
    text = story(
        EV_RECLAIM_RETRY_ZONE,
        nid=0,
        zid=1,
        available=2588,
        min_wmark=65,
        no_progress_loops=3,
        wmark_check=check,
    )
    assert text == (
        f"zone 0:DMA32: with all that can be reclaimed 2,588 pages against min 65 {said} "
        "(3 rounds without progress)"
    )


def test_the_victim_of_the_oom_killer_is_named() -> None:
    assert EV_MARK_VICTIM in PRESSURE
    assert story(EV_MARK_VICTIM, pid=7).endswith("the OOM killer takes process 7")
