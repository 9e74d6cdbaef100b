# SPDX-License-Identifier: GPL-2.0-only
"""allocator/engine.py: both engines do the same to the same RAM; choosing and installing one."""

from __future__ import annotations

import ast
import importlib
import random

import numpy as np
import pytest

from allocator import engine, engine_cache, page_alloc
from allocator.engine import (
    CONSTANT_MODULES,
    ENTRY_POINTS,
    HOT_MODULES,
    PYTHON_CALLS,
    Engine,
    hot_functions,
    install_engine,
    load_engine,
    reachable,
)
from allocator.errors import KernelOops
from allocator.gfp import parse_gfp
from allocator.kernel import Kernel
from allocator.kernel_globals import G_TRACE_MASK
from allocator.mm_types import P_NEXT
from allocator.trace_events import ALL_EVENTS
from machine import UsageError
from tests.allocator.machines import boot

needs_numba = pytest.mark.skipif(not engine.compiled_available(), reason="numba is not installed")
GFPS = [
    parse_gfp(text)
    for text in (
        "GFP_KERNEL",
        "GFP_ATOMIC|__GFP_NOWARN",
        "GFP_HIGHUSER_MOVABLE",
        "GFP_KERNEL|__GFP_RECLAIMABLE",
        "GFP_KERNEL|__GFP_ZERO|__GFP_COMP",
        "GFP_DMA|__GFP_NOWARN",
        "GFP_USER|__GFP_THISNODE|__GFP_NOWARN",
    )
]


@pytest.fixture
def compiled() -> Engine:
    return load_engine("compiled")


def random_operations(kernel: Kernel, hot: Engine, seed: int, count: int) -> list[int]:
    """Requests, frees, splits and drains; every answer."""
    rng, m = random.Random(seed), kernel.m
    live: list[tuple[int, int]] = []
    said: list[int] = []
    for _ in range(count):
        what = rng.random()
        cpu = rng.randrange(2)
        if what < 0.55 or not live:
            order = rng.choice((0, 0, 0, 0, 1, 2, 3, 5, 9, 10))
            mask = rng.choice((0, 0, 1, 2, 3))
            pfn = hot.alloc_pages_nodemask(m, cpu, rng.choice(GFPS), order, rng.randrange(2), mask)
            said.append(pfn)
            if pfn >= 0:
                live.append((pfn, order))
        elif what < 0.97:
            pfn, order = live.pop(rng.randrange(len(live)))
            said.append(hot.free_pages(m, cpu, pfn, order))
        elif what < 0.98:
            hot.drain_local_pages(m, cpu)
        elif what < 0.99:
            said.append(hot.put_page(m, cpu, rng.randrange(5000, 20000)) if not live else 0)
        else:
            said.append(hot.alloc_pages_exact(m, cpu, 5 * 4096, GFPS[0]))
    return said


@needs_numba
@pytest.mark.parametrize("events", [0, ALL_EVENTS])
def test_random_operations_leave_the_same_ram_on_both_engines(
    compiled: Engine, events: int
) -> None:
    python = load_engine("python")
    a, b = boot("2x48M"), boot("2x48M")
    a.m[G_TRACE_MASK] = b.m[G_TRACE_MASK] = events
    assert random_operations(a, python, 7, 3000) == random_operations(b, compiled, 7, 3000)
    assert np.array_equal(a.memory.q, b.memory.q)


@needs_numba
def test_engines_may_take_turns_on_the_same_kernel(compiled: Engine) -> None:
    kernel = boot("2x48M")
    kernel.use_engine(compiled)
    page = kernel.alloc_pages("GFP_KERNEL", 3)
    assert page is not None
    kernel.use_engine("python")
    assert kernel.free_pages(page, 3)


