# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's static data as the loader leaves it: the globals page with its initial values.

Everything else in the static region starts as zero. These are the values that C initialisers give
in Linux, plus where the trace ring is.
"""

from __future__ import annotations

from machine import BringUpError, PhysicalMemory

from .dirty_sysctl import dirty_defaults
from .fail_page_alloc import reset_fail_page_alloc
from .gfp import GFP_BITS_MASK, GFP_BOOT_MASK
from .kernel_globals import (
    G_COMPACT_UNEVICTABLE,
    G_EXTFRAG_THRESHOLD,
    G_GFP_ALLOWED,
    G_LAYOUT_VERSION,
    G_MAGIC,
    G_TRACE_BASE,
    G_TRACE_SIZE,
    G_VM_SWAPPINESS,
    KERNEL_BASE,
    KERNEL_MAGIC,
    LAYOUT_VERSION,
)
from .layout import KERNEL_IMAGE_SIZE, POISON_PAGE, TRACE_RECORDS, TRACE_RING
from .mm_types import PAGE_WORDS
from .page_poison import PAGE_POISON_WORD
from .wmark import init_defaults

MIN_RAM = 32 << 20
VM_SWAPPINESS = 60
"""How anonymous pages count against file pages, 100 being equal (vm_swappiness)."""
EXTFRAG_THRESHOLD = 500
"""Fragmentation index above which costly orders are compacted (sysctl_extfrag_threshold)."""


def check_kernel_region(memory: PhysicalMemory) -> None:
    """Raises BringUpError when there is no RAM where the kernel is linked to run."""
    end = KERNEL_BASE + KERNEL_IMAGE_SIZE
    if not memory.is_ram(KERNEL_BASE, KERNEL_IMAGE_SIZE):
        raise BringUpError(f"the kernel needs RAM at {KERNEL_BASE:#x}-{end - 1:#x}")


def init_kernel_data(m: memoryview) -> None:
    """Initial values of the globals; the static region must be fresh (zero)."""
    m[G_MAGIC] = KERNEL_MAGIC
    m[G_LAYOUT_VERSION] = LAYOUT_VERSION
    m[G_GFP_ALLOWED] = GFP_BOOT_MASK
    m[G_TRACE_BASE] = TRACE_RING
    m[G_TRACE_SIZE] = TRACE_RECORDS
    dirty_defaults(m)
    m[G_EXTFRAG_THRESHOLD] = EXTFRAG_THRESHOLD
    m[G_COMPACT_UNEVICTABLE] = 1
    m[G_VM_SWAPPINESS] = VM_SWAPPINESS
    for w in range(POISON_PAGE, POISON_PAGE + PAGE_WORDS):
        m[w] = PAGE_POISON_WORD
    reset_fail_page_alloc(m)
    init_defaults(m)


def open_gfp_mask(m: memoryview) -> None:
    """All gfp bits count from now on (kernel_init_freeable)."""
    m[G_GFP_ALLOWED] = GFP_BITS_MASK
