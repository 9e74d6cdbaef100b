# SPDX-License-Identifier: GPL-2.0-only
"""Doubly linked lists in guest RAM (include/linux/list.h), linked by guest virtual addresses.

A list head or a page's `lru` is two words, next and prev. What they hold are addresses that guest
code can follow: direct-map addresses for heads inside zones and pagesets, vmemmap addresses for
struct pages. `va_word` turns either back into a word index. All functions are hot: they take the
word array, word indices of the two-word nodes, and nothing else.
"""

from __future__ import annotations

from .layout import PAGE_OFFSET, SECTION_PAGES, VMEMMAP_START
from .mm_types import LIST_POISON1, LIST_POISON2


def direct_word(va: int) -> int:
    """Word index of a direct-map address (signed). Hot."""
    return (va - PAGE_OFFSET) >> 3


def va_word(m: memoryview, va: int) -> int:
    """Word index of a direct-map or vmemmap address (signed). Hot."""
    return (
        (va - PAGE_OFFSET) >> 3
        if va < VMEMMAP_START
        else m[SECTION_PAGES + (va - VMEMMAP_START >> 21 << 2)] + (va - VMEMMAP_START >> 3)
    )


def list_init(m: memoryview, head: int) -> None:
    """Makes the direct-map list head at word `head` empty (INIT_LIST_HEAD). Hot."""
    va = PAGE_OFFSET + (head << 3)
    m[head] = va
    m[head + 1] = va


def list_empty(m: memoryview, head: int) -> bool:
    """True if the direct-map list head at word `head` points to itself. Hot."""
    return m[head] == PAGE_OFFSET + (head << 3)


def list_add(m: memoryview, lru: int, lru_va: int, head: int) -> None:
    """Inserts the node at word `lru` (address `lru_va`) right behind `head`. Hot."""
    first = m[head]
    w = va_word(m, first)
    m[w + 1] = lru_va
    m[lru] = first
    m[lru + 1] = PAGE_OFFSET + (head << 3)
    m[head] = lru_va


def list_add_tail(m: memoryview, lru: int, lru_va: int, head: int) -> None:
    """Inserts the node at word `lru` (address `lru_va`) right before `head`. Hot."""
    last = m[head + 1]
    w = va_word(m, last)
    m[w] = lru_va
    m[lru] = PAGE_OFFSET + (head << 3)
    m[lru + 1] = last
    m[head + 1] = lru_va


def list_del(m: memoryview, lru: int) -> None:
    """Unlinks the node at word `lru` and poisons its pointers. Hot."""
    nxt = m[lru]
    prev = m[lru + 1]
    m[va_word(m, nxt) + 1] = prev
    m[va_word(m, prev)] = nxt
    m[lru] = LIST_POISON1
    m[lru + 1] = LIST_POISON2


def list_move(m: memoryview, lru: int, lru_va: int, head: int) -> None:
    """Unlinks the node at word `lru` and inserts it right behind `head`. Hot."""
    nxt = m[lru]
    prev = m[lru + 1]
    m[va_word(m, nxt) + 1] = prev
    m[va_word(m, prev)] = nxt
    list_add(m, lru, lru_va, head)
