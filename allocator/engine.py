# SPDX-License-Identifier: GPL-2.0-only
"""One source, two engines: the hot path interpreted, or the same functions compiled by Numba.

The hot modules hold plain functions over the word array and integers. The *python* engine calls
them as they are, on a memoryview of 64-bit words. The *compiled* engine takes the same code
objects, rebinds the names of hot functions among their globals to each other's compiled forms and
hands them to `numba.njit`; the array is then NumPy's int64 view of the same RAM. Nothing is written
twice, and both leave the same bytes.

A function is hot if it is defined in one of HOT_MODULES and its docstring says "Hot". Compiled code
is cached on disk under a directory named after a digest of all hot sources, so that a change in one
module never meets stale code of another. Numba is an extra: without it `auto` means python.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

from machine import PhysicalMemory, UsageError

HOT_MODULES = (
    "trace",
    "list_head",
    "nodemask",
    "pageblock",
    "vmstat",
    "debug_guardpage",
    "page_poison",
    "page_owner",
    "memcg",
    "cpuset",
    "fail_page_alloc",
    "page_writeback",
    "buddy",
    "fallback",
    "page_check",
    "watermark",
    "node_reclaim",
    "pcp",
    "page_alloc",
    "bulk",
)
# What is called from outside compiled code; only these and what they call are compiled.
ENTRY_POINTS = (
    "alloc_pages_nodemask",
    "free_pages",
    "free_unref_page",
    "free_unref_page_list",
    "drain_local_pages",
    "drain_all_pages",
    "drain_pages_zone",
    "cpu_vm_stats_fold",
    "alloc_pages_bulk",
    "free_pages_bulk",
    "repeat_pages",
    "replay_pages",
)
ENGINES = ("auto", "python", "compiled")


class Engine(SimpleNamespace):
    """The hot functions by name, and `words(memory)`, the array form that they take."""

    name: str
    functions: dict[str, Callable[..., Any]]

    def words(self, memory: PhysicalMemory) -> Any:
        """The word array of `memory` for this engine (memoryview or NumPy int64)."""
        return memory.q if self.name == "compiled" else memory.words


def hot_functions() -> dict[str, FunctionType]:
    """Every hot function by its name, over all hot modules."""
    found: dict[str, FunctionType] = {}
    for name in HOT_MODULES:
        module = importlib.import_module(f"{__package__}.{name}")
        for attr, value in vars(module).items():
            if is_hot(module, value):
                if attr in found:
                    raise RuntimeError(f"two hot functions are called {attr}")
                found[attr] = value
    return found


def is_hot(module: ModuleType, value: object) -> bool:
    """True if `value` is a hot function that `module` itself defines."""
    return (
        isinstance(value, FunctionType)
        and value.__module__ == module.__name__
        and "Hot" in (value.__doc__ or "")
    )


def source_digest() -> str:
    """Digest over the sources of all hot modules and the constants that they import."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for name in (*HOT_MODULES, "layout", "mmzone", "mm_types", "gfp", "vm_events", "structs"):
        digest.update((package / f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]


def cache_directory() -> Path:
    """Where compiled code of these very sources is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "numalab" / f"compiled-{source_digest()}"


def compiled_available() -> bool:
    """True if Numba can be imported."""
    return util.find_spec("numba") is not None


def load_engine(choice: str = "auto") -> Engine:
    """The engine named "python", "compiled" or "auto" (compiled where Numba is installed).

    Raises:
        UsageError: an unknown name, or "compiled" without Numba.
    """
    if choice not in ENGINES:
        raise UsageError(f"engine {choice!r}: one of {', '.join(ENGINES)}")
    if choice == "compiled" and not compiled_available():
        raise UsageError("engine 'compiled' needs numba: pip install 'numalab[compiled]'")
    if choice == "python" or not compiled_available():
        functions = hot_functions()
        return Engine(name="python", functions=functions, **functions)
    compiled = compile_functions(hot_functions())
    return Engine(name="compiled", functions=compiled, **compiled)


def compile_functions(functions: dict[str, FunctionType]) -> dict[str, Callable[..., Any]]:
    """njit forms of `functions`, calling each other; callees first, one signature each.

    Left to itself Numba would specialise a function for every combination of literal arguments;
    the annotations say all there is to know, so each function is compiled once for them.
    """
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_directory()))
    import numba

    numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]
    types = {
        "memoryview": numba.int64[::1],
        "int": numba.int64,
        "bool": numba.boolean,
    }
    rebound: dict[str, dict[str, Any]] = {}
    compiled: dict[str, Callable[..., Any]] = {}
    for name in callees_first(functions):
        function = functions[name]
        module = function.__module__
        names = rebound.setdefault(module, dict(vars(sys.modules[module])))
        for other in function.__code__.co_names:
            if names.get(other) is functions.get(other, names):
                names[other] = compiled[other]
        twin = FunctionType(function.__code__, names, name, function.__defaults__)
        twin.__module__ = module
        twin.__qualname__ = function.__qualname__
        signature = tuple(
            types[annotation]
            for argument, annotation in function.__annotations__.items()
            if argument != "return"
        )
        inner = name not in ENTRY_POINTS
        dispatcher = numba.njit(
            cache=True,
            error_model="numpy",
            nogil=True,
            no_cpython_wrapper=inner,
            no_cfunc_wrapper=True,
        )(twin)
        dispatcher.compile(signature)
        dispatcher.disable_compile()
        compiled[name] = dispatcher
    return compiled


def callees_first(functions: dict[str, FunctionType]) -> list[str]:
    """The entry points and all that they call, each behind the functions that it calls.

    Raises:
        RuntimeError: functions that call each other in a circle; a compiled hot path has none.
    """
    order: list[str] = []
    open_names: set[str] = set()

    def visit(name: str) -> None:
        if name in order:
            return
        if name in open_names:
            raise RuntimeError(f"hot function {name} calls itself through others")
        open_names.add(name)
        own = vars(sys.modules[functions[name].__module__])
        for callee in functions[name].__code__.co_names:
            if callee in functions and own.get(callee) is functions[callee]:
                visit(callee)
        order.append(name)

    for name in ENTRY_POINTS:
        visit(name)
    return order