@needs_numba
def test_bulk_arrays_come_back_the_same_from_both_engines() -> None:
    answers = []
    for name in ("python", "compiled"):
        kernel = boot("2x48M")
        kernel.use_engine(name)
        pfns = kernel.alloc_pages_bulk("GFP_HIGHUSER_MOVABLE", 1, 700, nid=1)
        assert kernel.free_pages_bulk(pfns, 1) == len(pfns)
        answers.append((pfns.tolist(), kernel.memory.q.copy()))
    assert answers[0][0] == answers[1][0]
    assert np.array_equal(answers[0][1], answers[1][1])


@needs_numba
def test_word_beyond_ram_is_an_index_error_in_compiled_code(compiled: Engine) -> None:
    kernel = boot("2x48M")
    head = kernel.zone(0, "DMA32").free_list(10, 1)[0]
    kernel.m[kernel.page(head).word + P_NEXT] = 0x7FFFFFFFFFFFFFF8
    kernel.use_engine(compiled)
    with pytest.raises(KernelOops, match="alloc_pages_nodemask: word index out of range"):
        kernel.alloc_pages("GFP_HIGHUSER_MOVABLE", 10, nid=0)


@needs_numba
def test_arrays_that_are_no_words_are_refused(compiled: Engine) -> None:
    m = boot("2x48M").m
    for array in (np.zeros(4, np.int32), np.zeros(8, np.int64)[::2], memoryview(bytes(64))):
        with pytest.raises(UsageError, match="writable arrays of 64-bit"):
            compiled.alloc_pages_bulk(m, 0, GFPS[0], 0, 0, 0, array, 4)


@needs_numba
def test_released_memory_is_an_error_not_a_crash(compiled: Engine) -> None:
    kernel = boot("2x48M")
    view = kernel.memory.bytes.cast("q")
    compiled.drain_local_pages(view, 0)
    view.release()
    with pytest.raises(ValueError, match="released"):
        compiled.drain_local_pages(view, 0)


@needs_numba
def test_installed_engine_serves_modules_until_it_is_undone(compiled: Engine) -> None:
    interpreted = page_alloc.alloc_pages_nodemask
    undo = install_engine(compiled)
    try:
        serving = page_alloc.alloc_pages_nodemask
        assert serving is compiled.functions["alloc_pages_nodemask"]
        assert Kernel.attach(boot("2x48M").memory).engine is compiled
        assert hot_functions()["alloc_pages_nodemask"] is not serving
    finally:
        undo()
    assert page_alloc.alloc_pages_nodemask is interpreted


def test_unknown_engine_and_missing_numba_are_usage_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="engine 'fast': one of auto, python, compiled"):
        load_engine("fast")
    monkeypatch.setattr(engine, "compiled_available", lambda: False)
    with pytest.raises(UsageError, match="needs numba"):
        load_engine("compiled")
    assert load_engine("auto").name == "python"


def test_engine_names_the_function_that_it_does_not_have() -> None:
    with pytest.raises(AttributeError, match="python engine has no function 'vmscan'"):
        _ = load_engine("python").vmscan


def test_entry_points_exist_and_reach_the_whole_fast_path() -> None:
    hot = hot_functions()
    found = reachable(hot, ENTRY_POINTS)
    assert set(ENTRY_POINTS) <= set(found) <= set(hot) | set(PYTHON_CALLS)
    assert {"get_page_from_freelist", "rmqueue_pcplist", "expand", "trace"} <= set(found)


def test_digest_covers_every_module_that_hot_code_takes_constants_from() -> None:
    known = {*HOT_MODULES, *CONSTANT_MODULES}
    for name in known:
        tree = ast.parse(engine_cache.source_of(name).read_text())
        imported = {
            node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
        }
        # what is imported inside a function is Python that compiled code calls
        inside = {
            node.module
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.ImportFrom)
        }
        assert imported - inside <= known, name


def test_hot_functions_take_words_and_integers_only() -> None:
    for name, function in hot_functions().items():
        notes = dict(function.__annotations__)
        result = notes.pop("return")
        assert result in ("int", "bool", "None", "tuple[int, int]", "tuple[int, int, int]"), name
        assert set(notes.values()) <= {"memoryview", "int", "bool"}, name
        assert importlib.import_module(function.__module__).__name__ == function.__module__
