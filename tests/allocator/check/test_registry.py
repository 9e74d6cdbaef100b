# SPDX-License-Identifier: GPL-2.0-only
"""The table of rules, and adding to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from allocator.check import check_frames, checkers, register, rules, unregister
from allocator.check.context import Check
from machine import UsageError

from .scribbler import scribbler


@pytest.fixture
def extra() -> Iterator[list[int]]:
    """A subsystem of its own with one rule; what its checker saw."""
    seen: list[int] = []

    def run(check: Check) -> None:
        seen.append(check.frames.size)
        check.add_frame("made-up", 0x400, "is not to my liking")

    register("extra", {"made-up": "nothing is to its liking"}, run)
    yield seen
    unregister("extra")


def test_a_subsystem_can_add_rules_of_its_own(extra: list[int]) -> None:
    guest = scribbler("1x64M")
    (finding,) = check_frames(guest.machine.memory).findings
    assert (finding.rule, finding.frame) == ("made-up", 0x400)
    assert extra == [32768]
    assert rules()["made-up"] == "nothing is to its liking"


def test_rules_are_tested_in_order_of_rank(extra: list[int]) -> None:
    ranks = [checker.rank for checker in checkers()]
    assert ranks == sorted(ranks)
    assert checkers()[0].name == "kernel"
    assert checkers()[-1].name == "extra"


def test_a_rule_belongs_to_one_checker(extra: list[int]) -> None:
    with pytest.raises(UsageError, match="extra has rule made-up already"):
        register("another", {"made-up": "again"}, lambda check: None)


def test_a_checker_is_replaced_under_its_own_name(extra: list[int]) -> None:
    register("extra", {"made-up": "all is well"}, lambda check: None)
    assert check_frames(scribbler("1x64M").machine.memory).sound


def test_an_unknown_checker_cannot_be_taken_out() -> None:
    with pytest.raises(UsageError, match="no checker nobody"):
        unregister("nobody")
