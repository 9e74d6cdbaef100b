# SPDX-License-Identifier: GPL-2.0-only
"""firmware/images.py: from a file to bytes in guest RAM."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware import (
    Image,
    PendingImage,
    Segment,
    images,
    load_image,
    load_script,
    place_image,
    read_boot_params,
)
from machine.errors import ImageError, InputError, NumalabError
from tests.firmware.boards import powered
from tests.firmware.test_elf import elf, load

SCRIPT = """# comment
        .globl _start
_start: lea     value(%rip), %rbx      // another
        hlt
        .data
value:  .quad   0x1122334455667788
        .bss
room:   .skip   8192
"""


def image(*segments: Segment, entry: int = 0x100000) -> Image:
    return Image("x", segments, entry, "flat")


def test_a_script_becomes_one_segment_at_1_mib(tmp_path: Path) -> None:
    (tmp_path / "a.S").write_text(SCRIPT)
    got = load_image(tmp_path / "a.S")
    assert (got.kind, got.entry, got.name) == ("asm", 0x100000, str(tmp_path / "a.S"))
    (segment,) = got.segments
    assert segment.phys == 0x100000
    assert segment.memsz == 0x20 + 8192
    assert segment.data[0x10:] == bytes.fromhex("8877665544332211")
    assert got.symbols["value"] == 0x100010


def test_a_second_load_needs_no_assembler_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.S").write_text(SCRIPT + "# only here\n")
    first = load_image(tmp_path / "b.S")

    def none(*_: object) -> None:
        raise AssertionError("assembled again")

    monkeypatch.setattr(images, "Assembly", none)
    assert load_image(str(tmp_path / "b.S")) == first


def test_a_changed_include_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "c.S").write_text('.include "v.inc"\nmov $V, %eax\n')
    got = []
    for value in (1, 2):
        (tmp_path / "v.inc").write_text(f"V = {value}\n")
        got.append(load_image(tmp_path / "c.S").segments[0].data[1])
    assert got == [1, 2]


def test_errors_of_a_script_are_not_cached(tmp_path: Path) -> None:
    (tmp_path / "d.S").write_text("\n  mvo $1, %rax\n")
    for _ in range(2):
        with pytest.raises(ImageError, match=r"d\.S:2:3: invalid instruction mnemonic 'mvo'"):
            load_image(tmp_path / "d.S")


def test_a_script_with_warnings_warns_every_time() -> None:
    for _ in range(2):
        assert load_script('nop\n.warning "odd"\n').warnings == ("<script>:2:1: odd",)


def test_a_script_can_be_a_string() -> None:
    got = load_script("hlt\n", "inline.S")
    assert got.name == "inline.S"
    assert got.segments[0].data == b"\xf4"


def test_elf_and_flat_images_are_told_apart_by_content(tmp_path: Path) -> None:
    (tmp_path / "e.bin").write_bytes(elf(load()))
    (tmp_path / "f.bin").write_bytes(b"\xf4\xeb")
    assert load_image(tmp_path / "e.bin").kind == "elf"
    flat = load_image(tmp_path / "f.bin")
    assert flat == Image(
        str(tmp_path / "f.bin"), (Segment(0x100000, b"\xf4\xeb", 2),), 0x100000, "flat"
    )


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("absent.S", None, InputError, "absent.S: No such file"),
        ("absent.bin", None, InputError, "absent.bin: No such file"),
        ("empty.bin", b"", ImageError, "the file is empty"),
        ("notes.txt", b"hello", ImageError, "not ELF, and the name ends neither in .S nor"),
        ("short.elf", b"\x7fELF\x02\x01", ImageError, "short.elf: damaged ELF file"),
    ],
)
def test_a_bad_file_is_one_line(
    name: str, content: bytes | None, kind: type[NumalabError], message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(kind) as caught:
        load_image(tmp_path / name)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_pending_image_can_be_given_up(tmp_path: Path) -> None:
    (tmp_path / "g.S").write_text("nop # given up\n")
    pending = PendingImage(tmp_path / "g.S")
    pending.cancel()
    assert load_image(tmp_path / "g.S").segments[0].data == b"\x90"


def test_placing_writes_the_bytes_and_zeros_and_reserves_the_span() -> None:
    board = powered("2x128M")
    board.memory.write(0x100000, b"\xee" * 0x4000)
    place_image(board, image(Segment(0x100000, b"code", 0x3001)))
    assert board.memory.read(0x100000, 0x3001) == b"code".ljust(0x3001, b"\0")
    assert board.memory.read_u8(0x103001) == 0xEE
    params = read_boot_params(board.memory)
    assert (params.ramdisk_image, params.ramdisk_size) == (0x100000, 0x4000)


def test_an_image_may_lie_above_4_gib() -> None:
    board = powered("2x3G")
    place_image(board, image(Segment(0x120000000, b"code", 4)))
    assert board.memory.read(0x120000000, 4) == b"code"
    assert read_boot_params(board.memory).ramdisk_image == 0x120000000


KERNEL = 0x1000000


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([(0xF0000000, 4)], "[mem 0xf0000000-0xf0000003] does not lie in usable RAM"),
        ([(0x9FBFF, 4)], "does not lie in usable RAM"),
        ([(0xF0000, 4)], "does not lie in usable RAM"),
        ([(0xFFE0000 - 2, 4)], "does not lie in usable RAM"),
        ([(0x100000, 1 << 40)], "does not lie in usable RAM"),
        ([(1 << 60, 4)], "does not lie in usable RAM"),
        ([(0x500, 4)], "overlaps the BIOS data area"),
        ([(0x90FFF, 4)], "overlaps boot_params and the command line"),
        ([(0x917FF, 1)], "overlaps boot_params and the command line"),
        ([(KERNEL - 2, 4)], "overlaps the kernel's own image"),
        ([(KERNEL + 0xFFFFF, 4)], "overlaps the kernel's own image"),
        ([(0x100000, 0x1000), (0x100FFF, 4)], "overlaps another segment"),
        ([(0x100000, 4), (KERNEL + 0x100000, 4)], "on both sides of the kernel's own image"),
        ([(0x8000, 4), (0x100000, 4)], "on both sides of boot_params"),
    ],
)
def test_an_image_in_the_wrong_place_is_refused_and_writes_nothing(
    segments: list[tuple[int, int]], message: str
) -> None:
    board = powered("2x128M")
    before = board.memory.read(0, 0x9FC00), board.memory.read(0x100000, 0x1200000)
    wrong = image(*(Segment(phys, b"\xaa", size) for phys, size in segments))
    with pytest.raises(ImageError) as caught:
        place_image(board, wrong, 0x100000)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert (board.memory.read(0, 0x9FC00), board.memory.read(0x100000, 0x1200000)) == before


def test_the_page_next_to_what_is_taken_is_free() -> None:
    board = powered("2x128M")
    for phys in (0x1000, 0x8F000, 0x92000, KERNEL - 0x1000, KERNEL + 0x100000):
        place_image(board, image(Segment(phys, b"code", 0x1000)), 0x100000)


def test_zeroing_what_is_zero_already_commits_no_memory() -> None:
    board = powered("2x3G")
    before = board.memory.touched()
    place_image(board, image(Segment(0x2000000, b"", 1 << 30)))
    assert board.memory.touched() == before
