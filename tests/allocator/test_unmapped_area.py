# SPDX-License-Identifier: GPL-2.0-only
"""Finding room: the highest hole that fits, against a search through all areas."""

from __future__ import annotations

import random

import pytest

from allocator.process import Process
from allocator.unmapped_area import (
    TASK_UNMAPPED_BASE,
    get_unmapped_area,
    unmapped_area,
    unmapped_area_topdown,
)

from .processes import PAGE, process

LOW, HIGH = 1 << 39, 0x7FFFF7FFF000
ENOMEM = 12


def highest_hole(proc: Process, length: int, low: int, high: int) -> int:
    """What the search should find, looked up area by area."""
    ends = [low] + [area.end for area in proc.areas]
    starts = [area.start for area in proc.areas] + [high]
    for end, start in sorted(zip(ends, starts, strict=True), reverse=True):
        top = min(start, high)
        if top - max(end, low) >= length:
            return top - length
    return -ENOMEM


@pytest.mark.parametrize("seed", range(5))
def test_the_search_from_the_top_finds_the_highest_hole_that_fits(seed: int) -> None:
    rng = random.Random(seed)
    proc = process()
    base = HIGH - 400 * PAGE
    for _ in range(60):
        page = rng.randrange(398)
        size = min(rng.randrange(1, 8), 400 - page)
        if rng.random() < 0.7:
            proc.mmap(size * PAGE, "r", address=base + page * PAGE, fixed=True)
        else:
            proc.munmap(base + page * PAGE, size * PAGE)
        length = rng.randrange(1, 20) * PAGE
        for low, high in ((LOW, HIGH), (base, HIGH), (base + 50 * PAGE, base + 300 * PAGE)):
            found = unmapped_area_topdown(proc.m, proc.mm, length, low, high)
            assert found == highest_hole(proc, length, low, high)


def test_the_search_from_below_finds_the_lowest_hole_that_fits() -> None:
    proc = process()
    base = TASK_UNMAPPED_BASE
    proc.mmap(PAGE, "r", address=base, fixed=True)
    proc.mmap(PAGE, "r", address=base + 3 * PAGE, fixed=True)
    assert unmapped_area(proc.m, proc.mm, 2 * PAGE, base, HIGH) == base + PAGE
    assert unmapped_area(proc.m, proc.mm, 3 * PAGE, base, HIGH) == base + 4 * PAGE
    assert unmapped_area(proc.m, proc.mm, 3 * PAGE, base, base + 6 * PAGE) == -ENOMEM


@pytest.mark.parametrize(
    ("addr", "length", "flags", "found"),
    [
        (0, PAGE, 0, HIGH - PAGE),
        (1 << 40, PAGE, 0, 1 << 40),
        ((1 << 40) + 77, PAGE, 0, 1 << 40),
        (1 << 46, 1 << 47, 0, -ENOMEM),
        ((1 << 47) - PAGE, PAGE, 0x10, -ENOMEM),
        (PAGE, PAGE, 0x10, -1),
        ((1 << 40) + 1, PAGE, 0x10, -22),
    ],
)
def test_wishes_and_fixed_places(addr: int, length: int, flags: int, found: int) -> None:
    proc = process()
    assert get_unmapped_area(proc.m, proc.mm, addr, length, flags) == found
