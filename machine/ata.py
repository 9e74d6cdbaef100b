# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: ARG002  (the bus tells a device more than most need)
"""An ATA channel: ports 1F0h to 1F7h and 3F6h (or 170h and 376h), two drives, one interrupt.

Programmed I/O of the AT Attachment standard (ATA/ATAPI-6, clauses 7 to 9): IDENTIFY, reads and
writes by cylinder, head and sector and by 28 and 48 bit addresses, sector by sector or in blocks,
verify, flush, the mandatory rest; software reset and diagnosis with their signatures. There is no
DMA, and IDENTIFY says so. The drives are the board's hard disks, the same that INT 13h serves.

A command keeps the drive busy for a moment of modelled time, as does every block; then it asks for
data or reports, and raises the interrupt unless the control register forbids it. What a drive that
is not there answers, and which status the steps show, is as on QEMU's PC (hw/ide/core.c)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass

from machine.ataidentity import MAX_BLOCK, identify
from machine.bus import PortBus, State
from machine.devstate import Line, Timebase, number, octets
from machine.drive import SECTOR, Drive

PORTS = 8
BUSY_NS = 20_000
"""What a command, or a block of it, takes."""
BUSY, READY, SEEK, DRQ, ERROR = 0x80, 0x40, 0x10, 0x08, 0x01
ABORTED = 0x04
_IDLE = READY | SEEK
_NO_INTERRUPT, _RESET, _HIGH_ORDER = 0x02, 0x04, 0x80
_LBA = 0x40
(_FEATURES, _COUNT, _LOW, _MIDDLE, _HIGH, _SELECT, _COMMAND) = range(1, 8)

_READS = {0x20: 28, 0x21: 28, 0x24: 48, 0xC4: 28, 0x29: 48}
_WRITES = {0x30: 28, 0x31: 28, 0x34: 48, 0xC5: 28, 0x39: 48}
_VERIFIES = {0x40: 28, 0x41: 28, 0x42: 48}
_IN_BLOCKS = (0xC4, 0xC5, 0x29, 0x39)
_NOTHING_TO_DO = (
    *range(0x10, 0x20), 0x70, 0xE0, 0xE1, 0xE2, 0xE3, 0xE6, 0xE7, 0xEA,
    0x94, 0x95, 0x96, 0x97, 0x99,
)  # fmt: skip
"""Recalibrate, seek, power, flush."""
_DIAGNOSE, _PARAMETERS, _IDENTIFY, _SET_BLOCK, _SET_FEATURES = 0x90, 0x91, 0xEC, 0xC6, 0xEF
_CHECK_POWER = (0xE5, 0x98)
_NATIVE_MAX, _NATIVE_MAX_48 = 0xF8, 0x27
_FEATURES_TAKEN = (0x02, 0x82, 0xAA, 0x55, 0x05, 0x85, 0x69, 0x67, 0x96, 0x9A, 0x42, 0xC2)
"""Caches, look-ahead, power and noise: what makes no difference here."""
_TRANSFER_MODE = 0x03


@dataclass
class _Unit:
    """The registers of one drive. Addresses of 48 bits are written in two goes: `old_` is what a
    register held before."""

    error: int = 1
    status: int = _IDLE
    features: int = 0
    old_features: int = 0
    count8: int = 1
    old_count: int = 0
    low: int = 1
    old_low: int = 0
    middle: int = 0
    old_middle: int = 0
    high: int = 0
    old_high: int = 0
    select: int = 0xA0
    heads: int = 0
    sectors: int = 0
    block: int = MAX_BLOCK

    def write(self, register: int, value: int) -> None:
        """The register and what it held."""
        if register == _FEATURES:
            self.old_features, self.features = self.features, value
        elif register == _COUNT:
            self.old_count, self.count8 = self.count8, value
        elif register == _LOW:
            self.old_low, self.low = self.low, value
        elif register == _MIDDLE:
            self.old_middle, self.middle = self.middle, value
        elif register == _HIGH:
            self.old_high, self.high = self.high, value

    def read(self, register: int, old: bool) -> int:
        """A register, or what it held before."""
        names = ("old_count", "old_low", "old_middle", "old_high")
        if old and _COUNT <= register <= _HIGH:
            return int(getattr(self, names[register - _COUNT]))
        return (0, self.error, self.count8, self.low, self.middle, self.high)[register]

    def signature(self, present: bool) -> None:
        """What stands in the registers after a reset."""
        self.select, self.count8, self.low, self.error = 0xA0, 1, 1, 1
        self.middle = self.high = 0 if present else 0xFF

    def sector(self, bits: int) -> int:
        """The sector that the registers name."""
        if bits == 48:
            old = self.old_low | self.old_middle << 8 | self.old_high << 16
            return old << 24 | self.high << 16 | self.middle << 8 | self.low
        if self.select & _LBA:
            return (self.select & 15) << 24 | self.high << 16 | self.middle << 8 | self.low
        cylinder = self.high << 8 | self.middle
        return (cylinder * self.heads + (self.select & 15)) * self.sectors + self.low - 1

    def set_sector(self, bits: int, lba: int) -> None:
        """Name sector `lba`."""
        if bits == 28 and not self.select & _LBA:
            track, sector = divmod(lba, max(self.sectors, 1))
            cylinder, head = divmod(track, max(self.heads, 1))
            self.low = sector + 1 & 0xFF
            self.middle, self.high = cylinder & 0xFF, cylinder >> 8 & 0xFF
            self.select = self.select & 0xF0 | head & 15
            return
        self.low, self.middle, self.high = lba & 0xFF, lba >> 8 & 0xFF, lba >> 16 & 0xFF
        if bits == 48:
            self.old_low, self.old_middle = lba >> 24 & 0xFF, lba >> 32 & 0xFF
            self.old_high = lba >> 40 & 0xFF
        else:
            self.select = self.select & 0xF0 | lba >> 24 & 15


class AtaChannel:
    """One channel. `drive` tells which drive is unit 0 or 1, None for none; `irq` is INTRQ."""

    width = 4

    def __init__(self, name: str, time: Timebase, drive: Callable[[int], Drive | None]) -> None:
        self.name = name
        self.irq = Line()
        self._time, self._drive = time, drive
        self._alarm = time.timer(name, self._ready)
        self.reset()

    def reset(self) -> None:
        """Power-on state."""
        self._units = (_Unit(), _Unit())
        self._control = self._unit = 0
        self._data, self._at = b"", 0
        self._command = self._left = 0
        """The command under way; sectors of it still to be transferred."""
        self._alarm.clear()
        self.irq.set(0)

    def attach(self, ports: PortBus, first: int, control: int) -> None:
        """Put the registers on the port bus."""
        ports.attach(first, PORTS, self)
        ports.attach(control, 1, _ControlPort(self))

    # --- the registers --------------------------------------------------------------------------
    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        if offset == 0:
            return self._read_data(size)
        parts = (self._read(offset + n) << 8 * n for n in range(size) if offset + n <= _COMMAND)
        return sum(parts)

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        if offset == 0:
            self._write_data(size, value)
            return
        for n in range(size):
            if offset + n <= _COMMAND:
                self._write(offset + n, value >> 8 * n & 0xFF)

    def _read(self, register: int) -> int:
        self._time.spend()
        if register == _COMMAND:
            self.irq.set(0)
            return self.status
        if self._empty:
            return 0
        unit = self._units[self._unit]
        if register == _SELECT:
            return unit.select
        if register == _FEATURES and self._missing:
            return 0
        return unit.read(register, bool(self._control & _HIGH_ORDER))

    def _write(self, register: int, value: int) -> None:
        self._time.spend()
        if register == _COMMAND:
            self._begin(value)
            return
        if self._units[self._unit].status & (BUSY | DRQ):
            return
        self._control &= ~_HIGH_ORDER
        for unit in self._units:
            if register == _SELECT:
                unit.select = value | 0xA0
            else:
                unit.write(register, value)
        if register == _SELECT:
            self._unit = value >> 4 & 1

    @property
    def status(self) -> int:
        """The status register, without the effect of reading it."""
        return 0 if self._empty or self._missing else self._units[self._unit].status

    @property
    def _empty(self) -> bool:
        return self._drive(0) is None and self._drive(1) is None

    @property
    def _missing(self) -> bool:
        """Unit 1 is selected, and there is none."""
        return self._unit == 1 and self._drive(1) is None

    def control(self, value: int) -> None:
        """The control register: reset, interrupts, which byte of the addresses is read."""
        self._time.spend()
        if value & _RESET and not self._control & _RESET:
            for number_, unit in enumerate(self._units):
                unit.signature(self._drive(number_) is not None)
                unit.status = BUSY | SEEK
            self._unit = self._left = self._command = 0
            self._data = b""
            self._alarm.clear()
            self.irq.set(0)
        elif self._control & _RESET and not value & _RESET:
            for unit in self._units:
                unit.status = _IDLE
        self._control = value

    # --- commands -------------------------------------------------------------------------------
    def _begin(self, command: int) -> None:
        """A command is written."""
        unit = self._units[self._unit]
        if self._empty or self._missing or unit.status & (BUSY | DRQ) or self._control & _RESET:
            return
        self.irq.set(0)
        self._command, self._left, self._data = command, 0, b""
        unit.error = 0
        drive = self._drive(self._unit)
        if drive is not None and not unit.heads:
            unit.heads, unit.sectors = drive.geometry.heads, drive.geometry.sectors
        bits = self._bits
        if bits:
            high = unit.old_count << 8 if bits == 48 else 0
            self._left = high | unit.count8 or (1 << 16 if bits == 48 else 256)
        if command in _WRITES and self._block:
            self._ask_for(self._block)
        else:
            unit.status = _IDLE | BUSY
            self._alarm.set(self._time.now + BUSY_NS)

    @property
    def _bits(self) -> int:
        """Bits of the addresses of the command; 0 when it has none."""
        found = _READS.get(self._command) or _WRITES.get(self._command)
        return found or _VERIFIES.get(self._command, 0)

    @property
    def _block(self) -> int:
        """Sectors transferred with one interrupt."""
        block = self._units[self._unit].block if self._command in _IN_BLOCKS else 1
        return min(block, self._left)

    def _possible(self, drive: Drive) -> bool:
        """The next block of the transfer is on the disk, and blocks have been agreed on."""
        first = self._units[self._unit].sector(self._bits)
        return bool(self._block) and 0 <= first <= drive.sectors - self._block

    def _ask_for(self, sectors: int) -> None:
        """Let the guest write so many."""
        self._data, self._at = bytes(sectors * SECTOR), 0
        self._units[self._unit].status = _IDLE | DRQ

    def _ready(self) -> None:
        """The drive is no longer busy."""
        unit, drive = self._units[self._unit], self._drive(self._unit)
        if drive is None:
            self._end(ABORTED)
        elif self._command in _READS:
            self._read_block(unit, drive)
        elif self._command in _WRITES:
            self._written(unit, drive)
        elif self._command in _VERIFIES:
            fits = 0 <= unit.sector(self._bits) <= drive.sectors - self._left
            self._end(0 if fits else ABORTED)
        elif self._command == _IDENTIFY:
            self._offer(unit, identify(drive, unit.heads, unit.sectors, unit.block))
        else:
            self._end(self._simple(unit, drive))

    def _simple(self, unit: _Unit, drive: Drive) -> int:
        """A command without data; the error."""
        command = self._command
        if command == _DIAGNOSE:
            for n in (0, 1):
                self._units[n].signature(self._drive(n) is not None)
            self._unit = 0
            return 0
        if command == _PARAMETERS:
            unit.heads, unit.sectors = (unit.select & 15) + 1, unit.count8
        elif command == _SET_BLOCK:
            count = unit.count8
            if count > MAX_BLOCK or count & (count - 1):
                return ABORTED
            unit.block = count
        elif command in _CHECK_POWER:
            unit.count8 = 0xFF
        elif command in (_NATIVE_MAX, _NATIVE_MAX_48):
            bits = 28 if command == _NATIVE_MAX else 48
            last = drive.sectors - 1
            unit.select |= _LBA if bits == 28 else 0
            unit.set_sector(bits, min(last, (1 << 28) - 1) if bits == 28 else last)
        elif command == _SET_FEATURES:
            programmed = unit.features == _TRANSFER_MODE and unit.count8 >> 3 in (0, 1)
            return 0 if programmed or unit.features in _FEATURES_TAKEN else ABORTED
        elif command not in _NOTHING_TO_DO:
            return ABORTED
        return 0

    def _end(self, error: int) -> None:
        """The command is over."""
        unit = self._units[self._unit]
        if self._command != _DIAGNOSE:
            unit.error = error
        unit.status = READY | ERROR if error else _IDLE
        self._data, self._left = b"", 0
        self._interrupt()

    def _interrupt(self) -> None:
        if not self._control & _NO_INTERRUPT:
            self.irq.set(1)

    # --- data -----------------------------------------------------------------------------------
    def _offer(self, unit: _Unit, data: bytes) -> None:
        """Let the guest read it."""
        self._data, self._at = data, 0
        unit.status = _IDLE | DRQ
        self._interrupt()

    def _read_block(self, unit: _Unit, drive: Drive) -> None:
        count = self._block
        first = unit.sector(self._bits)
        data = drive.read(first, count) if self._possible(drive) else None
        if data is None:
            self._end(ABORTED)
            return
        self._step(unit, first, count)
        self._offer(unit, data)

    def _written(self, unit: _Unit, drive: Drive) -> None:
        """A block has come."""
        first, count = unit.sector(self._bits), len(self._data) // SECTOR
        if not count or not drive.write(first, self._data):
            self._end(ABORTED)
            return
        self._step(unit, first, count)
        if not self._left:
            self._end(0)
        else:
            self._ask_for(self._block)
            self._interrupt()

    def _step(self, unit: _Unit, first: int, count: int) -> None:
        """So many sectors are done: the registers name what comes behind them."""
        self._left -= count
        unit.count8 = self._left & 0xFF
        unit.set_sector(self._bits, first + count)

    def _read_data(self, size: int) -> int:
        unit = self._units[self._unit]
        if self.status & DRQ == 0 or self._command in _WRITES:
            return 0
        value = int.from_bytes(self._data[self._at : self._at + size], "little")
        self._at += size
        if self._at >= len(self._data):
            unit.status = _IDLE
            if self._left:
                unit.status |= BUSY
                self._alarm.set(self._time.now + BUSY_NS)
        return value

    def _write_data(self, size: int, value: int) -> None:
        unit = self._units[self._unit]
        if self.status & DRQ == 0 or self._command not in _WRITES:
            return
        data = bytearray(self._data)
        data[self._at : self._at + size] = value.to_bytes(size, "little")
        self._data = bytes(data[: len(self._data)])
        self._at += size
        if self._at >= len(self._data):
            unit.status = _IDLE | BUSY
            self._alarm.set(self._time.now + BUSY_NS)

    # --- keeping --------------------------------------------------------------------------------
    def save(self) -> State:
        state: State = {"control": self._control, "unit": self._unit, "data": bytes(self._data)}
        state |= {"at": self._at, "command": self._command, "left": self._left}
        state |= {"irq": self.irq.level}
        registers = b"".join(struct.pack("<16B", *asdict(unit).values()) for unit in self._units)
        return state | {"units": registers}

    def load(self, state: State) -> None:
        registers = octets(state, "units", 32)
        self._units = (_Unit(*registers[:16]), _Unit(*registers[16:]))
        self._control, self._unit = number(state, "control", 0xFF), number(state, "unit", 1)
        self._data, self._at = octets(state, "data"), number(state, "at", 0x1FFFF)
        self._command, self._left = number(state, "command", 0xFF), number(state, "left", 0x1FFFF)
        if len(self._data) > MAX_BLOCK * SECTOR:
            raise ValueError("ATA: more data than a block has")
        self.irq.level = number(state, "irq", 1)


class _ControlPort:
    """The register beside the others: control, and the status without an effect."""

    width = 1

    def __init__(self, channel: AtaChannel) -> None:
        self.name = f"{channel.name}_control"
        self._channel = channel

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        return self._channel.status

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._channel.control(value)

    def save(self) -> State:
        return {}

    def load(self, state: State) -> None:
        """The channel has it all."""
