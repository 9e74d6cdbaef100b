# SPDX-License-Identifier: GPL-2.0-only
"""Quicker code for the interpreter, made of the hot functions' own source.

The interpreter runs the hot path as it is written; but it pays for every call, every name that is a
constant and every sum that it works out again. `speed_up` gives the functions of BUILT_MODULES code
that says the same with less of that: `interp_inline` writes callees into their callers,
`interp_fold` simplifies, `interp_build` compiles. Function objects stay what they are, so whoever
has imported one runs the new code, and there is no other source. Guest RAM is the same word for
word, which the tests hold against the plain functions. Tracebacks name the real file and line; a
line of another file is told as that of the call which leads there.

Building takes some tenths of a second, so the result is kept in the user's cache directory
(`firmware.object_cache`), under a digest of the very code that it stands for. Where nothing can be
kept, or others may write, functions stay as they are; so they do where a source file has changed
since it was imported.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from firmware import object_cache

BUILT_MODULES = (
    "alloc_flags",
    "buddy",
    "bulk",
    "fallback",
    "get_page",
    "list_head",
    "page_alloc",
    "page_check",
    "page_flags",
    "page_free",
    "pageblock",
    "pcp",
    "spinlock",
    "vmstat",
    "watermark",
)
"""Hot modules whose functions get built code; all others are called as they are."""
SOURCES = ("interp", "interp_build", "interp_fold", "interp_inline")

PREFIX = "\0hot "
"""How constants of built code begin that stand for an object (`Helpers`)."""
TABLE_LIMIT = 4096
"""Answers that a table holds before it forgets all."""

_plain: dict[str, CodeType] = {}


def plain_code(function: FunctionType) -> CodeType:
    """The code of the source as it stands, whether the hot `function` has another by now or not."""
    return _plain.get(function.__name__, function.__code__)


def built_functions(functions: Mapping[str, FunctionType]) -> dict[str, FunctionType]:
    """Those of the hot `functions` that get built code, by name."""
    return {
        name: function
        for name, function in functions.items()
        if function.__module__.rpartition(".")[2] in BUILT_MODULES
    }


def key_of(functions: Mapping[str, FunctionType]) -> str:
    """The name under which the built code of these hot functions is kept: a digest of their code as
    it was imported, of the numbers that it uses, and of the files that build.

    Raises OSError where those are not to be found.
    """
    known = hashlib.sha256(f"{sys.version}\n{marshal.version}\n".encode())
    for name in SOURCES:
        found = os.stat(Path(__file__).with_name(f"{name}.py"))
        known.update(f"{name} {found.st_size} {found.st_mtime_ns}\n".encode())
    for name, function in sorted(functions.items()):
        code, names = plain_code(function), function.__globals__
        numbers = [names[n] for n in code.co_names if isinstance(names.get(n), (int, tuple))]
        known.update(repr((name, code_parts(code), numbers)).encode())
    return f"interp-{known.hexdigest()}"


def code_parts(code: CodeType) -> tuple[object, ...]:
    """What makes a hot function's code what it is, for comparing."""
    return (
        code.co_code,
        code.co_consts,
        code.co_names,
        code.co_varnames,
        code.co_linetable,
        code.co_firstlineno,
        code.co_filename,
    )


def cache_is_ours() -> bool:
    """True if the cache directory can be made, is this user's, and nobody else writes there."""
    folder = object_cache.directory()
    if folder is None:
        return False
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return False
    return (
        found.st_uid == os.getuid()
        and not found.st_mode & 0o022
        and os.access(folder, os.W_OK | os.X_OK)
    )


def built_code(functions: Mapping[str, FunctionType]) -> dict[str, CodeType]:
    """Built code by function name, from the cache or made now; empty where it cannot be kept, or
    where a source file is no longer what was imported from it."""
    if not cache_is_ours():
        return {}
    wanted = built_functions(functions)
    try:
        key = key_of(wanted)
        kept = object_cache.load(key)
        if kept is None:
            from .interp_build import SourceChanged, build_code

            try:
                kept = marshal.dumps(build_code(wanted))
            except SourceChanged:
                return {}
            if key_of(wanted) == key:
                object_cache.store(key, kept)
    except OSError:
        return {}
    found: dict[str, CodeType] = marshal.loads(kept)
    return found


class Helpers(dict[str, Any]):
    """The objects that stand as strings in built code, made when they are first wanted."""

    def __init__(self, functions: Mapping[str, Any]) -> None:
        """`functions`: all hot functions by name."""
        super().__init__()
        self.functions = functions

    def __missing__(self, name: str) -> Any:
        found = self[name] = self.make(*name.removeprefix(PREFIX).split(" ", 1))
        return found

    def make(self, kind: str, text: str) -> Any:
        """The object of one kind: a hot function, words, a table, what fills the table."""
        if kind == "words":
            data = b"".join(int(x, 16).to_bytes(8, "little") for x in text.split(" "))
            return memoryview(data).cast("q")
        if kind == "table":
            return {}
        if kind == "learn":
            return learner(self[f"{PREFIX}table {text}"], self.functions[text])
        return self.functions[text]


def learner(table: dict[int, Any], function: Callable[[int], Any]) -> Callable[[int], Any]:
    """What puts an answer of `function` into its table, which forgets all when it is full."""

    def learn(key: int) -> Any:
        if len(table) >= TABLE_LIMIT:
            table.clear()
        answer = table[key] = function(key)
        return answer

    return learn


def install_code(functions: Mapping[str, FunctionType], codes: Mapping[str, CodeType]) -> None:
    """Gives the `functions` their code, with the objects in it that its constants only name."""
    helpers = Helpers(functions)

    def known(value: Any) -> Any:
        named = isinstance(value, str) and value.startswith(PREFIX)
        return helpers[value] if named else value

    for name, code in codes.items():
        function = functions[name]
        _plain.setdefault(name, function.__code__)
        function.__code__ = code.replace(co_consts=tuple(map(known, code.co_consts)))


def speed_up(functions: Mapping[str, FunctionType]) -> None:
    """Gives the hot `functions` (all of them, by name) their built code, once a process."""
    if not _plain:
        install_code(functions, built_code(functions))


def slow_down(functions: Mapping[str, FunctionType]) -> None:
    """Takes the built code back, so that functions run as they are written."""
    for name, code in _plain.items():
        functions[name].__code__ = code
    _plain.clear()
