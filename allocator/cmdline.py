# SPDX-License-Identifier: GPL-2.0-only
"""Reading a command line as the kernel reads it (kernel/params.c, lib/cmdline.c, lib/vsprintf.c).

Words are separated by blanks unless quoted; numbers may be decimal, 0x hexadecimal or 0 octal, wrap
at 64 bits, and take the suffixes K to E. `params` decides what the words mean.
"""

from __future__ import annotations

U64 = (1 << 64) - 1
_DIGITS = "0123456789abcdef"
_SUFFIX = {"k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}


def simple_strtoull(text: str, at: int = 0, base: int = 0) -> tuple[int, int]:
    """Number at `text[at:]` and the index behind it (lib/vsprintf.c): 0x and 0 prefixes when
    `base` is 0, wrapping at 64 bits; without digits the value is 0 and the index `at`."""
    low = text.lower()
    if base == 0:
        base = 10
        if low[at : at + 1] == "0":
            base = 8
            if low[at + 1 : at + 2] == "x" and low[at + 2 : at + 3] in set(_DIGITS):
                base = 16
    if base == 16 and low[at : at + 2] == "0x":
        at += 2
    value = 0
    while at < len(low) and low[at] in _DIGITS[:base]:
        value = value * base + _DIGITS.index(low[at])
        at += 1
    return value & U64, at


def memparse(text: str, at: int = 0) -> tuple[int, int]:
    """Number with an optional K, M, G, T, P or E and the index behind it (lib/cmdline.c)."""
    value, at = simple_strtoull(text, at)
    shift = _SUFFIX.get(text[at : at + 1].lower(), 0)
    return (value << shift & U64, at + 1) if shift else (value, at)


def split_cmdline(cmdline: str) -> list[tuple[str, str | None]]:
    """(name, value or None) of every argument, quotes taken off (lib/params next_arg)."""
    found: list[tuple[str, str | None]] = []
    at, end = 0, len(cmdline)
    while True:
        while at < end and cmdline[at].isspace():
            at += 1
        if at == end:
            return found
        start, quoted, equals = at, False, -1
        while at < end and (quoted or not cmdline[at].isspace()):
            if cmdline[at] == "=" and equals < 0:
                equals = at
            if cmdline[at] == '"':
                quoted = not quoted
            at += 1
        word = cmdline[start:at]
        if equals < 0:
            found.append((word.strip('"'), None))
            continue
        name, value = cmdline[start:equals].lstrip('"'), cmdline[equals + 1 : at]
        if word.startswith('"'):
            value = value.removesuffix('"')
        elif value.startswith('"'):
            value = value[1:].removesuffix('"')
        found.append((name, value))
