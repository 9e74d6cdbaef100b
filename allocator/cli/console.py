# SPDX-License-Identifier: GPL-2.0-only
"""What a run shows while it lasts: the guest's output, the kernel's log, a sign of life.

The guest's console goes to standard output byte for byte, a line at a time; the kernel's log and
everything numalab has to say go to standard error. The progress line appears only on a terminal,
and disappears before anything else is written.
"""

from __future__ import annotations

import sys
from typing import BinaryIO, TextIO

from machine import OutputError

_CHUNK = 8192


class Progress:
    """The sign of life of a long run, on `stream` if that is a terminal."""

    FIRST, EVERY = 1.0, 0.5
    """Seconds until it appears, and between two of its states."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream if stream.isatty() else None
        self._next = self.FIRST
        self._shown = 0

    def update(self, seconds: float, instructions: int) -> None:
        """`instructions` have retired in `seconds`."""
        if self._stream is None or seconds < self._next:
            return
        self._next = seconds + self.EVERY
        text = f"{instructions:,} instructions, {seconds:.0f} s (Ctrl-C stops)"
        self._stream.write("\r" + text.ljust(self._shown))
        self._stream.flush()
        self._shown = len(text)

    def clear(self) -> None:
        """Take the line away."""
        if self._stream is not None and self._shown:
            self._stream.write("\r" + " " * self._shown + "\r")
            self._stream.flush()
            self._shown = 0


class LiveConsole:
    """Sink of the guest's console; takes `progress` away before it writes.

    Raises `OutputError` when standard output takes no more."""

    def __init__(self, out: BinaryIO | None = None, progress: Progress | None = None) -> None:
        if out is None and sys.stdout is None:
            raise OutputError("standard output is closed")
        self._out: BinaryIO = out if out is not None else sys.stdout.buffer
        self._waiting = bytearray()
        self._progress = progress

    def write(self, data: bytes) -> None:
        """Some bytes from the guest."""
        self._waiting += data
        if b"\n" in data or len(self._waiting) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Everything written so far becomes visible."""
        if not self._waiting:
            return
        if self._progress is not None:
            self._progress.clear()
        try:
            self._out.write(self._waiting)
            self._out.flush()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise OutputError(f"standard output: {reason}") from None
        finally:
            self._waiting.clear()
