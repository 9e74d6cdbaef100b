# SPDX-License-Identifier: GPL-2.0-only
"""Functions on words compiled without a compiler for Python: the same values, or a refusal."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_int64
from typing import Any

import llvmlite.binding as llvm
import pytest

from machine.wordcode import FAILED, compile_functions

MASK, BIG = 0xFF, 1 << 70
NAME = "no number"


def arithmetic(a: int, b: int) -> int:
    c = (a + b) * 3 - (a & MASK) | b << 3 ^ a >> 5
    c += 7
    c &= ~b
    return -c


def conditions(a: int, b: int) -> int:
    if a < b and not (a == 3 or b == 4):
        return 1
    if a > 100 or b >= 50 or (a != b and a & 1):
        return 2 if b & 1 else 3
    odd = a <= b or a == 7
    return 10 + odd


def loops(a: int, b: int) -> int:
    total = 0
    for i in range(0, a & 63, 3):
        if i == b & 31:
            break
        total += i
    for j in range(a & 7):
        total = total * 2 + j
    while True:
        total -= 1 if a > 0 else 2
        if total < 5:
            break
    while total < b & 15:
        total += 1
    return total


def array_sum(m: memoryview, start: int, end: int) -> int:
    total = 0
    for i in range(start, end):
        total += m[i]
        m[i] |= 1
    m[start] = len(m)
    return total


def calling(m: memoryview, a: int, b: int) -> int:
    return array_sum(m, a, b) + arithmetic(a, b)


def no_else(a: int, b: int) -> int:
    x = a / b
    return int(x)


def no_big_number(a: int, b: int) -> int:
    return a + b + BIG


def no_text(a: int, b: int) -> int:
    return a if NAME else b


def no_stranger(a: int, b: int) -> int:
    return max(a, b)


def no_try(a: int, b: int) -> int:
    try:
        return a
    finally:
        print(b)


def no_chain(a: int, b: int) -> int:
    return 0 < a < b


def no_value_of_or(a: int, b: int) -> int:
    return a or b


def native(function: Callable[..., int], *others: Any) -> tuple[Any, Any]:
    """The function as machine code, and what must be kept for it to live."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name = function.__name__
    module = llvm.parse_assembly(compile_functions([*others, function], [name]))  # type: ignore[list-item]
    module.verify()
    target = llvm.Target.from_default_triple().create_target_machine(opt=2)
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    kinds = [
        POINTER(c_int64) if kind == "memoryview" else c_int64
        for key, kind in function.__annotations__.items()
        if key != "return"
    ]
    return CFUNCTYPE(c_int64, *kinds)(engine.get_function_address(name)), engine


@pytest.mark.parametrize("function", [arithmetic, conditions, loops])
def test_numbers_come_out_as_in_python(function: Callable[[int, int], int]) -> None:
    compiled, _keep = native(function)
    rng = random.Random(1)
    for _ in range(2000):
        bits = rng.choice((3, 7, 20, 40))
        a, b = (rng.getrandbits(bits) - rng.choice((0, 1 << bits - 1)) for _ in range(2))
        assert compiled(a, b) == function(a, b), (a, b)


def test_arrays_are_read_and_written_in_place() -> None:
    compiled, _keep = native(calling, array_sum, arithmetic)
    mine, theirs = (array("q", range(20)) for _ in range(2))
    here = (c_int64 * 2)(*theirs.buffer_info())
    assert compiled(here, 3, 9) == calling(memoryview(mine), 3, 9)
    assert theirs == mine


@pytest.mark.parametrize(("start", "end"), [(18, 22), (-1, 2), (25, 25), (1 << 40, 1 << 41)])
def test_an_index_out_of_range_ends_the_callers_too(start: int, end: int) -> None:
    compiled, _keep = native(calling, array_sum, arithmetic)
    words = array("q", range(20))
    assert compiled((c_int64 * 2)(*words.buffer_info()), start, end) == FAILED


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (no_else, "Div"),
        (no_big_number, "the number"),
        (no_text, "the name NAME"),
        (no_stranger, "a call of max"),
        (no_try, "Try"),
        (no_chain, "Compare"),
        (no_value_of_or, "BoolOp"),
    ],
)
def test_what_the_language_does_not_have_is_refused(
    function: Callable[[int, int], int], what: str
) -> None:
    with pytest.raises(ValueError, match=rf"{function.__name__}, line \d+: {what}"):
        compile_functions([function], [])  # type: ignore[list-item]
