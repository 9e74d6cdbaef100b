# SPDX-License-Identifier: GPL-2.0-only
"""allocator/interp_inline.py: a callee that is written into its caller does what it did."""

from __future__ import annotations

import ast
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from allocator import interp_inline
from allocator.interp_inline import Expressions, Inliner, Source, assigned_names, clone


@pytest.fixture
def inlined(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Any, str]]:
    """From source text: the last function as it is, with `callee`s written in, and as text."""

    def build(text: str, *callees: str, elsewhere: tuple[str, ...] = ()) -> tuple[Any, Any, str]:
        monkeypatch.setattr(interp_inline, "INLINED", frozenset(callees))
        names: dict[str, Any] = {}
        exec(text, names)
        functions = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)]
        sources = {
            n.name: Source(n, "other.py" if n.name in elsewhere else "file.py", names)
            for n in functions
        }
        last = functions[-1].name
        node = Inliner(sources).expand(last)
        node.body = [Expressions(sources).visit(statement) for statement in node.body]
        module = ast.fix_missing_locations(ast.Module([node], []))
        built = dict(names)
        exec(compile(module, "file.py", "exec"), built)
        return names[last], built[last], ast.unparse(module)

    return build


def same(plain: Any, built: Any, *ranges: range) -> None:
    for arguments in product(*ranges):
        assert plain(*arguments) == built(*arguments), arguments


def test_early_returns_end_the_callee_and_nothing_else(inlined: Any) -> None:
    text = """
def f(a, b):
    if a > 2:
        return 10
    elif a == 1:
        if b:
            return b
        b = 7
    else:
        b += 1
    return a + b
def g(a, b):
    x = 0
    for i in range(3):
        x = x + i
        y = f(a + i, b)
        if y == 10:
            break
        x += y
    return x, y
"""
    plain, built, shown = inlined(text, "f")
    assert "f(" not in shown.replace("def g(", "")
    same(plain, built, range(-2, 4), range(3))


def test_returns_from_nested_loops_leave_all_of_them(inlined: Any) -> None:
    text = """
def f(a, b):
    n = 0
    for i in range(4):
        j = 0
        while j < 4:
            n += 1
            if i * j == a:
                return n
            if n == b:
                break
            j += 1
        if i == b:
            return -i
    return 100 + n
def g(a, b):
    r = f(a, b)
    r = r * 2 + f_twice(r)
    return r
def f_twice(r):
    s = r + 1
    return s
def h(a, b):
    x = g(a, b)
    y = f(b, a)
    return x, y
"""
    plain, built, shown = inlined(text, "f", "g")
    assert "left_" in shown
    same(plain, built, range(10), range(10))


def test_loop_that_ends_the_callee_needs_no_flag(inlined: Any) -> None:
    text = """
def f(a):
    while True:
        a += 3
        if a > 20:
            return a
        if a == 11:
            return 0
def g(a):
    x = f(a)
    return x + 1
"""
    plain, built, shown = inlined(text, "f")
    assert "left_" not in shown
    same(plain, built, range(25))


def test_arguments_are_worked_out_once_and_before_the_callee(inlined: Any) -> None:
    text = """
def f(a, b, log):
    log.append(a)
    a = a + b + b
    return a
def g(a, log):
    a = f(a, a * 2, log)
    f(len(log), a, log)
    return a, tuple(log)
def h(a):
    return g(a, [])
"""
    plain, built, shown = inlined(text, "f", "g")
    assert shown.count("* 2") == 1
    same(plain, built, range(5))


def test_call_that_is_returned_keeps_its_returns(inlined: Any) -> None:
    text = """
def f(a):
    for i in range(a):
        if i == 3:
            return i
    return None
def g(a):
    if a == 1:
        return 5
    return f(a)
"""
    plain, built, shown = inlined(text, "f")
    assert "while" not in shown
    same(plain, built, range(7))


def test_callee_without_result_is_written_in_for_what_it_does(inlined: Any) -> None:
    text = """
def f(log, a):
    if a == 2:
        return
    log.append(a)
def g(a):
    log = []
    f(log, a)
    f(log, 2)
    f(log, a + 1)
    return log
"""
    plain, built, _ = inlined(text, "f")
    same(plain, built, range(4))


def test_callee_that_does_nothing_leaves_nothing(inlined: Any) -> None:
    text = """
def lock(a):
    "Nothing to do."
def g(a):
    if a:
        lock(a)
    lock(0)
    return a
"""
    plain, built, shown = inlined(text, "lock")
    assert "lock(" not in shown
    same(plain, built, range(2))


def test_results_taken_apart_are_assigned_after_the_callee(inlined: Any) -> None:
    text = """
def f(a, b):
    if a:
        return b, a
    return a, b
def g(a, b):
    b, a = f(a, b)
    return a, b
"""
    plain, built, _ = inlined(text, "f")
    same(plain, built, range(2), range(3))


def test_single_expression_is_put_into_expressions_unless_it_repeats_work(inlined: Any) -> None:
    text = """
def square(x):
    return x * x
def half(x):
    return x >> 1
def g(a):
    return square(a) + square(a + 1) + half(a + 3) if half(a) else 0
"""
    plain, built, shown = inlined(text, "square", "half")
    assert shown.count("square(") == 1
    assert "half(" not in shown
    same(plain, built, range(9))


def test_lines_of_another_file_become_the_line_of_the_call(inlined: Any) -> None:
    text = """
def near(a):
    b = 1 // a
    return b
def far(a):
    b = 1 // a
    return b
def g(a, which):
    if which:
        x = near(a)
    else:
        x = far(a)
    return x
"""
    _, built, _ = inlined(text, "near", "far", elsewhere=("far",))
    lines = []
    for which in (1, 0):
        with pytest.raises(ZeroDivisionError) as raised:
            built(0, which)
        lines.append(raised.value.__traceback__.tb_next.tb_lineno)  # type: ignore[union-attr]
    assert lines == [3, 12]


def test_calls_side_by_side_share_their_variables(inlined: Any) -> None:
    text = """
def f(a):
    t = a * 3
    return t + 1
def g(a):
    x = f(a)
    y = f(x)
    return x - y
"""
    plain, built, _ = inlined(text, "f")
    assert set(built.__code__.co_varnames) == {"a", "x", "y", "t_1"}
    same(plain, built, range(5))


def test_copied_tree_shares_nothing() -> None:
    tree = ast.parse("def f(a):\n    b = a + 1\n    return b\n")
    copied = clone(tree)
    assert ast.dump(copied, include_attributes=True) == ast.dump(tree, include_attributes=True)
    assert not set(map(id, ast.walk(copied))) & {
        id(n) for n in ast.walk(tree) if not isinstance(n, (ast.expr_context, ast.operator))
    }
    assert assigned_names(tree.body) == {"b"}


def test_every_inlined_name_is_a_hot_function() -> None:
    from allocator.engine import hot_functions

    assert hot_functions().keys() >= interp_inline.INLINED
