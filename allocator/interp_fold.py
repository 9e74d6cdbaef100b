# SPDX-License-Identifier: GPL-2.0-only
"""The interpreter's build, second half: constants, sums, branches, looked-up answers.

Works on the syntax tree of one function, and changes how it says a thing, not what it says:

* names of constants become numbers, the constants of a sum are added up (`z + 172`), and a shift to
  the left becomes a multiplication, which costs half as much;
* branches that a constant decides go, and a trace event's bit is looked for only where any is set;
* words that follow each other and are set to constants by one assignment (`m[p + 1], m[p + 2],
  m[p + 3] = 0, 1, 0`) are copied from an array that is ready;
* a call of a function of LOOKED_UP is a dictionary's answer, but for the first time.

What the new code needs beside numbers - arrays, dictionaries, functions of other modules - stands
among its constants as a string that begins with PREFIX; `interp.Helpers` has the objects.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from .interp import PREFIX

LOOKED_UP = frozenset({"page_place", "request_kind"})
"""Hot functions of one integer alone, a flags word, of which there are few different ones."""
FEWEST_WORDS = 3
WORD = 1 << 64

FOLDED: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: int.__add__,
    ast.Sub: int.__sub__,
    ast.Mult: int.__mul__,
    ast.BitAnd: int.__and__,
    ast.BitOr: int.__or__,
    ast.BitXor: int.__xor__,
    ast.LShift: int.__lshift__,
    ast.RShift: int.__rshift__,
}


def number_of(node: ast.AST) -> int | None:
    """The value of an integer constant, None for anything else."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    return None


def number(value: int, like: ast.AST) -> ast.Constant:
    """The constant, where `like` is."""
    return ast.copy_location(ast.Constant(value), like)


def helper(kind: str, text: str, like: ast.AST) -> ast.expr:
    """What stands for an object that `interp.Helpers` has."""
    return ast.copy_location(ast.Constant(f"{PREFIX}{kind} {text}"), like)


class Constants(ast.NodeTransformer):
    """Replaces the names of module-level integers, and tuples of them, by their values."""

    def __init__(self, names: Mapping[str, Any], local: set[str]) -> None:
        """`names`: the module's globals; `local`: names that the function binds itself."""
        self.names = names
        self.local = local

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """The value of a global constant."""
        if node.id in self.local or not isinstance(node.ctx, ast.Load):
            return node
        value = self.names.get(node.id)
        values = value if isinstance(value, tuple) else (value,)
        plain = all(type(item) is int for item in values)
        return ast.copy_location(ast.Constant(value), node) if plain else node


