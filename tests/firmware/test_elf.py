# SPDX-License-Identifier: GPL-2.0-only
"""firmware/elf.py: executables of all kinds, sound and not."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.elf import load_elf
from machine.errors import ImageError

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_GNU_STACK = 1, 2, 3, 0x6474E551
EM_386, EM_X86_64, EM_AARCH64 = 3, 62, 183
ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
CODE = b"\x90\xf4" * 8


def elf(
    *segments: tuple[int, int, int, bytes, int],
    entry: int = 0x400000,
    machine: int = EM_X86_64,
    kind: int = ET_EXEC,
) -> bytes:
    """An ELF64 file; segments are (type, vaddr, paddr, content, memsz)."""
    offset = 64 + 56 * len(segments)
    heads, bodies = b"", b""
    for ptype, vaddr, paddr, content, memsz in segments:
        heads += struct.pack(
            "<IIQQQQQQ", ptype, 7, offset, vaddr, paddr, len(content), memsz, 0x1000
        )
        bodies += content
        offset += len(content)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, entry, 64, 0, 0, 64, 56, len(segments), 64, 0, 0
    )
    return ident + header + heads + bodies


def load(paddr: int = 0x400000, vaddr: int = 0x400000, memsz: int = 16):
    return (PT_LOAD, vaddr, paddr, CODE, memsz)


def complaint(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        load_elf("x.elf", data)
    text = str(caught.value)
    assert text.isprintable()
    assert text.startswith("x.elf: ")
    return text


def test_segments_go_to_their_physical_addresses() -> None:
    data = elf(load(), (PT_LOAD, 0x500000, 0x600000, b"data", 4096), (PT_GNU_STACK, 0, 0, b"", 0))
    segments, entry, symbols = load_elf("x.elf", data)
    assert segments == [(0x400000, CODE, 16), (0x600000, b"data", 4096)]
    assert entry == 0x400000
    assert symbols == {}


def test_the_entry_of_an_image_linked_high_is_made_physical() -> None:
    high = 0xFFFF888000400000
    assert load_elf("x.elf", elf(load(vaddr=high), entry=high + 2))[1] == 0x400002


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (elf(load(), machine=EM_AARCH64), "ELF for EM_AARCH64"),
        (elf(load(), machine=0x1234), "ELF for machine or type 4660"),
        (elf(load(), kind=ET_DYN), "ELF type ET_DYN is not executable, link it with -static"),
        (elf(load(), kind=ET_REL), "ELF type ET_REL is not executable"),
        (elf(load(), (PT_INTERP, 0, 0, b"/lib/ld.so\0", 11)), "dynamically linked"),
        (elf(load(), (PT_DYNAMIC, 0, 0, bytes(16), 16)), "dynamically linked"),
        (elf(), "no segment to load"),
        (elf(*[load()] * 257), "257 segments, at most 256"),
        (elf(load(), entry=0x12345), "entry point 0x12345 lies in no segment"),
        (elf(load())[:-1], "truncated: segment 0 ends at byte 0x88, the file at 0x87"),
        (elf(load(memsz=8)), "larger in the file than in memory"),
        (elf(load(paddr=(1 << 64) - 16)), "outside of any RAM"),
        (elf(load())[:70], "damaged ELF file"),
        (b"\x7fELF", "damaged ELF file"),
        (b"\x7fELF\x01\x01\x01" + bytes(60), "ELF32 little-endian, ELF64"),
        (b"\x7fELF\x02\x02\x01" + bytes(80), "ELF64 big-endian"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(data: bytes, message: str) -> None:
    assert message in complaint(data)


SOUND = elf(load(), (PT_LOAD, 0x500000, 0x600000, b"data", 4096))


@settings(deadline=None, max_examples=300)
@given(
    changes=st.lists(st.tuples(st.integers(4, len(SOUND) - 1), st.integers(0, 255)), max_size=6),
    length=st.integers(0, len(SOUND)),
)
def test_garbage_is_loaded_or_refused(changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(SOUND)
    for offset, value in changes:
        data[offset] = value
    data = data[: max(length, 4)] if length % 2 else data
    try:
        segments, _, _ = load_elf("x.elf", bytes(data))
    except ImageError as error:
        text = str(error)
    else:
        text = "fine"
        assert all(len(content) <= memsz for _, content, memsz in segments)
    assert text.isprintable()


def test_segments_that_name_the_same_bytes_over_and_over_are_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = elf(load(), load(paddr=0x500000))
    monkeypatch.setattr("firmware.elf.MAX_LOADED", 32)
    assert len(load_elf("x.elf", data)[0]) == 2
    monkeypatch.setattr("firmware.elf.MAX_LOADED", 31)
    assert "MiB to load" in complaint(data)
