# SPDX-License-Identifier: GPL-2.0-only
"""The 64-bit Linux boot protocol's way in.

Documentation/x86/boot.txt, "64-bit BOOT PROTOCOL": the boot CPU is in long mode with paging on and
the loaded image identity-mapped, interrupts are off, RSI holds the physical address of boot_params,
and execution begins at the entry point. The page tables behind `cr3` are the kernel's, for it has
the allocator to build them with."""

from __future__ import annotations

from firmware.board import BootableBoard
from firmware.boot_params import BOOT_PARAMS
from firmware.images import Image


def enter_image(machine: BootableBoard, image: Image, cr3: int, stack: int) -> None:
    """Start CPU 0 at the entry of `image` with the page tables at physical `cr3` and `stack` in
    RSP (a virtual address of theirs)."""
    machine.cpus[0].start(rip=image.entry, rsp=stack, cr3=cr3, rsi=BOOT_PARAMS)
