# SPDX-License-Identifier: GPL-2.0-only
"""Clearing and poisoning page contents (mm/page_poison.c, clear_highpage).

`clear_pages` serves __GFP_ZERO. With page_poison=on every page that is freed is filled with 0xAA
bytes and every page that is handed out must still be: whoever wrote to a free page is found out, a
single flipped bit is called so. The report goes to the log ring: one LOG_PAGE_POISON record
(address, bytes, whether a single bit), then as many LOG_HEX_DATA records as the damage is long, at
most ten reports in five seconds.

All hot, except `corrupted_bytes`, which reads such a report back.
"""

from __future__ import annotations

from .kernel_globals import G_CLOCK, G_LOG_HEAD, G_POISON_RS
from .layout import (
    EMPTY_ZERO_PAGE,
    LOG_RECORDS,
    LOG_RING,
    PAGE_OFFSET,
    PAGE_POISON,
    POISON_PAGE,
    RECORD_WORDS,
)
from .trace import log_record, log_words
from .trace_events import LOG_HEX_DATA, LOG_PAGE_POISON

PAGE_POISON_WORD = int.from_bytes(bytes([PAGE_POISON] * 8), "little", signed=True)
RATELIMIT_INTERVAL = 5 * 1_000_000_000
RATELIMIT_BURST = 10
HEX_WORDS = 12


def clear_pages(m: memoryview, pfn: int, order: int) -> None:
    """Zeroes the 2^order pages from `pfn`. Hot."""
    for w in range(pfn << 9, (pfn + (1 << order)) << 9, 512):
        m[w : w + 512] = m[EMPTY_ZERO_PAGE : EMPTY_ZERO_PAGE + 512]


def poison_pages(m: memoryview, pfn: int, order: int) -> None:
    """Fills the 2^order pages from `pfn` with PAGE_POISON bytes. Hot."""
    for w in range(pfn << 9, (pfn + (1 << order)) << 9, 512):
        m[w : w + 512] = m[POISON_PAGE : POISON_PAGE + 512]


def ratelimit(m: memoryview, rs: int, interval: int, burst: int) -> bool:
    """___ratelimit(): True while fewer than `burst` calls passed in `interval` ns. Hot.

    `rs` is the word index of three words: begin (ns), printed, missed. An interval of 0 never
    limits.
    """
    if interval == 0:
        return True
    now = m[G_CLOCK]
    if m[rs] == 0:
        m[rs] = now
    if now > m[rs] + interval:
        m[rs] = now
        m[rs + 1] = 0
        m[rs + 2] = 0
    if m[rs + 1] < burst:
        m[rs + 1] += 1
        return True
    m[rs + 2] += 1
    return False


def byte_at(m: memoryview, addr: int) -> int:
    """The byte at physical address `addr`. Hot."""
    return (m[addr >> 3] >> ((addr & 7) << 3)) & 0xFF


def report_corruption(m: memoryview, cpu: int, first: int, last: int) -> None:
    """Logs damage in words `first` to `last` of a page, to the byte (check_poison_mem). Hot."""
    start = first << 3
    while byte_at(m, start) == PAGE_POISON:
        start += 1
    end = (last << 3) + 7
    while end > start and byte_at(m, end) == PAGE_POISON:
        end -= 1
    if not ratelimit(m, G_POISON_RS, RATELIMIT_INTERVAL, RATELIMIT_BURST):
        return
    error = byte_at(m, start) ^ PAGE_POISON
    single = 1 if start == end and error & (error - 1) == 0 else 0
    log_record(m, LOG_PAGE_POISON, cpu, PAGE_OFFSET + start, end - start + 1, single, 0, 0, 0)
    w = first
    while w <= last:
        n = min(last + 1 - w, HEX_WORDS)
        log_words(m, LOG_HEX_DATA, cpu, PAGE_OFFSET + (w << 3), w, n)
        w += n


def unpoison_pages(m: memoryview, cpu: int, pfn: int, order: int) -> None:
    """Checks that the 2^order pages from `pfn` are still poison; logs where not. Hot."""
    for base in range(pfn << 9, (pfn + (1 << order)) << 9, 512):
        first = -1
        last = -1
        for w in range(base, base + 512):
            if m[w] != PAGE_POISON_WORD:
                if first < 0:
                    first = w
                last = w
        if first >= 0:
            report_corruption(m, cpu, first, last)


def corrupted_bytes(m: memoryview, seq: int) -> bytes:
    """The damaged bytes that the LOG_PAGE_POISON record number `seq` was followed by.

    Empty if the ring has moved on meanwhile.
    """
    record = LOG_RING + (seq & (LOG_RECORDS - 1)) * RECORD_WORDS
    start, length = m[record + 3], m[record + 4]
    data = b""
    first = 0
    for s in range(seq + 1, min(m[G_LOG_HEAD], seq + LOG_RECORDS)):
        r = LOG_RING + (s & (LOG_RECORDS - 1)) * RECORD_WORDS
        if m[r + 1] != LOG_HEX_DATA:
            break
        # direct map addresses are negative as signed words
        first = first or m[r + 3]
        data += b"".join(m[r + 4 + i].to_bytes(8, "little", signed=True) for i in range(HEX_WORDS))
    if m[G_LOG_HEAD] - seq > LOG_RECORDS or not first:
        return b""
    return data[start - first : start - first + length]
