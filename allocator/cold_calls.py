# SPDX-License-Identifier: GPL-2.0-only
"""Compiled code calling Python: the way to what is interpreted in both engines.

The hot path ends where a request has to sleep. There, compiled code calls the interpreted function
of the same name (`engine.PYTHON_CALLS`) through a pointer in a word of its own, `nl_py_NAME`,
which `connect` sets: with the address and length of the word array, and the integers. What the
function raises is kept here, the compiled call unwinds as after an index out of range, and whoever
made that call raises it (`take`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ctypes import CFUNCTYPE, c_int64, c_void_p, cast
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine_cache import Code

FAILED = -(1 << 63)


class ColdCalls:
    """The functions that compiled code may call, and what the last one raised."""

    def __init__(self) -> None:
        self._callbacks: list[object] = []
        self._raised: BaseException | None = None
        self._views: dict[tuple[int, int], memoryview] = {}

    def connect(self, code: Code, functions: Mapping[str, FunctionType]) -> None:
        """Has `code` find these functions. They get a word array and integers."""
        for name, function in functions.items():
            count = function.__code__.co_argcount - 1
            callback = CFUNCTYPE(c_int64, *[c_int64] * (count + 2))(self._door(function))
            self._callbacks.append(callback)
            code.word(f"nl_py_{name}").value = cast(callback, c_void_p).value or 0

    def take(self) -> BaseException | None:
        """What a function raised that compiled code had called, once; None if nothing."""
        error, self._raised = self._raised, None
        return error

    def view(self, address: int, words: int) -> memoryview:
        """The word array at `address` in this process, as the interpreted functions want it."""
        view = self._views.get((address, words))
        if view is None:
            array: Any = (c_int64 * words).from_address(address)
            view = memoryview(array).cast("B").cast("q")
            # one or two machines at a time; what is gone must not be kept for ever
            if len(self._views) > 8:
                self._views.clear()
            self._views[(address, words)] = view
        return view

    def _door(self, function: FunctionType) -> Callable[..., int]:
        def called(address: int, words: int, *args: int) -> int:
            try:
                return int(function(self.view(address, words), *args))
            except BaseException as error:
                self._raised = error
                return FAILED

        return called


cold_calls = ColdCalls()
