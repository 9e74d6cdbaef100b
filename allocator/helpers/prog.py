# SPDX-License-Identifier: GPL-2.0-only
"""What a helper looks into.

drgn's helpers take a program; ours take whatever holds the guest's words: a `Kernel`, a
`PhysicalMemory`-backed object with an `m`, or the bare word array.
"""

from __future__ import annotations

from typing import Protocol


class HasWords(Protocol):
    """Anything with the word array of guest RAM as `m` (a `Kernel`, a replayed guest, a view)."""

    @property
    def m(self) -> memoryview: ...


Prog = memoryview | HasWords


def words(prog: Prog) -> memoryview:
    """The word array of `prog`: signed 64-bit words, index = physical address / 8."""
    return prog if isinstance(prog, memoryview) else prog.m
