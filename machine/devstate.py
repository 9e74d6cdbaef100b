# SPDX-License-Identifier: GPL-2.0-only
"""What the devices of the board have in common: what they ask of the board, an output line that
tells whoever is connected only of changes, and reading saved state that may be anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from machine.bus import State

ISA_ACCESS_NS = 1000
"""What one access to a register on the ISA bus takes: about eight of its clocks. Loops that wait by
reading a port last as long as they do on a PC, not as long as their few instructions."""


class Alarm(Protocol):
    """A timer in the machine's event queue."""

    @property
    def deadline(self) -> int | None:
        """When it rings, None if it does not."""

    def set(self, when: int) -> None:
        """Ring at the modelled time `when` in ns; what was set before is void."""

    def clear(self) -> None:
        """Do not ring."""


def arm(alarm: Alarm, when: int | None) -> None:
    """Set `alarm`, or clear it for None."""
    if when is None:
        alarm.clear()
    else:
        alarm.set(when)


class Timebase(Protocol):
    """What a device needs of the board's time."""

    @property
    def now(self) -> int:
        """Modelled time in ns."""

    def spend(self) -> None:
        """An access to a register on the ISA bus has taken its time."""

    def timer(self, name: str, callback: Callable[[], None]) -> Alarm:
        """A timer of the event queue; `name` is unique on the machine."""


def number(state: State, key: str, mask: int = (1 << 64) - 1) -> int:
    """The saved number under `key`, within `mask`. Raises `KeyError`, `ValueError`."""
    value = state[key]
    if not isinstance(value, int) or value & ~mask:
        raise ValueError(f"{key}: {value!r}")
    return value


def signed(state: State, key: str) -> int:
    """The saved number under `key`, which may be negative. Raises `KeyError`, `ValueError`."""
    value = state[key]
    if not isinstance(value, int):
        raise ValueError(f"{key}: {value!r}")
    return value


def octets(state: State, key: str, size: int | None = None) -> bytes:
    """The saved byte string under `key`, of `size` bytes. Raises `KeyError`, `ValueError`."""
    value = state[key]
    if not isinstance(value, bytes) or (size is not None and len(value) != size):
        raise ValueError(f"{key}: {value!r:.40}")
    return value


def numbers(state: State, prefix: str, values: dict[str, int]) -> dict[str, int]:
    """New values for all keys of `values`, saved under `prefix` + key. Raises `KeyError`,
    `ValueError`."""
    return {key: signed(state, prefix + key) for key in values}


def prefixed(prefix: str, values: dict[str, int]) -> State:
    """`values` as `numbers` will find them."""
    return {prefix + key: value for key, value in values.items()}


class Line:
    """An output pin. `set` tells `listeners` when the level changes."""

    def __init__(self, listeners: Iterable[Callable[[int], None]] = ()) -> None:
        self.level = 0
        self._listeners = list(listeners)

    def connect(self, listener: Callable[[int], None]) -> None:
        """Tell `listener` of changes, too."""
        self._listeners.append(listener)

    def set(self, level: int) -> None:
        """Drive the pin to 0 or 1."""
        if level != self.level:
            self.level = level
            for listener in self._listeners:
                listener(level)

    def pulse(self) -> None:
        """Low, then high: an edge."""
        self.set(0)
        self.set(1)
