# SPDX-License-Identifier: GPL-2.0-only
"""Checkpoints of RAM: cheap to take, nested, undone any number of times.

The backing's base (see `backing`) is the RAM of the moment of the last checkpoint, or of a
commit; pages written since are private copies. Taking the next checkpoint *commits*: the written
pages go into the base, and what the base held before goes into the undo log of the checkpoint
before. So a checkpoint costs what was written since the last one, not what the machine has; and
going back means forgetting the private pages and putting undo logs back, newest first.

    base at cp 1 <--undo of 1-- base at cp 2 <--undo of 2-- base at cp 3 ... private pages

Going back to a checkpoint ends those taken after it. One discarded in the middle hands its undo
log to the one before. On hosts without an overlay a checkpoint is a copy of all touched pages:
same rules, other price."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from machine.errors import UsageError
from machine.hostmap import PAGE, Runs

if TYPE_CHECKING:
    import numpy.typing as npt

    from machine.backing import Backing

    Pages = npt.NDArray[np.int64]
    Frames = npt.NDArray[np.int64]

WORDS = PAGE // 8
_NO_FRAMES = np.empty(0, dtype=np.int64)
_NO_PAGES = np.empty((0, WORDS), dtype=np.int64)


class RamCheckpoint:
    """One moment of RAM: frame numbers, ascending, and what to put there. `alive` until it is
    discarded or lies after one gone back to; `abandoned` when nobody can ask for it any more."""

    def __init__(self) -> None:
        self.frames: Frames = _NO_FRAMES
        self.pages: Pages = _NO_PAGES
        self.alive = True
        self.abandoned = False

    def add(self, frames: Frames, pages: Pages) -> None:
        """Remember these pages as well; those known already stay, they are older."""
        if not len(self.frames):
            self.frames, self.pages = frames, pages
            return
        new = ~np.isin(frames, self.frames, assume_unique=True)
        if new.any():
            all_frames = np.concatenate((self.frames, frames[new]))
            all_pages = np.concatenate((self.pages, pages[new]))
            order = np.argsort(all_frames)
            self.frames, self.pages = all_frames[order], all_pages[order]

    def forget(self) -> None:
        """Hold nothing."""
        self.frames, self.pages = _NO_FRAMES, _NO_PAGES


def frames_of(runs: Runs) -> Frames:
    """The frame numbers in `runs`."""
    if not runs:
        return _NO_FRAMES
    return np.concatenate([np.arange(start // PAGE, end // PAGE) for start, end in runs])


class RamHistory:
    """The checkpoints of one RAM, oldest first in `levels`. `live` is RAM, one row a page."""

    def __init__(self, backing: Backing, live: Pages) -> None:
        self.levels: list[RamCheckpoint] = []
        self._backing = backing
        self._live = live

    def checkpoint(self) -> RamCheckpoint:
        """Hold on to RAM as it is."""
        self._sweep()
        made = RamCheckpoint()
        if self._backing.fd >= 0:
            self._backing.overlay()
            self._commit(self._backing.written())
        else:
            made.frames, made.pages = self._copy()
        self.levels.append(made)
        return made

    def rewind(self, to: RamCheckpoint) -> None:
        """RAM as it was at `to`, which stays; later ones end. Raises `UsageError` when `to` has
        ended."""
        index = self._index(to)
        if self._backing.fd >= 0:
            self._undo(self.levels[index:])
            to.forget()
        else:
            self._put_back(to)
        for later in self.levels[index + 1 :]:
            later.alive = False
            later.forget()
        del self.levels[index + 1 :]

    def discard(self, checkpoint: RamCheckpoint) -> None:
        """Forget the checkpoint; RAM stays. Raises `UsageError` when it has ended already."""
        index = self._index(checkpoint)
        if index and self._backing.fd >= 0:
            self.levels[index - 1].add(checkpoint.frames, checkpoint.pages)
        checkpoint.alive = False
        checkpoint.forget()
        del self.levels[index]

    def _index(self, checkpoint: RamCheckpoint) -> int:
        for index, level in enumerate(self.levels):
            if level is checkpoint:
                return index
        raise UsageError("the checkpoint has ended: discarded, or taken after one gone back to")

    def _sweep(self) -> None:
        for level in [level for level in self.levels if level.abandoned]:
            self.discard(level)

    def _commit(self, runs: Runs) -> None:
        if not runs:
            return
        spans = [slice(start // PAGE, end // PAGE) for start, end in runs]
        if self.levels:
            # Before anything changes, so that an interrupted commit can still be undone.
            old = self._backing.base()
            self.levels[-1].add(frames_of(runs), np.concatenate([old[span] for span in spans]))
        base = self._backing.writable_base()
        for span in spans:
            base[span] = self._live[span]
        self._backing.settle(runs)

    def _undo(self, levels: list[RamCheckpoint]) -> None:
        runs = self._backing.written()
        if any(len(level.frames) for level in levels):
            base = self._backing.writable_base()
            for level in reversed(levels):
                base[level.frames] = level.pages
        self._backing.settle(runs)

    def _copy(self) -> tuple[Frames, Pages]:
        frames = [_NO_FRAMES]
        for start, end in self._backing.touched():
            first = start // PAGE
            frames.append(np.flatnonzero(self._live[first : end // PAGE].any(axis=1)) + first)
        found = np.concatenate(frames)
        return found, self._live[found]

    def _put_back(self, to: RamCheckpoint) -> None:
        now, _ = self._copy()
        self._live[np.setdiff1d(now, to.frames, assume_unique=True)] = 0
        self._live[to.frames] = to.pages
