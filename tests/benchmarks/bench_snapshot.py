# SPDX-License-Identifier: GPL-2.0-only
"""What it costs to keep a machine: in a file, and in memory. Reported, never asserted.

    python tests/benchmarks/bench_snapshot.py

Figures aimed at: snapshot of a booted 2x128M machine below 50 ms and 2 MiB; checkpoint of a machine
with 64 MiB of touched RAM below 1 ms. Times are the median and, in brackets, the slowest of
several. Beside the mechanism in use stand those it was chosen over, each on 64 MiB of written RAM.
"""

from __future__ import annotations

import mmap
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from allocator.boot_image import boot_image
from allocator.resume import resume
from allocator.scripts import SCRIPTS
from machine import Bank, Machine, PhysicalMemory, Topology, hostmap
from machine.snapshot import load_snapshot, save_snapshot
from machine.topology import GIB, MIB

TOUCHED = 64 * MIB


def report(
    name: str,
    action: Callable[[], object],
    before: Callable[[], object] | None = None,
    runs: int = 21,
) -> None:
    """Run and print one line."""
    times = []
    for _ in range(runs):
        if before is not None:
            before()
        began = time.perf_counter()
        action()
        times.append((time.perf_counter() - began) * 1000)
    print(f"  {name:58} {statistics.median(times):8.3f} ms ({max(times):.3f})")


def snapshots(directory: str) -> None:
    """A booted machine, a worked-out one, a huge sparse one, and resuming."""
    path = os.path.join(directory, "bench.snap")

    def size() -> str:
        return f"{os.path.getsize(path) / 1024:,.0f} KiB"

    for numa, script in (("2x128M", "first_light.S"), ("2x128M", "exhaust.S"), ("4x2G", "smp.S")):
        machine = boot_image(Machine(Topology.parse(numa)), SCRIPTS / script).machine
        report(f"save {numa}, booted", lambda m=machine: save_snapshot(m, path))
        print(f"    {size()}")
        machine.run(max_instructions=50_000_000)
        report(f"save {numa} after {script}", lambda m=machine: save_snapshot(m, path))
        print(f"    {size()}")
        report("load", lambda: load_snapshot(path), runs=5)
        report("load and resume", lambda: resume(load_snapshot(path)), runs=5)
    sparse = Machine(Topology.parse("4x256G"))
    sparse.memory.write(1500 * GIB, os.urandom(TOUCHED))
    report(
        "save 4x256G with 64 MiB of random bytes in it", lambda: save_snapshot(sparse, path), runs=3
    )
    print(f"    {size()}")


def checkpoints() -> None:
    """The mechanism in use."""
    machine = Machine(Topology.parse("2x128M"))
    memory = machine.memory
    memory.u8[:TOUCHED] = 1
    print(f"  private pages are found by: {memory.backing.method or 'copying everything'}")
    began = time.perf_counter()
    held = [machine.checkpoint()]
    print(f"  {'the first checkpoint':58} {(time.perf_counter() - began) * 1000:8.3f} ms")

    def write(pages: int) -> Callable[[], object]:
        places = range(0, TOUCHED, TOUCHED // pages)

        def scribble() -> None:
            for at in places:
                memory.bytes[at] = memory.bytes[at] + 1 & 255

        return scribble

    def replace() -> None:
        held.append(machine.checkpoint())

    int(memory.u8[:TOUCHED:4096].sum())  # all of it in the page tables again
    for pages in (1, 10, 100, 1000):
        report(f"checkpoint, {pages} pages written since the last", replace, write(pages))
        last = held[-1]
        report(f"rewind, {pages} pages written since", last.rewind, write(pages))
        del held[1:]
        held[0].rewind()
        int(memory.u8[:TOUCHED:4096].sum())

    for numa in ("2x128M", "4x2G"):
        booted = boot_image(Machine(Topology.parse(numa)), SCRIPTS / "smp.S").machine
        booted.run(max_instructions=1000)
        moment = booted.checkpoint()
        report(f"booted {numa}: checkpoint", booted.checkpoint, lambda m=booted: m.run(50))
        moment = booted.checkpoint()
        report(f"booted {numa}: rewind", moment.rewind, lambda m=booted: m.run(50))


def alternatives() -> None:
    """What a checkpoint would cost in other ways."""
    memory = PhysicalMemory([Bank(0, 256 * MIB, "ram")])
    memory.u8[:TOUCHED] = 1
    copy = np.zeros(TOUCHED, dtype=np.uint8)
    report("copy of 64 MiB into fresh memory", lambda: bytes(memory.bytes[:TOUCHED]), runs=7)
    report(
        "copy of 64 MiB into memory in use", lambda: np.copyto(copy, memory.u8[:TOUCHED]), runs=7
    )
    report(
        "comparison of 64 MiB with such a copy",
        lambda: np.flatnonzero(
            (memory.q[: TOUCHED >> 3] != copy.view(np.int64)).reshape(-1, 512).any(axis=1)
        ),
        runs=7,
    )

    def fork() -> None:
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    report("fork and its end", fork, runs=7)
    fd = os.memfd_create("bench")
    os.ftruncate(fd, 256 * MIB)
    address = hostmap.map_file(fd, 256 * MIB, private=False)
    pages = hostmap.as_pages(address, 256 * MIB)

    def shared() -> None:
        hostmap.map_file(fd, 256 * MIB, private=False, address=address)
        pages[: TOUCHED >> 12, 0] = 1

    def overlay() -> None:
        hostmap.map_file(fd, 256 * MIB, private=True, address=address)

    report("private mapping laid over, page tables thrown away", overlay, shared, runs=7)
    for method in ("scan", "pagemap"):
        try:
            report(
                f"finding private pages by {method}",
                lambda how=method: hostmap.private_runs(how, address, 256 * MIB),
                lambda: int(pages[: TOUCHED >> 12, 0].sum()),
            )
        except OSError as error:
            print(f"  finding private pages by {method}: {error}")
    hostmap.unmap(address, 256 * MIB)
    os.close(fd)
    try:
        Path("/proc/self/clear_refs").write_text("4", encoding="ascii")
        probe = mmap.mmap(-1, 4096)
        probe[0] = 1
        entry = hostmap.PAGE  # bit 55 of the page's entry: soft-dirty
        with open("/proc/self/pagemap", "rb") as pagemap:
            at = int(np.frombuffer(probe, dtype=np.uint8).ctypes.data)
            pagemap.seek(at // entry * 8)
            tracked = int.from_bytes(pagemap.read(8), "little") >> 55 & 1
        print(f"  soft-dirty bits: {'kept' if tracked else 'not kept'} by this kernel")
    except OSError as error:
        print(f"  soft-dirty bits: {error}")


def main() -> None:
    """Print the report."""
    print("snapshots")
    with tempfile.TemporaryDirectory() as directory:
        snapshots(directory)
    print("checkpoints, 64 MiB touched")
    checkpoints()
    print("other ways")
    alternatives()


if __name__ == "__main__":
    main()
