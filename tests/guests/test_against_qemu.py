# SPDX-License-Identifier: GPL-2.0-only
"""The same image here and under QEMU: the same at the end.

QEMU's own machine has parts that this one has not (a mouse, a printer port, a CD drive); the guests
do not ask for them. Where QEMU is not installed these tests are skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from allocator.pc_boot import boot_pc
from allocator.pc_run import run_pc
from firmware import load_image
from machine import Machine, Topology

from . import ata_guests, bios_guests, chipset_guests, cpu_guests, device_guests, qemu, v86_guests
from .assembled import flat
from .on_machine import place, run
from .pc_program import Program

pytestmark = pytest.mark.skipif(not qemu.there(), reason=qemu.MISSING)

PROGRAMS: dict[str, Program] = (
    ata_guests.GUESTS
    | bios_guests.GUESTS
    | device_guests.GUESTS
    | chipset_guests.GUESTS
    | v86_guests.GUESTS
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_guest_ends_here_as_it_does_on_qemu(name: str, tmp_path: Path) -> None:
    program = PROGRAMS[name]
    image = program.image
    (tmp_path / "guest.img").write_bytes(image)
    theirs = qemu.run(
        tmp_path / "guest.img",
        "-m",
        str(program.memory),
        *program.qemu,
        floppy=program.floppy,
        work=tmp_path,
        keys=tuple(key for key, _ in program.keys),
    )
    keys = "".join(key for _, key in program.keys)
    ours = run(image, f"1x{program.memory}M", program.floppy, keys)
    assert ours.stop.kind == "halt", ours.stop
    cells = ours.machine.pc.screen.cells()
    assert _text(cells) == _text(theirs.screen[: len(cells)])
    assert cells == theirs.screen[: len(cells)]
    assert bytes(ours.machine.serial.output) == theirs.serial
    _same_registers(ours.machine.cpus[0].regs, theirs.registers[0])
    assert ours.rip == theirs.rip


@pytest.mark.parametrize("name", cpu_guests.GUESTS)
def test_a_guest_that_tries_out_the_cpu_says_the_same_on_qemu(name: str, tmp_path: Path) -> None:
    image, cpus = cpu_guests.image(name), cpu_guests.CPUS.get(name, 1)
    (tmp_path / "guest.img").write_bytes(image)
    theirs = qemu.run(tmp_path / "guest.img", "-m", "64", "-smp", str(cpus), work=tmp_path)
    ours = run(image, f"1x64M,cpus={cpus}")
    assert ours.stop.kind == "halt", ours.stop
    assert bytes(ours.machine.serial.output) == theirs.serial
    for number, registers in enumerate(theirs.registers):
        _same_registers(ours.machine.cpus[number].regs, registers)
        assert place(ours.machine, number) == registers["rip"]


def _same_registers(ours: object, theirs: dict[str, int]) -> None:
    for name in ("cr0", "efer"):
        assert getattr(ours, name) == theirs[name], name


def _text(cells: bytes) -> list[str]:
    """The rows of a screen of 80 columns, for a difference that can be read."""
    text = cells[::2].decode("cp437")
    return [text[n : n + 80].rstrip() for n in range(0, len(text), 80)]


# Clears the screen, then shows the magic number's lowest digit and the memory above 1 MiB in MiB.
MULTIBOOT = """
        .long   0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
        .long   0x100000, 0x100000, 0, 0, 0x100020
entry:  mov     edi, 0xb8000
        mov     edx, eax
        mov     eax, 0x07200720
        mov     ecx, 1000
        cld
        rep stosd
        mov     al, dl
        and     al, 15
        add     al, '0'
        mov     [0xb8000], al
        mov     eax, [ebx + 8]
        shr     eax, 10
        mov     ecx, 10
        mov     edi, 0xb8010
1:      xor     edx, edx
        div     ecx
        add     dl, '0'
        mov     [edi], dl
        sub     edi, 2
        test    eax, eax
        jnz     1b
        cli
2:      hlt
        jmp     2b
"""


def test_a_multiboot_kernel_is_entered_as_on_qemu(tmp_path: Path) -> None:
    path = tmp_path / "kernel.bin"
    path.write_bytes(flat(f".code32\n{MULTIBOOT}", 0x100000))
    theirs = qemu.run(path, "-m", "64", kernel=True, work=tmp_path)
    machine = Machine(Topology.parse("1x64M"))
    boot_pc(machine, load_image(path))
    assert run_pc(machine, 100_000).kind == "halt"
    cells = machine.pc.screen.cells()
    assert _text(cells)[0] == "2      62"
    assert cells == theirs.screen
    _same_registers(machine.cpus[0].regs, theirs.registers[0])
    assert place(machine, 0) == theirs.rip
