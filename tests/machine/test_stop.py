# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from machine.stop import KINDS, Stop, is_pending


def test_a_stop_has_no_registers_unless_given() -> None:
    assert Stop("halt", 0, 0, 0x10, 5, "all CPUs have halted").registers == {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_may_be_asked_for(kind: str) -> None:
    assert is_pending(kind, 3, "why")


@pytest.mark.parametrize("three", [("nap", 0, ""), ("exit", "0", ""), ("exit", 0, None)])
def test_what_no_machine_asks_for_is_told_apart(three: tuple[object, object, object]) -> None:
    assert not is_pending(*three)
