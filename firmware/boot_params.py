# SPDX-License-Identifier: GPL-2.0-only
"""boot_params: the page a boot loader hands to a 64-bit Linux kernel in RSI.

The "zero page" of Documentation/x86/zero-page.txt (struct boot_params): the e820 table, the address
of the command line and of the initial ramdisk, and the setup header that says which protocol was
spoken. POST fills it at 0x90000 with the command line behind it at 0x91000; the image loader enters
the span of the boot script as the ramdisk, which is how the kernel learns to keep its hands off it;
the kernel and boot scripts read it. All addresses in it are physical.

`read_boot_params` and `read_e820` believe nothing they read.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from firmware.e820 import E820Entry
from machine.errors import BringUpError, ImageError, UsageError
from machine.physmem import PhysicalMemory

BOOT_PARAMS = 0x90000
BOOT_PARAMS_SIZE = 4096
COMMAND_LINE = 0x91000
COMMAND_LINE_SIZE = 2048
"""Bytes of the command line with its closing zero (COMMAND_LINE_SIZE)."""

ACPI_RSDP_ADDR = 0x070
EXT_RAMDISK_IMAGE, EXT_RAMDISK_SIZE, EXT_CMD_LINE_PTR = 0x0C0, 0x0C4, 0x0C8
ALT_MEM_K, E820_ENTRIES, SENTINEL = 0x1E0, 0x1E8, 0x1EF
SETUP_SECTS, BOOT_FLAG, HEADER, VERSION = 0x1F1, 0x1FE, 0x202, 0x206
TYPE_OF_LOADER, LOADFLAGS = 0x210, 0x211
RAMDISK_IMAGE, RAMDISK_SIZE, CMD_LINE_PTR = 0x218, 0x21C, 0x228
KERNEL_ALIGNMENT, XLOADFLAGS, CMDLINE_SIZE, PREF_ADDRESS = 0x230, 0x236, 0x238, 0x258
E820_TABLE = 0x2D0
E820_MAX_ENTRIES = 128

BOOT_FLAG_MAGIC = 0xAA55
HEADER_MAGIC = 0x53726448
"""The letters "HdrS"."""

PROTOCOL_VERSION = 0x020D
LOADED_HIGH = 1
UNDEFINED_LOADER = 0xFF
XLF_KERNEL_64 = 1
KERNEL_START = 0x1000000
"""Physical start of the kernel's own image (pref_address), 16 MiB."""

_ENTRY = struct.Struct("<QQI")
_U64_END = 1 << 64


@dataclass(frozen=True)
class BootParams:
    """What the kernel takes from the page. `ramdisk_*` are physical bytes, 0 when nothing was
    loaded; `acpi_rsdp_addr` is 0 when the loader left finding it to the kernel."""

    address: int
    e820: tuple[E820Entry, ...]
    command_line: str
    ramdisk_image: int
    ramdisk_size: int
    acpi_rsdp_addr: int


def encode_command_line(append: str) -> bytes:
    """`append` with its closing zero. Raises `UsageError` when it is too long, or holds what no
    kernel command line can."""
    try:
        data = append.encode("ascii")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"kernel parameters: character {append[error.start]!a} is not ASCII"
        ) from None
    if any(byte < 0x20 and byte != 0x09 for byte in data) or 0x7F in data:
        raise UsageError("kernel parameters: a control character is not allowed")
    if len(data) >= COMMAND_LINE_SIZE:
        raise UsageError(
            f"kernel parameters: {len(data)} characters, at most {COMMAND_LINE_SIZE - 1} fit"
        )
    return data + b"\0"


def build_boot_params(e820: Sequence[E820Entry], *, rsdp: int = 0) -> bytes:
    """The page for this map and the RSDP at physical `rsdp`; the command line lies at 0x91000."""
    page = bytearray(BOOT_PARAMS_SIZE)
    extended_kib = min(sum(e.size for e in e820 if e.addr == 0x100000) >> 10, 0xFFFFFFFF)
    struct.pack_into("<Q", page, ACPI_RSDP_ADDR, rsdp)
    struct.pack_into("<I", page, ALT_MEM_K, extended_kib)
    page[E820_ENTRIES] = len(e820)
    for index, entry in enumerate(e820):
        _ENTRY.pack_into(page, E820_TABLE + index * _ENTRY.size, entry.addr, entry.size, entry.type)
    page[SETUP_SECTS] = 1
    struct.pack_into("<H", page, BOOT_FLAG, BOOT_FLAG_MAGIC)
    struct.pack_into("<I", page, HEADER, HEADER_MAGIC)
    struct.pack_into("<H", page, VERSION, PROTOCOL_VERSION)
    page[TYPE_OF_LOADER] = UNDEFINED_LOADER
    page[LOADFLAGS] = LOADED_HIGH
    struct.pack_into("<I", page, CMD_LINE_PTR, COMMAND_LINE)
    struct.pack_into("<I", page, KERNEL_ALIGNMENT, 0x200000)
    struct.pack_into("<H", page, XLOADFLAGS, XLF_KERNEL_64)
    struct.pack_into("<I", page, CMDLINE_SIZE, COMMAND_LINE_SIZE - 1)
    struct.pack_into("<Q", page, PREF_ADDRESS, KERNEL_START)
    return bytes(page)


