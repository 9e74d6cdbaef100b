# SPDX-License-Identifier: GPL-2.0-only
"""allocator/interp_fold.py: simpler code, the same values."""

from __future__ import annotations

import ast
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator import interp, interp_fold
from allocator.engine import hot_functions
from allocator.interp import PREFIX, Helpers, learner
from allocator.interp_fold import Assignments, Constants, Simplify, number_of

NAMES = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(-70, 70).map(lambda n: f"({n})")
SMALL = st.integers(0, 9).map(str)


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(["+", "-", "*", "&", "|", "^"])
    return st.one_of(
        st.tuples(inner, operators, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, st.sampled_from(["+", "-"]), inner, inner).map(
            lambda t: f"{t[0]} {t[1]} {t[2]} + {t[3]}"
        ),
        st.tuples(inner, st.sampled_from(["<<", ">>"]), SMALL).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        inner.map(lambda t: f"(-({t}))"),
        inner.map(lambda t: f"(~({t}))"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} == {t[2]} else {t[1]})"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]} and {t[1]} or 0)"),
    )


EXPRESSIONS = st.recursive(st.one_of(NAMES, NUMBERS), _compound, max_leaves=12)


def simplified(text: str) -> str:
    return ast.unparse(ast.fix_missing_locations(Simplify().visit(ast.parse(text))))


@given(EXPRESSIONS, *[st.integers(-(1 << 66), 1 << 66)] * 3)
def test_simplified_expressions_have_the_same_value(text: str, a: int, b: int, c: int) -> None:
    values = {"a": a, "b": b, "c": c}
    assert eval(simplified(text), values) == eval(text, values)


@pytest.mark.parametrize(
    ("text", "simple"),
    [
        ("z + 3 + 4 - 2", "z + 5"),
        ("3 + z + 4", "z + 7"),
        ("z - (-8) + i", "z + i + 8"),
        ("3 - z", "3 - z"),
        ("va + (i * 8 + 16)", "va + (i * 8 + 16)"),
        ("p + (1 << 4)", "p + 16"),
        ("pfn << 3", "pfn * 8"),
        ("x + 4 - 4", "x"),
        ("~7", "-8"),
        ("a == a and b", "b"),
        ("0 or a or 0", "a or 0"),
    ],
)
def test_constants_are_worked_out_beforehand(text: str, simple: str) -> None:
    assert simplified(text) == simple


def test_branches_that_a_constant_decides_go() -> None:
    assert simplified("if 0:\n    f()\nelse:\n    g()") == "g()"
    assert simplified("if 2:\n    f()\n    g()") == "f()\ng()"
    assert simplified("if 0:\n    f()") == "pass"


def test_trace_event_is_looked_for_only_where_any_is_set() -> None:
    assert simplified("if tm >> 6 & 1:\n    f()").startswith("if tm and tm >> 6 & 1:")
    assert simplified("if tm >> 6 & 3:\n    f()").startswith("if tm >> 6 & 3:")


def test_names_of_constants_become_numbers_and_others_stay() -> None:
    names = {"A": 7, "T": (1, 2), "F": True, "S": "text", "L": [1], "local": 3}
    tree = ast.parse("x = A + T[0] + F + S + L + local + B; A = 1")
    found = ast.unparse(Constants(names, {"local"}).visit(tree))
    assert found == "x = 7 + (1, 2)[0] + F + S + L + local + B\nA = 1"


def run(text: str, **names: Any) -> dict[str, Any]:
    """Runs statements after Simplify and Assignments, with the helpers that they want."""
    tree = ast.fix_missing_locations(Assignments().visit(Simplify().visit(ast.parse(text))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        code = compile(tree, "file.py", "exec")
    helpers = Helpers(names)
    consts = tuple(
        helpers[c] if isinstance(c, str) and c.startswith(PREFIX) else c for c in code.co_consts
    )
    exec(code.replace(co_consts=consts), names)
    return {**names, "text": ast.unparse(tree)}


def words(count: int) -> memoryview:
    return memoryview(bytearray(range(8 * count))).cast("q")


def test_run_of_constant_words_is_copied() -> None:
    text = "m[p + 1], m[p + 2], m[p + 3] = -5, 0, 1 << 40"
    m, expected = words(8), words(8)
    exec(text, {"m": expected, "p": 2})
    found = run(text, m=m, p=2)
    assert "m[p + 1:p + 4]" in found["text"]
    assert m == expected


@pytest.mark.parametrize(
    "text",
    [
        "m[p + 1], m[p + 2] = 1, 2",
        "m[p + 1], m[p + 2], m[p + 4] = 1, 2, 3",
        "m[p + 1], m[p + 2], m[q + 3] = 1, 2, 3",
        "m[p + 1], m[p + 2], n[p + 3] = 1, 2, 3",
        "m[p + 1], m[p + 2], m[p + 3] = 1, p, 3",
        "m[1], m[2], m[3] = 1, 2, 3",
    ],
)
def test_other_assignments_stay_as_they_are(text: str) -> None:
    before = ast.dump(ast.parse(text))
    assert ast.dump(Assignments().visit(Simplify().visit(ast.parse(text)))) == before


def test_run_beyond_the_array_is_an_error_as_single_words_are() -> None:
    with pytest.raises((IndexError, ValueError)):
        run("m[p + 1], m[p + 2], m[p + 3] = 1, 2, 3", m=words(4), p=2)


def test_answers_are_looked_up_after_the_first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def split(x: int) -> tuple[int, int]:
        asked.append(x)
        return x >> 4, x & 15

    monkeypatch.setattr(interp_fold, "LOOKED_UP", {"split"})
    text = "s = 0\nfor x in (0x12, 0x12, 0x34, 0x12):\n    a, b = split(x)\n    s += a * 100 + b"
    assert run(text, split=split)["s"] == 3 * 102 + 304
    assert asked == [0x12, 0x34]


def test_table_that_is_full_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interp, "TABLE_LIMIT", 3)
    table: dict[int, Any] = {}
    learn = learner(table, lambda x: -x)
    assert [learn(x) for x in range(10)] == [-x for x in range(10)]
    assert len(table) <= 3


def test_looked_up_functions_are_hot_and_take_no_memory() -> None:
    hot = hot_functions()
    for name in interp_fold.LOOKED_UP:
        assert "memoryview" not in hot[name].__annotations__.values()
        assert hot[name].__code__.co_argcount == 1


def test_truth_values_are_no_numbers() -> None:
    assert number_of(ast.Constant(True)) is None
    assert number_of(ast.Constant(1)) == 1
