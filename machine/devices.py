# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: ARG002  (the bus tells a device more than most need)
"""The small devices on the port bus: debug console, serial port, debug exit.

`DebugConsole` is Bochs' and QEMU's port 0xe9: every byte written is output, a read answers 0xe9 so
that a guest can tell it is there. `Uart16550` is the PC's COM1 (National Semiconductor PC16550D):
it sends at once, receives what `feed` gave it, has loopback for those who probe, and raises `irq`
(as on QEMU's board, whatever OUT2 says). `DebugExit` is QEMU's isa-debug-exit. The doorbell has a
module of its own.

Output is kept in full in `output`; a `sink` callable, if set, gets each byte string as it is
written."""

from __future__ import annotations

from collections.abc import Callable

from machine.bus import State
from machine.devstate import Line

DEBUGCON_PORT, UART_PORT, DEBUG_EXIT_PORT = 0xE9, 0x3F8, 0xF4

LSR_DR, LSR_OE, LSR_THRE, LSR_TEMT = 0x01, 0x02, 0x20, 0x40
IER_RECEIVED, IER_SENT, IER_ERROR, IER_MODEM = 1, 2, 4, 8
_FIFO = 16


class _Output:
    """Bytes that went out, and where they go live."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.sink: Callable[[bytes], None] | None = None

    def _emit(self, data: bytes) -> None:
        self.output += data
        if self.sink is not None:
            self.sink(data)

    @property
    def text(self) -> str:
        """The output as text; bytes that are not UTF-8 show as replacement characters."""
        return self.output.decode("utf-8", "replace")


class DebugConsole(_Output):
    """Port 0xe9. `write` is for hypercalls that print whole strings."""

    name = "debugcon"
    width = 1

    def write(self, data: bytes) -> None:
        """Put `data` on the console."""
        self._emit(bytes(data))

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        return DEBUGCON_PORT

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._emit(bytes((value,)))

    def save(self) -> State:
        return {"output": bytes(self.output)}

    def load(self, state: State) -> None:
        self.output = bytearray(_bytes(state, "output"))


class Uart16550(_Output):
    """Eight ports of a 16550A."""

    name = "uart16550"
    width = 1

    def __init__(self) -> None:
        super().__init__()
        self.irq = Line()
        self._received = bytearray()
        self._overrun = 0
        self._sent = 0
        """The transmitter has become empty, and nobody has been told."""
        self._deltas = 0
        """Modem inputs that have changed since they were read."""
        self._regs = {"ier": 0, "fcr": 0, "lcr": 0, "mcr": 0, "scr": 0, "dll": 0x0C, "dlm": 0}

    def feed(self, data: bytes) -> None:
        """Bytes arriving on the line. They wait here however many they are, as behind flow
        control."""
        self._received += data
        self._update()

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        value = self._read(offset)
        self._update()
        return value

    def _read(self, offset: int) -> int:
        regs = self._regs
        if offset < 2 and regs["lcr"] & 0x80:
            return regs["dlm" if offset else "dll"]
        if offset == 0:
            return self._received.pop(0) if self._received else 0
        if offset == 2:
            cause = self._interrupt_id()
            if cause & 0x0F == 0x02:
                self._sent = 0
            return cause
        if offset == 5:
            status = LSR_THRE | LSR_TEMT | self._overrun | (LSR_DR if self._received else 0)
            self._overrun = 0
            return status
        if offset == 6:
            status = self._modem_status() | self._deltas
            self._deltas = 0
            return status
        return regs[("", "ier", "", "lcr", "mcr", "", "", "scr")[offset]]

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        regs = self._regs
        if offset < 2 and regs["lcr"] & 0x80:
            regs["dlm" if offset else "dll"] = value
        elif offset == 0:
            self._transmit(value)
        elif offset == 1:
            if value & IER_SENT and not regs["ier"] & IER_SENT:
                self._sent = 1
            regs["ier"] = value & 0x0F
        elif offset == 2:
            regs["fcr"] = value & 0xC9
            if value & 2:
                self._received.clear()
        elif offset == 4:
            before = self._modem_status() >> 4
            regs["mcr"] = value & 0x1F
            after = self._modem_status() >> 4
            # The ring indicator counts only when it ends.
            self._deltas |= (before ^ after) & 0x0B | before & ~after & 0x04
        elif offset in (3, 7):
            regs["lcr" if offset == 3 else "scr"] = value
        self._update()

    def reset(self) -> None:
        """Power-on state; what was sent has been sent."""
        self._regs = dict.fromkeys(self._regs, 0) | {"dll": 0x0C}
        self._received.clear()
        self._overrun = self._sent = self._deltas = 0
        self._update()

    def _update(self) -> None:
        self.irq.set(int(not self._interrupt_id() & 1))

    def _transmit(self, value: int) -> None:
        self._sent = 1
        if not self._regs["mcr"] & 0x10:
            self._emit(bytes((value,)))
        elif len(self._received) < (_FIFO if self._regs["fcr"] & 1 else 1):
            self._received.append(value)
        else:
            self._overrun = LSR_OE

    def _interrupt_id(self) -> int:
        fifos = 0xC0 if self._regs["fcr"] & 1 else 0
        enabled = self._regs["ier"]
        if enabled & IER_ERROR and self._overrun:
            return fifos | 0x06
        if enabled & IER_RECEIVED and self._received:
            return fifos | 0x04
        if enabled & IER_SENT and self._sent:
            return fifos | 0x02
        return fifos | (0x00 if enabled & IER_MODEM and self._deltas else 0x01)

    def _modem_status(self) -> int:
        mcr = self._regs["mcr"]
        if not mcr & 0x10:
            return 0xB0  # carrier, ready, clear to send: somebody listens
        return (mcr & 0x0C) << 4 | (mcr & 0x02) << 3 | (mcr & 0x01) << 5

    def save(self) -> State:
        state: State = {"output": bytes(self.output), "received": bytes(self._received)}
        state |= {"sent": self._sent, "deltas": self._deltas, "irq": self.irq.level}
        return state | self._regs | {"overrun": self._overrun}

    def load(self, state: State) -> None:
        self.output = bytearray(_bytes(state, "output"))
        self._received = bytearray(_bytes(state, "received"))
        self._overrun = LSR_OE if state["overrun"] else 0
        self._sent, self._deltas = _byte(state, "sent") & 1, _byte(state, "deltas") & 0x0F
        self.irq.level = _byte(state, "irq") & 1
        self._regs = {key: _byte(state, key) for key in self._regs}


class DebugExit:
    """isa-debug-exit: writing `value` ends the run with exit code (value << 1) | 1. `on_exit` gets
    the CPU and that code."""

    name = "isa-debug-exit"
    width = 4

    def __init__(self, on_exit: Callable[[int, int], None]) -> None:
        self._on_exit = on_exit

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        return 0

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._on_exit(cpu_id, value << 1 | 1)

    def save(self) -> State:
        return {}

    def load(self, state: State) -> None:
        """Nothing to restore: the device has no state."""


def _bytes(state: State, key: str) -> bytes:
    value = state[key]
    return value if isinstance(value, bytes) else b""


def _byte(state: State, key: str) -> int:
    value = state[key]
    return value & 0xFF if isinstance(value, int) else 0
