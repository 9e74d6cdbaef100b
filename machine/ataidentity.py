# SPDX-License-Identifier: GPL-2.0-only
"""What an ATA drive says of itself: the 256 words of IDENTIFY DEVICE (ATA/ATAPI-6, 8.15)."""

from __future__ import annotations

import struct

from machine.drive import SECTOR, Drive

MAX_BLOCK = 16
"""Sectors of a block in READ and WRITE MULTIPLE."""
MODEL, FIRMWARE, SERIAL = "numalab disk", "1.0", "NL00001"
_LBA_28 = (1 << 28) - 1
_PIO, _IORDY, _LBA = 3, 1 << 11, 1 << 9


def identify(drive: Drive, heads: int, sectors: int, block: int) -> bytes:
    """For `drive`, whose current translation has `heads` and `sectors` a track, and `block` sectors
    a block (0: none have been agreed on)."""
    shape, words = drive.geometry, [0] * 256
    cylinders = min(drive.sectors // max(heads * sectors, 1), 0xFFFF)
    if (heads, sectors) == (shape.heads, shape.sectors):
        cylinders = shape.cylinders
    capacity = cylinders * heads * sectors
    words[0] = 0x0040  # a fixed disk
    words[1], words[3], words[6] = shape.cylinders, shape.heads, shape.sectors
    words[4], words[5] = SECTOR * shape.sectors & 0xFFFF, SECTOR
    words[10:20] = _text(SERIAL, 10)
    words[20], words[21], words[22] = 3, 512, 4
    words[23:27], words[27:47] = _text(FIRMWARE, 4), _text(MODEL, 20)
    words[47], words[48], words[49] = 0x8000 | MAX_BLOCK, 1, _IORDY | _LBA
    words[51] = words[52] = 0x200
    words[53] = 0x0003  # words 54 to 58 and 64 to 70 hold something
    words[54], words[55], words[56] = cylinders, heads, sectors
    words[57], words[58] = capacity & 0xFFFF, capacity >> 16 & 0xFFFF
    words[59] = 0x100 | block if block else 0
    small = min(drive.sectors, _LBA_28)
    words[60], words[61] = small & 0xFFFF, small >> 16
    words[64] = _PIO
    words[65:69] = [120] * 4
    words[80], words[81] = 0xF0, 0x16  # ATA-4 to ATA-7
    words[82], words[83], words[84] = 0x4021, 0x7400, 0x4000  # caches; 48 bit addresses, flush
    words[85], words[86], words[87] = 0x4021, 0x3400, 0x4000
    words[93] = 0x6001
    for n in range(4):
        words[100 + n] = drive.sectors >> 16 * n & 0xFFFF
    return struct.pack("<256H", *words)


def _text(text: str, words: int) -> list[int]:
    """`text` in words, whose first character is the upper byte."""
    return list(struct.unpack(f">{words}H", text.ljust(2 * words).encode()))
