# SPDX-License-Identifier: GPL-2.0-only
"""Boot images: what `numalab boot` is given, and how it gets into RAM.

Told apart by content and name. A `.S` (or `.s`) file is assembled and linked at 1 MiB; a file with
a Multiboot header is a kernel for that protocol (multiboot.py); one that begins with the ELF magic
is an executable; any other `.bin` is a flat image, loaded and entered at 1 MiB. All become an
`Image`: segments with physical addresses and an entry point. Disk images are no such thing, a BIOS
boots them: `is_disk_image` tells (diskimage.py).

`place_image` puts one into a machine that has been through POST. It believes the e820 map in guest
RAM: segments must lie in usable memory, and keep off the pages the firmware left for the kernel and
off the kernel's own image. The span it fills is entered in boot_params as the initial ramdisk, so
the kernel does not give those pages away."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from firmware import object_cache
from firmware.assembler import Assembly, assembler_identity
from firmware.board import Board
from firmware.boot_params import (
    BOOT_PARAMS,
    COMMAND_LINE,
    COMMAND_LINE_SIZE,
    KERNEL_START,
    read_e820,
    set_ramdisk,
)
from firmware.e820 import USABLE
from firmware.elf import MAGIC, load_elf
from firmware.elf_sections import Sections, read_sections
from firmware.link import BASE, Linked, link
from firmware.multiboot import find_header, load_kernel
from firmware.source import Source, expand, read_file, read_source
from machine.errors import ImageError
from machine.physmem import PAGE_SIZE, PhysicalMemory

MAX_IMAGE = 256 << 20
"""Bytes of an ELF or flat file."""

CACHE_FORMAT = 1
ASSEMBLY_SUFFIXES = (".S", ".s", ".asm")
FLAT_SUFFIXES = (".bin",)
KINDS_MULTIBOOT = {"multiboot": 1, "multiboot2": 2}
"""Kinds of image that are entered by a version of that protocol."""


@dataclass(frozen=True)
class Segment:
    """`data` at physical address `phys`, followed by zeros up to `memsz` bytes."""

    phys: int
    data: bytes
    memsz: int

    @property
    def end(self) -> int:
        """First physical byte behind the segment."""
        return self.phys + self.memsz


@dataclass(frozen=True)
class Image:
    """A bootable image. `entry` is physical, `kind` "asm", "elf", "flat", "multiboot" or
    "multiboot2"; `symbols` are the addresses the image was linked at, `warnings` what the assembler
    had to say."""

    name: str
    segments: tuple[Segment, ...]
    entry: int
    kind: str
    symbols: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    sections: Sections | None = None
    """Of a Multiboot kernel that is ELF."""

    @property
    def span(self) -> tuple[int, int]:
        """Physical [start, end) in whole pages from the lowest segment to the highest."""
        start = min(segment.phys for segment in self.segments)
        end = max(segment.end for segment in self.segments)
        return start // PAGE_SIZE * PAGE_SIZE, -(-end // PAGE_SIZE) * PAGE_SIZE


class PendingImage:
    """An image being loaded: a script that is not in the cache is already being assembled while the
    caller builds its machine. Raises `InputError` and `ImageError` for what can be told at once;
    `result` gives the image, `cancel` gives up."""

    def __init__(self, path: str | PathLike[str]) -> None:
        name = Path(path)
        self._image: Image | None = None
        self._script: _Script | None = None
        if name.suffix in ASSEMBLY_SUFFIXES:
            self._script = _Script(read_source(name))
        else:
            self._image = _load_binary(name)

    @property
    def binary(self) -> Image | None:
        """The image, if it needed no assembler."""
        return self._image

    def result(self) -> Image:
        """The image, waiting for the assembler if need be. Raises `ImageError`."""
        if self._image is None:
            assert self._script is not None
            self._image = self._script.image()
        return self._image

    def cancel(self) -> None:
        """Stop an assembler that is still running."""
        if self._script is not None:
            self._script.cancel()


def load_image(path: str | PathLike[str]) -> Image:
    """The image in the file `path`. Raises `InputError` when it is missing or unreadable,
    `ImageError` for what is wrong inside, `BringUpError` when there is no assembler."""
    return PendingImage(path).result()


def load_script(text: str, name: str = "<script>", directory: str | PathLike[str] = ".") -> Image:
    """Assemble `text` as if it were a `.S` file called `name` in `directory`. Raises as
    `load_image` does."""
    source = expand(text.encode("utf-8", "surrogateescape"), name, Path(directory))
    return _Script(source).image()


class _Script:
    """A source, and the assembler working on it unless the result is already known."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._key = ""
        self._assembly: Assembly | None = None
        self._linked: Linked | None = None
        if source.cacheable:
            stamp = f"{CACHE_FORMAT}:{BASE:x}:{assembler_identity()}"
            self._key = source.digest().hex() + "-" + _short_hash(stamp)
            self._linked = _unpack(object_cache.load(self._key))
        if self._linked is None:
            self._assembly = Assembly(source)

    def image(self) -> Image:
        warnings: tuple[str, ...] = ()
        if self._linked is None:
            assert self._assembly is not None
            obj, warnings = self._assembly.result()
            self._linked = link(self._source, obj)
            if self._key and not warnings:
                object_cache.store(self._key, _pack(self._linked))
        linked = self._linked
        segment = Segment(linked.base, linked.data, linked.memsz)
        name = self._source.name
        return Image(name, (segment,), linked.entry, "asm", linked.symbols, warnings)

    def cancel(self) -> None:
        if self._assembly is not None and self._linked is None:
            self._assembly.cancel()


