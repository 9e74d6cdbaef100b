# SPDX-License-Identifier: GPL-2.0-only
"""Hypercalls per second: a guest that allocates and frees one page a hundred thousand times.

With the compiled engine its requests are served inside the CPU (`native`), and Python hears of the
last one only, as in every guest that runs on that engine."""

from __future__ import annotations

import time
from pathlib import Path

from machine import BringUpError, Machine, Topology

from ..boot_image import boot_image
from ..engine import Engine, install_engine
from .rows import Row, row

SCRIPT = Path(__file__).with_name("hypercalls.S")
PAIRS = 100_000


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
