# SPDX-License-Identifier: GPL-2.0-only
"""Hypercalls per second: a guest that allocates and frees one page a hundred thousand times."""

from __future__ import annotations

import time
from pathlib import Path

from machine import BringUpError, Machine, Topology

from ..boot_image import boot_image
from ..engine import Engine
from .rows import Row, row

SCRIPT = Path(__file__).with_name("hypercalls.S")
PAIRS = 100_000


def hypercall_rate(engine: Engine, runs: int, numa: str = "2x128M") -> list[Row]:
    """Requests per second through the mailbox. Raises BringUpError if the guest fails."""
    rates = []
    for _ in range(runs):
        guest = boot_image(Machine(Topology.parse(numa)), SCRIPT)
        calls, m = guest.hypercalls, guest.machine.memory.words
        if engine.name == "compiled":
            served, ram = engine.serve_mailbox, calls.ram
            calls.serve = lambda cpu, now, f=served, w=m, r=ram: f(w, r, cpu, now)  # type: ignore[misc]
        began = time.perf_counter()
        stop = guest.machine.run()
        seconds = time.perf_counter() - began
        if stop.kind != "exit" or stop.code:
            raise BringUpError(f"{SCRIPT.name} ended with {stop.kind} {stop.code}: {stop.message}")
        rates.append(2 * PAIRS / seconds)
    return [row("hypercalls", engine.name, numa, rates, "1/s", 0, 1, 2 * PAIRS)]
