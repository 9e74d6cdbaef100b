# SPDX-License-Identifier: GPL-2.0-only
"""The table of rules, and how subsystems add theirs.

A *checker* is a function that looks at one subject and knows a few *rules*, each an id and a
statement of one line that is true of every sound machine. The allocator's own checkers register
themselves when `allocator.check` is imported; a subsystem that keeps frames of its own (LRU lists,
page tables, control groups) calls `register` from its module, with the rules that it adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from machine import UsageError

if TYPE_CHECKING:
    from .context import Check


@dataclass(frozen=True)
class Checker:
    """A subject's rules (id -> statement) and the function that tests them."""

    name: str
    rules: Mapping[str, str]
    run: Callable[[Check], None]
    rank: int = 100


CHECKERS: dict[str, Checker] = {}
"""All checkers by name."""


def register(
    name: str, rules: Mapping[str, str], run: Callable[[Check], None], rank: int = 100
) -> Checker:
    """Adds a checker, or replaces the one of the same name. Those of lower `rank` run first.

    Raises:
        UsageError: a rule id that another checker has.
    """
    for other in CHECKERS.values():
        shared = set(rules) & set(other.rules)
        if other.name != name and shared:
            raise UsageError(f"checker {name}: {other.name} has rule {min(shared)} already")
    CHECKERS[name] = Checker(name, dict(rules), run, rank)
    return CHECKERS[name]


def unregister(name: str) -> None:
    """Takes a checker out. Raises UsageError if there is none of that name."""
    if name not in CHECKERS:
        raise UsageError(f"there is no checker {name}")
    del CHECKERS[name]


def checkers() -> list[Checker]:
    """All checkers in the order in which they run."""
    return sorted(CHECKERS.values(), key=lambda checker: checker.rank)


def rules() -> dict[str, str]:
    """Every rule, id -> statement, in the order in which they are tested."""
    return {rule: text for checker in checkers() for rule, text in checker.rules.items()}
