# SPDX-License-Identifier: GPL-2.0-only
"""How long it takes to boot, and how much memory the host pays. Reported, never asserted.

    python tests/benchmarks/bench_boot.py

Figures aimed at: `numalab boot first_light.S` on 2x128M below 0.4 s wall, Python's start included;
bring-up of 64 GiB on four nodes below 2 s, with resident memory below 1.2 times the memmap. Every
run is a process of its own; the median and the spread of several are reported.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNS = 7
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

BRING_UP = """
import json, resource, sys, time
began = time.perf_counter()
import numpy
from allocator.init_main import start_kernel
from firmware import power_on
from machine import Machine, Topology

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

imported, before = time.perf_counter(), resident()
machine = Machine(Topology.parse(sys.argv[1]))
power_on(machine)
start_kernel(machine)
done = time.perf_counter()
print(json.dumps({
    "imports": imported - began,
    "bring_up": done - imported,
    "grown": resident() - before,
    "memmap": machine.topology.ram_size // 4096 * 64,
}))
"""


def boot_seconds(script: str, numa: str) -> list[float]:
    """Wall seconds of whole `numalab boot` processes."""
    command = [sys.executable, "-m", "allocator", "boot", script, "--numa", numa, "--quiet"]
    times = []
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT, cwd=ROOT)
        times.append(time.perf_counter() - began)
    return times[1:]  # the first one fills caches: bytecode, and the assembled script


def bring_up(numa: str) -> dict[str, float]:
    """Figures of one bring-up in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", BRING_UP, numa],
        check=True,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Print the report."""
    for script in ("first_light.S", "smp.S", "exhaust.S"):
        times = boot_seconds(script, "2x128M")
        print(
            f"numalab boot {script:14} 2x128M   {statistics.median(times):6.3f} s"
            f"   ({min(times):.3f} to {max(times):.3f}, {RUNS} runs)"
        )
    for numa in ("2x128M", "4x1G", "4x16G"):
        runs = [bring_up(numa) for _ in range(3)]
        best = min(runs, key=lambda run: run["bring_up"])
        print(
            f"bring-up {numa:7} {best['bring_up']:6.3f} s   imports {best['imports']:.3f} s"
            f"   resident +{best['grown'] / 2**20:,.0f} MiB = {best['grown'] / best['memmap']:.2f}"
            f" x memmap ({best['memmap'] / 2**20:,.0f} MiB)"
        )


if __name__ == "__main__":
    main()
