# SPDX-License-Identifier: GPL-2.0-only
"""A throw-away: let the allocator do something and take it back without a trace.

The allocator changes nothing but RAM, so the checkpoint is one of RAM alone; it works on a whole
machine and on a bare memory image, and costs what is written in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..kernel import Kernel


@contextmanager
def thrown_away(kernel: Kernel) -> Iterator[Kernel]:
    """A kernel over the same RAM to try things on; whatever it does is undone at the end.

    It has a log of its own, so that the caller's does not tell of what has not happened."""
    history = kernel.memory.history
    moment = history.checkpoint()
    try:
        yield Kernel.attach(kernel.memory, kernel.machine)
    finally:
        kernel.memory.rewind(moment)
        history.discard(moment)
