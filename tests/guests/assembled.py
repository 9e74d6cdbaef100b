# SPDX-License-Identifier: GPL-2.0-only
"""Guests for the PC, assembled where they are used: text in, bytes of an image out."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from firmware.assembler import Assembly
from firmware.link import link
from firmware.source import expand

SECTOR = 512


@cache
def flat(text: str, base: int) -> bytes:
    """`text` (GNU syntax, Intel operands) assembled and linked at `base`."""
    source = expand((".intel_syntax noprefix\n" + text).encode(), "guest.S", Path())
    obj, warnings = Assembly(source).result()
    assert not warnings, warnings
    return link(source, obj, base).data


def boot_image(text: str, sectors: int = 1) -> bytes:
    """A disk image of `sectors` sectors that begins with 16-bit `text` at 7C00h; the signature is
    put at the end of the first sector, which must have room for it."""
    code = flat(f".code16\n{text}", 0x7C00)
    image = bytearray(code.ljust(sectors * SECTOR, b"\0"))
    assert not any(image[510:512]), "the boot sector is longer than 510 bytes"
    image[510:512] = b"\x55\xaa"
    return bytes(image[: max(sectors * SECTOR, len(code))])
