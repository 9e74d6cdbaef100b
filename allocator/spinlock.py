# SPDX-License-Identifier: GPL-2.0-only
"""What the hot path says where several CPUs may be inside the allocator at once.

The interpreter runs one CPU at a time, so here are plain words and functions that do nothing. In
compiled code (`engine_locks`) they are the real thing, but only while a `team` of host threads is
at work: zone locks in guest RAM, atomic words, and a way to be alone.

- `lock_zone` / `unlock_zone`: zone->lock, around everything that touches a zone's free lists. A
  CPU's own pagesets and counters need none.
- `go_alone`: from here to the end of the call no other CPU is inside the allocator. The slow path
  begins with it: what it looks at belongs to everybody. Not while a zone is locked.
- `let_others_go`: between two operations of one long call; a place to wait for who wants to be
  alone.
- `add_to_word`, `set_word_bits`, `replace_word`: words that CPUs share without a lock.
- `others_inside`: whether any of this is needed just now.
- `prefetch`: a word that will be wanted soon, for loops that go through much memory.

All hot.
"""

from __future__ import annotations


def lock_zone(m: memoryview, z: int) -> None:
    """Waits for the lock of the zone at word `z` and takes it. Hot."""


def unlock_zone(m: memoryview, z: int) -> None:
    """Gives the lock of the zone at word `z` back. Hot."""


def go_alone(m: memoryview) -> None:
    """Waits until no other CPU is inside the allocator, and keeps them out. Hot."""


def let_others_go(m: memoryview, cpu: int) -> None:
    """Lets those waiting to be alone go first; ends being alone. Hot."""


def add_to_word(m: memoryview, w: int, value: int) -> int:
    """Adds `value` to word `w`; what it was before. Hot."""
    old = m[w]
    m[w] = old + value
    return old


def set_word_bits(m: memoryview, w: int, mask: int, bits: int) -> None:
    """Puts `bits` in the place of those of word `w` that `mask` has. Hot."""
    m[w] = m[w] & ~mask | bits


def others_inside(m: memoryview) -> int:  # noqa: ARG001
    """1 while other CPUs may be inside the allocator at the same time, else 0. Hot."""
    return 0


def replace_word(m: memoryview, w: int, old: int, new: int) -> int:
    """Word `w` becomes `new` if it is `old`: 1 if it was, else 0 (cmpxchg). Hot."""
    if m[w] != old:
        return 0
    m[w] = new
    return 1


def prefetch(m: memoryview, w: int) -> None:
    """Word `w`, if there is one, will be read soon. Hot."""
