# SPDX-License-Identifier: GPL-2.0-only
"""What depends on the machine's size: bring-up, its resident memory, and the check by frames.

Every bring-up is a process of its own (`python -m allocator.bench.scale SPEC`), because memory that
this process has used before costs the host less.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from machine import BringUpError, Machine, Topology

from .rows import Row, row

SIZES = ("2x128M", "4x1G", "4x16G", "8x128G")
ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
CHECKS = 3
"""Checks of one machine and engine, of which the quickest counts."""


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def bring_up(spec: str) -> dict[str, float]:
    """Seconds from power-on to the first page, seconds of a check on each engine (the best of
    some), frames checked, and the bytes that were resident before the checks."""
    import numpy as np  # noqa: F401  (its import is not part of a boot)

    from firmware import power_on

    from ..check import check_frames
    from ..engine import compiled_available, install_engine, load_engine
    from ..init_main import start_kernel
    from ..kernel import Kernel

    began = time.perf_counter()
    machine = Machine(Topology.parse(spec))
    power_on(machine)
    kernel = Kernel(machine.memory, machine, start_kernel(machine))
    page = kernel.alloc_pages("GFP_HIGHUSER_MOVABLE")
    seconds = time.perf_counter() - began
    if page is None:
        raise BringUpError(f"{spec}: no page after bring-up")
    resident = _resident()
    figures = {"seconds": seconds, "resident": resident}
    for engine in ("python", "compiled"):
        if engine == "compiled" and not compiled_available():
            continue
        undo = install_engine(load_engine(engine))
        reports = [check_frames(machine.memory) for _ in range(CHECKS)]
        undo()
        if not all(report.sound for report in reports):
            raise BringUpError(f"{spec}: the check found something after bring-up: {reports[0]}")
        figures[f"check {engine}"] = min(report.seconds for report in reports)
        figures["frames"] = reports[0].frames
    return figures


def child(spec: str) -> dict[str, float]:
    """`bring_up` in a process of its own. Raises BringUpError."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    done = subprocess.run(
        [sys.executable, "-m", __name__, spec],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode:
        raise BringUpError(f"bring-up of {spec}: {done.stderr.strip().splitlines()[-1:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def bring_up_rows(spec: str, runs: int) -> list[Row]:
    """Bring-up, resident memory and check of one size."""
    found = [child(spec) for _ in range(runs)]
    frames = int(found[0]["frames"])
    return [
        row("bring-up", "python", spec, [one["seconds"] for one in found], "s"),
        row("resident", "python", spec, [one["resident"] / MIB for one in found], "MiB"),
        *(
            row(
                "check",
                engine,
                spec,
                [one[f"check {engine}"] * 1e9 / frames for one in found],
                "ns/frame",
                operations=frames,
            )
            for engine in ("python", "compiled")
            if f"check {engine}" in found[0]
        ),
    ]


if __name__ == "__main__":
    print(json.dumps(bring_up(sys.argv[1])))
