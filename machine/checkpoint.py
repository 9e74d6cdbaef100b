# SPDX-License-Identifier: GPL-2.0-only
"""Checkpoints: a moment of the whole machine, kept in memory to come back to.

    before = machine.checkpoint()
    kernel.alloc_pages("GFP_KERNEL", order=3)
    before.rewind()                     # as if it had not happened; may be repeated

    with machine.checkpoint():          # undone at the end, and forgotten
        machine.run()

RAM goes through `ramhistory` (what was written since the last checkpoint is what one costs), CPUs
hand out their engines' contexts, devices and clock their saved states. Checkpoints nest: going back
to one ends those taken after it. One that nobody refers to any more gives its memory back at the
next checkpoint; `discard` does so at once. What is on the host side stays: sinks, handlers, and
what Python code remembers. Code that keeps something derived from RAM looks at `memory.rewinds`.

To keep a machine beyond the process, see `snapshot`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from machine.machine import Machine


class Checkpoint:
    """One moment of `machine`. Made by `Machine.checkpoint`; as a context manager it rewinds and
    discards at the end."""

    def __init__(self, machine: Machine) -> None:
        machine.check_at_rest("held on to")
        self.machine = machine
        self._cpus = [cpu.checkpoint() for cpu in machine.cpus]
        self._rest = machine.save_board()
        self._ram = machine.memory.history.checkpoint()

    @property
    def alive(self) -> bool:
        """True while it can be gone back to."""
        return self._ram.alive

    def rewind(self) -> None:
        """The machine as it was then. Raises `UsageError` inside a run, and when this checkpoint
        has ended."""
        self.machine.check_at_rest("taken back")
        self.machine.memory.rewind(self._ram)
        for cpu, moment in zip(self.machine.cpus, self._cpus, strict=True):
            cpu.rewind(moment)
        self.machine.load_board(self._rest)

    def discard(self) -> None:
        """Give its memory back; the machine stays as it is. Does nothing when it has ended."""
        if self._ram.alive:
            self.machine.memory.history.discard(self._ram)
        self._cpus.clear()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.alive:
            self.rewind()
            self.discard()

    def __del__(self) -> None:
        # Collected at any time, so only marked here: the history may be at work on its levels.
        if hasattr(self, "_ram"):
            self._ram.abandoned = True
