# SPDX-License-Identifier: GPL-2.0-only
"""Fault injection for page allocation: `fail_page_alloc=` (lib/fault-inject.c, mm/page_alloc.c).

The boot parameter or the knobs in globals make a share of the requests fail on purpose:
`probability` percent, on every `interval`-th candidate, at most `times` times (-1: for ever), after
`space` pages have been let through; order 0, requests that may reclaim and highmem requests are
spared unless told otherwise. The kernel's prandom_u32 is replaced by a generator whose whole state
is one word in RAM, so that the same run fails the same requests.

All hot, but for `setup_fail_page_alloc`. The `m[G_STATIC_KEYS] & KEY_FAIL_PAGE_ALLOC` test is the
caller's.
"""

from __future__ import annotations

from .gfp import GFP_DIRECT_RECLAIM_BIT, GFP_HIGHMEM_BIT, GFP_NOFAIL_BIT
from .kernel_globals import (
    G_FAIL_COUNT,
    G_FAIL_IGNORE_HIGHMEM,
    G_FAIL_IGNORE_RECLAIM,
    G_FAIL_INTERVAL,
    G_FAIL_MIN_ORDER,
    G_FAIL_PROBABILITY,
    G_FAIL_SPACE,
    G_FAIL_TIMES,
    G_FAIL_VERBOSE,
    G_PRANDOM,
    G_STATIC_KEYS,
    KEY_FAIL_PAGE_ALLOC,
)
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_PREEMPT_COUNT,
    CPU_WORDS,
    IN_INTERRUPT_MASK,
    PAGE_OFFSET,
    TASK_FAIL_NTH,
)
from .trace import log_record
from .trace_events import LOG_FAULT_INJECTED

PRANDOM_SEED = 0x2545F491


def prandom_u32(m: memoryview) -> int:
    """The next 32 bits of the machine's own random sequence (xorshift32). Hot."""
    x = m[G_PRANDOM]
    if x == 0:
        x = PRANDOM_SEED
    x ^= x << 13 & 0xFFFFFFFF
    x ^= x >> 17
    x ^= x << 5 & 0xFFFFFFFF
    m[G_PRANDOM] = x
    return x


def fail_dump(m: memoryview, cpu: int) -> None:
    """Logs the injected failure with the attributes as they are now. Hot."""
    if m[G_FAIL_VERBOSE] > 0:
        log_record(
            m,
            LOG_FAULT_INJECTED,
            cpu,
            m[G_FAIL_INTERVAL],
            m[G_FAIL_PROBABILITY],
            m[G_FAIL_SPACE],
            m[G_FAIL_TIMES],
            0,
            0,
        )


def should_fail(m: memoryview, cpu: int, size: int) -> bool:
    """True if an allocation of `size` pages shall fail now (lib/fault-inject.c). Hot."""
    block = CPU_BLOCKS + cpu * CPU_WORDS
    fail = False
    if m[block + CPU_PREEMPT_COUNT] & IN_INTERRUPT_MASK == 0:
        task = (m[block + CPU_CURRENT] - PAGE_OFFSET) >> 3
        nth = m[task + TASK_FAIL_NTH]
        if nth:
            m[task + TASK_FAIL_NTH] = nth - 1
            if nth > 1:
                return False
            fail = True
    if not fail:
        if m[G_FAIL_PROBABILITY] == 0 or m[G_FAIL_TIMES] == 0:
            return False
        if m[G_FAIL_SPACE] > size:
            m[G_FAIL_SPACE] -= size
            return False
        if m[G_FAIL_INTERVAL] > 1:
            m[G_FAIL_COUNT] += 1
            if m[G_FAIL_COUNT] % m[G_FAIL_INTERVAL]:
                return False
        if m[G_FAIL_PROBABILITY] <= prandom_u32(m) % 100:
            return False
    fail_dump(m, cpu)
    times = m[G_FAIL_TIMES]
    if times not in (-1, 0):
        m[G_FAIL_TIMES] = times - 1
    return True


def should_fail_alloc_page(m: memoryview, cpu: int, gfp: int, order: int) -> bool:
    """True if this request for 2^order pages shall fail on purpose (mm/page_alloc.c). Hot."""
    if order < m[G_FAIL_MIN_ORDER]:
        return False
    if gfp & GFP_NOFAIL_BIT:
        return False
    if m[G_FAIL_IGNORE_HIGHMEM] and gfp & GFP_HIGHMEM_BIT:
        return False
    if m[G_FAIL_IGNORE_RECLAIM] and gfp & GFP_DIRECT_RECLAIM_BIT:
        return False
    return should_fail(m, cpu, 1 << order)


def reset_fail_page_alloc(m: memoryview) -> None:
    """The attributes as a kernel has them before its command line is read; the key is left off."""
    m[G_FAIL_PROBABILITY] = 0
    m[G_FAIL_INTERVAL] = 1
    m[G_FAIL_TIMES] = 1
    m[G_FAIL_SPACE] = 0
    m[G_FAIL_VERBOSE] = 2
    m[G_FAIL_COUNT] = 0
    m[G_FAIL_MIN_ORDER] = 1
    m[G_FAIL_IGNORE_HIGHMEM] = 1
    m[G_FAIL_IGNORE_RECLAIM] = 1
    m[G_PRANDOM] = PRANDOM_SEED


def setup_fail_page_alloc(m: memoryview, text: str) -> bool:
    """Takes `<interval>,<probability>,<space>,<times>` and turns the key on.

    False, with nothing changed, for text that setup_fault_attr() could not parse; the caller prints
    the kernel's "FAULT_INJECTION: failed to parse arguments".
    """
    parts = text.split(",", 3)
    if len(parts) < 4:
        return False
    values = []
    for part in parts:
        number = part.strip()
        digits = number.lstrip("+-")
        end = 0
        while end < len(digits) and digits[end].isascii() and digits[end].isdigit():
            end += 1
        trailing = digits[end:] and part is not parts[3]
        if end == 0 or trailing:
            return False
        value = int(digits[:end])
        values.append(-value if number.startswith("-") else value)
    interval, probability, space, times = values
    bounded = all(-(1 << 63) <= v < 1 << 63 for v in (interval, probability))
    if not bounded or not all(-(1 << 31) <= v < 1 << 31 for v in (space, times)):
        return False
    m[G_FAIL_PROBABILITY] = probability
    m[G_FAIL_INTERVAL] = interval
    m[G_FAIL_TIMES] = times
    m[G_FAIL_SPACE] = space
    m[G_STATIC_KEYS] |= KEY_FAIL_PAGE_ALLOC
    return True
