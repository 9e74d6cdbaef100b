# SPDX-License-Identifier: GPL-2.0-only
"""`numalab boot disk.img`: what it shows, how it says the end, and images that cannot boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.firmware.test_multiboot import header_1

from .conftest import Numalab

# xor ax, ax; mov ds, ax; mov si, text; lodsb; test al, al; jz end; mov ah, 0eh; int 10h; jmp
PRINT = bytes.fromhex("31c0 8ed8 be147c ac 84c0 7406 b40e cd10 ebf5")
HALT, LOOP = b"\xfa\xf4", b"\xeb\xfe"
# mov ah, 0; int 16h; mov ah, 0eh; int 10h; cmp al, 13; jne
ECHO = bytes.fromhex("b400 cd16 b40e cd10 3c0d 75f4 faf4")
SMALL = ("--numa", "1x32M")


def disk(name: str, code: bytes, size: int = 512) -> str:
    """An image in the current directory."""
    Path(name).write_bytes((code.ljust(510, b"\0") + b"\x55\xaa").ljust(size, b"\0"))
    return name


def hello(end: bytes = LOOP) -> bytes:
    code = PRINT + end
    return code + b"Hello\r\nthere\0"


def test_the_screen_and_the_end_are_told(numalab: Numalab) -> None:
    result = numalab("boot", disk("a.img", hello()), "--screen", *SMALL)
    assert (result.code, result.out) == (0, "Hello\nthere\n")
    assert result.last.startswith("numalab: a jump to itself at 0000:7c12 after ")


def test_without_the_option_there_is_no_screen(numalab: Numalab) -> None:
    result = numalab("boot", disk("a.img", hello(HALT)), *SMALL)
    assert (result.code, result.out) == (0, "")
    assert result.last.startswith("numalab: halted after ")


@pytest.mark.parametrize(
    ("option", "size", "expected"),
    [((), 512, 0x80), ((), 1_474_560, 0), (("--floppy",), 512, 0), (("--disk",), 1_474_560, 0x80)],
)
def test_dl_is_the_number_of_the_drive(
    numalab: Numalab, option: tuple[str, ...], size: int, expected: int
) -> None:
    result = numalab("boot", disk("a.img", HALT, size), "--registers", *option, *SMALL)
    assert f"rdx {expected:016x}" in result.out
    assert "cpu 0: halted, real mode, 0000:7c02" in result.out


def test_keys_come_from_a_file(numalab: Numalab) -> None:
    Path("keys").write_text("Hi, PC!\n")
    result = numalab("boot", disk("a.img", ECHO), "--keys", "keys", "--screen", *SMALL)
    assert (result.code, result.out) == (0, "Hi, PC!\n")


def test_a_guest_that_waits_for_ever_is_ended(numalab: Numalab) -> None:
    result = numalab("boot", disk("a.img", ECHO), *SMALL)
    assert result.code == 0
    assert "nothing new for 10 s of its time" in result.last


def test_registers_of_every_cpu(numalab: Numalab) -> None:
    result = numalab("boot", disk("a.img", HALT), "--registers", "--numa", "1x32M,cpus=3")
    assert "cpu 1: " in result.out
    assert "cpu 2: " in result.out


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"x" * 300, 65, "300 bytes are less than a boot sector (512)"),
        (b"x" * 1024, 65, "no boot signature 55AA at the end of the first sector"),
        (b"", 65, "0 bytes are less than a boot sector (512)"),
    ],
)
def test_images_that_cannot_boot_cost_one_line(
    numalab: Numalab, data: bytes, code: int, message: str
) -> None:
    Path("bad.img").write_bytes(data)
    result = numalab("boot", "bad.img", *SMALL)
    assert result.code == code
    assert result.err == f"numalab: bad.img: {message} (exit {code})\n"


def test_an_image_that_ends_within_a_sector_is_filled_up_with_a_word(numalab: Numalab) -> None:
    Path("odd.img").write_bytes(Path(disk("a.img", HALT)).read_bytes() + b"abc")
    result = numalab("boot", "odd.img", *SMALL)
    assert result.code == 0
    assert "515 bytes are not whole sectors, the last one is filled up with zeros" in result.err


# mov ax, 301h; mov bx, 7c00h; mov cx, 1; mov dh, 0; mov byte [7dfdh], 77h; int 13h; AH to f4h
WRITES = bytes.fromhex("b80103 bb007c b90100 b600 c606fd7d77 cd13 88e0 e6f4")


def test_what_the_guest_writes_stays_in_the_machine_unless_wanted(numalab: Numalab) -> None:
    name = disk("a.img", WRITES)
    before = Path(name).read_bytes()
    assert numalab("boot", name, *SMALL).code == 1
    assert Path(name).read_bytes() == before
    assert numalab("boot", name, "--write-back", *SMALL).code == 1
    assert Path(name).read_bytes()[0x1FD] == 0x77


@pytest.mark.parametrize("how", ["option", "mode"])
def test_a_read_only_image_is_write_protected(numalab: Numalab, how: str) -> None:
    name = disk("a.img", WRITES)
    if how == "mode":
        Path(name).chmod(0o444)
    options = ("--read-only",) if how == "option" else ()
    assert numalab("boot", name, *options, *SMALL).code == 0x03 << 1 | 1


def test_a_reset_ends_the_run_unless_it_is_to_boot_again(numalab: Numalab) -> None:
    # inc byte [0x7000]; cmp byte [0x7000], 3; jae +4; mov al, FEh; out 64h, al; cli; hlt
    code = bytes.fromhex("fe060070 803e007003 7304 b0fe e664 faf4")
    name = disk("a.img", code)
    assert numalab("boot", name, *SMALL).last.startswith("numalab: reset after ")
    assert numalab("boot", name, "--reboot", *SMALL).last.startswith("numalab: halted after ")


def test_a_fault_shows_the_registers_and_exits_76(numalab: Numalab) -> None:
    # lidt [0x7d00]; mov eax, cr0; or al, 1; mov cr0, eax; ud2
    name = disk("a.img", bytes.fromhex("0f011e007d 0f20c0 0c01 0f22c0 0f0b"))
    result = numalab("boot", name, *SMALL)
    assert result.code == 76
    assert "protected 16 mode" in result.err


def test_the_budget_and_the_guests_time_are_limits(numalab: Numalab) -> None:
    name = disk("a.img", bytes.fromhex("40ebfd"))
    result = numalab("boot", name, "--max-instructions", "5000", *SMALL)
    assert (result.code, result.last) == (
        75,
        "numalab: budget of 5,000 instructions spent at 0000:7c00 (exit 75)",
    )
    result = numalab("boot", disk("b.img", ECHO), "--max-time", "2", *SMALL)
    assert result.code == 75
    assert "2 s of the guest's time" in result.last


def test_a_multiboot_kernel_boots(numalab: Numalab) -> None:
    head = header_1(1 << 16, 0x100000, 0x100000, 0, 0, 0x100020)
    # mov word [0xb8000], 0x0741; cli; hlt
    code = bytes.fromhex("66c70500800b004107 faf4")
    Path("k.bin").write_bytes(head.ljust(0x20, b"\0") + code)
    result = numalab("boot", "k.bin", "--screen", "--registers", *SMALL)
    assert result.out.startswith("A\ncpu 0: halted, protected 32 mode")


def test_a_snapshot_goes_on(numalab: Numalab) -> None:
    Path("keys").write_text("resumed\n")
    name = disk("a.img", ECHO)
    first = numalab(
        "boot", name, "--keys", "keys", "--max-instructions", "60", "--save", "s.snap", *SMALL
    )
    assert first.code == 75
    result = numalab("resume", "s.snap", "--screen")
    assert (result.code, result.out) == (0, "resumed\n")


def test_the_allocator_beside_a_guest_can_be_inspected(numalab: Numalab) -> None:
    name = disk("a.img", HALT)
    with_kernel = numalab("boot", name, "--kernel", "--inspect", "buddyinfo", "--numa", "2x64M")
    assert "Node 1, zone    DMA32" in with_kernel.out
    without = numalab("boot", name, "--inspect", "buddyinfo", *SMALL)
    assert without.code == 69
    assert "no kernel has been booted" in without.err
    assert "Node 0, zone" in numalab("inspect", name, "buddyinfo").out
    assert numalab("check", name).code == 0


@pytest.mark.parametrize("option", ["--keys=k", "--kernel", "--reboot"])
def test_options_for_disks_are_refused_with_a_script(numalab: Numalab, option: str) -> None:
    result = numalab("boot", "first_light.S", option)
    assert result.code == 64
    assert "is for disk images" in result.err


def test_missing_files_are_named(numalab: Numalab) -> None:
    assert numalab("boot", "none.img").code == 66
    assert numalab("boot", disk("a.img", HALT), "--keys", "none", *SMALL).code == 66


@pytest.mark.parametrize("words", [("check",), ("inspect", "buddyinfo")])
def test_a_snapshot_without_kernel_is_told_in_one_line(
    numalab: Numalab, words: tuple[str, ...]
) -> None:
    numalab("boot", disk("a.img", hello()), "--save", "a.snap", *SMALL)
    result = numalab(words[0], "a.snap", *words[1:])
    assert (result.code, result.out) == (69, "")
    assert "no kernel has been booted on this machine" in result.last


def test_modules_are_loaded_for_a_multiboot_kernel_and_for_nothing_else(numalab: Numalab) -> None:
    # mov eax, [ebx + 24]; mov esi, [eax]; mov al, [esi]; mov dx, 3f8h; out dx, al; hlt
    code = bytes.fromhex("8b4318 8b30 8a06 66baf803 ee faf4")
    Path("kernel.bin").write_bytes(
        header_1(1 << 16, 0x100000, 0x100000, 0, 0, 0x100020).ljust(0x20, b"\0") + code
    )
    Path("mod").write_bytes(b"M")
    result = numalab("boot", "kernel.bin", "--module", "mod with a line", *SMALL)
    assert (result.code, result.out.strip()) == (0, "M")
    missing = numalab("boot", "kernel.bin", "--module", "nothing", *SMALL)
    assert (missing.code, missing.last.startswith("numalab: nothing: ")) == (66, True)
    wrong = numalab("boot", disk("a.img", HALT), "--module", "mod", *SMALL)
    assert (wrong.code, wrong.last) == (64, "numalab: --module is for Multiboot kernels (exit 64)")
