# SPDX-License-Identifier: GPL-2.0-only
"""The ways into an image.

`enter_image` is the 64-bit Linux boot protocol (Documentation/x86/boot.txt, "64-bit BOOT
PROTOCOL"): the boot CPU is in long mode with paging on and the loaded image identity-mapped,
interrupts are off, RSI holds the physical address of boot_params, and execution begins at the entry
point. The page tables behind `cr3` are the kernel's, for it has the allocator to build them with.

`boot_multiboot` puts a Multiboot kernel into RAM and enters it in 32-bit protected mode.
`boot_disk` makes the machine a PC with a BIOS and a disk, and enters the boot sector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware.acpi import RSDP_SIZE, find_rsdp
from firmware.board import BootableBoard
from firmware.boot_params import BOOT_PARAMS, encode_command_line, read_e820
from firmware.e820 import USABLE, E820Entry
from firmware.images import KINDS_MULTIBOOT, Image, check_segments, write_segments
from firmware.multiboot_info import (
    LOADER_1,
    LOADER_2,
    LoadedModule,
    SectionTable,
    build_info_1,
    build_info_2,
)
from machine.errors import ImageError

if TYPE_CHECKING:
    from firmware.bios import Bios
    from machine import Machine
    from machine.drive import Drive

INFO_FIRST, INFO_LAST = 0x10000, 0x80000
"""Physical range in which the Multiboot information may lie."""
_PAGE = 4096


def enter_image(machine: BootableBoard, image: Image, cr3: int, stack: int) -> None:
    """Start CPU 0 at the entry of `image` with the page tables at physical `cr3` and `stack` in
    RSP (a virtual address of theirs)."""
    machine.cpus[0].start(rip=image.entry, rsp=stack, cr3=cr3, rsi=BOOT_PARAMS)


@dataclass(frozen=True)
class Module:
    """A file for a Multiboot kernel, and its line: a name, and behind a blank the arguments."""

    data: bytes
    line: str = ""


def boot_multiboot(
    machine: Machine,
    image: Image,
    append: str = "",
    e820: Sequence[E820Entry] | None = None,
    modules: Sequence[Module] = (),
) -> None:
    """Load the Multiboot kernel `image` into a machine that has been through POST and enter it on
    CPU 0 with the command line `append` and `modules`, which lie behind it. `e820` is the map it is
    told, that in RAM if left out.

    Raises `ImageError` when it does not lie in usable RAM, `UsageError` for the command line,
    `BringUpError` when there is no map."""
    memory = machine.memory
    entries = read_e820(memory) if e820 is None else list(e820)
    usable = [(entry.addr, entry.end) for entry in entries if entry.type == USABLE]
    check_segments(memory, image, usable, [(0, 0x500, "the BIOS data area")])
    # The line begins with the name of the file in version 1, as QEMU and its first loaders have it,
    # and has the arguments alone in version 2, as GRUB does it.
    first = KINDS_MULTIBOOT[image.kind] == 1
    named = first and image.name.isascii()
    line = encode_command_line(f"{image.name} {append}".strip() if named else append)
    lines = [each.line if first else each.line.partition(" ")[2] for each in modules]
    files = [
        (module.data, encode_command_line(text))
        for module, text in zip(modules, lines, strict=True)
    ]
    loaded, sections, behind = _behind(image, usable, files)
    told = sum(len(module.line) + 32 for module in loaded)
    told += len(sections.headers) if sections else 0
    address = _free(image, len(line) + told + _PAGE)
    if first:
        magic, info = LOADER_1, build_info_1(address, entries, line, loaded, sections)
    else:
        rsdp = memory.read(find_rsdp(memory).address, RSDP_SIZE)
        magic, info = LOADER_2, build_info_2(entries, line, rsdp, loaded, sections)
    write_segments(memory, image)
    for place, data in (*behind, (address, info)):
        memory.write(place, data)
    machine.cpus[0].start_protected(image.entry, eax=magic, ebx=address)


Placed = tuple[list[LoadedModule], SectionTable | None, list[tuple[int, bytes]]]


def _behind(
    image: Image, usable: Sequence[tuple[int, int]], files: Sequence[tuple[bytes, bytes]]
) -> Placed:
    """Places for the modules (content and line), each on a page of its own, and for the sections,
    behind the kernel: where they are, and what is to be written. Raises `ImageError`."""
    at = first = max(image.span[1], 1 << 20)
    loaded, write = [], []
    for data, line in files:
        loaded.append(LoadedModule(at, at + len(data), line))
        write.append((at, data))
        at += -(-len(data) // _PAGE) * _PAGE
    table = None
    if image.sections is not None:
        found = image.sections
        offset, placed = found.placed(at)
        table = SectionTable(
            at + offset, found.count, found.entry_size, found.names_index, placed[offset:]
        )
        write.append((at, placed))
        at += len(placed)
    if at > first and not any(low <= first and at <= high for low, high in usable):
        raise ImageError(
            f"{image.name}: no room for [mem {first:#x}-{at - 1:#x}] behind the kernel"
        )
    return loaded, table, write


def _free(image: Image, size: int) -> int:
    """A physical page below 640 KiB with `size` bytes that no segment touches."""
    for address in range(INFO_FIRST, INFO_LAST - size, _PAGE):
        if not any(s.phys < address + size and address < s.end for s in image.segments):
            return address
    raise ImageError(f"{image.name}: no room below 512 KiB for the Multiboot information")


def boot_disk(machine: Machine, drive: Drive, e820: Sequence[E820Entry] | None = None) -> Bios:
    """Plug `drive` into a machine that has been through `power_on`, give it a BIOS, and enter the
    boot sector on CPU 0. `e820` is the map that INT 15h tells, the board's own if left out."""
    from firmware.bios import install_bios
    from firmware.bios.bootstrap import NOTE_DRIVE

    number = 0x00 if drive.floppy else 0x80
    machine.pc.bios.drives[number] = drive
    machine.pc.bios.notes[NOTE_DRIVE] = number
    bios = install_bios(machine, e820)
    bios.boot()
    return bios
