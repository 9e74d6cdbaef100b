# SPDX-License-Identifier: GPL-2.0-only
"""INT 16h and interrupt 1: the keyboard.

The interrupt's service gets a scan code in AL, keeps track of the shift keys, and puts code and
character into the ring buffer of the BIOS data area; INT 16h takes them out, waiting if it must. A
key that finds the buffer full is not lost: the user waits with the next one until there is room
(`machine.pc.keyboard.hold`).

`scan_codes` is the other direction: the keys that type a text. In the text, `{Enter}`, `{F1}`,
`{Ctrl-C}`, `{Shift-Tab}` and the like are single keys, `{{` is a brace."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from firmware.bios import bda
from firmware.bios.call import WAIT, ZF, Call
from machine import Machine
from machine.errors import ImageError

_R_SHIFT, _L_SHIFT, _CTRL, _ALT, _SCROLL, _NUM, _CAPS, _INSERT = (1 << n for n in range(8))
_SHIFTS = {0x2A: _L_SHIFT, 0x36: _R_SHIFT, 0x1D: _CTRL, 0x38: _ALT}
_LOCKS = {0x3A: _CAPS, 0x45: _NUM, 0x46: _SCROLL}
_E0_SEEN, _E1_SEEN, _ENHANCED = 0x02, 0x01, 0x10
_DELETE = 0x53

_PLAIN = "\x1b1234567890-=\b\tqwertyuiop[]\r\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 "
_SHIFTED = '\x1b!@#$%^&*()_+\b\0QWERTYUIOP{}\r\0ASDFGHJKL:"~\0|ZXCVBNM<>?\0*\0 '
"""Characters of scan codes 1 to 39h."""
_KEYPAD = "789-456+1230."
"""Of 47h to 53h, with Num Lock."""
_CTRL_CODES = {
    0x03: 0x0300, 0x07: 0x071E, 0x0C: 0x0C1F, 0x0E: 0x0E7F, 0x0F: 0x9400, 0x1A: 0x1A1B,
    0x1B: 0x1B1D, 0x1C: 0x1C0A, 0x2B: 0x2B1C, 0x39: 0x3920, 0x01: 0x011B, 0x47: 0x7700,
    0x48: 0x8D00, 0x49: 0x8400, 0x4B: 0x7300, 0x4D: 0x7400, 0x4F: 0x7500, 0x50: 0x9100,
    0x51: 0x7600, 0x52: 0x9200, 0x53: 0x9300,
}  # fmt: skip


def key_code(code: int, shifts: int, extended: bool) -> int:
    """What INT 16h gives for a key: scan code in the upper byte, character in the lower; 0 for
    none (IBM BIOS Technical Reference, keyboard encoding)."""
    shift, ctrl, alt = shifts & (_L_SHIFT | _R_SHIFT), shifts & _CTRL, shifts & _ALT
    if 0x3B <= code <= 0x44:
        base = 0x68 if alt else 0x5E if ctrl else 0x54 if shift else 0x3B
        return base + code - 0x3B << 8
    if code in (0x57, 0x58):
        base = 0x8B if alt else 0x89 if ctrl else 0x87 if shift else 0x85
        return base + code - 0x57 << 8
    if alt:
        return _alt_code(code)
    if ctrl:
        letter = _PLAIN[code - 1] if code <= 0x39 else ""
        if letter.isalpha() and letter.isascii():
            return code << 8 | ord(letter) & 0x1F
        return _CTRL_CODES.get(code, 0)
    if 0x47 <= code <= 0x53:
        digits = bool(shifts & _NUM) != bool(shift) or code in (0x4A, 0x4E)
        if digits and not extended:
            return code << 8 | ord(_KEYPAD[code - 0x47])
        return code << 8 | (0xE0 if extended else 0)
    if code > 0x39 or code == 0:
        return 0
    if extended and code in (0x1C, 0x35):
        return 0xE00D if code == 0x1C else 0xE02F
    if code == 0x0F and shift:
        return 0x0F00
    char = (_SHIFTED if shift else _PLAIN)[code - 1]
    if shifts & _CAPS and char.isalpha():
        char = char.swapcase()
    return code << 8 | ord(char) if char != "\0" else 0


def _alt_code(code: int) -> int:
    if 0x02 <= code <= 0x0D:
        return code + 0x76 << 8
    if 0x47 <= code <= 0x53:
        return code + 0x50 << 8
    return code << 8 if 1 <= code <= 0x39 and _PLAIN[code - 1] not in "\0" else 0


class Keys:
    """The services. All state is in the BIOS data area."""

    def __init__(self, machine: Machine) -> None:
        self._memory = machine.memory
        self._keyboard = machine.pc.keyboard
        self._functions: dict[int, Callable[[Call], int | None]] = {
            0x00: self._read, 0x10: self._read, 0x01: self._peek, 0x11: self._peek,
            0x02: self._shift_flags, 0x12: self._all_flags, 0x03: self._nothing,
            0x05: self._push, 0x09: self._abilities, 0x92: self._enhanced,
        }  # fmt: skip

    def __call__(self, call: Call) -> int:
        function = self._functions.get(call.ah)
        return (function(call) or 0) if function is not None else 0

    def interrupt(self, call: Call) -> int:
        """Interrupt 1: AL is what the keyboard sent."""
        memory, code = self._memory, call.al
        status = memory.read_u8(bda.KEY_STATUS)
        if code in (0xE0, 0xE1):
            memory.write_u8(bda.KEY_STATUS, status | (_E0_SEEN if code == 0xE0 else _E1_SEEN))
            return 0
        extended = bool(status & _E0_SEEN)
        flags = memory.read_u8(bda.SHIFT_FLAGS)
        key, down = code & 0x7F, not code & 0x80
        if status & _E1_SEEN:
            # Pause: E1 1D 45 E1 9D C5, all of which is to be passed over.
            if key == 0x45:
                memory.write_u8(bda.KEY_STATUS, status & ~_E1_SEEN)
            return 0
        memory.write_u8(bda.KEY_STATUS, status & ~_E0_SEEN)
        if key in _SHIFTS and not (extended and key in (0x2A, 0x36)):
            bit = _SHIFTS[key]
            memory.write_u8(bda.SHIFT_FLAGS, flags | bit if down else flags & ~bit)
        elif down and key in _LOCKS and not flags & _CTRL:
            memory.write_u8(bda.SHIFT_FLAGS, flags ^ _LOCKS[key])
        elif down and key == _DELETE and flags & _CTRL and flags & _ALT:
            call.machine.request_reset("Ctrl-Alt-Del")
        elif down:
            value = key_code(key, flags, extended)
            if value:
                self._store(value)
        self._keyboard.hold = self._room() < 1
        return 0

    # --- ring buffer ------------------------------------------------------------------------------
    def _bounds(self) -> tuple[int, int]:
        """Offsets in segment 40h of the buffer; the usual ones if the guest has wrecked them."""
        start = self._memory.read_u16(bda.KEY_BUFFER_START_AT)
        end = self._memory.read_u16(bda.KEY_BUFFER_END_AT)
        usual = bda.KEY_BUFFER - 0x400, bda.KEY_BUFFER_END - 0x400
        return (start, end) if 0x1E <= start < end <= 0x1000 else usual

    def _next(self, pointer: int) -> int:
        start, end = self._bounds()
        return pointer + 2 if start <= pointer + 2 < end else start

    def _room(self) -> int:
        """Keys that still fit."""
        start, end = self._bounds()
        slots = (end - start) // 2
        head, tail = self._memory.read_u16(bda.KEY_HEAD), self._memory.read_u16(bda.KEY_TAIL)
        return slots - 1 - (tail - head) // 2 % slots

    def _store(self, value: int) -> bool:
        tail = self._memory.read_u16(bda.KEY_TAIL)
        after = self._next(tail)
        if after == self._memory.read_u16(bda.KEY_HEAD):
            return False
        self._memory.write_u16(0x400 + tail, value)
        self._memory.write_u16(bda.KEY_TAIL, after)
        return True

    def _waiting(self) -> int | None:
        """The first key in the buffer."""
        head = self._memory.read_u16(bda.KEY_HEAD)
        if head == self._memory.read_u16(bda.KEY_TAIL):
            return None
        return self._memory.read_u16(0x400 + head)

    def _take(self) -> None:
        head = self._memory.read_u16(bda.KEY_HEAD)
        self._memory.write_u16(bda.KEY_HEAD, self._next(head))
        self._keyboard.hold = False

    # --- functions --------------------------------------------------------------------------------
    def _read(self, call: Call) -> int:
        """00h, 10h: the next key, waited for."""
        value = self._waiting()
        if value is None:
            return WAIT
        self._take()
        call.ax = _as_seen(value, call.ah & 0x10)
        return 0

    def _peek(self, call: Call) -> None:
        """01h, 11h: the next key without taking it; ZF set when there is none."""
        value = self._waiting()
        call.set_flag(ZF, value is None)
        if value is not None:
            call.ax = _as_seen(value, call.ah & 0x10)

    def _shift_flags(self, call: Call) -> None:
        call.al = self._memory.read_u8(bda.SHIFT_FLAGS)

    def _all_flags(self, call: Call) -> None:
        call.ax = self._memory.read_u16(bda.SHIFT_FLAGS)

    def _nothing(self, call: Call) -> None:
        """03h: the repeat rate; nobody holds a key down here."""

    def _push(self, call: Call) -> None:
        """05h: put a key into the buffer."""
        call.al = 0 if self._store(call.cx) else 1

    def _abilities(self, call: Call) -> None:
        call.al = 0x30

    def _enhanced(self, call: Call) -> None:
        """92h: how the enhanced functions are told to be there."""
        call.ah = 0x80


def _as_seen(value: int, enhanced: int) -> int:
    """A key as the old functions give it, which do not know the keys of later keyboards."""
    if not enhanced:
        if value >> 8 == 0xE0:
            return 0x1C0D if value & 0xFF == 0x0D else 0x352F
        if value & 0xFF == 0xE0:
            return value & 0xFF00
    return value


# --- typing ---------------------------------------------------------------------------------------
_NAMED: dict[str, tuple[int, ...]] = {
    "esc": (0x01,), "backspace": (0x0E,), "tab": (0x0F,), "enter": (0x1C,), "space": (0x39,),
    "home": (0xE0, 0x47), "up": (0xE0, 0x48), "pgup": (0xE0, 0x49), "left": (0xE0, 0x4B),
    "right": (0xE0, 0x4D), "end": (0xE0, 0x4F), "down": (0xE0, 0x50), "pgdn": (0xE0, 0x51),
    "insert": (0xE0, 0x52), "delete": (0xE0, 0x53), "capslock": (0x3A,), "numlock": (0x45,),
    "scrolllock": (0x46,), "shift": (0x2A,), "ctrl": (0x1D,), "alt": (0x38,),
} | {f"f{n}": (0x3A + n if n < 11 else 0x4C + n,) for n in range(1, 13)}  # fmt: skip
_MODIFIERS = {"shift": 0x2A, "ctrl": 0x1D, "alt": 0x38}
_TOKEN = re.compile(r"\{\{|\{([^{}\n]*)\}|.", re.DOTALL)


def scan_codes(text: str, name: str = "keys") -> Iterator[int]:
    """The scan codes (set 1) of somebody typing `text`, keys going down and up. Raises `ImageError`
    naming line and column of what is on no key."""
    for match in _TOKEN.finditer(text):
        token = match[0]
        try:
            if match[1] is not None:
                yield from _named(match[1])
            else:
                yield from _stroke(*_key_of("{" if token == "{{" else token))
        except KeyError:
            line = text.count("\n", 0, match.start()) + 1
            column = match.start() - text.rfind("\n", 0, match.start())
            raise ImageError(f"{name}:{line}:{column}: no key for {token!r}") from None


def _named(name: str) -> Iterator[int]:
    """The key in braces, with what is held down."""
    *held, last = name.split("-") if name not in ("-", "") else [name]
    modifiers = tuple(_MODIFIERS[word.strip().lower()] for word in held)
    key = last.strip()
    if key.lower() in _NAMED:
        yield from _stroke(_NAMED[key.lower()], modifiers)
    else:
        keys, shift = _key_of(key)
        yield from _stroke(keys, (*modifiers, *shift))


def _key_of(char: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Scan codes of the key with `char` on it, and of what is held with it. Raises `KeyError`."""
    if len(char) != 1 or char == "\0":
        raise KeyError(char)
    char = "\r" if char == "\n" else char
    if char in _PLAIN:
        return (_PLAIN.index(char) + 1,), ()
    if char in _SHIFTED:
        return (_SHIFTED.index(char) + 1,), (0x2A,)
    raise KeyError(char)


def _stroke(key: tuple[int, ...], held: tuple[int, ...] = ()) -> Iterator[int]:
    yield from held
    yield from key
    yield from key[:-1]
    yield key[-1] | 0x80
    for code in reversed(held):
        yield code | 0x80