def read_boot_params(memory: PhysicalMemory, addr: int = BOOT_PARAMS) -> BootParams:
    """The page at physical `addr`. Raises `BringUpError` when it is not in RAM, is no boot_params
    page, or points outside RAM."""
    if not memory.is_ram(addr, BOOT_PARAMS_SIZE):
        raise BringUpError(f"boot_params: no RAM at {addr:#x}")
    page = memory.read(addr, BOOT_PARAMS_SIZE)
    (flag,) = struct.unpack_from("<H", page, BOOT_FLAG)
    (magic,) = struct.unpack_from("<I", page, HEADER)
    if flag != BOOT_FLAG_MAGIC or magic != HEADER_MAGIC:
        raise BringUpError(f"boot_params at {addr:#x} has no setup header")
    image = _split_u64(page, RAMDISK_IMAGE, EXT_RAMDISK_IMAGE)
    size = _split_u64(page, RAMDISK_SIZE, EXT_RAMDISK_SIZE)
    if size and not memory.is_ram(image, size):
        raise BringUpError(
            f"boot_params at {addr:#x}: ramdisk of {size:#x} bytes at {image:#x} is not in RAM"
        )
    (rsdp,) = struct.unpack_from("<Q", page, ACPI_RSDP_ADDR)
    command_line = _command_line(memory, _split_u64(page, CMD_LINE_PTR, EXT_CMD_LINE_PTR))
    return BootParams(addr, _e820(page, addr), command_line, image, size, rsdp)


def read_e820(memory: PhysicalMemory, addr: int = BOOT_PARAMS) -> list[E820Entry]:
    """The e820 table of the boot_params page at physical `addr`. Raises `BringUpError`."""
    if not memory.is_ram(addr, BOOT_PARAMS_SIZE):
        raise BringUpError(f"boot_params: no RAM at {addr:#x}")
    return list(_e820(memory.read(addr, BOOT_PARAMS_SIZE), addr))


def set_ramdisk(memory: PhysicalMemory, start: int, size: int, addr: int = BOOT_PARAMS) -> None:
    """Record physical [start, start + size) as the initial ramdisk. Raises `ImageError` when the
    range does not lie in RAM."""
    if not memory.is_ram(start, size):
        raise ImageError(f"{size:#x} bytes at {start:#x} do not lie in one bank of RAM")
    memory.write_u32(addr + RAMDISK_IMAGE, start)
    memory.write_u32(addr + EXT_RAMDISK_IMAGE, start >> 32)
    memory.write_u32(addr + RAMDISK_SIZE, size)
    memory.write_u32(addr + EXT_RAMDISK_SIZE, size >> 32)


def _split_u64(page: bytes, low: int, high: int) -> int:
    """A 64-bit value kept as two 32-bit fields far apart."""
    value: int = struct.unpack_from("<I", page, low)[0]
    upper: int = struct.unpack_from("<I", page, high)[0]
    return value | upper << 32


def _e820(page: bytes, addr: int) -> tuple[E820Entry, ...]:
    count = page[E820_ENTRIES]
    if not 1 <= count <= E820_MAX_ENTRIES:
        raise BringUpError(f"boot_params at {addr:#x} claims {count} e820 entries")
    out = []
    for index in range(count):
        entry = E820Entry(*_ENTRY.unpack_from(page, E820_TABLE + index * _ENTRY.size))
        if entry.end > _U64_END:
            raise BringUpError(
                f"boot_params at {addr:#x}: e820 entry {index} at {entry.addr:#x} of "
                f"{entry.size:#x} bytes runs past the end of the address space"
            )
        out.append(entry)
    return tuple(out)


def _command_line(memory: PhysicalMemory, pointer: int) -> str:
    """The zero-terminated text at physical `pointer`; 0 = none."""
    if not pointer:
        return ""
    if not memory.is_ram(pointer, 1):
        raise BringUpError(f"boot_params: command line at {pointer:#x} is not in RAM")
    room = COMMAND_LINE_SIZE
    while not memory.is_ram(pointer, room):
        room -= 1
    return memory.read(pointer, room).split(b"\0", 1)[0].decode("latin-1")
