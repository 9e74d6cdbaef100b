# SPDX-License-Identifier: GPL-2.0-only
"""firmware/source.py: includes, their search path, and the line map."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firmware import source
from firmware.source import INCLUDE_DIR, Place, expand, read_file, read_source
from machine.errors import ImageError, InputError


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def places(text: source.Source) -> list[tuple[bytes, str, int]]:
    return [(line, p.file, p.line) for line, p in zip(text.lines, text.origins, strict=True)]


def test_an_include_is_put_in_place_and_every_line_knows_its_file(tmp_path: Path) -> None:
    write(tmp_path, a_S='one\n.include "b.inc"\nthree\n', b_inc="B1\nB2\n")
    got = read_source(tmp_path / "a.S")
    a, b = str(tmp_path / "a.S"), str(tmp_path / "b.inc")
    assert places(got) == [
        (b"one", a, 1),
        (b"B1", b, 1),
        (b"B2", b, 2),
        (b" " * len('.include "b.inc"'), a, 2),
        (b"three", a, 3),
    ]
    assert got.origin(3) == Place(b, 2)
    assert got.origin(99) == Place(a, 3)
    assert got.cacheable


def test_what_surrounds_an_include_keeps_its_line_and_column(tmp_path: Path) -> None:
    write(tmp_path, b_inc="B")
    got = expand(b'x: .include "b.inc"; nop', "t.S", tmp_path)
    assert got.lines[0] == b"x: "
    assert got.lines[1] == b"B"
    assert got.lines[2].index(b"nop") == b'x: .include "b.inc"; nop'.index(b"nop")
    assert [p.line for p in got.origins] == [1, 1, 1]


def test_the_search_goes_includer_then_script_then_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, sub = tmp_path / "package", tmp_path / "sub"
    package.mkdir()
    sub.mkdir()
    monkeypatch.setattr(source, "INCLUDE_DIR", package)
    write(sub, outer_inc='.include "both.inc"\n.include "top.inc"\n', both_inc="from sub\n")
    write(tmp_path, both_inc="from script\n", top_inc="top\n")
    write(package, both_inc="from package\n", only_inc="package only\n")
    text = b'.include "sub/outer.inc"\n.include "both.inc"\n.include "only.inc"\n'
    got = [line for line in expand(text, "t.S", tmp_path).lines if line.strip()]
    assert got == [b"from sub", b"top", b"from script", b"package only"]


def test_the_packages_includes_lie_beside_its_scripts() -> None:
    assert Path(source.__file__).resolve().parent / "scripts" / "include" == INCLUDE_DIR


@pytest.mark.parametrize(
    "line",
    [
        '# .include "b.inc"',
        '// .include "b.inc"',
        '/* \n .include "b.inc" \n */',
        r'.ascii "\\" .include \"b.inc\" "',
        'mov $\'"\', %al # .include "b.inc"',
        'x.include "b.inc"',
    ],
)
def test_directives_in_comments_and_strings_are_text(line: str, tmp_path: Path) -> None:
    write(tmp_path, b_inc="PULLED IN\n")
    got = expand(line.encode(), "t.S", tmp_path)
    assert got.text == line.encode() + b"\n"


def test_an_apostrophe_or_a_hash_in_quotes_does_not_hide_an_include(tmp_path: Path) -> None:
    write(tmp_path, b_inc="PULLED IN\n")
    text = b'mov $\'#\', %al; .ascii "#"; .include "b.inc"\n'
    assert b"PULLED IN" in expand(text, "t.S", tmp_path).lines


def test_a_missing_include_is_left_to_the_assembler_and_not_cached(tmp_path: Path) -> None:
    got = expand(b'nop\n.include "nope.inc"\n', "t.S", tmp_path)
    assert got.lines[1] == b'.include "nope.inc"'
    assert not got.cacheable


def test_a_name_made_by_a_macro_is_not_cached(tmp_path: Path) -> None:
    got = expand(b'.macro pull f\n.incbin "\\f"\n.endm\n', "t.S", tmp_path)
    assert not got.cacheable


def test_the_digest_covers_includes_and_binaries(tmp_path: Path) -> None:
    digests = set()
    for inc, blob in (("nop\n", "a"), ("hlt\n", "a"), ("hlt\n", "b")):
        write(tmp_path, i_inc=inc, d_bin=blob)
        digests.add(expand(b'.include "i.inc"\n.incbin "d.bin"\n', "t.S", tmp_path).digest())
    assert len(digests) == 3


def test_a_binary_is_named_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, d_bin="x")
    monkeypatch.chdir(tmp_path)
    got = expand(b'.incbin "d.bin", 0, 1\n', "t.S", Path())
    assert got.lines == [b'.incbin "%s", 0, 1' % os.fsencode(tmp_path / "d.bin")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a_S": '.include "a.S"\n'}, "a.S:1:1: 'a.S' includes itself"),
        (
            {"a_S": ' .include "b.inc"\n', "b_inc": 'nop\n  .include "b.inc"\n'},
            "b.inc:2:3: 'b.inc' includes itself",
        ),
        ({"a_S": 'nop\n.include "/dev/zero"\n'}, "a.S:2:1: /dev/zero: not a regular file"),
        ({"a_S": '.include "/dev"\n'}, "a.S:1:1: /dev: not a regular file"),
        ({"a_S": "nop\n  \0\n"}, "a.S:2:3: zero byte"),
        ({"a_S": "nop\n#include <stdio.h>\n"}, "a.S:2:1: C preprocessor"),
        ({"a_S": "#define PORT 0xe9\n"}, "a.S:1:1: C preprocessor"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(
    files: dict[str, str], message: str, tmp_path: Path
) -> None:
    write(tmp_path, **files)
    with pytest.raises(ImageError) as caught:
        read_source(tmp_path / "a.S")
    assert message in str(caught.value)


@pytest.mark.parametrize("separator", ["\n", " "])
def test_includes_that_multiply_are_stopped(separator: str, tmp_path: Path) -> None:
    for level in range(30):
        both = separator.join([f'.include "{level + 1}.inc"'] * 2)
        (tmp_path / f"{level}.inc").write_text(both)
    (tmp_path / "30.inc").write_text("")
    with pytest.raises(ImageError, match="more than 4096 includes in all"):
        read_source(tmp_path / "0.inc")


def test_a_source_that_grows_too_large_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "big.inc").write_text("#" * 1_000_000)
    text = b'.include "big.inc"\n' * 20
    with pytest.raises(ImageError, match="more than 16 MiB of source"):
        expand(text, "t.S", tmp_path)


def test_prose_that_begins_with_define_is_a_comment(tmp_path: Path) -> None:
    assert expand(b"# define the frames\n", "t.S", tmp_path).lines == [b"# define the frames"]


def test_words_are_found_outside_comments_only(tmp_path: Path) -> None:
    got = expand(b"# zork\n xzork: nop # zork\nzork2:\n call zork\n", "t.S", tmp_path)
    assert got.find_word("zork") == (Place("t.S", 4), 7)
    assert got.find_word("frob") is None


def test_only_readable_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path, "not a regular file"),
        (tmp_path / "absent", "No such file"),
        (tmp_path / "with\0zero", "embedded null"),
    ):
        with pytest.raises(InputError, match=message):
            read_file(path, 10)
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(ImageError, match="larger than"):
        read_file(tmp_path / "large", 10)
