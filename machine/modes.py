# SPDX-License-Identifier: GPL-2.0-only
"""How a CPU starts: the registers of each entry state.

Real mode as after reset and firmware, flat 32-bit protected mode as Multiboot asks for, and 64-bit
mode as Linux's boot protocol does. Each function fills in the copy of a fresh CPU's registers
(`hidden`) but for the general ones and RIP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from machine.guard import AVAILABLE_TSS, TSS_LIMIT
from machine.hidden import (
    CS,
    DS,
    ES,
    FS,
    GDTR,
    GS,
    IDTR,
    LDTR,
    SEGMENT_NUMBERS,
    SS,
    TR,
)
from machine.walk import EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE

if TYPE_CHECKING:
    from machine.hidden import HiddenState

CR0_LONG, CR4_LONG = 0x8005_0033, 0x620
"""PG AM WP NE ET MP PE; OSXMMEXCPT OSFXSR PAE."""
CR0_RESET, CR0_REAL, CR0_PROTECTED = 0x6000_0010, 0x10, 0x11
"""CD NW ET; ET; ET PE."""
EFER_LONG = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE
KERNEL_CS, KERNEL_DS = 0x10, 0x18
"""Linux's selectors. There is no GDT until the guest loads one; running code does not miss it."""
IVT_LIMIT = 0x3FF
FPU_START = {"fpcw": 0x37F, "fpsw": 0, "fptag": 0xFFFF, "mxcsr": 0x1F80}

_REAL_DATA, _REAL_CODE = 0x9300, 0x9B00
_CODE_32, _DATA_32, _CODE_64 = 0x00CF9B00, 0x00CF9300, 0x00AF9B00
_LDT = 0x8200
_FLAT = 0xFFFFFFFF


def enter_real_mode(hidden: HiddenState, segments: dict[str, int], fresh: bool) -> None:
    """Real mode with these segment registers (cs, ss, ds, es, fs, gs), the interrupt vector table
    at 0; `fresh` from reset or INIT, when no firmware has turned the caches on."""
    hidden.reset(long_mode=False)
    hidden.set_control(0, CR0_RESET if fresh else CR0_REAL)
    for name, number in SEGMENT_NUMBERS.items():
        selector = segments[name] & 0xFFFF
        flags = _REAL_CODE if number == CS else _REAL_DATA
        hidden.set_segment(number, selector, selector << 4, 0xFFFF, flags)
    _system_segments(hidden)
    hidden.set_segment(IDTR, 0, 0, IVT_LIMIT, 0)
    hidden.set_segment(GDTR, 0, 0, 0xFFFF, 0)


def enter_protected_mode(hidden: HiddenState) -> None:
    """32-bit protected mode, flat, paging and interrupts off. There is neither GDT nor IDT."""
    hidden.reset(long_mode=False)
    hidden.set_control(0, CR0_PROTECTED)
    _flat(hidden, _CODE_32)


def enter_long_mode(hidden: HiddenState, cr3: int) -> None:
    """64-bit mode with the page tables at physical `cr3`. There is neither GDT nor IDT."""
    hidden.reset(long_mode=True)
    hidden.set_control(0, CR0_LONG)
    hidden.set_control(3, cr3)
    hidden.set_control(4, CR4_LONG)
    hidden.efer = EFER_LONG
    _flat(hidden, _CODE_64)


def _flat(hidden: HiddenState, code: int) -> None:
    hidden.set_segment(CS, KERNEL_CS, 0, _FLAT, code)
    for number in (SS, DS, ES):
        hidden.set_segment(number, KERNEL_DS, 0, _FLAT, _DATA_32)
    for number in (FS, GS):
        hidden.set_segment(number, 0, 0, 0, 0)
    _system_segments(hidden)
    hidden.set_segment(IDTR, 0, 0, 0, 0)
    hidden.set_segment(GDTR, 0, 0, 0, 0)


def _system_segments(hidden: HiddenState) -> None:
    hidden.set_segment(TR, 0, 0, TSS_LIMIT, AVAILABLE_TSS)  # present, see `guard`
    hidden.set_segment(LDTR, 0, 0, 0, _LDT)
