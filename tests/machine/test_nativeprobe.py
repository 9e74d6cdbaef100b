# SPDX-License-Identifier: GPL-2.0-only
"""The probe believes nothing that it has not seen work, and survives what does not."""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import replace

import pytest

from machine import nativecode, nativeprobe
from machine.nativecode import Native
from machine.nativeprobe import PROGRAMS, equal_counts, find_layout, holds, trace

native = nativecode.load()
pytestmark = pytest.mark.skipif(native is None, reason="this host has no native routines")


@pytest.fixture
def known() -> Native:
    assert native is not None
    return native


def test_a_question_is_answered_in_a_child() -> None:
    parent = os.getpid()
    assert holds(lambda: os.getpid() != parent)
    assert not holds(lambda: os.getpid() == parent)


def test_a_crash_an_exception_and_a_hang_are_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang() -> bool:
        time.sleep(60)
        return True

    def fail() -> bool:
        raise ValueError

    monkeypatch.setattr(nativeprobe, "_GUESS_SECONDS", 1)
    assert not holds(lambda: bool(ctypes.string_at(8, 8)) or True)
    assert not holds(lambda: bool(os.abort()) or True)
    assert not holds(fail)
    assert not holds(hang)


def test_the_layout_is_found_again(known: Native) -> None:
    assert find_layout(known.routines) == known.layout


def test_the_right_layout_counts_as_unicorn_does(known: Native) -> None:
    assert equal_counts(known)


def test_a_field_that_limits_no_block_is_not_taken(known: Native) -> None:
    wrong = replace(known.layout, next_block=known.layout.next_block + 4)
    assert not holds(lambda: equal_counts(Native(known.routines, wrong)))


def test_a_distance_at_which_no_description_lies_is_not_taken(known: Native) -> None:
    wrong = replace(known.layout, tb_head=known.layout.tb_head - 64)
    assert not holds(lambda: equal_counts(Native(known.routines, wrong)))


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_of_the_comparison_does_something(program: str) -> None:
    rows = trace(bytes.fromhex(program), 3, None)
    assert sum(min(begun, 3) for _, begun, *_ in rows) >= 2
