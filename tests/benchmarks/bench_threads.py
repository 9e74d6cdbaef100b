# SPDX-License-Identifier: GPL-2.0-only
"""What CPUs in host threads bring, against CPUs that take turns. Reported, never asserted.

    python -m tests.benchmarks.bench_threads

Two programs, on one and on two CPUs: arithmetic, and requests for pages through the mailbox
(compiled engine). Seconds until the last CPU is done, by the work of all; interleaved, best of
several runs. Processor time is that of the whole process: on a host that is busy with other
things it tells what the threads cost, where the other figure only tells what they got.
"""

from __future__ import annotations

import time

from allocator.bench.guest import SIDE_BY_SIDE, side_by_side_rates
from allocator.engine import compiled_available, load_engine
from machine import Machine, PageTableBuilder, Topology

RUNS = 5
LOOPS = 10_000_000
CODE = 0x100000


def arithmetic(cpus: int) -> Machine:
    """A machine whose CPUs run a loop of five instructions."""
    machine = Machine(Topology.parse(f"1x64M,cpus={cpus}"))
    frames = iter(range(0x10000, 0x80000, 4096))
    tables = PageTableBuilder(machine.memory, lambda: next(frames))
    tables.map(0, 0, 64 << 20)
    body = "480fafc3 48ffc0 4831c2 ffc9 75f2 f4"
    machine.memory.write(CODE, b"\xb9" + LOOPS.to_bytes(4, "little") + bytes.fromhex(body))
    for cpu in range(cpus):
        machine.cpus[cpu].start(CODE, 0x90000, tables.root)
    return machine


def seconds(cpus: int, threads: bool) -> tuple[float, float]:
    """Until the last CPU is done, and of processor time."""
    machine = arithmetic(cpus)
    began, spent = time.perf_counter(), time.process_time()
    assert machine.run(threads=threads).kind == "halt"
    return time.perf_counter() - began, time.process_time() - spent


def main() -> None:
    for cpus in SIDE_BY_SIDE:
        runs = [(seconds(cpus, False), seconds(cpus, True)) for _ in range(RUNS)]
        for i, kind in enumerate(("", ", processor time")):
            turns, threads = (min(run[j][i] for run in runs) for j in (0, 1))
            done = 5 * LOOPS * cpus / 1e6
            print(
                f"arithmetic, {cpus} CPUs{kind}: turns {done / turns:,.0f},"
                f" threads {done / threads:,.0f} M instructions/s, ratio {turns / threads:.2f}"
            )
    if not compiled_available():
        return
    for cpus in SIDE_BY_SIDE:
        best = {
            row.bench: row.max for row in side_by_side_rates(load_engine("compiled"), RUNS, cpus)
        }
        for kind in ("", " cpu"):
            turns, threads = (best[f"hypercalls {how}{kind}"] for how in ("turns", "threads"))
            print(
                f"requests, {cpus} CPUs{', processor time' if kind else ''}: turns {turns:,.0f},"
                f" threads {threads:,.0f} a second, ratio {threads / turns:.2f}"
            )


if __name__ == "__main__":
    main()
