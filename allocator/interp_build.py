# SPDX-License-Identifier: GPL-2.0-only
"""The interpreter's build, from source files to code objects. Imported only when there are none.

`interp` asks, `interp_inline` and `interp_fold` do the work on the syntax trees that are read and
compiled here.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from machine import NumalabError

from .interp import code_parts, plain_code
from .interp_fold import Assignments, Constants, Simplify, helper
from .interp_inline import Expressions, Inliner, Source, assigned_names


class SourceChanged(NumalabError):
    """A source file does not say what was imported from it."""


def parse_file(file: str) -> dict[str, tuple[ast.FunctionDef, CodeType]]:
    """The functions of a source file: tree and code by name."""
    text = Path(file).read_text(encoding="utf-8")
    tree = ast.parse(text, file)
    module = compile(text, file, "exec", dont_inherit=True)
    codes = {code.co_name: code for code in module.co_consts if isinstance(code, CodeType)}
    return {n.name: (n, codes[n.name]) for n in tree.body if isinstance(n, ast.FunctionDef)}


def read_sources(functions: Mapping[str, FunctionType]) -> dict[str, Source]:
    """The syntax trees of the `functions`, their global constants replaced by numbers.

    Raises SourceChanged if they are not the functions' own any more.
    """
    files: dict[str, dict[str, tuple[ast.FunctionDef, CodeType]]] = {}
    found = {}
    for name, function in functions.items():
        file = function.__code__.co_filename
        if file not in files:
            files[file] = parse_file(file)
        node, code = files[file].get(name, (None, None))
        if node is None or code is None or code_parts(code) != code_parts(plain_code(function)):
            raise SourceChanged(f"{file}: {name}")
        arguments = {argument.arg for argument in node.args.args}
        names = function.__globals__
        constants = Constants(names, arguments | assigned_names(node.body))
        node.body = [constants.visit(statement) for statement in node.body]
        # annotations are for people
        for argument in node.args.args:
            argument.annotation = None
        node.returns = None
        found[name] = Source(node, file, names)
    return found


class Foreign(ast.NodeTransformer):
    """What the function's own module cannot name becomes an object among the constants."""

    def __init__(self, source: Source, hot: set[str]) -> None:
        """`hot`: names of all functions that any built module calls."""
        local = set(source.parameters) | assigned_names(source.node.body)
        self.foreign = hot - source.names.keys() - local

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """The name, or what stands for a function of another module."""
        return helper("function", node.id, node) if node.id in self.foreign else node


def called_names(sources: Mapping[str, Source]) -> set[str]:
    """Names of the functions that the modules of the `sources` know."""
    modules = {source.file: source.names for source in sources.values()}
    return {
        name
        for names in modules.values()
        for name, value in names.items()
        if isinstance(value, FunctionType)
    }


def built_tree(name: str, sources: Mapping[str, Source], called: set[str]) -> ast.Module:
    """A module with nothing in it but the built function."""
    node = Inliner(sources).expand(name)
    passes = (Expressions(sources), Simplify(), Assignments(), Foreign(sources[name], called))
    for one in passes:
        node.body = _flat(one.visit(statement) for statement in node.body)
    return ast.fix_missing_locations(ast.Module([node], []))


def _flat(items: Iterable[Any]) -> list[ast.stmt]:
    found: list[ast.stmt] = []
    for item in items:
        found += item if isinstance(item, list) else [item]
    return found


def build_code(functions: Mapping[str, FunctionType]) -> dict[str, CodeType]:
    """Built code of the hot `functions`, by name; it may call any of them and others."""
    sources = read_sources(functions)
    called = called_names(sources)
    return {name: _compiled(name, sources, called) for name in functions}


def _compiled(name: str, sources: Mapping[str, Source], called: set[str]) -> CodeType:
    tree = built_tree(name, sources, called)
    with warnings.catch_warnings():
        # about constants that are called: functions will be in their place
        warnings.simplefilter("ignore", SyntaxWarning)
        module = compile(tree, sources[name].file, "exec", dont_inherit=True)
    return next(
        code for code in module.co_consts if isinstance(code, CodeType) and code.co_name == name
    )
