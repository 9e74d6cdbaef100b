# SPDX-License-Identifier: GPL-2.0-only
"""One source, two engines: the hot path interpreted, or the same functions compiled by Numba.

The hot modules hold plain functions over the word array and integers. The *python* engine calls
them, with code that `interp` has made quicker for the interpreter. The *compiled* engine hands the
same functions to Numba and LLVM and loads the machine code; what it offers takes the same arguments
- the memoryview of guest RAM's words first - gives the same results and leaves the same bytes, so
that one may stand for the other anywhere, even between two calls. All state is in guest RAM.

A function is hot if it is defined in one of HOT_MODULES and its docstring says "Hot". Entry points
are those that are called from outside; everything that they call is compiled with them. Numba is an
extra: without it `auto` means python. Once compiled, code is loaded from `engine_cache`'s file
without Numba.

A compiled call can be ended from outside as an interpreted one can, by what a signal handler raises
(`long_calls`): where somebody has bent a list into a ring, nothing else would. It runs without the
interpreter's lock; threads that share a machine's RAM need a `team`, or it is one thread's.

`load_engine` gives an engine to call; `install_engine` makes one serve the whole process, under the
names by which this package's other modules, and tests, already call the hot functions.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from ctypes import CFUNCTYPE, addressof, c_char, c_int64, c_void_p
from importlib import util
from types import FunctionType, ModuleType
from typing import Any
from weakref import ref

from machine import PhysicalMemory, UsageError

from .cold_calls import cold_calls
from .interp import plain_code, speed_up
from .long_calls import long_calls

HOT_MODULES = (
    "spinlock",
    "trace",
    "list_head",
    "nodemask",
    "pageblock",
    "page_flags",
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
    "deferred_pages",
    "alloc_flags",
    "get_page",
    "compact_suitable",
    "kswapd_wake",
    "slowpath",
    "page_free",
    "page_alloc",
    "mempolicy",
    "exact",
    "lruvec",
    "mm_inline",
    "memcg_charge",
    "deferred_split",
    "pagevec",
    "page_frag",
    "page_isolation",
    "bulk",
    "guest_calls",
    "memmap_scan",
    "machine.walk",
)
INTERPRETED_MODULES = ("migrate", "contig", "cma_alloc", "compaction", "kcompactd")
"""Hot style, but tied to everything that owns memory: interpreted in both engines."""
PYTHON_CALLS = {
    "slowpath_may_sleep": "slowpath",
    "reclaim_from_memcg": "memcg",
    "kill_in_memcg": "memcg",
    "node_reclaim_scan": "node_reclaim",
}
"""What compiled code calls in Python, by the module that defines it: the parts of the slow path
that sleep. Integers and the word array in, an integer out."""
# Cold modules whose constants end up in compiled code.
CONSTANT_MODULES = (
    "kernel_globals",
    "layout",
    "trace_events",
    "mmzone",
    "mm_types",
    "gfp",
    "vm_events",
    "structs",
)
# What is called from outside compiled code; only these and what they call are compiled.
ENTRY_POINTS = (
    # allocating, freeing, the per-cpu lists
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
    "serve_mailbox",
    "walk",
    "scan_pages",
    # callers' interfaces
    "alloc_pages_current",
    "set_mempolicy",
    "split_page",
    "alloc_pages_exact",
    "alloc_pages_exact_nid",
    "free_pages_exact",
    "get_free_pages",
    "get_zeroed_page",
    "get_page",
    "put_page",
    "page_frag_alloc",
    "page_frag_free",
    "page_frag_cache_drain",
    # ranges
    "start_isolate_page_range",
    "undo_isolate_page_range",
    "has_unmovable_pages",
    # the steps of logs that are replayed event by event
    "rmqueue",
    "rmqueue_bulk",
    "rmqueue_pcplist",
    "free_block",
    "free_one_page",
    "free_pcppages_bulk",
    "free_unref_page_commit",
    "isolate_free_page",
    "reserve_highatomic_pageblock",
    "change_pageblock",
)
ENGINES = ("auto", "python", "compiled")
FAILED = -(1 << 63)
"""What compiled code returns for an index out of range."""
ENDED = FAILED + 1
"""What compiled code returns when the call was ended from outside."""


Hot = Callable[..., Any]


class Engine:
    """The hot functions by name, all with the word array (a memoryview) as first argument.

    `name` is "python" or "compiled", `functions` the entry points by name (for python all hot
    functions); each is an attribute, too.
    """

    def __init__(self, name: str, functions: Mapping[str, Hot], code: object = None) -> None:
        """`code`: what keeps the functions' machine code in memory."""
        self.name = name
        self.functions = functions
        self.code = code

    def __getattr__(self, name: str) -> Hot:
        try:
            return self.__dict__["functions"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(
                f"the {self.__dict__.get('name')} engine has no function {name!r}"
            ) from None

    def words(self, memory: PhysicalMemory) -> memoryview:
        """The word array of `memory`, the same for both engines."""
        return memory.words


@functools.cache
def hot_functions() -> Mapping[str, FunctionType]:
    """Every hot function by its name, over all hot modules."""
    found: dict[str, FunctionType] = {}
    for name in HOT_MODULES:
        module = importlib.import_module(name if "." in name else f"{__package__}.{name}")
        for attr, value in vars(module).items():
            if is_hot(module, value):
                if attr in found:
                    raise RuntimeError(f"two hot functions are called {attr}")
                found[attr] = value
    return found


@functools.cache
def interpreted_functions() -> Mapping[str, FunctionType]:
    """The functions of INTERPRETED_MODULES by name, which engines offer beside the hot ones."""
    found: dict[str, FunctionType] = {}
    for name in INTERPRETED_MODULES:
        module = importlib.import_module(f"{__package__}.{name}")
        found |= {attr: value for attr, value in vars(module).items() if is_hot(module, value)}
    return found


class _Functions(dict[str, Hot]):
    """An engine's functions, and those of INTERPRETED_MODULES from the first that is wanted on."""

    def __missing__(self, name: str) -> Hot:
        found = interpreted_functions().get(name)
        if found is None:
            raise KeyError(name)
        return found


@functools.cache
def python_calls() -> Mapping[str, FunctionType]:
    """The functions of PYTHON_CALLS by name."""
    return {
        name: getattr(importlib.import_module(f"{__package__}.{module}"), name)
        for name, module in PYTHON_CALLS.items()
    }


def is_hot(module: ModuleType, value: object) -> bool:
    """True if `value` is a hot function that `module` itself defines."""
    return (
        isinstance(value, FunctionType)
        and value.__module__ == module.__name__
        and "Hot" in (value.__doc__ or "")
    )


def reachable(hot: Mapping[str, FunctionType], entry_points: Iterable[str]) -> list[str]:
    """The entry points and all hot functions that they call, directly or not."""
    from .compiled_forms import COMPILED_FORMS

    order: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in order:
            order[name] = None
            form = COMPILED_FORMS.get(name)
            own = (form or hot[name]).__globals__
            code = form.__code__ if form else plain_code(hot[name])
            for callee in code.co_names:
                if callee in hot and own.get(callee) is hot[callee]:
                    visit(callee)
                elif callee in PYTHON_CALLS and callee in own:
                    order[callee] = None

    for name in entry_points:
        visit(name)
    return list(order)


def compiled_available() -> bool:
    """True if Numba is installed."""
    return util.find_spec("numba") is not None


def load_engine(choice: str = "auto") -> Engine:
    """The engine named "python", "compiled" or "auto" (compiled where Numba is installed).

    The first time on a host the hot path is compiled, which takes some seconds and is told on
    standard error; later a file is loaded.

    Raises:
        UsageError: an unknown name, or "compiled" without Numba.
        BringUpError: the installed Numba cannot compile the hot path.
        OutputError: the compiled code can be kept nowhere.
    """
    if choice not in ENGINES:
        raise UsageError(f"engine {choice!r}: one of {', '.join(ENGINES)}")
    if choice == "compiled" and not compiled_available():
        raise UsageError("engine 'compiled' needs numba: pip install 'numalab[compiled]'")
    if choice == "python" or not compiled_available():
        return _python_engine()
    return _compiled_engine()


@functools.cache
def _python_engine() -> Engine:
    hot = hot_functions()
    speed_up(hot)
    return Engine("python", _Functions(hot))


@functools.cache
def _compiled_engine() -> Engine:
    from .engine_cache import load_code, object_code

    hot = hot_functions()
    code = load_code(object_code(hot))
    long_calls.connect(code)
    cold_calls.connect(code, python_calls())
    forms = {name: compiled_form(hot[name], code.address(name)) for name in ENTRY_POINTS}
    return Engine("compiled", _Functions(forms), code)


class _Place:
    """Where a word array lies, for compiled code: {address, length}."""

    def __init__(self, array: memoryview) -> None:
        view = memoryview(array)
        if view.format not in ("q", "l") or view.ndim != 1 or view.readonly or not view.contiguous:
            raise UsageError("compiled code takes writable arrays of 64-bit signed words")
        size = len(view)
        address = addressof(c_char.from_buffer(view)) if size else 0
        self.array = ref(array)
        self.pair = (c_int64 * 2)(address, size)
        self.pointer = addressof(self.pair)


class _Places:
    """Remembers the place of the word array that was used last."""

    def __init__(self) -> None:
        self.last: _Place | None = None

    def of(self, m: memoryview) -> _Place:
        """The place of guest RAM's words `m`."""
        place = self.last
        if place is None or place.array() is not m:
            place = self.last = _Place(m)
        m.itemsize  # noqa: B018  # ValueError if the view has been released
        return place


_places = _Places()


def compiled_form(function: FunctionType, address: int) -> Hot:
    """What Python calls for the entry point `function` whose machine code is at `address`.

    Raises IndexError where the interpreted function would, for an index out of range.
    """
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    notes = function.__annotations__
    arrays = [notes[name] == "memoryview" for name in names]
    code = CFUNCTYPE(c_int64, *(c_void_p if array else c_int64 for array in arrays))(address)
    more = [i - 1 for i, array in enumerate(arrays) if array and i]
    name, result = function.__name__, notes["return"]
    place_of = _places.of

    def compiled(m: memoryview, *args: Any) -> Any:
        place = place_of(m)
        if more:
            others = {i: _Place(args[i]) for i in more}
            args = tuple(others[i].pointer if i in others else a for i, a in enumerate(args))
        value = code(place.pointer, *args)
        if value <= ENDED:
            raise failure(name, value)
        if result == "int":
            return value
        return bool(value) if result == "bool" else None

    return functools.update_wrapper(compiled, function)


def failure(name: str, value: int) -> BaseException:
    """What to raise when compiled code of entry point `name` returned FAILED or ENDED."""
    if value == FAILED:
        error = cold_calls.take()
        if error is not None:
            return error
        return IndexError(f"{name}: word index out of range")
    return long_calls.take()


_current: list[Engine | None] = [None]


def current_engine() -> Engine:
    """The engine of this process: python, unless install_engine() has set another."""
    return _current[0] or load_engine("python")


def install_engine(engine: Engine, *packages: str) -> Callable[[], None]:
    """Makes `engine` serve all calls of hot functions in this process; returns what undoes it.

    Every module of this package, and of the `packages` named, that has an entry point under its
    name gets the engine's; so do modules imported later.
    """
    hot = hot_functions()
    before = _current[0]
    _current[0] = engine
    changed: list[tuple[ModuleType, str, object]] = []
    prefixes = tuple(f"{name}." for name in (__package__ or "", *packages))
    for module in [m for name, m in sys.modules.items() if m and name.startswith(prefixes)]:
        for attr, value in list(vars(module).items()):
            if value is hot.get(attr) and attr in engine.functions:
                if engine.functions[attr] is not value:
                    changed.append((module, attr, value))
                    setattr(module, attr, engine.functions[attr])

    def undo() -> None:
        _current[0] = before
        for module, attr, value in changed:
            setattr(module, attr, value)

    return undo
