# SPDX-License-Identifier: GPL-2.0-only
"""firmware/assembler.py: objects, and messages that name the right place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from firmware import assembler
from firmware.assembler import Assembly, assembler_identity
from firmware.source import expand, read_source
from machine.errors import BringUpError, ImageError


def assemble(text: str, folder: Path = Path()) -> tuple[bytes, tuple[str, ...]]:
    return Assembly(expand(text.encode(), "t.S", folder)).result()


def complaint(text: str, folder: Path = Path()) -> str:
    with pytest.raises(ImageError) as caught:
        assemble(text, folder)
    return str(caught.value)


def test_an_object_comes_out() -> None:
    obj, warnings = assemble("nop\n")
    assert obj.startswith(b"\x7fELF")
    assert warnings == ()


def test_the_same_text_gives_the_same_object() -> None:
    text = ".data\nx: .quad y\n.text\ny: mov x, %rax\n"
    assert assemble(text) == assemble(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n    mvo $1, %rax\n", "t.S:3:5: invalid instruction mnemonic 'mvo'"),
        ("nop; nop; frob\n", "t.S:1:11: invalid instruction mnemonic 'frob'"),
        ("# a comment\n// and one\n/* two\nlines */ mvo\n", "t.S:4:10: invalid instruction"),
        (".intel_syntax noprefix\nmov rax, 1\n frob rax\n", "t.S:3:2: invalid instruction"),
        ('.error "too bad"\n', "t.S:1:1: too bad"),
        (".if 1\nnop\n", "unmatched .ifs or .elses"),
        ('nop\n.include "nope.inc"\n', "t.S:2:10: Could not find include file 'nope.inc'"),
        ("nop\n jmp 2f\n", "t.S:2:6: no label '2' for '2f'"),
        ("1: nop\n jmp 1b\n jmp 1f\n", "t.S:3:6: no label '1' for '1f'"),
    ],
)
def test_errors_carry_line_and_column(text: str, message: str) -> None:
    got = complaint(text)
    assert message in got
    assert got.isprintable()


def test_an_error_in_an_include_names_the_include(tmp_path: Path) -> None:
    (tmp_path / "b.inc").write_text("nop\nnop\n  badb\n")
    got = complaint('nop\n.include "b.inc"\n', tmp_path)
    assert got == f"{tmp_path / 'b.inc'}:3:3: invalid instruction mnemonic 'badb'"


def test_an_error_behind_an_include_names_the_script(tmp_path: Path) -> None:
    (tmp_path / "b.inc").write_text("nop\nnop\nnop\n")
    got = complaint('.include "b.inc"\n nop\n bada\n', tmp_path)
    assert got == "t.S:3:2: invalid instruction mnemonic 'bada'"


def test_an_error_in_a_macro_names_its_use_and_the_line_of_the_macro(tmp_path: Path) -> None:
    (tmp_path / "m.inc").write_text("# macros\n.macro put x\n  nop\n  mov \\x, %zzz\n.endm\n")
    got = complaint('.include "m.inc"\n.if 1\n nop\n  put $1 # here\n.endif\n', tmp_path)
    assert got == f"t.S:4:3: invalid register name, in the macro at {tmp_path / 'm.inc'}:4"


def test_an_error_in_a_macro_within_a_macro_names_the_outermost_use() -> None:
    text = ".macro in x\n mov \\x, %zzz\n.endm\n.macro out y\n nop\n in \\y\n.endm\n\n\n out $3\n"
    assert complaint(text) == "t.S:10:2: invalid register name, in the macro at t.S:2"


def test_an_error_in_a_repeated_block_names_its_line() -> None:
    assert complaint("nop\n.rept 3\n nop\n boo $2\n.endr\n").startswith("t.S:4:2: ")


def test_a_macro_that_never_ends_is_stopped() -> None:
    assert "t.S:4:1: macros cannot be nested" in complaint(".macro m\n m\n.endm\nm\n")


def test_warnings_are_handed_on() -> None:
    assert assemble('nop\n .warning "odd"\n')[1] == ("t.S:2:2: odd",)


def test_a_crash_of_the_assembler_is_an_error_of_the_script() -> None:
    got = complaint(" mov $big, %al\n.set big, 0x12345\n")
    assert got.startswith("t.S: ")
    assert got.isprintable()


def test_a_script_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembler, "TIMEOUT", 0.3)
    assert complaint(".rept 1000000000\n.quad 0\n.endr\n").endswith("more than 0.3 seconds")


def test_an_assembly_can_be_cancelled() -> None:
    work = Assembly(expand(b"nop\n", "t.S", Path()))
    work.cancel()
    assert work._child.returncode is not None


def test_the_identity_is_stable_and_names_the_package() -> None:
    assert assembler_identity() == assembler_identity()
    assert "llvmlite" in assembler_identity()


def test_a_missing_interpreter_or_assembler_cannot_bring_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nonexistent/python")
        with pytest.raises(BringUpError, match="cannot start"):
            assemble("nop\n")
        patch.setattr(sys, "executable", "")
        with pytest.raises(BringUpError, match="interpreter"):
            assemble("nop\n")
    monkeypatch.setattr(assembler.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BringUpError, match="llvmlite is not installed"):
        assembler_identity()


def test_a_name_made_by_a_macro_is_looked_for_beside_the_script(tmp_path: Path) -> None:
    (tmp_path / "late.inc").write_text("late = 7\n")
    (tmp_path / "t.S").write_text(
        '.macro pull f\n.include "\\f"\n.endm\npull late.inc\n.byte late\n'
    )
    assert Assembly(read_source(tmp_path / "t.S")).result()[0].startswith(b"\x7fELF")
