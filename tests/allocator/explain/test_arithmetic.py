# SPDX-License-Identifier: GPL-2.0-only
"""allocator/explain/arithmetic.py: watermark tests with their numbers spelled out."""

from __future__ import annotations

import pytest

from allocator.explain.arithmetic import alloc_flag_names, explain_watermark
from allocator.explain.records import Record
from allocator.kernel import Kernel
from allocator.mmzone import Z_FREE_CMA, Z_FREE_PAGES, Z_NR_HIGHATOMIC
from allocator.trace_events import EV_WATERMARK, EVENTS
from allocator.watermark import (
    ALLOC_CMA,
    ALLOC_HARDER,
    ALLOC_HIGH,
    ALLOC_NO_WATERMARKS,
    ALLOC_OOM,
    zone_watermark_ok_free,
)
from tests.allocator.machines import boot

FIELDS = EVENTS[EV_WATERMARK][1]


def record(**changes: int) -> Record:
    fields = dict.fromkeys(FIELDS, 0)
    fields |= {"nid": 1, "zid": 1, "order": 3, "mark": 276, "free_pages": 280, "alloc_flags": 1}
    return Record(EV_WATERMARK, "watermark", 0, 0, fields | changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "low 276 + reserve 0: free 280 - 7 = 273 <= 276"),
        ({"free_pages": 1912, "ok": 1}, "low 276 + reserve 0: free 1,912 - 7 = 1,905 > 276"),
        ({"order": 0, "free_pages": 277, "ok": 1}, "low 276 + reserve 0: free 277 > 276"),
        ({"order": 0, "free_pages": 276}, "low 276 + reserve 0: free 276 <= 276"),
        (
            {"order": 0, "free_pages": 276, "nr_highatomic": 512},
            "low 276 + reserve 0: free 276 - 512 (highatomic) = -236 <= 276",
        ),
        ({"lowmem_reserve": 95}, "low 276 + reserve 95: free 280 - 7 = 273 <= 371"),
        (
            {"alloc_flags": ALLOC_HIGH | ALLOC_HARDER, "mark": 100, "nr_highatomic": 512, "ok": 1},
            "min 100 - 50 (HIGH) - 12 (HARDER) + reserve 0: free 280 - 7 = 273 > 38",
        ),
        (
            {"alloc_flags": ALLOC_OOM, "mark": 101, "ok": 1},
            "min 101 - 50 (OOM) + reserve 0: free 280 - 7 = 273 > 51",
        ),
        (
            {"free_cma": 20, "free_pages": 300},
            "low 276 + reserve 0: free 300 - 7 - 20 (CMA) = 273 <= 276",
        ),
        (
            {"free_cma": 20, "free_pages": 300, "alloc_flags": 1 | ALLOC_CMA, "ok": 1},
            "low 276 + reserve 0: free 300 - 7 = 293 > 276",
        ),
        (
            {"order": 0, "free_cma": 20, "free_pages": 300, "ok": 1},
            "low 276 + reserve 0: free 300 - 20 (CMA) = 280 > 276",
        ),
    ],
)
def test_the_sum_names_every_part(changes: dict[str, int], text: str) -> None:
    assert explain_watermark(record(**changes)).text == text


def test_where_the_sum_does_not_decide_the_reason_is_named() -> None:
    fragmented = explain_watermark(record(free_pages=1000, ok=0))
    assert fragmented.reason == "no free block of order 3 or more that it may use"
    reserves = explain_watermark(record(alloc_flags=ALLOC_NO_WATERMARKS, ok=1))
    assert reserves.reason.startswith("ALLOC_NO_WATERMARKS")
    assert explain_watermark(record(free_pages=200, ok=1)).reason == "node reclaim made room"
    assert explain_watermark(record()).reason == ""


def test_the_sum_agrees_with_the_allocators_own_test() -> None:
    kernel: Kernel = boot("2x64M")
    zone = kernel.zone(1, "DMA32")
    m, z = kernel.m, zone.word
    m[z + Z_NR_HIGHATOMIC], m[z + Z_FREE_CMA] = 30, 11
    for flags in range(0, 0x100, 8):
        for order in (0, 1, 4):
            for free in (40, 90, 130, 400):
                m[z + Z_FREE_PAGES] = free
                ok = zone_watermark_ok_free(m, z, order, 100, 1, flags, free)
                told = explain_watermark(
                    record(
                        order=order,
                        mark=100,
                        free_pages=free,
                        free_cma=11,
                        nr_highatomic=30,
                        alloc_flags=flags,
                        ok=int(ok),
                    )
                )
                fast = order == 0 and free - (0 if flags & ALLOC_CMA else 11) > 100
                assert (told.left > told.limit) == (ok or fast)


def test_flags_are_named_with_their_watermark() -> None:
    assert alloc_flag_names(1) == "ALLOC_WMARK_LOW"
    assert alloc_flag_names(0x40 | 0x30) == "ALLOC_WMARK_MIN|ALLOC_HARDER|ALLOC_HIGH|ALLOC_CPUSET"
    assert alloc_flag_names(4) == "ALLOC_NO_WATERMARKS"
