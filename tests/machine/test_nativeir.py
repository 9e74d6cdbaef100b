# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import re

from machine.nativeir import CTX, CTX_WORDS, FUNCTIONS, SOURCE


def test_every_word_of_the_context_has_one_meaning() -> None:
    assert len(set(CTX.values())) == len(CTX)
    assert all(0 <= index < CTX_WORDS for index in CTX.values())


def test_arrays_are_followed_by_their_lengths() -> None:
    assert CTX["word_count"] == CTX["words"] + 1
    assert CTX["ram_count"] == CTX["ram"] + 1


def test_every_routine_is_defined_and_nothing_else_is_seen_outside() -> None:
    defined = re.findall(r"^define (?!internal)[^@]*@(\w+)", SOURCE, re.MULTILINE)
    assert sorted([*defined, "walk"]) == sorted(FUNCTIONS)
