# SPDX-License-Identifier: GPL-2.0-only
"""Areas in list and tree, cut and merged, against a plain picture of the address space."""

from __future__ import annotations

import random

import pytest

from allocator.layout import PAGE_OFFSET
from allocator.mm_struct import (
    MM_HIGHEST_VM_END,
    MM_MAP_COUNT,
    MM_MMAP,
    MM_RB,
    VM_GROWSDOWN,
    VMA_END,
    VMA_GAP,
    VMA_NEXT,
    VMA_PREV,
    VMA_RB,
    VMA_START,
)
from allocator.process import Process
from allocator.rbtree import RB_LEFT, RB_RIGHT, rb_first, rb_next
from allocator.vma import find_vma, is_mergeable_anon_vma, vm_start_gap, vma_word

from .processes import PAGE, process, sound

BASE = 0x7E0000000000
LETTERS = ["rw", "r", "-", "rx"]


def areas_by_list(proc: Process) -> list[int]:
    m, found, vma = proc.m, [], vma_word(proc.m[proc.mm + MM_MMAP])
    while vma:
        found.append(vma)
        vma = vma_word(m[vma + VMA_NEXT])
    return found


def check_tree(proc: Process) -> None:
    """List and tree agree, the gaps are right, and so are count and highest end."""
    m, mm = proc.m, proc.mm
    listed = areas_by_list(proc)
    in_tree, node = [], rb_first(m, mm + MM_RB)
    while node:
        in_tree.append(node - VMA_RB)
        node = rb_next(m, node)
    assert listed == in_tree
    assert m[mm + MM_MAP_COUNT] == len(listed)
    assert m[mm + MM_HIGHEST_VM_END] == (m[listed[-1] + VMA_END] if listed else 0)
    for vma in listed:
        prev = vma_word(m[vma + VMA_PREV])
        gap = vm_start_gap(m, vma) - (m[prev + VMA_END] if prev else 0)
        below = [vma_word(m[vma + VMA_RB + side]) for side in (RB_LEFT, RB_RIGHT)]
        gaps = [m[node - VMA_RB + VMA_GAP] for node in below if node]
        assert m[vma + VMA_GAP] == max([gap, *gaps])


@pytest.mark.parametrize("seed", range(4))
def test_any_sequence_of_calls_leaves_the_areas_that_a_page_map_says(seed: int) -> None:
    rng = random.Random(seed)
    proc = process()
    model: dict[int, str] = {}
    for _ in range(150):
        first, count = rng.randrange(60), rng.randrange(1, 12)
        span = range(first, first + count)
        start, length = BASE + first * PAGE, count * PAGE
        action = rng.random()
        if action < 0.4:
            prot = rng.choice(LETTERS)
            proc.mmap(length, prot, address=start, fixed=True)
            model |= dict.fromkeys(span, prot)
        elif action < 0.6:
            proc.munmap(start, length)
            for page in span:
                model.pop(page, None)
        elif all(page in model for page in span):
            if action < 0.8:
                prot = rng.choice(LETTERS)
                proc.mprotect(start, length, prot)
                model |= dict.fromkeys(span, prot)
            else:
                for page in span:
                    if "w" in model[page]:
                        proc.touch(BASE + page * PAGE)
        check_tree(proc)
        covered = {}
        for area in proc.areas:
            for address in range(area.start, area.end, PAGE):
                covered[(address - BASE) // PAGE] = area.permissions
        wanted = {page: f"{p.replace('-', ''):<1}" for page, p in model.items()}
        for page, permissions in covered.items():
            assert permissions.replace("-", "").rstrip("p") == wanted[page].strip()
        assert set(covered) == set(model)
    sound(proc.kernel)


def test_find_vma_gives_the_first_area_that_ends_above() -> None:
    proc = process()
    first = proc.mmap(PAGE, address=BASE, fixed=True)
    second = proc.mmap(PAGE, address=BASE + 8 * PAGE, fixed=True)
    starts = {
        first - 1: first,
        first: first,
        first + PAGE - 1: first,
        first + PAGE: second,
        second: second,
        second + PAGE: 0,
    }
    for address, start in starts.items():
        vma = find_vma(proc.m, proc.mm, address)
        assert (proc.m[vma + VMA_START] if vma else 0) == start


@pytest.mark.parametrize(
    ("one", "other", "alone", "mergeable"),
    [
        (0, 0, True, True),
        (0, 8, True, True),
        (0, 8, False, False),
        (8, 8, False, True),
        (8, 16, True, False),
    ],
)
def test_areas_with_different_reverse_maps_stay_apart(
    one: int, other: int, alone: bool, mergeable: bool
) -> None:
    m = memoryview(bytearray(8 * 128)).cast("q")
    vma = 32
    head = vma + 17
    from allocator.mm_struct import VMA_ANON_CHAIN

    head = vma + VMA_ANON_CHAIN
    member = PAGE_OFFSET + 8 * 100
    m[head] = m[head + 1] = member if alone else PAGE_OFFSET + (head << 3)
    assert is_mergeable_anon_vma(m, one, other, vma) == mergeable


def test_a_growing_area_begins_a_guard_gap_earlier() -> None:
    proc = process()
    top = proc.mmap(PAGE, address=BASE, fixed=True, flags=VM_GROWSDOWN)
    vma = find_vma(proc.m, proc.mm, top)
    assert vm_start_gap(proc.m, vma) == top - 256 * PAGE
