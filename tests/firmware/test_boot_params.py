# SPDX-License-Identifier: GPL-2.0-only
"""firmware/boot_params.py: the zero page there and back."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware import read_boot_params, read_e820
from firmware.boot_params import BOOT_PARAMS, set_ramdisk
from firmware.e820 import e820_map
from machine.errors import BringUpError, ImageError, UsageError
from tests.firmware.boards import board, powered, refusal


@pytest.mark.parametrize("spec", ["1x64M", "2x128M", "2x3G", "1x1100G"])
@pytest.mark.parametrize("machine_type", ["pc", "q35"])
def test_the_map_in_ram_is_the_map_of_the_board(spec: str, machine_type: str) -> None:
    pc = powered(spec, machine_type=machine_type)
    assert read_e820(pc.memory) == e820_map(pc.topology)


def test_fields_lie_where_the_boot_protocol_has_them() -> None:
    pc = powered("2x128M", append="kernelcore=50%")
    memory = pc.memory
    assert memory.read(0x90202, 4) == b"HdrS"
    assert memory.read_u16(0x901FE) == 0xAA55
    assert memory.read_u16(0x90206) == 0x020D
    assert memory.read_u8(0x901EF) == 0
    assert memory.read_u32(0x90228) == 0x91000
    assert memory.read(0x91000, 15) == b"kernelcore=50%\0"
    assert memory.read_u8(0x901E8) == len(e820_map(pc.topology))
    assert memory.read(0x902D0, 20) == bytes(8) + bytes.fromhex("00fc09000000000001000000")
    assert memory.read_u64(0x90070) == 0xF5A00


def test_command_line_and_ramdisk_come_back() -> None:
    memory = powered("2x128M", append="numa=off  quiet").memory
    set_ramdisk(memory, 0x100000, 0x3000)
    params = read_boot_params(memory)
    assert params.command_line == "numa=off  quiet"
    assert (params.ramdisk_image, params.ramdisk_size) == (0x100000, 0x3000)


def test_a_ramdisk_above_4_gib_uses_the_upper_halves() -> None:
    memory = powered("2x3G").memory
    set_ramdisk(memory, 0x110000000, 0x1000)
    assert (memory.read_u32(0x90218), memory.read_u32(0x900C0)) == (0x10000000, 1)
    assert read_boot_params(memory).ramdisk_image == 0x110000000


def test_a_ramdisk_in_a_hole_is_refused() -> None:
    with pytest.raises(ImageError, match="0xf0000000"):
        set_ramdisk(powered("2x128M").memory, 0xF0000000, 4096)


@pytest.mark.parametrize(
    ("append", "message"),
    [
        ("x" * 2048, "2048 characters, at most 2047"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("gr\u00fcn", r"'\\xfc' is not ASCII"),
    ],
)
def test_a_command_line_that_no_kernel_takes_is_refused(append: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        powered("1x64M", append=append)


def test_the_longest_command_line_fits() -> None:
    assert read_boot_params(powered("1x64M", append="x" * 2047).memory).command_line == "x" * 2047


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (0x202, b"HdrX", "no setup header"),
        (0x1FE, b"\0", "no setup header"),
        (0x1E8, b"\0", "claims 0 e820 entries"),
        (0x1E8, b"\xff", "claims 255 e820 entries"),
        (0x2D0 + 15, b"\xff", None),
        (0x2D0 + 7, b"\xff" * 9, "entry 0 at .* runs past the end"),
        (0x218, bytes.fromhex("000000f000100000"), "ramdisk of 0x1000 bytes at 0xf0000000"),
        (0x228, bytes.fromhex("000000f0"), "command line at 0xf0000000"),
    ],
)
def test_a_damaged_page_is_refused(offset: int, data: bytes, message: str | None) -> None:
    memory = powered("2x128M").memory
    memory.write(BOOT_PARAMS + offset, data)
    if message is None:
        assert read_boot_params(memory).e820[0].size > 1 << 56
        return
    with pytest.raises(BringUpError, match=message):
        read_boot_params(memory)


def test_a_machine_that_was_not_switched_on_has_no_boot_params() -> None:
    with pytest.raises(BringUpError, match="0x90000 has no setup header"):
        read_boot_params(board("1x64M").memory)
    with pytest.raises(BringUpError, match="no RAM at"):
        read_e820(board("1x64M").memory, 0x4000000 - 8)


def test_a_command_line_at_the_very_end_of_ram_is_read() -> None:
    memory = powered("1x64M").memory
    memory.write(0x4000000 - 5, b"quiet")
    memory.write_u32(BOOT_PARAMS + 0x228, 0x4000000 - 5)
    assert read_boot_params(memory).command_line == "quiet"


PAGE = powered("1x64M")


@settings(deadline=None, max_examples=200)
@given(page=st.binary(min_size=0, max_size=4096), keep_header=st.booleans())
def test_any_page_is_read_or_refused(page: bytes, keep_header: bool) -> None:
    memory = PAGE.memory
    memory.write(BOOT_PARAMS, page)
    if keep_header:
        memory.write_u16(BOOT_PARAMS + 0x1FE, 0xAA55)
        memory.write(BOOT_PARAMS + 0x202, b"HdrS")
    for reader in (read_boot_params, read_e820):
        error = refusal(partial(reader, memory))
        assert error is None or (str(error).isprintable() and error.exit_code == 69)
