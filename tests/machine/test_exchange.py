# SPDX-License-Identifier: GPL-2.0-only
"""machine/exchange.py: XCHG is made one instruction, or nothing is touched."""

from __future__ import annotations

import pytest

from machine import exchange


def test_every_replacement_has_just_the_room_of_what_it_replaces() -> None:
    for _, old, new, _ in exchange._FUNCTIONS.values():
        assert len(bytes.fromhex(old)) == len(bytes.fromhex(new))


def test_a_function_that_is_not_the_one_that_is_known_is_left_alone() -> None:
    head, old, new, tail = exchange._FUNCTIONS["xchgl_le"]
    assert exchange._place("xchgl_le", head, "90" * 5, new, "90" + tail[2:]) is None
    assert exchange._place("no_such_function", head, old, new, tail) is None


def test_one_unknown_function_keeps_all_of_them_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    touched: list[int] = []
    monkeypatch.setattr(exchange, "_place", lambda name, *_: None if name == "xchgb" else (1, b""))
    monkeypatch.setattr(exchange, "_replace", lambda address, _: bool(touched.append(address)))
    assert exchange.make_atomic.__wrapped__() is False
    assert not touched


def test_what_has_been_replaced_is_there_and_is_not_replaced_again() -> None:
    if not exchange.make_atomic():
        pytest.skip("this Unicorn's XCHG is not known")
    for name, (head, old, new, tail) in exchange._FUNCTIONS.items():
        assert exchange._place(name, head, old, new, tail) is None
        assert exchange._place(name, head, new, new, tail) is not None
