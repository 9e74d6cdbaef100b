# SPDX-License-Identifier: GPL-2.0-only
"""Looking at the trace ring from tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from allocator.kernel import Kernel
from allocator.kernel_globals import G_TRACE_BASE, G_TRACE_HEAD, G_TRACE_MASK, G_TRACE_SIZE
from allocator.layout import RECORD_WORDS


@dataclass(frozen=True)
class Event:
    """One record of the ring."""

    event: int
    cpu: int
    args: tuple[int, ...]


@contextmanager
def recorded(kernel: Kernel, mask: int | None = None) -> Iterator[list[Event]]:
    """The records written inside the block, with the events of `mask` switched on."""
    m, events = kernel.m, list[Event]()
    before, head = m[G_TRACE_MASK], m[G_TRACE_HEAD]
    if mask is not None:
        m[G_TRACE_MASK] = mask
    yield events
    m[G_TRACE_MASK] = before
    for at in range(head, m[G_TRACE_HEAD]):
        r = m[G_TRACE_BASE] + (at & (m[G_TRACE_SIZE] - 1)) * RECORD_WORDS
        events.append(Event(m[r + 1], m[r + 2], tuple(m[r + 3 : r + 14])))
