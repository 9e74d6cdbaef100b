# SPDX-License-Identifier: GPL-2.0-only
"""Signals in words."""

from __future__ import annotations

import pytest

from allocator.signals import VECTOR_SIGNALS, describe, signal_name


@pytest.mark.parametrize(
    ("signal", "code", "text"),
    [
        (11, 1, "SIGSEGV at 0x1000: address not mapped"),
        (11, 2, "SIGSEGV at 0x1000: invalid permissions for the mapping"),
        (7, 2, "SIGBUS at 0x1000: no such page in the file"),
        (9, 0x80, "SIGKILL at 0x1000: out of memory"),
        (11, 55, "SIGSEGV at 0x1000: code 55"),
    ],
)
def test_a_death_is_told_in_a_line(signal: int, code: int, text: str) -> None:
    assert describe(signal, code, 0x1000) == text


def test_addresses_are_told_unsigned_and_strange_signals_by_number() -> None:
    assert "0xffffffffffffffff" in describe(11, 1, -1)
    assert signal_name(42) == "signal 42"


def test_exceptions_mean_the_signals_of_linux() -> None:
    assert {v: signal_name(s) for v, s in VECTOR_SIGNALS.items()} == {
        0: "SIGFPE",
        1: "SIGTRAP",
        3: "SIGTRAP",
        4: "SIGSEGV",
        6: "SIGILL",
        16: "SIGFPE",
        19: "SIGFPE",
    }
