# SPDX-License-Identifier: GPL-2.0-only
"""Hypercalls per second: a guest that allocates and frees one page a hundred thousand times.

With the compiled engine its requests are served inside the CPU (`native`), and Python hears of the
last one only, as in every guest that runs on that engine.

`side_by_side_rates`: the same on several CPUs, which take turns (`turns`) or run in threads of the
host's (`threads`). "cpu" counts seconds of processor time of the whole process in place of those
until the last CPU is done."""

from __future__ import annotations

import time
from pathlib import Path

from firmware import load_script
from machine import BringUpError, Machine, Topology

from ..boot_image import boot_image
from ..engine import Engine, install_engine
from .rows import Row, row

SCRIPT = Path(__file__).with_name("hypercalls.S")
REQUESTS = Path(__file__).with_name("requests.S")
PAIRS = 100_000
SIDE_BY_SIDE = (1, 2)
"""Numbers of CPUs that turns and threads are compared for."""


def hypercall_rate(engine: Engine, runs: int, numa: str = "2x128M") -> list[Row]:
    """Requests per second through the mailbox. Raises BringUpError if the guest fails."""
    undo = install_engine(engine)
    try:
        rates = [_rate(numa) for _ in range(runs)]
    finally:
        undo()
    return [row("hypercalls", engine.name, numa, rates, "1/s", 0, 1, 2 * PAIRS)]


def _rate(numa: str) -> float:
    """Of one run on the engine installed."""
    guest = boot_image(Machine(Topology.parse(numa)), SCRIPT)
    began = time.perf_counter()
    stop = guest.machine.run()
    seconds = time.perf_counter() - began
    if stop.kind != "exit" or stop.code:
        raise BringUpError(f"{SCRIPT.name} ended with {stop.kind} {stop.code}: {stop.message}")
    return 2 * PAIRS / seconds


def side_by_side_rates(
    engine: Engine, runs: int, cpus: int, numa: str = "1x256M", pairs: int = PAIRS
) -> list[Row]:
    """Requests per second of `cpus` CPUs together, by turns and in threads, interleaved. Raises
    BringUpError if the guest fails, UsageError where CPUs cannot run in threads."""
    figures: dict[str, list[float]] = {}
    spec = f"{numa},cpus={cpus}"
    undo = install_engine(engine)
    try:
        for _ in range(runs):
            for threads in (False, True):
                seconds, processor = _seconds(spec, threads, pairs)
                for kind, spent in (("", seconds), (" cpu", processor)):
                    name = f"hypercalls {'threads' if threads else 'turns'}{kind}"
                    figures.setdefault(name, []).append(2 * pairs * cpus / spent)
    finally:
        undo()
    count = 2 * pairs * cpus
    return [
        row(name, engine.name, spec, rates, "1/s", 0, cpus, count)
        for name, rates in figures.items()
    ]


def _seconds(numa: str, threads: bool, pairs: int) -> tuple[float, float]:
    """Seconds of one run on the engine installed, and of processor time."""
    text = REQUESTS.read_text().replace("PAIRS, 100000", f"PAIRS, {pairs}")
    guest = boot_image(Machine(Topology.parse(numa)), load_script(text))
    began, spent = time.perf_counter(), time.process_time()
    stop = guest.machine.run(threads=threads)
    seconds, processor = time.perf_counter() - began, time.process_time() - spent
    if stop.kind != "exit" or stop.code:
        raise BringUpError(f"{REQUESTS.name} ended with {stop.kind} {stop.code}: {stop.message}")
    return seconds, max(processor, 1e-9)
