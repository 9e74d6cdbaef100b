# SPDX-License-Identifier: GPL-2.0-only
"""The interpreter's build, first half: hot functions written into their callers.

A call costs the interpreter as much as two or three words of guest RAM. Where a function of
INLINED is called by itself (`x = f(...)`, `return f(...)` or `f(...)`), `Inliner` puts its
statements there, under names of their own; where it is one expression, `Expressions` puts that into
any other. Both work on syntax trees in which constants are numbers already. What is done, word by
word, is the same.

An early return becomes a break out of a loop that runs once, and out of the callee's own loops by
way of a flag. Statements keep their line numbers if they come from the file of the function that
they end up in; those of other files get the line of the call.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

INLINED = frozenset(
    {
        "alloc_pages_nodemask",
        "free_pages",
        "first_zone_page",
        "take_first_page",
        "commit_page",
        "direct_word",
        "va_word",
        "list_add",
        "list_add_tail",
        "list_del",
        "page_is_buddy",
        "get_pageblock_migratetype",
        "mod_zone_freepage_state",
        "inc_numa_state",
        "count_vm_events",
        "rmqueue_one",
        "rmqueue_smallest",
        "expand",
        "check_new_pages",
        "free_pages_ok",
        "free_block",
        "free_one_page",
        "page_zone",
        "prep_new_page",
        "free_pages_prepare",
        "free_tails_prepare",
        "zone_watermark_ok_free",
        "lock_zone",
        "unlock_zone",
        "go_alone",
        "let_others_go",
        "others_inside",
        "add_to_word",
    }
)
"""Hot functions that are written into their callers: those of the paths that most calls take."""


@dataclass(frozen=True)
class Source:
    """A hot function's syntax tree, and the globals of its module."""

    node: ast.FunctionDef
    file: str
    names: Mapping[str, Any]

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters."""
        return [argument.arg for argument in self.node.args.args]

    @property
    def body(self) -> list[ast.stmt]:
        """The statements without the docstring."""
        first = self.node.body[0]
        documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        return self.node.body[1:] if documented else self.node.body


def clone(node: Any) -> Any:
    """A copy of a syntax tree that shares nothing with it; clone() takes five times as
    long."""
    if isinstance(node, list):
        return [clone(item) for item in node]
    if not isinstance(node, ast.AST):
        return node
    copied = node.__class__.__new__(node.__class__)
    copied.__dict__.update((key, clone(value)) for key, value in node.__dict__.items())
    return copied


def assigned_names(statements: list[ast.stmt]) -> set[str]:
    """Every name that the statements bind."""
    return {
        node.id
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


class Rename(ast.NodeTransformer):
    """Replaces names by other names or by constants."""

    def __init__(self, table: Mapping[str, ast.expr]) -> None:
        self.table = table

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """The replacement, in the place of `node`."""
        found = self.table.get(node.id)
        if found is None:
            return node
        if isinstance(found, ast.Name):
            return ast.copy_location(ast.Name(found.id, node.ctx), node)
        copied: ast.expr = clone(found)
        return ast.copy_location(copied, node)


def name(text: str, like: ast.AST) -> ast.Name:
    """The name `text` to be read, where `like` is."""
    return ast.copy_location(ast.Name(text, ast.Load()), like)


def assign(target: str, value: ast.expr, like: ast.AST) -> ast.stmt:
    """`target = value`, where `like` is."""
    left = ast.copy_location(ast.Name(target, ast.Store()), like)
    return ast.copy_location(ast.Assign([left], value), like)


def has_return(statement: ast.AST) -> bool:
    """True if there is a return in the statement or below it."""
    return any(isinstance(node, ast.Return) for node in ast.walk(statement))


class Expressions(ast.NodeTransformer):
    """Writes functions of INLINED that are one expression into the expressions that call them."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = sources

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """The callee's expression, with the arguments in it."""
        self.generic_visit(node)
        if not isinstance(node.func, ast.Name) or node.func.id not in INLINED:
            return node
        callee = self.sources[node.func.id]
        body = callee.body
        if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
            return node
        table = dict(zip(callee.parameters, node.args, strict=True))
        if any(self._is_repeated(table, body[0].value, name) for name in table):
            return node
        found: ast.expr = Rename(table).visit(clone(body[0].value))
        for inner in ast.walk(found):
            ast.copy_location(inner, node)
        return found

    @staticmethod
    def _is_repeated(table: Mapping[str, ast.expr], body: ast.expr, parameter: str) -> bool:
        """True if an argument that is more than a name would be worked out several times."""
        if isinstance(table[parameter], (ast.Name, ast.Constant)):
            return False
        names = [node.id for node in ast.walk(body) if isinstance(node, ast.Name)]
        return names.count(parameter) > 1


