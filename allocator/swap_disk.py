# SPDX-License-Identifier: GPL-2.0-only
"""Swap space for those who ask for pages of it: a disk made, formatted and used in one step, and
taken away again with the area.

What mkswap, swapon and swapoff do on a machine whose disk is there already. Results are numbers of
swap areas or a negative errno.
"""

from __future__ import annotations

from .address_space import swap_info
from .blockdev import bdev_create, bdev_destroy
from .kernel_globals import G_NR_SWAPFILES
from .layout import word_of_va
from .swap_map import SI_BDEV
from .swapoff import swapoff
from .swapon import mkswap, swapon

ENOMEM, EINVAL = 12, 22
MIN_PAGES = 2


def add_swap(m: memoryview, cpu: int, pages: int, priority: int, name: bytes) -> int:
    """Swap space on a new disk of `pages` pages, the first of which is the header; `priority` -1
    for the kernel's choice. -EINVAL, -ENOMEM: too small, or no room for the disk or its map."""
    if pages < MIN_PAGES:
        return -EINVAL
    disk = bdev_create(m, cpu, name, pages)
    if disk == 0:
        return -ENOMEM
    mkswap(m, disk)
    kind = swapon(m, cpu, disk, priority)
    if kind < 0:
        bdev_destroy(m, cpu, disk)
    return kind


def remove_swap(m: memoryview, cpu: int, kind: int) -> int:
    """Ends the use of area `kind`, and its disk: 0, or what swapoff() refuses with."""
    disk = m[swap_info(m, kind) + SI_BDEV] if 0 <= kind < m[G_NR_SWAPFILES] else 0
    rc = swapoff(m, cpu, kind)
    if rc == 0:
        bdev_destroy(m, cpu, word_of_va(disk))
    return rc
