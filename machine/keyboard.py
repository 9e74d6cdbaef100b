# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: ARG002  (the bus tells a device more than most need)
"""The 8042 keyboard controller with a keyboard behind it, ports 60h and 64h.

The controller (IBM PS/2 technical reference): status, command byte, self tests, output port with
the A20 gate and the reset line, translation of the keyboard's scan codes (set 2) to those of the
first PC (set 1). The keyboard answers its commands; keys come from `press`, as set 1 codes, one at
a time at the pace of a serial line: the next is on its way when the last has been read. There is no
mouse: what is sent to one vanishes, and its interface fails its test.

Interrupt 1 is raised while a byte waits, if the command byte allows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from machine.bus import PortBus, State
from machine.devstate import Line, Timebase, octets

DATA_PORT, COMMAND_PORT = 0x60, 0x64
STATUS_FULL, STATUS_SYSTEM, STATUS_COMMAND, STATUS_UNLOCKED, STATUS_AUX = 1, 4, 8, 0x10, 0x20
MODE_IRQ1, MODE_IRQ12, MODE_SYSTEM, MODE_NO_KEYBOARD, MODE_TRANSLATE = 1, 2, 4, 0x10, 0x40
OUTPUT_RESET, OUTPUT_A20 = 1, 2
KEY_NS = 1_000_000
"""A scan code on the serial line: eleven bits at ten to sixteen kilohertz."""

ACK, RESEND, BAT_OK = 0xFA, 0xFE, 0xAA
_IDENTITY = (0xAB, 0x83)
_QUEUE = 1 << 16
_PARAMETER = (0xED, 0xF0, 0xF3)
"""Keyboard commands with a byte to follow: lights, scan code set, repeat rate."""
_SET_2 = {1: 0x43, 2: 0x41, 3: 0x3F}
"""What a translated scan code set query answers."""


class Keyboard:
    """Controller and keyboard. `set_a20` and `reset_line` are the board's."""

    name = "i8042"
    width = 1

    def __init__(
        self,
        time: Timebase,
        a20: Callable[[], bool],
        set_a20: Callable[[bool], None],
        reset_line: Callable[[], None],
    ) -> None:
        self._time = time
        self.irq = Line()
        self._a20, self._set_a20, self._reset_line = a20, set_a20, reset_line
        self._alarm = time.timer("i8042", self._key_arrives)
        self._power_up()
        self._keys = bytearray()
        """Scan codes that have not left the keyboard."""
        self._on_its_way = False
        self._hold = False

    def _power_up(self) -> None:
        self._mode = MODE_IRQ1 | MODE_SYSTEM | MODE_TRANSLATE
        self._output = bytearray()
        """Answers, the first in the data register, in front of any key."""
        self._data = 0
        self._after = 0
        """The controller command whose byte is still to come."""
        self._kbd_after = 0
        self._status = 0
        self._scanning = 1
        self._set = 2
        self._lights = 0
        self._ram = bytearray(32)

    def attach(self, ports: PortBus) -> None:
        """Put the registers on the port bus; what lies between them is another's."""
        ports.attach(DATA_PORT, 1, self)
        ports.attach(COMMAND_PORT, 1, _CommandPort(self))

    def press(self, codes: Iterable[int]) -> None:
        """Scan codes (set 1) of keys going down and up. More than 65,536 waiting are dropped."""
        room = _QUEUE - len(self._keys)
        self._keys += bytes(codes)[: max(room, 0)]
        self._pace()

    @property
    def hold(self) -> bool:
        """True while the user types nothing: the BIOS says that its buffer is full."""
        return self._hold

    @hold.setter
    def hold(self, on: bool) -> None:
        if on != self._hold:
            self._hold = on
            self._pace()

    @property
    def waiting(self) -> int:
        """Scan codes that nobody has read."""
        return len(self._keys) + len(self._output)

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        self._time.spend()
        if self._output:
            self._data = self._output.pop(0)
        self._update()
        self._pace()
        return self._data

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._time.spend()
        after, self._after = self._after, 0
        self._status &= ~STATUS_COMMAND
        if after == 0x60:
            self._mode = value
            self._update()
        elif 0x61 <= after <= 0x7F:
            self._ram[after & 31] = value
        elif after == 0xD1:
            self._write_output_port(value)
        elif after == 0xD2:
            self._answer(value)
        elif after == 0:
            self._mode &= ~MODE_NO_KEYBOARD
            self._to_keyboard(value)
        self._pace()

    def read_status(self) -> int:
        """Port 64h, IN."""
        self._time.spend()
        full = STATUS_FULL if self._output else 0
        return full | (self._mode & MODE_SYSTEM) | self._status | STATUS_UNLOCKED

    def command(self, value: int) -> None:
        """Port 64h, OUT."""
        self._time.spend()
        self._status |= STATUS_COMMAND
        self._after = 0
        if value & 0xE0 in (0x20, 0x60):
            place = value & 31
            if value & 0x40:
                self._after = value
            else:
                self._answer(self._ram[place] if place else self._mode)
        elif value in (0xD1, 0xD2, 0xD3, 0xD4):
            self._after = value
        elif value >= 0xF0:
            if not value & 1:
                self._reset_line()
        elif value in _COMMANDS:
            _COMMANDS[value](self)
        self._pace()

    def reset(self) -> None:
        """Power-on state; keys that have not been sent yet are still typed afterwards."""
        self._power_up()
        self._update()
        self._pace()

    def save(self) -> State:
        return {
            "keys": bytes(self._keys),
            "output": bytes(self._output),
            "ram": bytes(self._ram),
            "numbers": bytes(
                (
                    self._mode, self._data, self._after, self._kbd_after, self._status,
                    self._scanning, self._set, self._lights, self.irq.level, self._on_its_way,
                    self._hold,
                )
            ),
        }  # fmt: skip

    def load(self, state: State) -> None:
        self._keys = bytearray(octets(state, "keys"))
        self._output = bytearray(octets(state, "output"))
        self._ram = bytearray(octets(state, "ram", 32))
        values = octets(state, "numbers", 11)
        if values[6] not in _SET_2:
            raise ValueError(f"scan code set {values[6]}")
        self._mode, self._data, self._after, self._kbd_after, self._status = values[:5]
        self._scanning, self._set, self._lights, self.irq.level = values[5:9]
        self._on_its_way, self._hold = bool(values[9]), bool(values[10])

    # --- controller -------------------------------------------------------------------------------
    def _answer(self, *values: int) -> None:
        """Bytes into the data register, now."""
        self._output += bytes(values)
        self._update()

    def _update(self) -> None:
        """The interrupt pin: up for each byte that comes to lie in the data register."""
        self.irq.set(0)
        if self._output and self._mode & MODE_IRQ1:
            self.irq.set(1)

    def _write_output_port(self, value: int) -> None:
        self._set_a20(bool(value & OUTPUT_A20))
        if not value & OUTPUT_RESET:
            self._reset_line()

    def _read_output_port(self) -> None:
        a20 = OUTPUT_A20 if self._a20() else 0
        self._answer(OUTPUT_RESET | a20 | (0x10 if self._output else 0) | 0xC0)

    def _set_mode_bit(self, bit: int, on: bool) -> None:
        self._mode = self._mode | bit if on else self._mode & ~bit
        self._update()

    # --- keyboard ---------------------------------------------------------------------------------
    def _pace(self) -> None:
        """Let the next key arrive after a while, when there is room for it."""
        blocked = self._output or self._mode & MODE_NO_KEYBOARD or not self._scanning
        if not self._keys or blocked or self._hold:
            self._alarm.clear()
            self._on_its_way = False
        elif not self._on_its_way:
            self._on_its_way = True
            self._alarm.set(self._time.now + KEY_NS)

    def _key_arrives(self) -> None:
        self._on_its_way = False
        if self._keys and not self._output:
            code = self._keys.pop(0)
            if self._mode & MODE_TRANSLATE or self._set == 1:
                self._answer(code)
            else:
                self._answer(*_untranslated(code))
        self._pace()

    def _to_keyboard(self, value: int) -> None:
        """A byte for the keyboard: a command, or what belongs to one."""
        after, self._kbd_after = self._kbd_after, 0
        if after and value < 0xED:
            if after == 0xED:
                self._lights = value
            elif after == 0xF0 and value == 0:
                code = _SET_2[self._set] if self._mode & MODE_TRANSLATE else self._set
                self._answer(ACK, code)
                return
            elif after == 0xF0:
                self._set = value if value in _SET_2 else self._set
            self._answer(ACK)
        elif value in _PARAMETER:
            self._kbd_after = value
            self._answer(ACK)
        elif value == 0xEE:
            self._answer(0xEE)
        elif value == 0xF2:
            identity = (0xAB, 0x41) if self._mode & MODE_TRANSLATE else _IDENTITY
            self._answer(ACK, *identity)
        elif value in (0xF4, 0xF5, 0xF6, 0xFF):
            self._scanning = int(value != 0xF5)
            self._set = 2 if value in (0xF6, 0xFF) else self._set
            self._answer(*((ACK, BAT_OK) if value == 0xFF else (ACK,)))
        elif value == 0xFE and self._data:
            self._answer(self._data)
        else:
            self._answer(RESEND if value < 0xED else ACK)


