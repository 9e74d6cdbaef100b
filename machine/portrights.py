# SPDX-License-Identifier: GPL-2.0-only
"""May a program in user mode use a port?

IOPL allows all of them; otherwise the task state segment's bitmap has a bit for each port, 1 for
forbidden, and what lies beyond the segment's limit is forbidden (SDM volume 1, 19.5). The check
that the processor makes is QEMU's check_io (target/i386/seg_helper.c), which Unicorn leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machine.hidden import DESC_P, TR, VM
from machine.linear import CpuException

if TYPE_CHECKING:
    from machine.hidden import HiddenState
    from machine.linear import LinearMemory

_TSS_TYPES = (9, 11)
_SHORTEST_TSS = 103
_BITMAP_OFFSET = 0x66


def port_allowed(hidden: HiddenState, linear: LinearMemory, port: int, size: int) -> bool:
    """Whether the CPU, which is in user mode, may use `size` ports from `port` on. Takes the copy
    of its registers."""
    hidden.load()
    flags = hidden.rflags
    if flags >> 12 & 3 == 3 and not flags & VM:
        return True
    _, base, limit, kind = hidden.segment(TR)
    if not kind & DESC_P or kind >> 8 & 0xF not in _TSS_TYPES or limit < _SHORTEST_TSS:
        return False
    try:
        at = linear.read(hidden, base + _BITMAP_OFFSET, 2) + (port >> 3)
        if at + 1 > limit:
            return False
        bits = linear.read(hidden, base + at, 2)
    except CpuException:
        return False
    return not bits >> (port & 7) & ((1 << size) - 1)
