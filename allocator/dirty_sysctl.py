# SPDX-License-Identifier: GPL-2.0-only
"""The settings of writeback and of the shrinkers under /proc/sys/vm (mm/page-writeback.c).

How much may be dirty is told as a share of memory or in bytes; the one that was written last counts
and the other reads 0. `dirty_defaults` are 4.20's. Setters return 0 or -EINVAL.
"""

from __future__ import annotations

from collections.abc import Callable

from .kernel_globals import (
    G_DIRTY_BACKGROUND_BYTES,
    G_DIRTY_BACKGROUND_RATIO,
    G_DIRTY_EXPIRE_INTERVAL,
    G_DIRTY_WRITEBACK_INTERVAL,
    G_VFS_CACHE_PRESSURE,
    G_VM_DIRTY_BYTES,
    G_VM_DIRTY_RATIO,
)
from .mm_types import PAGE_SIZE

EINVAL = 22
VM_DIRTY_RATIO = 20
"""Percent of dirtyable memory."""
DIRTY_BACKGROUND_RATIO = 10
DIRTY_WRITEBACK_CENTISECS = 500
DIRTY_EXPIRE_CENTISECS = 3000
VFS_CACHE_PRESSURE = 100
INT_MAX = (1 << 31) - 1
LONG_MAX = (1 << 63) - 1

Setter = Callable[[memoryview, int], int]


def dirty_defaults(m: memoryview) -> None:
    """The values that a kernel starts with."""
    m[G_VM_DIRTY_RATIO] = VM_DIRTY_RATIO
    m[G_DIRTY_BACKGROUND_RATIO] = DIRTY_BACKGROUND_RATIO
    m[G_DIRTY_WRITEBACK_INTERVAL] = DIRTY_WRITEBACK_CENTISECS
    m[G_DIRTY_EXPIRE_INTERVAL] = DIRTY_EXPIRE_CENTISECS
    m[G_VFS_CACHE_PRESSURE] = VFS_CACHE_PRESSURE


def number_sysctl(word: int, least: int, most: int, other: int = 0) -> Setter:
    """The setter of a number within limits, after which the word `other`, if any, is 0."""

    def setter(m: memoryview, value: int) -> int:
        if not least <= value <= most:
            return -EINVAL
        if other and value != m[word]:
            m[other] = 0
        m[word] = value
        return 0

    return setter


def _one(word: int, least: int, most: int, other: int = 0) -> tuple[Setter, int, int]:
    return number_sysctl(word, least, most, other), word, 1


DIRTY_SYSCTLS = {
    "dirty_ratio": _one(G_VM_DIRTY_RATIO, 0, 100, G_VM_DIRTY_BYTES),
    "dirty_bytes": _one(G_VM_DIRTY_BYTES, 2 * PAGE_SIZE, LONG_MAX, G_VM_DIRTY_RATIO),
    "dirty_background_ratio": _one(G_DIRTY_BACKGROUND_RATIO, 0, 100, G_DIRTY_BACKGROUND_BYTES),
    "dirty_background_bytes": _one(G_DIRTY_BACKGROUND_BYTES, 1, LONG_MAX, G_DIRTY_BACKGROUND_RATIO),
    "dirty_writeback_centisecs": _one(G_DIRTY_WRITEBACK_INTERVAL, 0, INT_MAX),
    "dirty_expire_centisecs": _one(G_DIRTY_EXPIRE_INTERVAL, 0, INT_MAX),
    "vfs_cache_pressure": _one(G_VFS_CACHE_PRESSURE, 0, INT_MAX),
}
"""Name -> setter, first word, words (as in kernel_policy.SYSCTLS)."""
