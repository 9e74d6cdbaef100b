# SPDX-License-Identifier: GPL-2.0-only
"""Names for what processes ask for, and their areas in words."""

from __future__ import annotations

import pytest

from allocator.errors import BadRequest
from allocator.process_terms import ADVICE, MODES, Area, areas, protection_bits

from .processes import PAGE, boot


@pytest.mark.parametrize(
    ("text", "bits"), [("r", 1), ("rw", 3), ("rwx", 7), ("r-x", 5), ("-", 0), ("", 0), (6, 6)]
)
def test_protections_are_letters_or_numbers(text: str | int, bits: int) -> None:
    assert protection_bits(text) == bits


def test_letters_that_are_none_are_refused() -> None:
    with pytest.raises(BadRequest, match="rq"):
        protection_bits("rq")


def test_advice_and_policies_have_linux_numbers() -> None:
    assert (ADVICE["dontneed"], ADVICE["free"], ADVICE["hugepage"]) == (4, 8, 14)
    assert MODES == {"default": 0, "preferred": 1, "bind": 2, "interleave": 3, "local": 4}


def test_areas_are_told_as_proc_does() -> None:
    kernel = boot()
    proc = kernel.create_process("test")
    file = kernel.create_file("f", data=b"f" * 4 * PAGE)
    proc.mmap(PAGE, "rx", address=1 << 40, fixed=True)
    proc.mmap(PAGE, "rw", file=file, offset=2 * PAGE, shared=True, address=2 << 40, fixed=True)
    first, second = areas(proc.m, proc.mm)
    assert isinstance(first, Area)
    assert str(first) == "10000000000-10000001000 r-xp 00000000"
    assert str(second) == "20000000000-20000001000 rw-s 00002000"
