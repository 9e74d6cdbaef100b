# SPDX-License-Identifier: GPL-2.0-only
"""allocator/explain/records.py: one call with every event on."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.explain.records import record_alloc, record_free
from allocator.gfp import GFP_KERNEL
from allocator.kernel_globals import G_TRACE_HEAD, G_TRACE_MASK
from allocator.trace_events import EV_REQUEST, EV_RESULT
from tests.allocator.machines import boot


def test_a_request_is_recorded_from_first_to_last_event_and_tracing_is_put_back() -> None:
    kernel = boot("2x64M")
    kernel.m[G_TRACE_MASK] = 0x5
    kernel.alloc_pages("GFP_KERNEL")
    recording = record_alloc(kernel, GFP_KERNEL, 2, 1, None, 0)
    assert kernel.m[G_TRACE_MASK] == 0x5
    assert recording.records[0].event == EV_REQUEST
    assert recording.records[0]["order"] == 2
    assert recording.records[-1].event == EV_RESULT
    assert recording.records[-1]["pfn"] == recording.pfn
    assert recording.lost == 0


def test_a_failed_request_brings_the_kernels_words() -> None:
    kernel = boot("1x64M")
    kernel.exhaust(0)
    recording = record_alloc(kernel, GFP_KERNEL, 5, 0, None, 0)
    assert recording.pfn == -1
    assert any("page allocation failure: order:5" in line for line in recording.log)


def test_a_refused_free_is_told_not_raised() -> None:
    kernel = boot("1x64M")
    page = kernel.alloc_pages("GFP_KERNEL", 2)
    assert page is not None
    assert record_free(kernel, page.pfn, 2, 0).freed
    again = record_free(kernel, page.pfn, 2, 0)
    assert not again.freed
    assert "cannot be freed" in again.refused
    assert any("Bad page state" in line for line in again.log)


def test_tracing_is_put_back_when_the_request_makes_no_sense() -> None:
    kernel = boot("1x64M")
    head = kernel.m[G_TRACE_HEAD]
    with pytest.raises(BadRequest):
        record_alloc(kernel, GFP_KERNEL, 0, 7, None, 0)
    assert kernel.m[G_TRACE_MASK] == 0
    assert kernel.m[G_TRACE_HEAD] == head


def test_records_that_the_ring_could_not_hold_are_counted() -> None:
    kernel = boot("1x64M")
    from allocator.kernel_globals import G_TRACE_SIZE

    kernel.m[G_TRACE_SIZE] = 4
    recording = record_alloc(kernel, GFP_KERNEL, 0, 0, None, 0)
    assert recording.lost > 0
    assert len(recording.records) == 4