def _short_hash(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _pack(linked: Linked) -> bytes:
    head = json.dumps([linked.base, linked.memsz, linked.entry, dict(linked.symbols)])
    return head.encode() + b"\n" + linked.data


def _unpack(payload: bytes | None) -> Linked | None:
    if payload is None:
        return None
    head, _, data = payload.partition(b"\n")
    base, memsz, entry, symbols = json.loads(head)
    return Linked(base, data, memsz, entry, symbols)


def _load_binary(path: Path) -> Image:
    data = read_file(path, MAX_IMAGE, "image")
    name = str(path)
    header = find_header(name, data)
    if header is not None:
        parts, entry, symbols = load_kernel(name, data, header)
        kind = "multiboot" if header.version == 1 else "multiboot2"
        segments = tuple(Segment(*part) for part in parts)
        sections = read_sections(data) if header.load is None else None
        return Image(name, segments, entry, kind, symbols, sections=sections)
    if data.startswith(MAGIC):
        parts, entry, symbols = load_elf(name, data)
        return Image(name, tuple(Segment(*part) for part in parts), entry, "elf", symbols)
    if path.suffix not in FLAT_SUFFIXES:
        raise ImageError(f"{name}: not ELF, and the name ends neither in .S nor in .bin")
    if not data:
        raise ImageError(f"{name}: the file is empty")
    return Image(name, (Segment(BASE, data, len(data)),), BASE, "flat")


def place_image(machine: Board, image: Image, kernel_image_size: int = 0) -> None:
    """Put `image` into the RAM of a machine that has been through POST.

    The kernel's own image takes `kernel_image_size` bytes from 16 MiB on. Raises `ImageError`, and
    then has written nothing, when a segment does not lie in usable RAM or touches what is taken,
    `BringUpError` when the e820 map cannot be read."""
    memory = machine.memory
    taken = [
        (0, PAGE_SIZE, "the BIOS data area"),
        (BOOT_PARAMS, COMMAND_LINE + COMMAND_LINE_SIZE, "boot_params and the command line"),
        (KERNEL_START, KERNEL_START + kernel_image_size, "the kernel's own image"),
    ]
    usable = [(entry.addr, entry.end) for entry in read_e820(memory) if entry.type == USABLE]
    check_segments(memory, image, usable, taken)
    start, end = image.span
    for low, high, what in taken:
        if start < high and low < end:
            raise ImageError(f"{image.name}: its segments lie on both sides of {what}")
    if not any(low <= start and end <= high for low, high in usable):
        raise ImageError(f"{image.name}: [mem {start:#x}-{end - 1:#x}] is not all usable RAM")
    write_segments(memory, image)
    set_ramdisk(memory, start, end - start)


def check_segments(
    memory: PhysicalMemory,
    image: Image,
    usable: Sequence[tuple[int, int]],
    taken: Sequence[tuple[int, int, str]],
) -> None:
    """Raise `ImageError` unless every segment lies in one of the physical ranges `usable` and in
    RAM, and keeps off those `taken` and off the others."""
    previous: Segment | None = None
    for segment in sorted(image.segments, key=lambda segment: segment.phys):
        label = f"{image.name}: segment [mem {segment.phys:#x}-{segment.end - 1:#x}]"
        if not any(start <= segment.phys and segment.end <= end for start, end in usable):
            raise ImageError(f"{label} does not lie in usable RAM")
        if not memory.is_ram(segment.phys, segment.memsz):
            raise ImageError(f"{label} lies in a hole of the bus")
        for start, end, what in taken:
            if segment.phys < end and start < segment.end:
                raise ImageError(f"{label} overlaps {what}")
        if previous is not None and segment.phys < previous.end:
            raise ImageError(f"{label} overlaps another segment")
        previous = segment


def write_segments(memory: PhysicalMemory, image: Image) -> None:
    """Put the segments into RAM, with the zeros behind them."""
    for segment in image.segments:
        memory.write(segment.phys, segment.data)
        _clear(memory, segment.phys + len(segment.data), segment.end)


def _clear(memory: PhysicalMemory, start: int, end: int) -> None:
    """Zero physical [start, end) without making the host commit pages never used."""
    first = min(-(-start // PAGE_SIZE) * PAGE_SIZE, end)
    last = max(end // PAGE_SIZE * PAGE_SIZE, first)
    for low, high in ((start, first), (last, end)):
        memory.bytes[low:high] = bytes(high - low)
    if first < last:
        memory.zero(first, last)
