# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: ARG002  (the bus tells a device more than most need)
"""VGA text: the registers at 3B0h to 3DFh, and the screen that they and RAM make.

Text memory at physical 0xb8000 (0xb0000 in monochrome) is plain RAM, which guests write without
anybody noticing. The registers are kept: the CRT controller's with the cursor and the start of the
page, attribute, sequencer, graphics and palette registers. Retrace comes and goes with the modelled
clock. Graphics modes can be set, and their memory is RAM, too, but it has no planes and nobody
shows it.

`TextScreen` reads the picture (IBM VGA technical reference; character set is code page 437)."""

from __future__ import annotations

from machine.bus import PortBus, State
from machine.devstate import Timebase, number, octets
from machine.physmem import PhysicalMemory

VGA_PORT, VGA_PORTS = 0x3B0, 0x30
TEXT_MEMORY, MONO_MEMORY, TEXT_SIZE = 0xB8000, 0xB0000, 0x8000

CRTC_CURSOR_START, CRTC_CURSOR_END, CRTC_START, CRTC_CURSOR = 0x0A, 0x0B, 0x0C, 0x0E
CRTC_COLUMNS, CRTC_OVERFLOW, CRTC_LINES, CRTC_ROWS = 0x01, 0x07, 0x09, 0x12
CURSOR_OFF = 0x20

TEXT_CRTC = bytes.fromhex("5f4f508255 81bf1f00 4f0d0e00000000 9c8e8f281f96b9a3ff")
"""The CRT controller in mode 3: 80 by 25 characters of 16 lines."""

_LINE_NS, _FRAME_NS = 31_778, 14_268_000
"""A line, and a picture of 449 of them: 70 Hz."""
_LINES_SHOWN, _DOTS_SHOWN = 400, 25_422
_GRAPHICS = 1
"""Graphics controller register 6, bit 0."""
_SYMBOLS = (
    "\u263a\u263b\u2665\u2666\u2663\u2660\u2022\u25d8\u25cb\u25d9\u2642\u2640\u266a\u266b\u263c"
    "\u25ba\u25c4\u2195\u203c\u00b6\u00a7\u25ac\u21a8\u2191\u2193\u2192\u2190\u221f\u2194\u25b2\u25bc"
)
CP437 = " " + _SYMBOLS + bytes(range(0x20, 0x7F)).decode("ascii") + "\u2302"
CP437 += bytes(range(0x80, 0x100)).decode("cp437").replace("\u00a0", " ")
"""The 256 characters as a screen shows them."""


