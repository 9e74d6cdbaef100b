# SPDX-License-Identifier: GPL-2.0-only
"""firmware/link.py: sections, symbols and relocations, seen through assembled scripts."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from firmware.assembler import Assembly
from firmware.link import Linked, link
from firmware.source import expand
from machine.errors import ImageError


def linked(text: str) -> Linked:
    source = expand(text.encode(), "t.S", Path())
    return link(source, Assembly(source).result()[0])


def at(image: Linked, address: int, size: int) -> int:
    return int.from_bytes(image.data[address - image.base :][:size], "little", signed=True)


def complaint(text: str) -> str:
    with pytest.raises(ImageError) as caught:
        linked(text)
    return str(caught.value)


def test_sections_follow_one_another_from_1_mib_code_first_zeros_last() -> None:
    image = linked(
        ".bss\nz: .skip 5000\n.data\nd: .quad 1\n.section .rodata\nr: .byte 2\n.text\nt: nop\n"
    )
    order = [image.symbols[name] for name in "trdz"]
    assert image.base == order[0] == 0x100000
    assert order == sorted(order)
    assert all(address % 16 == 0 for address in order)
    assert len(image.data) <= order[3] - image.base
    assert image.memsz == order[3] - image.base + 5000
    assert (at(image, order[1], 1), at(image, order[2], 8)) == (2, 1)


def test_alignment_is_kept() -> None:
    image = linked("nop\n.data\n.byte 1\n.balign 4096\npage: .quad 2\n")
    assert image.symbols["page"] % 4096 == 0
    assert at(image, image.symbols["page"], 8) == 2


def test_entry_is_start_or_the_start_of_text() -> None:
    assert linked("nop\nhlt\n").entry == 0x100000
    assert linked("nop\n_start: hlt\n").entry == 0x100001
    assert linked("nop\n.globl _start\n_start: hlt\n").entry == 0x100001
    assert linked('.section .text.a,"ax"\nhlt\n.text\nnop\n').entry == 0x100000


def test_text_proper_comes_before_other_code() -> None:
    image = linked('.section .early,"ax"\nearly: hlt\n.text\nmain: nop\n')
    assert image.symbols["main"] == 0x100000 < image.symbols["early"]


@pytest.mark.parametrize(
    ("directive", "size", "expected"),
    [
        (".quad far + 8", 8, "far+8"),
        (".long far", 4, "far"),
        (".quad far - .", 8, "far-here"),
        (".long far - . + 4", 4, "far-here+4"),
        (".short far - .", 2, "far-here"),
        (".byte near - .", 1, "near-here"),
    ],
)
def test_data_relocations(directive: str, size: int, expected: str) -> None:
    image = linked(
        f".text\nnop\n.section .rodata\nhere: {directive}\n"
        '.data\nnear: .byte 0\n.section .other,"aw"\nfar: .quad 0\n'
    )
    here = image.symbols["here"]
    names = {**image.symbols, "here": here}
    wanted = eval(expected, {"__builtins__": {}}, names)
    assert at(image, here, size) == wanted


def test_instruction_relocations_reach_their_targets() -> None:
    image = linked(
        ".text\n_start: lea msg(%rip), %rsi\n movabs $msg, %rdi\n mov $msg, %eax\n"
        ' mov msg, %ebx\n call f@PLT\n mov $msg, %rcx\n.section .other,"ax"\nf: ret\n'
        '.section .rodata\nmsg: .asciz "hi"\n'
    )
    msg, f = image.symbols["msg"], image.symbols["f"]
    assert at(image, 0x100003, 4) + 0x100007 == msg
    assert at(image, 0x100009, 8) == msg
    assert at(image, 0x100012, 4) == msg
    assert at(image, 0x100019, 4) == msg
    assert at(image, 0x10001E, 4) + 0x100022 == f
    assert at(image, 0x100025, 4) == msg


def test_intel_syntax_links_the_same_way() -> None:
    image = linked(
        ".intel_syntax noprefix\n_start: lea rsi, [rip + msg]\n mov eax, offset msg # a comment\n"
        ".data\nmsg: .quad 5\n"
    )
    assert at(image, 0x100003, 4) + 0x100007 == image.symbols["msg"]
    assert at(image, 0x100008, 4) == image.symbols["msg"]


def test_marks_of_a_linker_script_are_defined_on_demand() -> None:
    image = linked(
        "nop\n.data\n.quad _etext, _edata, __bss_start, _end\n.bss\nb: .skip 100\n.comm c, 64, 64\n"
    )
    data = struct.unpack("<4Q", image.data[-32:])
    assert data[0] == 0x100001
    assert data[1] == data[2] == image.base + len(image.data)
    assert data[3] == image.base + image.memsz == image.symbols["c"] + 64
    assert image.symbols["c"] % 64 == 0


def test_a_script_may_define_a_mark_itself() -> None:
    assert at(linked("_end = 77\nnop\n.data\n.quad _end\n"), 0x100010, 8) == 77


def test_weak_symbols_that_nobody_defines_are_zero() -> None:
    assert at(linked("nop\n.weak w\n.data\n.quad w\n"), 0x100010, 8) == 0


def test_an_undefined_symbol_is_named_with_its_place() -> None:
    assert complaint("nop\n# zork\n  call zork\n") == "t.S:3:8: undefined symbol 'zork'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nop\n.byte x\n.data\n.globl x\nx: .byte 0\n", "does not fit into R_X86_64_8"),
        (
            "nop\n.long far\n.bss\n.skip 1 << 33\n.globl far\nfar:\n",
            "does not fit into R_X86_64_32",
        ),
        ("jmp *x@GOTPCREL(%rip)\n.globl x\nx: nop\n", "t.S:1:6: relocation type"),
        (".data\n.quad 1\n", "there is no code in it"),
        ("", "there is no code in it"),
        ('nop\n.section .tdata,"awT"\n.quad 1\n', "thread-local section .tdata"),
    ],
)
def test_what_cannot_be_linked_is_one_line(text: str, message: str) -> None:
    got = complaint(text)
    assert message in got
    assert got.startswith("t.S")
    assert got.isprintable()
