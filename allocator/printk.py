# SPDX-License-Identifier: GPL-2.0-only
"""The boot log: lines as dmesg shows them, stamped with the modelled clock.

Bring-up tells what it does in the kernel's own words (`BIOS-e820: ...`, `Zone ranges:`). The text
is output and nothing reads it back, so it stays on the host: `Printk.lines` keeps every line, a
`sink` gets those that the console log level lets through. Time is nanoseconds in guest RAM
(`globals.clock`); no host clock is read, and the boot code charges its own bulk work to it with
`elapse`, so that two boots give the same stamps.
"""

from __future__ import annotations

from collections.abc import Callable

from .kernel_globals import G_CLOCK

KERN_EMERG, KERN_ALERT, KERN_CRIT, KERN_ERR = 0, 1, 2, 3
KERN_WARNING, KERN_NOTICE, KERN_INFO, KERN_DEBUG = 4, 5, 6, 7
CONSOLE_LOGLEVEL_DEFAULT = 7
CONSOLE_LOGLEVEL_QUIET = 4
CONSOLE_LOGLEVEL_DEBUG = 10
LINE_NS = 5_000
"""Modelled cost of formatting one line (ns)."""


class Printk:
    """The log of one kernel. `m` is the word array that holds the clock."""

    def __init__(self, m: memoryview, sink: Callable[[str], None] | None = None) -> None:
        self.m = m
        self.sink = sink
        self.lines: list[str] = []
        self.levels: list[int] = []
        self.console_loglevel = CONSOLE_LOGLEVEL_DEFAULT
        self.ignore_loglevel = False

    def __call__(self, text: str, level: int = KERN_INFO) -> None:
        """Logs one line at `level` (0 emergency ... 7 debug)."""
        line = f"[{self.stamp()}] {text}"
        self.lines.append(line)
        self.levels.append(level)
        self.elapse(LINE_NS)
        if self.sink and (self.ignore_loglevel or level < self.console_loglevel):
            self.sink(line)

    def warn(self, text: str) -> None:
        """pr_warn."""
        self(text, KERN_WARNING)

    def err(self, text: str) -> None:
        """pr_err."""
        self(text, KERN_ERR)

    def debug(self, text: str) -> None:
        """printk(KERN_DEBUG ...)."""
        self(text, KERN_DEBUG)

    def stamp(self) -> str:
        """Seconds and microseconds since power-on as print_time() writes them."""
        micros: int = self.m[G_CLOCK] // 1000
        return f"{micros // 1_000_000:5d}.{micros % 1_000_000:06d}"

    def elapse(self, ns: int) -> None:
        """Lets the modelled clock advance by `ns` nanoseconds."""
        self.m[G_CLOCK] += ns


def mem_range(start: int, end: int, width: int = 8) -> str:
    """`[mem 0x...-0x...]` for physical bytes [start, end), at least `width` hex digits each."""
    return f"[mem {start:#0{width + 2}x}-{(end - 1) & 0xFFFFFFFFFFFFFFFF:#0{width + 2}x}]"
