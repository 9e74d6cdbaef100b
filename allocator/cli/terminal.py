# SPDX-License-Identifier: GPL-2.0-only
"""Keys from the terminal, for a guest that reads a keyboard.

While a `Terminal` is open, what the user types is not shown and does not wait for Enter; Ctrl-C is
still an interrupt. The guest's time does not go by the user's: it runs until it does nothing but
wait, and then the next key is waited for."""

from __future__ import annotations

import os
import select
import sys
from types import TracebackType
from typing import Any

from firmware.bios import scan_codes
from machine import ImageError
from machine.keyboard import Keyboard

_CHUNK = 1024
_NAMES = {
    "\x1b[A": "{Up}", "\x1b[B": "{Down}", "\x1b[C": "{Right}", "\x1b[D": "{Left}",
    "\x1b": "{Esc}", "\x7f": "{Backspace}", "\x08": "{Backspace}", "{": "{{",
}  # fmt: skip


class Terminal:
    """Standard input, a terminal, as a keyboard."""

    def __init__(self, keyboard: Keyboard) -> None:
        self._keyboard = keyboard
        self._file = sys.stdin.fileno()
        self._before: list[Any] | None = None
        self.ended = False
        """True when no more keys can come."""

    def __enter__(self) -> Terminal:
        import termios
        import tty

        self._before = termios.tcgetattr(self._file)
        tty.setcbreak(self._file, termios.TCSADRAIN)  # what was typed ahead stays
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import termios

        if self._before is not None:
            termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def poll(self, wait: float | None) -> bool:
        """Press what has been typed, waiting up to `wait` seconds for it (None: as long as it
        takes). False when nothing was."""
        if self.ended or not select.select([self._file], [], [], wait)[0]:
            return False
        data = os.read(self._file, _CHUNK)
        self.ended = not data
        text = data.decode("utf-8", "replace")
        for key in [text] if text in _NAMES else text:
            try:
                self._keyboard.press(scan_codes(_NAMES.get(key, key)))
            except ImageError:
                continue  # a character that is on no key
        return bool(data)
