# SPDX-License-Identifier: GPL-2.0-only
"""allocator/long_calls.py: compiled calls hear signals, and end when a handler raises."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from allocator import engine
from allocator.engine import load_engine
from allocator.gfp import parse_gfp
from allocator.kernel import Kernel
from allocator.layout import page_va, word_of_va
from allocator.long_calls import CallEnded, LongCalls, long_calls
from allocator.mm_types import P_NEXT
from allocator.mmzone import PSET_COUNT, PSET_LISTS, Z_PAGESET
from allocator.pcp import page_zone
from tests.allocator.machines import boot

needs_numba = pytest.mark.skipif(not engine.compiled_available(), reason="numba is not installed")


def endless() -> Kernel:
    """A kernel on compiled code whose next drain on CPU 0 goes round for ever."""
    kernel = boot("1x64M")
    kernel.use_engine("compiled")
    page = kernel.alloc_pages("GFP_KERNEL")
    assert page is not None
    kernel.free_pages(page)
    va, m = page_va(page.pfn) + 8, kernel.m
    ps = word_of_va(m[page_zone(m, page.word) + Z_PAGESET])
    m[page.word + P_NEXT] = m[page.word + P_NEXT + 1] = va
    m[ps + PSET_LISTS] = m[ps + PSET_LISTS + 1] = va
    m[ps + PSET_COUNT] = 1 << 62
    return kernel


@contextmanager
def alarms(handler: Callable[[int, object], None], every: float = 0.1) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, every, every)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@needs_numba
def test_keyboard_interrupt_reaches_a_compiled_call() -> None:
    kernel = endless()

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    with alarms(interrupt), pytest.raises(KeyboardInterrupt):
        kernel.engine.drain_local_pages(kernel.m, 0)
    fresh = boot("1x64M")
    fresh.use_engine("compiled")
    assert fresh.alloc_pages("GFP_KERNEL") is not None


@needs_numba
def test_handlers_that_raise_nothing_let_the_call_go_on_and_see_where_they_are() -> None:
    kernel = endless()
    seen: list[tuple[bool, int]] = []

    def look(_number: int, _frame: object) -> None:
        seen.append((long_calls.polling, long_calls.count))
        if len(seen) == 3:
            raise TimeoutError

    with alarms(look), pytest.raises(TimeoutError):
        kernel.engine.drain_local_pages(kernel.m, 0)
    assert [polling for polling, _ in seen] == [True] * 3
    assert seen[1][1] == seen[2][1]
    assert not long_calls.polling


@needs_numba
def test_call_in_another_thread_is_ended_by_the_common_word() -> None:
    kernel = endless()
    ended: list[BaseException] = []

    def work() -> None:
        try:
            kernel.engine.drain_local_pages(kernel.m, 0)
        except CallEnded as error:
            ended.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive()
    try:
        long_calls.stop_all()
        thread.join(10)
    finally:
        long_calls.stop_all(False)
    assert len(ended) == 1


@needs_numba
def test_long_but_finite_calls_come_to_their_end() -> None:
    kernel = boot("1x64M")
    hot = load_engine("compiled")
    before = long_calls.count
    count = 1 << 20
    assert hot.repeat_pages(kernel.m, 0, parse_gfp("GFP_KERNEL"), 0, 0, count) == count
    assert long_calls.count == before + 1


def test_without_compiled_code_there_is_nothing_to_end() -> None:
    calls = LongCalls()
    calls.stop_all()
    assert not calls.polling
    assert isinstance(calls.take(), CallEnded)
