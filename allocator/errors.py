# SPDX-License-Identifier: GPL-2.0-only
"""What the allocator raises to Python callers.

Guest code gets errno values; Python callers get these, all of them `NumalabError`s with a message
of one line that names the culprit. The kernel's own report, where it has one, is in the log.
"""

from __future__ import annotations

from machine import NumalabError


class BadRequest(NumalabError):
    """A request that the kernel's API does not allow: order, gfp combination, node or mask."""

    exit_code = 64


class BadPage(NumalabError):
    """A free that 4.20's checks refuse; `pfn` is the frame, the report is in the kernel's log."""

    exit_code = 70

    def __init__(self, message: str, pfn: int) -> None:
        super().__init__(message)
        self.pfn = pfn


class KernelOops(NumalabError):
    """The allocator followed a pointer that leads nowhere: its structures were written over."""

    exit_code = 70


class OutOfMemory(NumalabError):
    """An allocation that had to succeed (an `exhaust`-like helper with a minimum) did not."""

    exit_code = 70


class SystemCallError(BadRequest):
    """What a process was refused; `errno` is Linux's number."""

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


class ProcessKilled(NumalabError):
    """A process died of a fault: `signal`, its si_code `code`, and the user address."""

    exit_code = 70

    def __init__(self, message: str, signal: int, code: int, address: int) -> None:
        super().__init__(message)
        self.signal = signal
        self.code = code
        self.address = address
