# SPDX-License-Identifier: GPL-2.0-only
"""Compiled calls that take long: where Ctrl-C and alarms reach Python's main thread.

While the main thread is inside compiled code, signals wait. A call that goes on and on - a guest
has bent a list into a ring - therefore asks now and then whether it shall (`engine_turns`), and
Python answers here. The answer is given by a generator that waits inside its own `try`: when it is
resumed, the interpreter runs the handlers of signals that have come meanwhile, and what they raise
arrives in that `try`, is kept, and ends the call; whoever made the call raises it (`take`).

So a handler that ends an interpreted call by raising ends a compiled one as well. It can tell that
it interrupts one by `polling`, and by `count` whether it is still the same.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from ctypes import CFUNCTYPE, c_int64, c_void_p, cast
from types import GeneratorType
from typing import TYPE_CHECKING
from typing import cast as cast_type

from machine import NumalabError

if TYPE_CHECKING:
    from .engine_cache import Code


class CallEnded(NumalabError):
    """A compiled call was ended from outside, half done: its RAM is no longer sound."""

    exit_code = 70


class LongCalls:
    """What long compiled calls of the main thread have asked.

    `count` is the number of calls that have asked at least once.
    """

    def __init__(self) -> None:
        self.count = 0
        self._raised: BaseException | None = None
        self._answers = cast_type("GeneratorType[int, int, None]", self._answer())
        next(self._answers)
        self._callback = CFUNCTYPE(c_int64, c_int64)(self._answers.send)
        self._stop: c_int64 | None = None

    @property
    def polling(self) -> bool:
        """True while a call asks: a signal handler that sees it interrupts compiled code."""
        return self._answers.gi_running

    def connect(self, code: Code) -> None:
        """Has the calls of `code` ask this object, if they are made by the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._stop = code.word("nl_stop")
        code.word("nl_main").value = code.this_thread()
        code.word("nl_poll").value = cast(self._callback, c_void_p).value or 0

    def stop_all(self, stop: bool = True) -> bool:
        """Ends every compiled call, in whatever thread, at its next question; until undone. False
        if that changes nothing."""
        if self._stop is None or self._stop.value == int(stop):
            return False
        self._stop.value = int(stop)
        return True

    def take(self) -> BaseException:
        """What ended the call that has just been ended: to be raised."""
        error, self._raised = self._raised, None
        return error or CallEnded("a call into the allocator was ended from outside")

    def _answer(self) -> Generator[int, int, None]:
        ended = 0
        while True:
            try:
                if (yield ended) == 1:
                    self.count += 1
                ended = 0
            except GeneratorExit:
                return
            except BaseException as error:
                self._raised, ended = error, 1


long_calls = LongCalls()
