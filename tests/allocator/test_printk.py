# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from allocator.kernel_globals import G_CLOCK
from allocator.printk import KERN_DEBUG, KERN_ERR, Printk, mem_range
from tests.allocator.bringup_support import context


def test_stamp_is_the_modelled_clock_in_guest_ram() -> None:
    m = context().m
    m[G_CLOCK] = 12_345_678_901_000
    printk = Printk(m)
    printk("hello")
    assert printk.lines == ["[12345.678901] hello"]
    assert m[G_CLOCK] > 12_345_678_901_000


def test_sink_gets_what_the_console_level_lets_through() -> None:
    seen: list[str] = []
    printk = Printk(context().m, seen.append)
    printk.console_loglevel = 4
    printk("detail", KERN_DEBUG)
    printk("broken", KERN_ERR)
    assert [line.split("] ")[1] for line in seen] == ["broken"]
    assert len(printk.lines) == 2


def test_memory_ranges_read_like_the_kernels() -> None:
    assert mem_range(0, 0x1000) == "[mem 0x00000000-0x00000fff]"
    assert mem_range(0x100000000, 0x140000000, 16) == "[mem 0x0000000100000000-0x000000013fffffff]"