class Simplify(ast.NodeTransformer):
    """Arithmetic and branches, from the leaves up."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """Folds constants, gathers those of a sum at its end, multiplies instead of shifting."""
        self.generic_visit(node)
        left, right = number_of(node.left), number_of(node.right)
        fold = FOLDED.get(type(node.op))
        if left is not None and right is not None and fold is not None:
            return number(fold(left, right), node)
        if isinstance(node.op, (ast.Add, ast.Sub)):
            return self._sum(node)
        if right is not None and isinstance(node.op, ast.LShift):
            node.op, node.right = ast.Mult(), number(1 << right, node.right)
        return node

    def _sum(self, node: ast.BinOp) -> ast.expr:
        """The sum with its constants last. What stands in brackets on the right stays there: small
        numbers are best added to each other before they are added to an address."""
        terms: list[tuple[ast.operator, ast.expr]] = []
        total = 0
        part: ast.expr = node
        while isinstance(part, ast.BinOp) and isinstance(part.op, (ast.Add, ast.Sub)):
            value = number_of(part.right)
            if value is None:
                terms.append((part.op, part.right))
            else:
                total += value if isinstance(part.op, ast.Add) else -value
            part = part.left
        value = number_of(part)
        if value is None:
            result = part
        elif isinstance(terms[-1][0], ast.Sub):
            return node
        else:
            total += value
            result = terms.pop()[1]
        for op, term in reversed(terms):
            result = ast.copy_location(ast.BinOp(result, op, term), node)
        if total:
            op = ast.Add() if total > 0 else ast.Sub()
            result = ast.copy_location(ast.BinOp(result, op, number(abs(total), node)), node)
        return result

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        """Folds -c and ~c."""
        self.generic_visit(node)
        value = number_of(node.operand)
        if value is None or not isinstance(node.op, (ast.USub, ast.Invert)):
            return node
        return number(-value if isinstance(node.op, ast.USub) else ~value, node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """A name equals itself: all are integers."""
        self.generic_visit(node)
        left, right = node.left, node.comparators[0]
        if (
            len(node.ops) == 1
            and isinstance(node.ops[0], ast.Eq)
            and isinstance(left, ast.Name)
            and isinstance(right, ast.Name)
            and left.id == right.id
        ):
            return ast.copy_location(ast.Constant(True), node)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        """Drops operands that cannot decide."""
        self.generic_visit(node)
        idle = isinstance(node.op, ast.And)
        kept = [
            value
            for value in node.values[:-1]
            if not (isinstance(value, ast.Constant) and bool(value.value) is idle)
        ]
        node.values = [*kept, node.values[-1]]
        return node if kept else node.values[0]

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """Takes the branch of a constant; asks for any trace event before it asks for one."""
        self.generic_visit(node)
        test = node.test
        if isinstance(test, ast.Constant):
            taken = node.body if test.value else node.orelse
            return taken or ast.copy_location(ast.Pass(), node)
        bits = mask_of_bit_test(test)
        if bits is not None:
            node.test = ast.copy_location(ast.BoolOp(ast.And(), [bits, test]), test)
        return node


def mask_of_bit_test(test: ast.expr) -> ast.Name | None:
    """`name` of `name >> constant & 1`, None if the test is another."""
    if not isinstance(test, ast.BinOp) or not isinstance(test.op, ast.BitAnd):
        return None
    shift = test.left
    if number_of(test.right) != 1 or not isinstance(shift, ast.BinOp):
        return None
    if not isinstance(shift.op, ast.RShift) or number_of(shift.right) is None:
        return None
    return shift.left if isinstance(shift.left, ast.Name) else None


def word_of(node: ast.expr) -> tuple[str, str, int] | None:
    """(array, base, offset) of `array[base + offset]`, None for anything else."""
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
        return None
    index, offset = node.slice, 0
    if isinstance(index, ast.BinOp) and isinstance(index.op, ast.Add):
        found = number_of(index.right)
        if found is None:
            return None
        index, offset = index.left, found
    return (node.value.id, index.id, offset) if isinstance(index, ast.Name) else None


class Assignments(ast.NodeTransformer):
    """Copies runs of constant words, and looks answers up."""

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        """The assignment, or what does the same."""
        target, value = node.targets[0], node.value
        if len(node.targets) > 1 or not isinstance(target, ast.Tuple):
            return node
        if isinstance(value, ast.Tuple):
            return copied_run(node, target, value) or node
        if (
            isinstance(value, ast.Call)
            and isinstance(value.func, ast.Name)
            and value.func.id in LOOKED_UP
        ):
            return looked_up(node, value, value.func.id)
        return node


def copied_run(node: ast.Assign, target: ast.Tuple, value: ast.Tuple) -> ast.stmt | None:
    """The assignment of constants to neighbouring words as a copy; None if it is something else."""
    words = [word_of(item) for item in target.elts]
    values = [number_of(item) for item in value.elts]
    first = words[0]
    if first is None or len(words) < FEWEST_WORDS or len(words) != len(values):
        return None
    array, base, offset = first
    if words != [(array, base, offset + i) for i in range(len(words))] or None in values:
        return None
    text = " ".join(f"{x % WORD:x}" for x in values if x is not None)
    low = ast.BinOp(ast.Name(base, ast.Load()), ast.Add(), ast.Constant(offset))
    high = ast.BinOp(ast.Name(base, ast.Load()), ast.Add(), ast.Constant(offset + len(words)))
    place = ast.Subscript(ast.Name(array, ast.Load()), ast.Slice(low, high), ast.Store())
    copied = ast.Assign([place], helper("words", text, node))
    return ast.fix_missing_locations(ast.copy_location(copied, node))


def looked_up(node: ast.Assign, call: ast.Call, function: str) -> ast.stmt:
    """The assignment of the table's answer, or of what the function says the first time."""
    known = ast.Subscript(helper("table", function, call), call.args[0], ast.Load())
    learnt = ast.Call(helper("learn", function, call), call.args, [])
    missing = ast.ExceptHandler(
        ast.Name("KeyError", ast.Load()), None, [ast.Assign(node.targets, learnt)]
    )
    found = ast.Try([ast.Assign(node.targets, known)], [missing], [], [])
    return ast.fix_missing_locations(ast.copy_location(found, node))
