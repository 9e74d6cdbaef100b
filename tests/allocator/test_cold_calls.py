# SPDX-License-Identifier: GPL-2.0-only
"""Compiled code calling Python: words, integers, and what is raised on the other side."""

from __future__ import annotations

from ctypes import CFUNCTYPE, addressof, c_int64
from types import SimpleNamespace
from typing import Any

from allocator.cold_calls import FAILED, ColdCalls

WORDS = 16


def put(m: memoryview, index: int, value: int) -> int:
    m[index] = value
    return value + 1


class Code:
    """Code with one word for each function it calls."""

    def __init__(self) -> None:
        self.words: dict[str, Any] = {}

    def word(self, name: str) -> Any:
        return self.words.setdefault(name, SimpleNamespace(value=0))


def connected() -> tuple[ColdCalls, Any, Any]:
    """The calls, the function as code sees it, and the words that it works on."""
    calls, code = ColdCalls(), Code()
    calls.connect(code, {"put": put})  # type: ignore[arg-type, dict-item]
    function = CFUNCTYPE(c_int64, *[c_int64] * 4)(code.words["nl_py_put"].value)
    return calls, function, (c_int64 * WORDS)()


def test_a_function_gets_the_words_themselves_and_the_integers() -> None:
    calls, function, array = connected()
    assert function(addressof(array), WORDS, 5, -9) == -8
    assert array[5] == -9
    assert calls.take() is None


def test_what_a_function_raises_is_kept_for_whoever_made_the_call_once() -> None:
    calls, function, array = connected()
    assert function(addressof(array), WORDS, WORDS, 1) == FAILED
    assert isinstance(calls.take(), IndexError)
    assert calls.take() is None


def test_machines_that_are_gone_are_not_kept() -> None:
    calls = ColdCalls()
    arrays = [(c_int64 * WORDS)() for _ in range(20)]
    for i, array in enumerate(arrays):
        calls.view(addressof(array), WORDS)[0] = i
    assert [array[0] for array in arrays] == list(range(20))
    assert len(calls._views) <= 9
    last = arrays[-1]
    assert calls.view(addressof(last), WORDS) is calls.view(addressof(last), WORDS)
