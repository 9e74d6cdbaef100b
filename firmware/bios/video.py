# SPDX-License-Identifier: GPL-2.0-only
"""INT 10h: the screen.

Text modes are complete: setting them, cursor, pages, scrolling, reading and writing characters, the
teletype and strings. Graphics modes can be set and their memory cleared, single pixels of mode 13h
written and read; nothing draws letters in them. There is no VESA BIOS: function 4Fh returns its
registers as they came, which says that it is not there.

What the BIOS knows of the screen is in the BIOS data area, and the cursor and page in the CRT
controller's registers besides (IBM VGA technical reference; Ralf Brown's interrupt list)."""

from __future__ import annotations

from collections.abc import Callable

from firmware.bios import bda
from firmware.bios.call import Call
from machine import Machine
from machine.vga import (
    CRTC_COLUMNS,
    CRTC_CURSOR,
    CRTC_CURSOR_END,
    CRTC_CURSOR_START,
    CRTC_LINES,
    CRTC_START,
    MONO_MEMORY,
    TEXT_MEMORY,
    TEXT_SIZE,
)

GRAPHICS_MEMORY, GRAPHICS_SIZE = 0xA0000, 0x10000
TEXT_MODES = {0: 40, 1: 40, 2: 80, 3: 80, 7: 80}
"""Columns of the text modes."""
GRAPHICS_MODES = {
    0x04: 40, 0x05: 40, 0x06: 80, 0x0D: 40, 0x0E: 80, 0x0F: 80, 0x10: 80, 0x11: 80, 0x12: 80,
    0x13: 40,
}  # fmt: skip
_KEEP_MEMORY = 0x80
_BLANK, _GREY = 0x20, 0x07
_BELL, _BACKSPACE, _LINE_FEED, _RETURN = 7, 8, 10, 13


