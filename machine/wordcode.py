# SPDX-License-Identifier: GPL-2.0-only
"""Turns functions on words and integers into LLVM assembly.

The page walk (`walk`) is written in a small part of Python: integers that fit into 64 signed bits,
arrays of words, names of constants, `if`, `while`, `for` over a range, calls of each other. Here
that part is compiled as it stands, without any compiler for Python, so that the engines can walk
page tables natively on every installation (`nativecode`). What goes beyond raises `ValueError`.

An array (a parameter annotated `memoryview`) is a pointer to {address, length}; everything else is
an i64. An index out of range, below 0 too, makes the function, and all its callers, return FAILED.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from types import FunctionType

FAILED = -(1 << 63)

_BINARY: Mapping[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
    ast.LShift: "shl",
    ast.RShift: "ashr",
}
_COMPARE: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "slt",
    ast.LtE: "sle",
    ast.Gt: "sgt",
    ast.GtE: "sge",
}


def compile_functions(functions: Sequence[FunctionType], exported: Sequence[str]) -> str:
    """LLVM assembly of `functions`, which call nothing but each other; those `exported` can be
    called from outside. Raises `ValueError` for what this language does not have."""
    names = {function.__name__ for function in functions}
    parts = [
        _Function(function, names).text(function.__name__ in exported) for function in functions
    ]
    return "\n".join(parts)


class _Function:
    """One function on its way: lines of assembly, its arrays and its variables."""

    def __init__(self, function: FunctionType, known: set[str]) -> None:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        assert isinstance(tree, ast.FunctionDef)
        self.tree = tree
        self.globals = function.__globals__
        self.known = known
        self.lines: list[str] = []
        self.count = 0
        self.loops: list[str] = []
        """Labels behind the loops that we are in."""
        self.choices = 0
        self.arrays = set()
        self.numbers = []
        for argument in tree.args.args:
            kind = argument.annotation
            if isinstance(kind, ast.Name) and kind.id == "memoryview":
                self.arrays.add(argument.arg)
            else:
                self.numbers.append(argument.arg)
        self.variables = {*self.numbers, *_assigned(tree)}

    def text(self, exported: bool) -> str:
        arguments = [
            f"i64* %a.{a.arg}" if a.arg in self.arrays else f"i64 %a.{a.arg}"
            for a in self.tree.args.args
        ]
        for name in self.numbers:
            self.emit(f"store i64 %a.{name}, i64* %v.{name}")
        self.block(self.tree.body)
        self.emit(f"ret i64 {FAILED}")  # never reached
        slots = [f"%v.{name}" for name in sorted(self.variables)]
        slots += [f"%c{n}" for n in range(self.choices)]
        self.lines[:0] = [f"  {slot} = alloca i64" for slot in slots]
        linkage = "" if exported else "internal "
        head = f"define {linkage}i64 @{self.tree.name}({', '.join(arguments)}) {{\nstart:"
        return "\n".join([head, *self.lines, "}\n"])

    # --- pieces -----------------------------------------------------------------------------------
    def emit(self, line: str) -> None:
        self.lines.append(f"  {line}")

    def value(self, line: str) -> str:
        """Emit an instruction; the name of its result."""
        self.count += 1
        self.emit(f"%t{self.count} = {line}")
        return f"%t{self.count}"

    def label(self) -> str:
        self.count += 1
        return f"l{self.count}"

    def at(self, label: str) -> None:
        self.lines.append(f"{label}:")

    def go(self, label: str) -> None:
        self.emit(f"br label %{label}")

    def wrong(self, node: ast.AST, what: str) -> ValueError:
        line = getattr(node, "lineno", 0)
        return ValueError(f"{self.tree.name}, line {line}: {what} cannot be compiled")

    # --- statements -------------------------------------------------------------------------------
    def block(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            self.assign(node.targets[0], self.number(node.value))
        elif isinstance(node, ast.AugAssign):
            self.augmented(node)
        elif isinstance(node, ast.If):
            self.conditional(node)
        elif isinstance(node, ast.While) and not node.orelse:
            self.loop(node.test, node.body, None)
        elif isinstance(node, ast.For) and not node.orelse:
            self.counting_loop(node)
        elif isinstance(node, ast.Return) and node.value is not None:
            self.emit(f"ret i64 {self.number(node.value)}")
            self.at(self.label())
        elif isinstance(node, ast.Break) and self.loops:
            self.go(self.loops[-1])
            self.at(self.label())
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            raise self.wrong(node, type(node).__name__)

    def assign(self, target: ast.expr, value: str) -> None:
        if isinstance(target, ast.Name) and target.id in self.variables:
            self.emit(f"store i64 {value}, i64* %v.{target.id}")
        elif isinstance(target, ast.Subscript):
            self.emit(f"store i64 {value}, i64* {self.place(target)}")
        else:
            raise self.wrong(target, "this target")

    def augmented(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Subscript):
            place = self.place(node.target)
        elif isinstance(node.target, ast.Name) and node.target.id in self.variables:
            place = f"%v.{node.target.id}"
        else:
            raise self.wrong(node, "this target")
        old = self.value(f"load i64, i64* {place}")
        new = self.operation(node, node.op, old, self.number(node.value))
        self.emit(f"store i64 {new}, i64* {place}")

    def conditional(self, node: ast.If) -> None:
        yes, no, behind = self.label(), self.label(), self.label()
        self.branch(node.test, yes, no)
        self.at(yes)
        self.block(node.body)
        self.go(behind)
        self.at(no)
        self.block(node.orelse)
        self.go(behind)
        self.at(behind)

    def loop(self, test: ast.expr | str, body: Sequence[ast.stmt], step: str | None) -> None:
        """`test`: the condition, or the variable and limit of a counting loop as LLVM text."""
        again, inside, behind = self.label(), self.label(), self.label()
        self.go(again)
        self.at(again)
        if isinstance(test, str):
            variable, limit = test.split()
            now = self.value(f"load i64, i64* %v.{variable}")
            on = self.value(f"icmp slt i64 {now}, {limit}")
            self.emit(f"br i1 {on}, label %{inside}, label %{behind}")
        else:
            self.branch(test, inside, behind)
        self.at(inside)
        self.loops.append(behind)
        self.block(body)
        self.loops.pop()
        if step is not None and isinstance(test, str):
            now = self.value(f"load i64, i64* %v.{test.split()[0]}")
            self.emit(
                f"store i64 {self.value(f'add i64 {now}, {step}')}, i64* %v.{test.split()[0]}"
            )
        self.go(again)
        self.at(behind)

    def counting_loop(self, node: ast.For) -> None:
        """for NAME in range(start, end[, constant > 0])"""
        call, target = node.iter, node.target
        if not (
            isinstance(target, ast.Name)
            and isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "range"
            and 1 <= len(call.args) <= 3
        ):
            raise self.wrong(node, "this loop")
        start = self.number(call.args[0]) if len(call.args) > 1 else "0"
        end = self.number(call.args[1] if len(call.args) > 1 else call.args[0])
        step = call.args[2] if len(call.args) == 3 else ast.Constant(1)
        if not (isinstance(step, ast.Constant) and isinstance(step.value, int) and step.value > 0):
            raise self.wrong(node, "this step")
        self.assign(target, start)
        self.loop(f"{target.id} {end}", node.body, str(step.value))

    # --- expressions ------------------------------------------------------------------------------
    def branch(self, node: ast.expr, yes: str, no: str) -> None:
        """Go to `yes` if the condition holds, else to `no`, looking at no more than necessary."""
        if isinstance(node, ast.BoolOp):
            both = isinstance(node.op, ast.And)
            for part in node.values[:-1]:
                on = self.label()
                self.branch(part, *((on, no) if both else (yes, on)))
                self.at(on)
            self.branch(node.values[-1], yes, no)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self.branch(node.operand, no, yes)
        elif isinstance(node, ast.Compare) and len(node.ops) == 1:
            kind = _COMPARE.get(type(node.ops[0]))
            if kind is None:
                raise self.wrong(node, "this comparison")
            left, right = self.number(node.left), self.number(node.comparators[0])
            holds = self.value(f"icmp {kind} i64 {left}, {right}")
            self.emit(f"br i1 {holds}, label %{yes}, label %{no}")
        else:
            holds = self.value(f"icmp ne i64 {self.number(node)}, 0")
            self.emit(f"br i1 {holds}, label %{yes}, label %{no}")

    def number(self, node: ast.expr) -> str:
        """The value of an expression: a name or a constant of LLVM's."""
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return self.constant(node, int(node.value))
        if isinstance(node, ast.Name):
            return self.named(node)
        if isinstance(node, ast.BinOp):
            return self.operation(node, node.op, self.number(node.left), self.number(node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self.value(f"sub i64 0, {self.number(node.operand)}")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
            return self.value(f"xor i64 {self.number(node.operand)}, -1")
        if isinstance(node, ast.Subscript):
            return self.value(f"load i64, i64* {self.place(node)}")
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.IfExp):
            return self.choice(node.test, node.body, node.orelse)
        if _is_truth(node):
            return self.choice(node, ast.Constant(1), ast.Constant(0))
        raise self.wrong(node, type(node).__name__)

    def choice(self, test: ast.expr, body: ast.expr, other: ast.expr) -> str:
        place = f"%c{self.choices}"
        self.choices += 1
        yes, no, behind = self.label(), self.label(), self.label()
        self.branch(test, yes, no)
        for label, node in ((yes, body), (no, other)):
            self.at(label)
            self.emit(f"store i64 {self.number(node)}, i64* {place}")
            self.go(behind)
        self.at(behind)
        return self.value(f"load i64, i64* {place}")

    def constant(self, node: ast.AST, value: int) -> str:
        if not -(1 << 63) <= value < 1 << 63:
            raise self.wrong(node, f"the number {value}")
        return str(value)

    def named(self, node: ast.Name) -> str:
        if node.id in self.variables:
            return self.value(f"load i64, i64* %v.{node.id}")
        value = self.globals.get(node.id)
        if not isinstance(value, int):
            raise self.wrong(node, f"the name {node.id}")
        return self.constant(node, int(value))

    def operation(self, node: ast.AST, operator: ast.operator, left: str, right: str) -> str:
        kind = _BINARY.get(type(operator))
        if kind is None:
            raise self.wrong(node, type(operator).__name__)
        return self.value(f"{kind} i64 {left}, {right}")

    def call(self, node: ast.Call) -> str:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise self.wrong(node, "this call")
        name = node.func.id
        first = node.args[0] if node.args else None
        if name == "len" and isinstance(first, ast.Name) and first.id in self.arrays:
            return self.part(first.id, 1)
        if name not in self.known:
            raise self.wrong(node, f"a call of {name}")
        arguments = [
            f"i64* %a.{argument.id}"
            if isinstance(argument, ast.Name) and argument.id in self.arrays
            else f"i64 {self.number(argument)}"
            for argument in node.args
        ]
        answer = self.value(f"call i64 @{name}({', '.join(arguments)})")
        self.fail_if(self.value(f"icmp eq i64 {answer}, {FAILED}"))
        return answer

    def part(self, array: str, index: int) -> str:
        """Address (0) or length (1) of an array."""
        at = self.value(f"getelementptr i64, i64* %a.{array}, i64 {index}")
        return self.value(f"load i64, i64* {at}")

    def place(self, node: ast.Subscript) -> str:
        """Where a word of an array lies; from here on its index is known to be in range."""
        if not (isinstance(node.value, ast.Name) and node.value.id in self.arrays):
            raise self.wrong(node, "this index")
        array, index = node.value.id, self.number(node.slice)
        self.fail_if(self.value(f"icmp uge i64 {index}, {self.part(array, 1)}"))
        words = self.value(f"inttoptr i64 {self.part(array, 0)} to i64*")
        return self.value(f"getelementptr i64, i64* {words}, i64 {index}")

    def fail_if(self, condition: str) -> None:
        failed, on = self.label(), self.label()
        self.emit(f"br i1 {condition}, label %{failed}, label %{on}")
        self.at(failed)
        self.emit(f"ret i64 {FAILED}")
        self.at(on)


def _is_truth(node: ast.expr) -> bool:
    """Does the expression give True or False, whatever its parts are?"""
    if isinstance(node, ast.BoolOp):
        return all(_is_truth(part) for part in node.values)
    negation = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    return negation or (isinstance(node, ast.Compare) and len(node.ops) == 1)


def _assigned(tree: ast.FunctionDef) -> set[str]:
    """The names that the function assigns to."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
