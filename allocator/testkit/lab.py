# SPDX-License-Identifier: GPL-2.0-only
"""Machines for tests: booted as a test asks for them, and judged when it is done.

A `Config` says which machine; a `Lab` is that machine booted, with a photograph of its frames taken
right then. `verdict` checks all frames and compares: "" if the machine is sound and nothing has
leaked, else the text that the test fails with. `fault_sweep` yields one fresh lab after the other,
each with one more allocation let through before one fails.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from firmware import power_on
from machine import Machine, Topology, UsageError

from ..check import check_frames
from ..check.context import Check
from ..hypercall import Hypercalls
from ..init_main import start_kernel
from ..kernel_globals import (
    G_FAIL_COUNT,
    G_FAIL_IGNORE_HIGHMEM,
    G_FAIL_IGNORE_RECLAIM,
    G_FAIL_INTERVAL,
    G_FAIL_MIN_ORDER,
    G_FAIL_PROBABILITY,
    G_FAIL_SPACE,
    G_FAIL_TIMES,
    G_FAIL_VERBOSE,
    G_PRANDOM,
    G_STATIC_KEYS,
    KEY_FAIL_PAGE_ALLOC,
)
from .picture import Photograph, draw, leak_table
from .tracked import TrackedKernel

DEFAULT_TOPOLOGY = "2x64M"
DEFAULT_SEED = 1
SWEEP_LIMIT = 10_000
"""Allocations after which a sweep gives up: a test that makes more is not meant for one."""


@dataclass(frozen=True)
class Config:
    """A machine to be booted: topology specs (as for `Topology.parse`), distances, kernel
    parameters, and the seed of everything random."""

    specs: tuple[str, ...] = (DEFAULT_TOPOLOGY,)
    distances: tuple[tuple[int, ...], ...] | None = None
    append: str = ""
    seed: int = DEFAULT_SEED
    machine_type: str = "pc"

    @property
    def name(self) -> str:
        """A short name for test ids."""
        parts = ["+".join(self.specs)]
        if self.machine_type != "pc":
            parts.append(self.machine_type)
        if self.append:
            parts.append(self.append.replace(" ", ","))
        if self.seed != DEFAULT_SEED:
            parts.append(f"seed{self.seed}")
        return "-".join(parts)

    def topology(self) -> Topology:
        """The topology. Raises TopologyError."""
        distances = [list(row) for row in self.distances] if self.distances else None
        return Topology.parse(*self.specs, machine_type=self.machine_type, distances=distances)


class Lab:
    """One booted machine under test: `machine`, `kernel`, `random` (seeded)."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.machine = Machine(config.topology())
        power_on(self.machine, config.append)
        booted = start_kernel(self.machine)
        self.hypercalls = Hypercalls(self.machine)
        self.hypercalls.install(booted.stacks)
        self.machine.memory.words[G_PRANDOM] = config.seed & 0xFFFFFFFF
        self.kernel = TrackedKernel(self.machine.memory, self.machine, booted)
        self.random = random.Random(config.seed)
        self.before = Photograph(Check(self.machine.memory))

    def leaked(self, after: Photograph) -> npt.NDArray[np.int64]:
        """Frames that are in use now, were not at the start, and are not acknowledged."""
        if self.kernel.full or after.used.size != self.before.used.size:
            return np.empty(0, dtype=np.int64)
        pfns = after.pfns(np.flatnonzero(after.used & ~self.before.used))
        kept = np.fromiter(self.kernel.kept, dtype=np.int64, count=len(self.kernel.kept))
        return np.asarray(pfns[~np.isin(pfns, kept)], dtype=np.int64)

    def verdict(self, *, leaks_allowed: bool = False) -> str:
        """ "" if all frames are sound and none leaked, else why not, with a picture."""
        report = check_frames(self.machine.memory)
        after = Photograph(Check(self.machine.memory))
        leaked = np.empty(0, dtype=np.int64) if leaks_allowed else self.leaked(after)
        if report.sound and not leaked.size:
            return ""
        lines = []
        if not report.sound:
            lines += [f"machine {self.config.name} is unsound after the test", *report.lines()]
        if leaked.size:
            plural = "frame was" if leaked.size == 1 else "frames were"
            lines.append(f"{leaked.size:,} {plural} allocated in the test and not freed")
            lines += leak_table(self.kernel, leaked)
        bad = [f.frame for f in report.findings if f.frame is not None]
        lines += ["", *draw(self.before, after, bad)]
        return "\n".join(lines)

    def fail_nth(self, n: int) -> None:
        """The n-th allocation from now on fails, whatever its flags and order, and no other."""
        if n < 1:
            raise UsageError(f"allocation number {n}: they count from 1")
        m = self.machine.memory.words
        for word, value in (
            (G_FAIL_PROBABILITY, 100),
            (G_FAIL_INTERVAL, n),
            (G_FAIL_TIMES, 1),
            (G_FAIL_SPACE, 0),
            (G_FAIL_VERBOSE, 0),
            (G_FAIL_COUNT, 0),
            (G_FAIL_MIN_ORDER, 0),
            (G_FAIL_IGNORE_HIGHMEM, 0),
            (G_FAIL_IGNORE_RECLAIM, 0),
        ):
            m[word] = value
        m[G_STATIC_KEYS] |= KEY_FAIL_PAGE_ALLOC

    @property
    def failed(self) -> bool:
        """True if the failure that fail_nth() ordered has happened."""
        return bool(self.machine.memory.words[G_FAIL_TIMES] == 0)


class SweepFailure(AssertionError):
    """What a test did when an allocation failed: `n` is the number of that allocation."""

    def __init__(self, n: int, text: str) -> None:
        super().__init__(f"with allocation {n} failing: {text}")
        self.n = n


def fault_sweep(config: Config, limit: int = SWEEP_LIMIT) -> Iterator[Lab]:
    """Fresh labs whose 1st, 2nd, 3rd ... allocation fails; ends after the first in which none did.

    Raises:
        SweepFailure: a lab was unsound or had leaks when the next was asked for.
        UsageError: `limit` allocations did not suffice.
    """
    for n in range(1, limit + 1):
        lab = Lab(config)
        lab.fail_nth(n)
        yield lab
        verdict = lab.verdict()
        if verdict:
            raise SweepFailure(n, verdict)
        if not lab.failed:
            return
    raise UsageError(f"fault sweep: more than {limit:,} allocations")


def with_seed(config: Config, seed: int | None) -> Config:
    """The same machine with another seed, if one is given."""
    return config if seed is None else replace(config, seed=seed)