class Returns:
    """Turns the returns of a function's body into assignments that end a loop running once."""

    def __init__(self, result: str | None, flag: str) -> None:
        """`result`: the variable that gets the value, None to drop it."""
        self.result = result
        self.flag = flag
        self.flag_used = False

    def wrapped(self, body: list[ast.stmt], like: ast.AST) -> list[ast.stmt]:
        """The body, with nothing left that returns."""
        last = body[-1]
        if not any(map(has_return, body)):
            return body
        if isinstance(last, ast.Return) and not any(map(has_return, body[:-1])):
            return body[:-1] + self._value(last)
        inner = self._block(body, 0, last=True)
        if not isinstance(inner[-1], ast.Break):
            inner.append(ast.copy_location(ast.Break(), last))
        true = ast.copy_location(ast.Constant(True), like)
        loop = ast.copy_location(ast.While(true, inner, []), like)
        if self.flag_used:
            return [assign(self.flag, ast.copy_location(ast.Constant(False), like), like), loop]
        return [loop]

    def _value(self, statement: ast.Return) -> list[ast.stmt]:
        if self.result is not None:
            value = statement.value or ast.copy_location(ast.Constant(None), statement)
            return [assign(self.result, value, statement)]
        if statement.value is None or isinstance(statement.value, (ast.Constant, ast.Name)):
            return []
        return [ast.copy_location(ast.Expr(statement.value), statement)]

    def _block(self, body: list[ast.stmt], depth: int, last: bool) -> list[ast.stmt]:
        """`last`: nothing of the function follows the block but the end of its loop."""
        found: list[ast.stmt] = []
        for i, statement in enumerate(body):
            at_end = last and i == len(body) - 1
            if isinstance(statement, ast.Return):
                found += self._value(statement)
                if depth > 1 or (depth == 1 and not last):
                    self.flag_used = True
                    true = ast.copy_location(ast.Constant(True), statement)
                    found.append(assign(self.flag, true, statement))
                found.append(ast.copy_location(ast.Break(), statement))
                break
            if isinstance(statement, ast.If) and has_return(statement):
                statement = copy.copy(statement)
                # in a loop, the end of a branch is not the end of the function
                inner_last = last if depth else at_end
                statement.body = self._block(statement.body, depth, inner_last)
                if statement.orelse:
                    statement.orelse = self._block(statement.orelse, depth, inner_last)
            elif isinstance(statement, (ast.While, ast.For)) and has_return(statement):
                statement = copy.copy(statement)
                ends = at_end and depth == 0
                before, self.flag_used = self.flag_used, False
                statement.body = self._block(statement.body, depth + 1, ends)
                if self.flag_used:
                    test = ast.If(name(self.flag, statement), [ast.Break()], [])
                    ast.copy_location(test, statement)
                    ast.copy_location(test.body[0], statement)
                    found += [statement, test]
                    continue
                self.flag_used = before
            found.append(statement)
        return found


class Inliner:
    """Writes functions of INLINED into the one that is asked for."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = sources

    def expand(self, function: str) -> ast.FunctionDef:
        """A copy of the hot function with everything written in."""
        source = self.sources[function]
        node: ast.FunctionDef = clone(source.node)
        body = Source(node, source.file, source.names).body
        node.body = self._statements(body, source, source, 1) or [
            ast.copy_location(ast.Pass(), node)
        ]
        return node

    def _statements(
        self, body: list[ast.stmt], source: Source, outer: Source, depth: int
    ) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for statement in body:
            call = self._inlined_call(statement, source)
            if call is not None:
                found += self._splice(statement, call, outer, depth)
                continue
            copied = copy.copy(statement)
            for field in ("body", "orelse"):
                inner = getattr(statement, field, None)
                if isinstance(inner, list) and inner:
                    setattr(copied, field, self._statements(inner, source, outer, depth))
            found.append(copied)
        return found

    def _inlined_call(self, statement: ast.stmt, source: Source) -> ast.Call | None:
        if not isinstance(statement, (ast.Assign, ast.Return, ast.Expr)):
            return None
        call = statement.value
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            return None
        callee = call.func.id
        if callee not in INLINED or callee not in self.sources or call.keywords:
            return None
        return call if callee != source.node.name else None

    def _splice(
        self, statement: ast.stmt, call: ast.Call, outer: Source, depth: int
    ) -> list[ast.stmt]:
        """The statements of the callee in place of `statement`.

        Its names end in the depth of the call. Two calls side by side have the same names, which
        keeps the number of variables low; neither needs what the other has left in them.
        """
        assert isinstance(call.func, ast.Name)
        callee = self.sources[call.func.id]
        if not callee.body:
            return [ast.copy_location(ast.Pass(), call)]
        body = self._statements(clone(callee.body), callee, outer, depth + 1)
        stored = assigned_names(callee.body)
        found: list[ast.stmt] = []
        table: dict[str, ast.expr] = {local: name(f"{local}_{depth}", call) for local in stored}
        for parameter, argument in zip(callee.parameters, call.args, strict=True):
            if parameter not in stored and isinstance(argument, (ast.Name, ast.Constant)):
                table[parameter] = argument
            else:
                table[parameter] = name(f"{parameter}_{depth}", call)
                found.append(assign(f"{parameter}_{depth}", argument, call))
        rename = Rename(table)
        body = [rename.visit(inner) for inner in body]
        if callee.file != outer.file:
            for inner in body:
                for node in ast.walk(inner):
                    ast.copy_location(node, call)
        if isinstance(statement, ast.Return):
            if not isinstance(body[-1], ast.Return):
                body.append(ast.copy_location(ast.Return(None), call))
            return found + body
        result = None
        after: list[ast.stmt] = []
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]
            if len(statement.targets) == 1 and isinstance(target, ast.Name):
                result = target.id
            else:
                result = f"result_{depth}"
                after = [ast.copy_location(ast.Assign(statement.targets, name(result, call)), call)]
        return found + Returns(result, f"left_{depth}").wrapped(body, call) + after
