# SPDX-License-Identifier: GPL-2.0-only
"""The interrupt lines of the board, from the devices to the controllers.

A device raises and lowers its line by number: ISA interrupts 0 to 15, or any of the I/O APIC's 24
inputs. As on a PC with an ICH, a line goes to the pair of 8259s and to the I/O APIC at once, and
the guest masks the one it does not use; the timer's line 0 arrives at I/O APIC input 2, as the MADT
says. The 8259s' INTR wire ends at LINT0 of CPU 0's local APIC (`lapic`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

ISA_LINES, GSI_LINES = 16, 24
_TIMER, _TIMER_PIN = 0, 2


class LineInput(Protocol):
    """A controller with input lines."""

    def set_irq(self, line: int, level: int) -> None:
        """Input `line` is now at `level`, 0 or 1; edges are the controller's to see."""


class Pic(LineInput, Protocol):
    """The pair of 8259s."""

    @property
    def output(self) -> bool:
        """The INTR wire."""

    def acknowledge(self) -> int:
        """The INTA cycle: the vector of the interrupt that is now in service."""


class InterruptLines:
    """The lines of one machine. `on_intr` is called when the 8259s' INTR may have changed."""

    def __init__(self, on_intr: Callable[[], None]) -> None:
        self.pic: Pic | None = None
        self._io_apic: LineInput | None = None
        self._on_intr = on_intr

    def attach_pic(self, pic: Pic) -> None:
        """Connect the pair of 8259s."""
        self.pic = pic

    def attach_io_apic(self, io_apic: LineInput) -> None:
        """Connect the I/O APIC."""
        self._io_apic = io_apic

    def set(self, line: int, level: int) -> None:
        """`line` is now at `level`, 0 or 1. Lines that do not exist are not connected."""
        level = 1 if level else 0
        if self.pic is not None and 0 <= line < ISA_LINES:
            self.pic.set_irq(line, level)
        if self._io_apic is not None and 0 <= line < GSI_LINES:
            self._io_apic.set_irq(_TIMER_PIN if line == _TIMER else line, level)

    def pulse(self, line: int) -> None:
        """An edge: up and down again."""
        self.set(line, 1)
        self.set(line, 0)

    def intr_changed(self) -> None:
        """The 8259s say: their INTR wire may have changed."""
        self._on_intr()

    @property
    def intr(self) -> bool:
        """The 8259s ask CPU 0 for attention."""
        return self.pic is not None and self.pic.output
