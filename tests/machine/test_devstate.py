# SPDX-License-Identifier: GPL-2.0-only
"""machine/devstate.py: lines, and saved state that may be anything."""

from __future__ import annotations

import pytest

from machine.devstate import Line, arm, number, numbers, octets, prefixed, signed
from tests.machine.fake_time import FakeTime


def test_a_line_tells_only_of_changes() -> None:
    seen: list[int] = []
    line = Line([seen.append])
    for level in (0, 1, 1, 0, 0):
        line.set(level)
    line.pulse()
    line.pulse()
    assert seen == [1, 0, 1, 0, 1]


def test_arming_with_none_clears() -> None:
    time = FakeTime()
    rung: list[int] = []
    timer = time.timer("t", lambda: rung.append(time.now))
    arm(timer, 50)
    arm(timer, None)
    time.go(100)
    arm(timer, 150)
    time.go(100)
    assert rung == [150]


@pytest.mark.parametrize("value", ["x", b"x", None, 0x100, -1])
def test_a_saved_number_must_be_one_and_fit(value: object) -> None:
    with pytest.raises(ValueError, match="n: "):
        number({"n": value}, "n", 0xFF)  # type: ignore[dict-item]


def test_saved_values_come_back_under_their_prefix() -> None:
    values = {"a": 1, "b": -2}
    assert numbers(prefixed("p_", values), "p_", values) == values
    assert signed({"n": -5}, "n") == -5
    assert octets({"n": b"ab"}, "n", 2) == b"ab"
    for bad in (b"abc", 3):
        with pytest.raises(ValueError, match="n: "):
            octets({"n": bad}, "n", 2)
    with pytest.raises(KeyError):
        number({}, "n")
