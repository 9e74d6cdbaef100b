# SPDX-License-Identifier: GPL-2.0-only
"""Several host threads inside one machine's allocator at once, each for CPUs of its own.

Compiled code runs without the interpreter's lock, so two CPUs' requests can really be served side
by side. While a `Team` is at work, every call for its RAM takes part in the protocol that
`engine_runtime` describes: the fast paths of different CPUs run together and lock the zones whose
lists they touch, in guest RAM; whatever else there is - the slow path, draining other CPUs, moving
pages, and everything while tracing or one of the debugging features is on - waits until it is
alone. A CPU is one thread's at a time.

Which frames a request gets then depends on who comes first, as on a real machine. Nothing else
does: no frame is lost or given twice, and all counters are exact once the threads are done. With
one thread, or without a team, nothing is different from any other run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from ctypes import addressof, c_char, c_int64, c_ulong, py_object, pythonapi
from typing import TYPE_CHECKING, TypeVar, cast

from machine import UsageError

from .engine import Engine
from .engine_runtime import (
    SLOT_WORDS,
    TEAM_BUSY,
    TEAM_BUSY_WORDS,
    TEAM_CPUS,
    TEAM_RAM,
    TEAM_SLOTS,
)
from .kernel_globals import (
    G_DEFERRED_PAGES,
    G_NODE_RECLAIM_MODE,
    G_NR_CPU_IDS,
    G_STATIC_KEYS,
    G_TRACE_MASK,
)
from .long_calls import CallEnded, long_calls
from .mmzone import NR_CPUS

if TYPE_CHECKING:
    from .engine_cache import Code

T = TypeVar("T")
LINE = 128
"""Bytes that no two CPUs' words should share."""
BUSY = (G_STATIC_KEYS, G_TRACE_MASK, G_DEFERRED_PAGES, G_NODE_RECLAIM_MODE)
"""Globals that send every request, if they are not 0, to what all CPUs share."""
_at_work = threading.Lock()


class Team:
    """A context: inside, threads may call `engine` for the RAM with the word array `m`.

    One at a time in a process. Raises:
        UsageError: the engine is interpreted, or another team is at work.
    """

    def __init__(self, m: memoryview, engine: Engine) -> None:
        if engine.name != "compiled":
            raise UsageError("threads need the compiled engine: the interpreter runs one CPU")
        self._word = cast("Code", engine.code).word("nl_team")
        words = TEAM_SLOTS + NR_CPUS * SLOT_WORDS
        self._memory = (c_char * (words * 8 + LINE))()
        start = addressof(self._memory)
        self._block = (c_int64 * words).from_buffer(self._memory, -start % LINE)
        ram = addressof(c_char.from_buffer(m))
        assert len(BUSY) == TEAM_BUSY_WORDS
        self._block[TEAM_RAM] = ram
        self._block[TEAM_CPUS] = min(max(m[G_NR_CPU_IDS], 1), NR_CPUS)
        for i, word in enumerate(BUSY):
            self._block[TEAM_BUSY + i] = ram + word * 8

    def __enter__(self) -> Team:
        if not _at_work.acquire(blocking=False):
            raise UsageError("another machine's threads are at work")
        self._word.value = addressof(self._block)
        return self

    def __exit__(self, *_: object) -> None:
        self._word.value = 0
        long_calls.stop_all(False)
        _at_work.release()


def break_call(thread: int) -> None:
    """Ends the call that the thread of this number is in and does not come out of: the compiled
    calls of all threads, until the team has done its work; when those are ended already, whatever
    that thread interprets. Its RAM is no longer sound then."""
    if not long_calls.stop_all():
        pythonapi.PyThreadState_SetAsyncExc(c_ulong(thread), py_object(CallEnded))


def side_by_side(m: memoryview, engine: Engine, jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Runs `jobs`, each in a thread of its own, as a Team; their results in order.

    What a job raises ends the others' calls and is raised when all are done; so does what a signal
    handler raises in the meantime. Raises UsageError as Team does.
    """
    results: list[T | None] = [None] * len(jobs)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            results[number] = jobs[number]()
        except BaseException as error:
            # those that this one has taken along have nothing to add
            errors.insert(0 if not isinstance(error, CallEnded) else len(errors), error)
            long_calls.stop_all()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    with Team(m, engine):
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            long_calls.stop_all()
            raise
        finally:
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            long_calls.stop_all(False)
    if errors:
        raise errors[0]
    return cast("list[T]", results)
