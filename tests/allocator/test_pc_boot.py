# SPDX-License-Identifier: GPL-2.0-only
"""allocator/pc_boot.py: a PC with a guest of its own, with and without the allocator beside it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from allocator.kernel import Kernel
from allocator.pc_boot import boot_pc, guest_map, resume_pc
from allocator.pc_run import run_pc
from firmware import load_image
from machine import BringUpError, Machine, Topology
from machine.drive import Drive
from machine.snapshot import load_snapshot, save_snapshot
from tests.firmware.test_multiboot import header_1, header_2

# mov al, 'x'; mov dx, 3f8h; out dx, al; hlt with interrupts: the timer, then again
TICKING = bytes.fromhex("b078 baf803 ee f4 ebf7")


def disk(code: bytes) -> Drive:
    return Drive(code.ljust(510, b"\0") + b"\x55\xaa", floppy=False)


def test_a_plain_pc_belongs_to_its_guest() -> None:
    machine = Machine(Topology.parse("2x64M"))
    guest = boot_pc(machine, disk(b"\xfa\xf4"))
    assert not guest.kernel
    assert machine.doorbell.handler is None
    assert machine.mailbox_address is None
    with pytest.raises(BringUpError):
        Kernel.attach(machine.memory, machine)


def test_the_allocator_keeps_off_what_the_guest_is_told_it_has() -> None:
    machine = Machine(Topology.parse("2x64M"))
    guest = boot_pc(machine, disk(b"\xfa\xf4"), kernel=True)
    kernel = Kernel.attach(machine.memory, machine)
    mine = [(e.addr, e.end) for e in guest_map(machine, True) if e.type == 1]
    assert mine == [(0, 0x9FC00), (0x100000, 0x1000000)]
    assert guest.kernel
    while (page := kernel.alloc_pages("GFP_KERNEL|__GFP_NOWARN", order=0)) is not None:
        assert not any(start <= page.pfn << 12 < end for start, end in mine)
    assert run_pc(machine, 1000).kind == "halt"


def test_a_machine_of_16_mib_has_nothing_for_the_allocator() -> None:
    machine = Machine(Topology.parse("1x32M"))
    boot_pc(machine, disk(b"\xfa\xf4"), kernel=True)
    assert guest_map(machine, True)[-1].type == 2


@pytest.mark.parametrize("kernel", [False, True])
def test_a_snapshot_in_the_middle_goes_on_as_if_nothing_had_been(
    tmp_path: Path, kernel: bool
) -> None:
    def fresh() -> Machine:
        machine = Machine(Topology.parse("1x64M"))
        boot_pc(machine, disk(TICKING), kernel=kernel)
        return machine

    straight = fresh()
    straight.run(2000)
    broken = fresh()
    broken.run(700)
    save_snapshot(broken, tmp_path / "s")
    again = load_snapshot(tmp_path / "s")
    resumed = resume_pc(again)
    assert resumed is not None
    assert resumed.kernel is kernel
    again.run(1300)
    assert again.serial.output == straight.serial.output
    assert len(again.serial.output) > 20
    assert again.clock.now == straight.clock.now
    assert again.memory.read(0, 0xA0000) == straight.memory.read(0, 0xA0000)


def test_a_checkpoint_goes_back_with_the_devices_and_the_disk() -> None:
    # mov ax, 301h; mov cx, 1; mov dh, 0; int 13h; inc [0x7c00+..]; loops
    code = bytes.fromhex("b80103 bb007c b90100 b600 cd13 fe06007e ebee")
    machine = Machine(Topology.parse("1x32M"))
    boot_pc(machine, disk(code))
    machine.run(500)
    moment = machine.checkpoint()
    seen = []
    for _ in range(2):
        stop = machine.run(500)
        drive = machine.pc.bios.drives[0x80]
        seen.append((stop, machine.clock.now, drive.read(0, 1), machine.memory.read(0, 0x8000)))
        machine.rewind(moment)
    assert seen[0] == seen[1]


def multiboot(tmp_path: Path, version: int) -> Path:
    """A kernel that leaves EAX at 5 MiB and halts: no ELF, with addresses in its header."""
    code = bytes.fromhex("a300005000 891d04005000 8c1d08005000 0f20c0 a30c005000 faf4")
    if version == 1:
        head = header_1(1 << 16, 0x100000, 0x100000, 0, 0, 0x100020)
    else:
        load = struct.pack("<4I", 0x100000, 0x100000, 0, 0)
        head = header_2((2, 0, load), (3, 0, struct.pack("<I", 0x100060)))
    path = tmp_path / "kernel.bin"
    path.write_bytes(head.ljust(0x20 if version == 1 else 0x60, b"\0") + code)
    return path


@pytest.mark.parametrize(("version", "magic"), [(1, 0x2BADB002), (2, 0x36D76289)])
def test_a_multiboot_kernel_is_entered_as_its_specification_says(
    tmp_path: Path, version: int, magic: int
) -> None:
    machine = Machine(Topology.parse("1x64M"))
    image = load_image(multiboot(tmp_path, version))
    assert image.kind == ("multiboot" if version == 1 else "multiboot2")
    boot_pc(machine, image, "one two")
    assert run_pc(machine, 1000).kind == "halt"
    eax, info, _, cr0 = struct.unpack("<4I", machine.memory.read(0x500000, 16))
    assert eax == magic
    assert cr0 & 0x80000001 == 1
    cpu = machine.cpus[0]
    assert cpu.mode == "protected 32"
    assert not cpu.regs.rflags & 0x200
    assert b"one two\0" in machine.memory.read(info, 4096)