_COMMANDS: dict[int, Callable[[Keyboard], None]] = {
    0xA7: lambda k: k._set_mode_bit(0x20, True),
    0xA8: lambda k: k._set_mode_bit(0x20, False),
    0xA9: lambda k: k._answer(0x01),  # the mouse's clock line is stuck: nothing is plugged in
    0xAA: lambda k: k._answer(0x55),
    0xAB: lambda k: k._answer(0x00),
    0xAD: lambda k: k._set_mode_bit(MODE_NO_KEYBOARD, True),
    0xAE: lambda k: k._set_mode_bit(MODE_NO_KEYBOARD, False),
    0xC0: lambda k: k._answer(0x80),
    0xD0: lambda k: k._read_output_port(),
    0xDD: lambda k: k._set_a20(False),
    0xDF: lambda k: k._set_a20(True),
}


class _CommandPort:
    """Port 64h of the controller."""

    name = "i8042 command"
    width = 1

    def __init__(self, keyboard: Keyboard) -> None:
        self._keyboard = keyboard

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        return self._keyboard.read_status()

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._keyboard.command(value)

    def save(self) -> State:
        return {}

    def load(self, state: State) -> None:
        """The controller has it all."""


def _untranslated(code: int) -> tuple[int, ...]:
    """The set 2 codes that the controller would translate to this set 1 code."""
    if code in (0xE0, 0xE1):
        return (code,)
    make = _SET2_OF_SET1.get(code & 0x7F, code & 0x7F)
    return (0xF0, make) if code & 0x80 else (make,)


_SET2_OF_SET1 = dict(
    enumerate(
        bytes.fromhex(
            "00 76 16 1e 26 25 2e 36 3d 3e 46 45 4e 55 66 0d"
            "15 1d 24 2d 2c 35 3c 43 44 4d 54 5b 5a 14 1c 1b"
            "23 2b 34 33 3b 42 4b 4c 52 0e 12 5d 1a 22 21 2a"
            "32 31 3a 41 49 4a 59 7c 11 29 58 05 06 04 0c 03"
            "0b 83 0a 01 09 77 7e 6c 75 7d 7b 6b 73 74 79 69"
            "72 7a 70 71 84 60 61 78 07"
        )
    )
)
"""Set 1 make codes 0 to 58h in set 2 (IBM PS/2 technical reference, keyboard scan codes)."""
