# SPDX-License-Identifier: GPL-2.0-only
"""Multiboot kernels that hold what they are told against the specification."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from allocator.pc_boot import boot_pc
from allocator.pc_run import run_pc
from firmware import load_image
from firmware.entry import Module
from machine import ImageError, Machine, Topology

from . import qemu
from .multiboot_guests import BASE, MODULES, TAGS, code, elf32
from .on_machine import place

HEADER_SIZE = 96


def said(path: Path, modules: tuple[Module, ...] = (), numa: str = "1x64M") -> Machine:
    machine = Machine(Topology.parse(numa))
    boot_pc(machine, load_image(path), "quiet", modules=modules)
    stop = run_pc(machine, 1_000_000)
    assert stop.kind == "halt", stop
    return machine


def kernel(path: Path) -> Path:
    program = code(TAGS)
    path.write_bytes(elf32(program, BASE + program.index(b"\xfc\xbc\x00\x00\x09\x00")))
    return path


@pytest.mark.parametrize("numa", ["1x64M", "2x3G"])
def test_every_tag_of_version_2_is_as_the_specification_says(tmp_path: Path, numa: str) -> None:
    modules = (Module(b"x", "one"), Module(b"Y" * 5000, ""), Module(b"z", "three 3 4"))
    machine = said(kernel(tmp_path / "kernel.elf"), modules, numa)
    assert machine.serial.text == "bcxdYdzdegijopa"
    info = machine.memory.read(0x10000, 4096)
    assert struct.pack("<II", 1, 8 + 6) + b"quiet\0" in info
    assert b"3 4\0" in info
    assert b"three" not in info  # names are not in the lines
    assert machine.memory.read(0xB8000 + 3998, 1) == b"*"


def test_there_is_no_tag_for_modules_that_are_not_there(tmp_path: Path) -> None:
    assert said(kernel(tmp_path / "kernel.elf")).serial.text == "bcegijopa"


def test_the_guest_notices_a_wrong_tag(tmp_path: Path) -> None:
    machine = Machine(Topology.parse("1x64M"))
    boot_pc(machine, load_image(kernel(tmp_path / "kernel.elf")))
    info = machine.cpus[0].regs.rbx
    place = machine.memory.read(info, 4096).index(b"RSD PTR ")
    machine.memory.write(info + place + 9, b"?")
    run_pc(machine, 1_000_000)
    assert machine.serial.text == "bcegij!"


@pytest.mark.parametrize("damage", ["checksum", "alignment", "place"])
def test_a_kernel_whose_header_is_not_found_is_refused(tmp_path: Path, damage: str) -> None:
    data = bytearray(kernel(tmp_path / "kernel.elf").read_bytes())
    header = data[0x1000 : 0x1000 + HEADER_SIZE]
    data[0x1000 : 0x1000 + HEADER_SIZE] = bytes(HEADER_SIZE)
    if damage == "checksum":
        header[12] ^= 1
        data[0x1000 : 0x1000 + HEADER_SIZE] = header
    elif damage == "alignment":
        data[0xF04 : 0xF04 + HEADER_SIZE] = header
    else:
        data = data.ljust(0x8000, b"\0") + header
    (tmp_path / "bad.elf").write_bytes(data)
    with pytest.raises(ImageError, match="ELF"):
        load_image(tmp_path / "bad.elf")


def test_modules_need_room_behind_the_kernel(tmp_path: Path) -> None:
    machine = Machine(Topology.parse("1x32M"))
    image = load_image(kernel(tmp_path / "kernel.elf"))
    with pytest.raises(ImageError, match="no room for"):
        boot_pc(machine, image, modules=(Module(bytes(32 << 20)),))


@pytest.mark.skipif(not qemu.there(), reason=qemu.MISSING)
def test_version_1_tells_of_modules_as_qemu_does(tmp_path: Path) -> None:
    (tmp_path / "kernel.bin").write_bytes(code(MODULES))
    lines = [f"{tmp_path / 'a'} one two", f"{tmp_path / 'b'}"]
    (tmp_path / "a").write_bytes(b"first module")
    (tmp_path / "b").write_bytes(b"second" * 1000)
    theirs = qemu.run(
        tmp_path / "kernel.bin", "-m", "64", "-initrd", ",".join(lines), kernel=True, work=tmp_path
    )
    modules = tuple(Module(Path(line.split()[0]).read_bytes(), line) for line in lines)
    machine = said(tmp_path / "kernel.bin", modules)
    assert bytes(machine.serial.output) == theirs.serial
    assert machine.serial.output.startswith(b"2first module")
    assert place(machine, 0) == theirs.rip
