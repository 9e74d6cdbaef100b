# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from allocator.gfp import GFP_BITS_MASK, GFP_BOOT_MASK
from allocator.kernel_data import check_kernel_region, open_gfp_mask
from allocator.kernel_globals import G_GFP_ALLOWED, G_MAGIC, G_MIN_FREE_KBYTES, KERNEL_MAGIC
from allocator.layout import POISON_PAGE
from machine import Bank, BringUpError, PhysicalMemory
from tests.allocator.bringup_support import MIB, context


def test_fresh_globals_have_the_kernels_initial_values() -> None:
    m = context().m
    assert m[G_MAGIC] == KERNEL_MAGIC
    assert m[G_MIN_FREE_KBYTES] == 1024
    assert m[G_GFP_ALLOWED] == GFP_BOOT_MASK == 0x1FFF3F
    assert m[POISON_PAGE] & 0xFF == 0xAA
    open_gfp_mask(m)
    assert m[G_GFP_ALLOWED] == GFP_BITS_MASK


def test_no_ram_for_the_kernel_is_one_clear_line() -> None:
    memory = PhysicalMemory([Bank(0, 16 * MIB, "low"), Bank(64 * MIB, 128 * MIB, "high")])
    with pytest.raises(BringUpError, match=r"^the kernel needs RAM at 0x1000000-0x1[0-9a-f]+$"):
        check_kernel_region(memory)
