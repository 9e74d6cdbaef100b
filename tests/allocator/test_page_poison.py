# SPDX-License-Identifier: GPL-2.0-only
"""Clearing and poisoning real bytes, and what is reported when poison was disturbed."""

from __future__ import annotations

from allocator.kernel_globals import G_CLOCK, G_LOG_HEAD
from allocator.page_poison import (
    clear_pages,
    corrupted_bytes,
    poison_pages,
    ratelimit,
    unpoison_pages,
)
from allocator.page_report import log_lines, log_records
from allocator.trace_events import LOG_PAGE_POISON
from tests.allocator.tiny import SCRATCH_WORD, Tiny


def test_clearing_touches_exactly_the_block(tiny_zone: Tiny) -> None:
    memory, pfn = tiny_zone.memory, tiny_zone.start
    memory.write((pfn - 1) << 12, b"\x55" * 4096 * 4)
    clear_pages(tiny_zone.m, pfn, 1)
    assert memory.read((pfn - 1) << 12, 4096) == b"\x55" * 4096
    assert memory.read(pfn << 12, 8192) == bytes(8192)
    assert memory.read((pfn + 2) << 12, 4096) == b"\x55" * 4096


def test_poison_is_0xaa_and_intact_poison_reports_nothing(tiny_zone: Tiny) -> None:
    pfn = tiny_zone.start
    poison_pages(tiny_zone.m, pfn, 2)
    assert tiny_zone.memory.read(pfn << 12, 4 * 4096) == b"\xaa" * 4 * 4096
    unpoison_pages(tiny_zone.m, 0, pfn, 2)
    assert tiny_zone.m[G_LOG_HEAD] == 0


def test_one_flipped_bit_is_called_a_single_bit_error(tiny_zone: Tiny) -> None:
    m, pfn = tiny_zone.m, tiny_zone.start
    poison_pages(m, pfn, 0)
    tiny_zone.memory.write((pfn << 12) + 0x123, b"\xab")
    unpoison_pages(m, 0, pfn, 0)
    lines = [line.split("] ", 1)[1] for line in log_lines(m)]
    assert lines[0] == "pagealloc: single bit error"
    assert lines[1] == f"{0xFFFF888000000000 + (pfn << 12) + 0x123:016x}: ab" + " " * 47 + "."
    assert len(lines) == 2


def test_two_flipped_bits_are_corruption(tiny_zone: Tiny) -> None:
    m, pfn = tiny_zone.m, tiny_zone.start
    poison_pages(m, pfn, 0)
    tiny_zone.memory.write((pfn << 12) + 7, b"\xa9")
    unpoison_pages(m, 0, pfn, 0)
    assert next(log_lines(m)).endswith("pagealloc: memory corruption")


def test_the_report_spans_from_first_to_last_wrong_byte(tiny_zone: Tiny) -> None:
    m, pfn = tiny_zone.m, tiny_zone.start
    poison_pages(m, pfn, 0)
    tiny_zone.memory.write((pfn << 12) + 13, b"Hello, free page")
    tiny_zone.memory.write((pfn << 12) + 4090, b"!")
    unpoison_pages(m, 0, pfn, 0)
    (record,) = (r for r in log_records(m) if r.kind == LOG_PAGE_POISON)
    assert record.args[1] == 4090 - 13 + 1
    clear_pages(m, pfn, 0)
    damage = corrupted_bytes(m, record.seq)
    assert damage.startswith(b"Hello, free page\xaa")
    assert damage.endswith(b"\xaa!")
    assert len(damage) == record.args[1]


def test_ten_reports_in_five_seconds_then_silence(tiny_zone: Tiny) -> None:
    m, pfn = tiny_zone.m, tiny_zone.start
    for _ in range(12):
        poison_pages(m, pfn, 0)
        tiny_zone.memory.write(pfn << 12, b"x")
        unpoison_pages(m, 0, pfn, 0)
    assert sum(r.kind == LOG_PAGE_POISON for r in log_records(m)) == 10


def test_the_ratelimit_opens_again_after_its_interval(tiny_zone: Tiny) -> None:
    m = tiny_zone.m
    m[G_CLOCK] = 1
    passed = [ratelimit(m, SCRATCH_WORD, 1000, 2) for _ in range(3)]
    m[G_CLOCK] = 1001
    at_the_edge = ratelimit(m, SCRATCH_WORD, 1000, 2)
    m[G_CLOCK] = 1002
    assert (passed, at_the_edge) == ([True, True, False], False)
    assert ratelimit(m, SCRATCH_WORD, 1000, 2)
    assert ratelimit(m, SCRATCH_WORD, 0, 0)
