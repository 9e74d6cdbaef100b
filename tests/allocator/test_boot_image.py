# SPDX-License-Identifier: GPL-2.0-only
"""From power-on to the first instruction of an image."""

from __future__ import annotations

import pytest

from allocator.boot_image import boot_image
from allocator.kernel_globals import G_PGD, KERNEL_BASE
from allocator.layout import KERNEL_IMAGE_SIZE
from allocator.views import Page
from firmware import BOOT_PARAMS, Image, Segment, load_script
from machine import ImageError, InputError, Machine, Topology


def machine() -> Machine:
    return Machine(Topology.parse("1x64M"))


def test_the_image_is_entered_as_the_64_bit_boot_protocol_says() -> None:
    guest = boot_image(machine(), load_script("_start: hlt\n"))
    regs = guest.machine.cpus[0].regs
    assert regs["rip"] == guest.image.entry == 0x100000
    assert regs["rsi"] == BOOT_PARAMS
    assert regs["rsp"] == guest.booted.stacks[0]
    assert regs["cr3"] == guest.booted.m[G_PGD]
    assert guest.machine.run(10).kind == "halt"


def test_the_kernel_keeps_its_hands_off_the_image() -> None:
    guest = boot_image(machine(), load_script(".bss\n.skip 0x5000\n.text\n_start: hlt\n"))
    start, end = guest.image.span
    assert end - start >= 0x5000
    for frame in range(start >> 12, end >> 12):
        assert "reserved" in Page(guest.booted.m, frame).flag_names


def test_an_image_over_the_kernel_is_refused() -> None:
    image = Image("clash", (Segment(KERNEL_BASE + KERNEL_IMAGE_SIZE - 4096, b"\xf4", 1),), 0, "elf")
    with pytest.raises(ImageError, match="overlaps the kernel's own image"):
        boot_image(machine(), image)


def test_a_missing_script_is_an_input_error_that_names_it() -> None:
    with pytest.raises(InputError, match=r"no_such_script\.S"):
        boot_image(machine(), "no_such_script.S")


def test_the_log_sink_gets_the_lines_that_the_log_level_lets_through() -> None:
    lines: list[str] = []
    guest = boot_image(machine(), load_script("_start: hlt\n"), "quieter", lines.append)
    printk = guest.booted.printk
    levels = zip(printk.lines, printk.levels, strict=True)
    assert lines == [line for line, level in levels if level < printk.console_loglevel]
    assert any("quieter" in line for line in lines)