class Vga:
    """The registers."""

    name = "vga"
    width = 1

    def __init__(self, time: Timebase) -> None:
        self._time = time
        self.crtc = bytearray(64)
        self.attribute = bytearray(32)
        self.sequencer = bytearray(8)
        self.graphics = bytearray(16)
        self.palette = bytearray(768)
        self.reset()

    def attach(self, ports: PortBus) -> None:
        """Put the registers on the port bus."""
        ports.attach(VGA_PORT, VGA_PORTS, self)

    def reset(self) -> None:
        """Text mode 3, as the VGA BIOS leaves it."""
        self.crtc[:] = TEXT_CRTC.ljust(64, b"\0")
        self.attribute[:] = bytes.fromhex(
            "000102030405140738393a3b3c3d3e3f0c000f0800"
        ).ljust(32, b"\0")  # fmt: skip
        self.sequencer[:] = bytes((3, 0, 3, 0, 2, 0, 0, 0))
        self.graphics[:] = bytes((0, 0, 0, 0, 0, 0x10, 0x0E, 0x0F, 0xFF)).ljust(16, b"\0")
        self.palette[:] = bytes(768)
        self._n = {
            "crtc_index": 0, "attribute_index": 0x20, "attribute_data": 0, "sequencer_index": 0,
            "graphics_index": 0, "misc": 0x67, "dac_mask": 0xFF, "dac_read": 0, "dac_write": 0,
            "dac_reading": 0, "feature": 0,
        }  # fmt: skip

    @property
    def text(self) -> bool:
        """False in a graphics mode."""
        return not self.graphics[6] & _GRAPHICS

    @property
    def memory(self) -> int:
        """Physical address of text memory."""
        return TEXT_MEMORY if self.graphics[6] >> 2 & 3 == 3 else MONO_MEMORY

    def port_read(self, cpu_id: int, offset: int, size: int) -> int:
        self._time.spend()
        n = self._n
        port = self._colour(offset)
        if port in (0x3D4, 0x3D5):
            return n["crtc_index"] if port == 0x3D4 else self.crtc[n["crtc_index"] & 63]
        if port == 0x3DA:
            n["attribute_data"] = 0
            return self._retrace()
        if port == 0x3C0:
            return n["attribute_index"]
        if port == 0x3C1:
            return self.attribute[n["attribute_index"] & 31]
        if port in (0x3C5, 0x3CF):
            if port == 0x3C5:
                return self.sequencer[n["sequencer_index"] & 7]
            return self.graphics[n["graphics_index"] & 15]
        if port == 0x3C9:
            value = self.palette[n["dac_read"] % 768]
            n["dac_read"] = (n["dac_read"] + 1) % 768
            return value
        plain = {
            0x3C2: 0, 0x3C4: n["sequencer_index"], 0x3C6: n["dac_mask"],
            0x3C7: n["dac_reading"], 0x3C8: n["dac_write"] // 3, 0x3CA: n["feature"],
            0x3CC: n["misc"], 0x3CE: n["graphics_index"],
        }  # fmt: skip
        return plain.get(port, 0xFF)

    def port_write(self, cpu_id: int, offset: int, size: int, value: int) -> None:
        self._time.spend()
        n = self._n
        port = self._colour(offset)
        if port == 0x3D5:
            self._write_crtc(n["crtc_index"] & 63, value)
        elif port == 0x3C0:
            if n["attribute_data"]:
                self.attribute[n["attribute_index"] & 31] = value
            else:
                n["attribute_index"] = value & 0x3F
            n["attribute_data"] ^= 1
        elif port == 0x3C5:
            self.sequencer[n["sequencer_index"] & 7] = value
        elif port == 0x3CF:
            self.graphics[n["graphics_index"] & 15] = value
        elif port == 0x3C9:
            self.palette[n["dac_write"] % 768] = value & 0x3F
            n["dac_write"] = (n["dac_write"] + 1) % 768
        elif port in (0x3C7, 0x3C8):
            n["dac_read" if port == 0x3C7 else "dac_write"] = 3 * value
            n["dac_reading"] = 3 if port == 0x3C7 else 0
        else:
            plain = {
                0x3D4: "crtc_index", 0x3C2: "misc", 0x3C4: "sequencer_index", 0x3C6: "dac_mask",
                0x3CE: "graphics_index", 0x3DA: "feature",
            }  # fmt: skip
            if port in plain:
                n[plain[port]] = value

    def save(self) -> State:
        state: State = {
            name: bytes(getattr(self, name))
            for name in ("crtc", "attribute", "sequencer", "graphics", "palette")
        }
        return state | self._n

    def load(self, state: State) -> None:
        for name in ("crtc", "attribute", "sequencer", "graphics", "palette"):
            cells: bytearray = getattr(self, name)
            cells[:] = octets(state, name, len(cells))
        self._n = {key: number(state, key, 0x3FF) for key in self._n}

    def _colour(self, offset: int) -> int:
        """The port at `offset`, 3Bxh standing for 3Dxh on a monochrome screen; 0 for the other
        set."""
        port = VGA_PORT + offset
        if 0x3C0 <= port < 0x3D0:
            return port
        colour = bool(self._n["misc"] & 1)
        return (port if colour else port + 0x20) if (port >= 0x3D0) == colour else 0

    def _write_crtc(self, index: int, value: int) -> None:
        if self.crtc[0x11] & 0x80 and index < 8:  # write protected, but for one bit
            if index == CRTC_OVERFLOW:
                self.crtc[index] = self.crtc[index] & ~0x10 | value & 0x10
            return
        self.crtc[index] = value

    def _retrace(self) -> int:
        """Input status 1: bit 3 in vertical retrace, bit 0 whenever nothing is shown."""
        line, dot = divmod(self._time.now % _FRAME_NS, _LINE_NS)
        if line >= _LINES_SHOWN:
            return 0x09 if 412 <= line < 414 else 0x01
        return 0x01 if dot >= _DOTS_SHOWN else 0x00


class TextScreen:
    """What is to be seen in text mode."""

    def __init__(self, memory: PhysicalMemory, vga: Vga) -> None:
        self._memory, self._vga = memory, vga

    @property
    def columns(self) -> int:
        """Characters in a row."""
        return self._vga.crtc[CRTC_COLUMNS] + 1

    @property
    def rows(self) -> int:
        """Rows of the screen: the lines shown, by the lines of a character."""
        crtc = self._vga.crtc
        overflow = crtc[CRTC_OVERFLOW]
        lines = (crtc[CRTC_ROWS] | (overflow & 2) << 7 | (overflow & 0x40) << 3) + 1
        height = (crtc[CRTC_LINES] & 31) + 1
        doubled = 2 if crtc[CRTC_LINES] & 0x80 else 1
        return max(lines // (height * doubled), 1)

    @property
    def cursor(self) -> tuple[int, int] | None:
        """Column and row of the cursor, None when it is off or elsewhere."""
        crtc = self._vga.crtc
        place = (crtc[CRTC_CURSOR] << 8 | crtc[CRTC_CURSOR + 1]) - self._start
        if crtc[CRTC_CURSOR_START] & CURSOR_OFF or not 0 <= place < self.columns * self.rows:
            return None
        return place % self.columns, place // self.columns

    @property
    def _start(self) -> int:
        return self._vga.crtc[CRTC_START] << 8 | self._vga.crtc[CRTC_START + 1]

    def cells(self) -> bytes:
        """Character and attribute of every cell of the page, two bytes each."""
        memory, size = self._memory.bytes, TEXT_SIZE
        base, begin = self._vga.memory, 2 * self._start
        window = bytes(memory[base : base + size])
        length = 2 * self.columns * self.rows
        begin %= size
        return (window * (2 + length // size))[begin : begin + length]

    def lines(self) -> list[str]:
        """The rows as text, with all their blanks."""
        text = "".join(CP437[code] for code in self.cells()[::2])
        return [text[n : n + self.columns] for n in range(0, len(text), self.columns)]

    def text(self) -> str:
        """The rows without blanks at their ends, and without empty rows at the end."""
        return "\n".join(line.rstrip() for line in self.lines()).rstrip("\n")
