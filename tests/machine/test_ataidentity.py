# SPDX-License-Identifier: GPL-2.0-only
"""machine/ataidentity.py: sizes and shapes that a drive tells."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from machine.ataidentity import identify
from machine.drive import Drive


def words(drive: Drive, heads: int = 16, sectors: int = 63, block: int = 0) -> tuple[int, ...]:
    return struct.unpack("<256H", identify(drive, heads, sectors, block))


@pytest.mark.parametrize("sectors", [64, 20_000, (1 << 28) + 5])
def test_sizes_are_told_in_28_and_in_48_bits(tmp_path: Path, sectors: int) -> None:
    with open(tmp_path / "disk", "wb") as file:
        file.truncate(512 * sectors)
    told = words(Drive(tmp_path / "disk", floppy=False))
    assert told[60] | told[61] << 16 == min(sectors, (1 << 28) - 1)
    assert told[100] | told[101] << 16 == sectors
    assert told[1] <= 16_383


def test_another_translation_is_the_current_one_and_the_default_stays() -> None:
    told = words(Drive(bytes(512 * 20_000), floppy=False), 8, 32, 4)
    assert (told[1], told[3], told[6]) == (19, 16, 63)
    assert (told[54], told[55], told[56]) == (20_000 // 256, 8, 32)
    assert told[57] | told[58] << 16 == 20_000 // 256 * 256
    assert told[59] == 0x104