class Video:
    """The services. All state is in guest RAM and in the VGA's registers."""

    def __init__(self, machine: Machine) -> None:
        self._memory = machine.memory
        self._vga = machine.pc.vga
        self._functions: dict[int, Callable[[Call], None]] = {
            0x00: self._set_mode, 0x01: self._set_cursor_shape, 0x02: self._set_cursor,
            0x03: self._get_cursor, 0x05: self._set_page, 0x06: self._scroll, 0x07: self._scroll,
            0x08: self._read_cell, 0x09: self._write_cells, 0x0A: self._write_cells,
            0x0C: self._write_pixel, 0x0D: self._read_pixel, 0x0E: self._teletype,
            0x0F: self._get_mode, 0x10: self._palette, 0x11: self._font, 0x12: self._alternate,
            0x13: self._write_string, 0x1A: self._display_code,
        }  # fmt: skip

    def __call__(self, call: Call) -> int:
        function = self._functions.get(call.ah)
        if function is not None:
            function(call)
        return 0

    def set_mode(self, mode: int) -> None:
        """Switch to `mode`; bit 7 set keeps what is on the screen. Unknown modes do nothing."""
        number, memory, vga = mode & 0x7F, self._memory, self._vga
        columns = TEXT_MODES.get(number) or GRAPHICS_MODES.get(number)
        if columns is None:
            return
        text = number in TEXT_MODES
        vga.reset()
        vga.crtc[CRTC_COLUMNS] = columns - 1
        tall = number in (0x11, 0x12)
        height = 16 if text or tall else 14 if number in (0x0F, 0x10) else 8
        if number == 7:
            vga.graphics[6], vga._n["misc"] = 0x0A, 0x66
        elif not text:
            vga.graphics[6] = 0x0F if number < 7 else 0x05
        port = 0x3B4 if number == 7 else 0x3D4
        page_size = {40: 0x800, 80: 0x1000}[columns] if text else 0x4000
        if not mode & _KEEP_MEMORY:
            self._clear(number, text)
        memory.write_u8(bda.VIDEO_MODE, number)
        memory.write_u16(bda.COLUMNS, columns)
        memory.write_u16(bda.PAGE_SIZE, page_size)
        memory.write_u16(bda.PAGE_START, 0)
        memory.write(bda.CURSORS, bytes(16))
        memory.write_u16(bda.CURSOR_SHAPE, 0x0607)
        memory.write_u8(bda.PAGE, 0)
        memory.write_u16(bda.CRTC_PORT, port)
        memory.write_u8(bda.ROWS, 29 if tall else 24)
        memory.write_u16(bda.CHAR_HEIGHT, height)
        memory.write_u8(bda.VIDEO_CONTROL, 0x60 | mode & _KEEP_MEMORY)
        memory.write_u8(bda.VIDEO_SWITCHES, 0xF9)
        memory.write_u8(bda.MODESET_CONTROL, memory.read_u8(bda.MODESET_CONTROL) & 0x7F | 0x51)
        memory.write_u8(bda.DISPLAY_CODE, 8)
        self._shape(0x0607)
        self._show_cursor()

    def print(self, text: str) -> None:
        """Write `text` as the teletype function does; for the BIOS's own messages."""
        for char in text.encode("cp437", "replace"):
            self._type(char)

    def _clear(self, number: int, text: bool) -> None:
        memory = self._memory
        if text:
            base = MONO_MEMORY if number == 7 else TEXT_MEMORY
            memory.write(base, bytes((_BLANK, _GREY)) * (TEXT_SIZE // 2))
        elif number < 7:
            memory.write(TEXT_MEMORY, bytes(TEXT_SIZE))
        else:
            memory.write(GRAPHICS_MEMORY, bytes(GRAPHICS_SIZE))

    # --- what the screen is -----------------------------------------------------------------------
    @property
    def columns(self) -> int:
        """Characters in a row."""
        return max(self._memory.read_u16(bda.COLUMNS), 1)

    @property
    def rows(self) -> int:
        """Rows."""
        return self._memory.read_u8(bda.ROWS) + 1

    @property
    def is_text(self) -> bool:
        """False in a graphics mode."""
        return self._memory.read_u8(bda.VIDEO_MODE) in TEXT_MODES

    @property
    def page(self) -> int:
        """The page that is shown."""
        return self._memory.read_u8(bda.PAGE) & 7

    def cursor(self, page: int) -> tuple[int, int]:
        """Column and row of a page's cursor."""
        place = bda.CURSORS + 2 * (page & 7)
        return self._memory.read_u8(place), self._memory.read_u8(place + 1)

    def move_cursor(self, page: int, column: int, row: int) -> None:
        """Put a page's cursor somewhere."""
        place = bda.CURSORS + 2 * (page & 7)
        self._memory.write(place, bytes((column & 0xFF, row & 0xFF)))
        if page & 7 == self.page:
            self._show_cursor()

    def _show_cursor(self) -> None:
        """The CRT controller's cursor goes where the shown page's is."""
        column, row = self.cursor(self.page)
        start = self._memory.read_u16(bda.PAGE_START)
        place = (start // 2 if self.is_text else 0) + row * self.columns + column
        self._vga.crtc[CRTC_CURSOR : CRTC_CURSOR + 2] = (place & 0xFFFF).to_bytes(2, "big")

    def _cell(self, page: int, column: int, row: int) -> int:
        """Physical address of a cell in text memory; it wraps as the window does."""
        size = self._memory.read_u16(bda.PAGE_SIZE)
        base = MONO_MEMORY if self._memory.read_u8(bda.VIDEO_MODE) == 7 else TEXT_MEMORY
        return base + ((page & 7) * size + 2 * (row * self.columns + column)) % TEXT_SIZE

    def _put(self, page: int, column: int, row: int, char: int, attribute: int | None) -> None:
        if self.is_text:
            place = self._cell(page, column, row)
            self._memory.write_u8(place, char)
            if attribute is not None:
                self._memory.write_u8(place + 1, attribute)

    def _row(self, page: int, row: int, left: int, right: int) -> tuple[int, int]:
        """Physical address and bytes of columns `left` to `right` of a row."""
        return self._cell(page, left, row), 2 * (right - left + 1)

    def _scroll_window(
        self, page: int, window: tuple[int, int, int, int], lines: int, attribute: int
    ) -> None:
        """Move (left, top, right, bottom) up by `lines` (down if negative, 0: clear it all)."""
        if not self.is_text:
            return
        left, top, right, bottom = window
        height = bottom - top + 1
        lines = height if lines == 0 or abs(lines) > height else lines
        memory, blank = self._memory, bytes((_BLANK, attribute))
        rows = [memory.read(*self._row(page, row, left, right)) for row in range(top, bottom + 1)]
        empty = [blank * (right - left + 1)] * abs(lines)
        rows = rows[lines:] + empty if lines > 0 else empty + rows[:lines]
        for row, data in zip(range(top, bottom + 1), rows, strict=True):
            memory.write(self._cell(page, left, row), data)

    def _type(self, char: int, page: int | None = None, attribute: int | None = None) -> None:
        """One character of a teletype: it moves the cursor and scrolls."""
        page = self.page if page is None else page
        column, row = self.cursor(page)
        if char == _BACKSPACE:
            column = max(column - 1, 0)
        elif char == _RETURN:
            column = 0
        elif char == _LINE_FEED:
            row += 1
        elif char != _BELL:
            self._put(page, column, row, char, attribute)
            column += 1
            if column == self.columns:
                column, row = 0, row + 1
        if row >= self.rows:
            row -= 1
            window = (0, 0, self.columns - 1, self.rows - 1)
            self._scroll_window(page, window, 1, _GREY)
        self.move_cursor(page, column, row)

    def _shape(self, shape: int) -> None:
        """The cursor's first and last line, told in eighths as since the first PC."""
        start, end = shape >> 8 & 0x3F, shape & 0x1F
        height = self._memory.read_u16(bda.CHAR_HEIGHT)
        if height > 8 and self._memory.read_u8(bda.MODESET_CONTROL) & 1 and start < 8 and end < 8:
            line = end == start + 1
            start = (end + 1) * height // 8 - 2 if line else (start + 1) * height // 8 - 1
            end = (end + 1) * height // 8 - 1
        self._vga.crtc[CRTC_CURSOR_START] = start
        self._vga.crtc[CRTC_CURSOR_END] = end

    # --- functions --------------------------------------------------------------------------------
    def _set_mode(self, call: Call) -> None:
        number = call.al & 0x7F
        self.set_mode(call.al)
        call.al = 0x20 if number > 7 else 0x3F if number == 6 else 0x30

    def _set_cursor_shape(self, call: Call) -> None:
        self._memory.write_u16(bda.CURSOR_SHAPE, call.cx)
        self._shape(call.cx)

    def _set_cursor(self, call: Call) -> None:
        self.move_cursor(call.bh, call.dl, call.dh)

    def _get_cursor(self, call: Call) -> None:
        call.cx = self._memory.read_u16(bda.CURSOR_SHAPE)
        call.dl, call.dh = self.cursor(call.bh)

    def _set_page(self, call: Call) -> None:
        page = call.al
        if page > 7 or not self.is_text:
            return
        start = page * self._memory.read_u16(bda.PAGE_SIZE)
        self._memory.write_u16(bda.PAGE_START, start & 0xFFFF)
        self._memory.write_u8(bda.PAGE, page)
        self._vga.crtc[CRTC_START : CRTC_START + 2] = (start // 2 & 0xFFFF).to_bytes(2, "big")
        self._show_cursor()

    def _scroll(self, call: Call) -> None:
        left, top = call.cl, call.ch
        right, bottom = min(call.dl, self.columns - 1), min(call.dh, self.rows - 1)
        if left > right or top > bottom:
            return
        lines = call.al if call.ah == 0x06 else -call.al
        self._scroll_window(self.page, (left, top, right, bottom), lines, call.bh)

    def _read_cell(self, call: Call) -> None:
        if self.is_text:
            column, row = self.cursor(call.bh)
            call.ax = self._memory.read_u16(self._cell(call.bh, column, row))

    def _write_cells(self, call: Call) -> None:
        attribute = call.bl if call.ah == 0x09 else None
        column, row = self.cursor(call.bh)
        for _ in range(min(call.cx, TEXT_SIZE // 2)):
            self._put(call.bh, column, row, call.al, attribute)
            column += 1
            if column == self.columns:
                column, row = 0, row + 1

    def _write_pixel(self, call: Call) -> None:
        place = call.dx * 320 + call.cx
        if self._memory.read_u8(bda.VIDEO_MODE) == 0x13 and place < GRAPHICS_SIZE:
            self._memory.write_u8(GRAPHICS_MEMORY + place, call.al)

    def _read_pixel(self, call: Call) -> None:
        place = call.dx * 320 + call.cx
        if self._memory.read_u8(bda.VIDEO_MODE) == 0x13 and place < GRAPHICS_SIZE:
            call.al = self._memory.read_u8(GRAPHICS_MEMORY + place)

    def _teletype(self, call: Call) -> None:
        self._type(call.al)

    def _get_mode(self, call: Call) -> None:
        control = self._memory.read_u8(bda.VIDEO_CONTROL)
        call.al = self._memory.read_u8(bda.VIDEO_MODE) | control & _KEEP_MEMORY
        call.ah = self.columns & 0xFF
        call.bh = self.page

    def _palette(self, call: Call) -> None:
        """Attribute and colour registers, the subfunctions that text needs."""
        vga, kind = self._vga, call.al
        if kind == 0x00:
            vga.attribute[call.bl & 31] = call.bh
        elif kind == 0x01:
            vga.attribute[0x11] = call.bh
        elif kind == 0x02:
            vga.attribute[:17] = call.read(call.es, call.dx, 17)
        elif kind == 0x03:
            vga.attribute[0x10] = vga.attribute[0x10] & ~8 | (call.bl & 1) << 3
        elif kind == 0x07:
            call.bh = vga.attribute[call.bl & 31]
        elif kind == 0x10:
            place = 3 * (call.bx & 0xFF)
            vga.palette[place : place + 3] = bytes(
                value & 0x3F for value in (call.dh, call.ch, call.cl)
            )
        elif kind == 0x12:
            count = min(call.cx, 256 - (call.bx & 0xFF))
            data = call.read(call.es, call.dx, 3 * count)
            place = 3 * (call.bx & 0xFF)
            vga.palette[place : place + 3 * count] = bytes(value & 0x3F for value in data)
        elif kind == 0x15:
            place = 3 * (call.bx & 0xFF)
            call.dh, call.ch, call.cl = vga.palette[place : place + 3]

    def _font(self, call: Call) -> None:
        """Character heights: 8 lines make 50 rows. There are no glyphs to load."""
        heights = {0x01: 14, 0x02: 8, 0x04: 16, 0x11: 14, 0x12: 8, 0x14: 16}
        if call.al in heights and self.is_text:
            height = heights[call.al]
            self._vga.crtc[CRTC_LINES] = self._vga.crtc[CRTC_LINES] & 0xE0 | height - 1
            rows = 400 // height
            self._memory.write_u8(bda.ROWS, rows - 1)
            self._memory.write_u16(bda.CHAR_HEIGHT, height)
            size = -(-2 * self.columns * rows // 0x100) * 0x100
            self._memory.write_u16(bda.PAGE_SIZE, size)
        elif call.al == 0x30:
            call.cx = self._memory.read_u16(bda.CHAR_HEIGHT)
            call.dl = self._memory.read_u8(bda.ROWS)

    def _alternate(self, call: Call) -> None:
        if call.bl == 0x10:
            switches = self._memory.read_u8(bda.VIDEO_SWITCHES)
            call.bx, call.cx = 3, switches & 0x0F
        elif call.bl in (0x30, 0x31, 0x32, 0x33, 0x34):
            call.al = 0x12

    def _write_string(self, call: Call) -> None:
        """AL bit 0: the cursor follows; bit 1: characters and attributes alternate."""
        page, mixed = call.bh, call.al & 2
        before = self.cursor(page)
        count = min(call.cx, TEXT_SIZE)
        data = call.read(call.es, call.bp, count * (2 if mixed else 1))
        self.move_cursor(page, call.dl, call.dh)
        for n in range(count):
            char = data[2 * n] if mixed else data[n]
            self._type(char, page, data[2 * n + 1] if mixed else call.bl)
        if not call.al & 1:
            self.move_cursor(page, *before)

    def _display_code(self, call: Call) -> None:
        """A VGA with a colour screen, and nothing else."""
        if call.al == 0:
            call.bx = self._memory.read_u8(bda.DISPLAY_CODE)
        elif call.al == 1:
            self._memory.write_u8(bda.DISPLAY_CODE, call.bl)
        call.al = 0x1A
