# SPDX-License-Identifier: GPL-2.0-only
"""What a disk in a file of the host costs. Reported, never asserted.

    python -m tests.benchmarks.bench_host_disk

A sparse 512 MiB file is attached blank, gets 16 MiB, is given back and attached again; beside it
the same fsync on a disk that no file follows.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable

from allocator import start_kernel
from allocator.kernel import Kernel
from firmware import power_on
from machine import Machine, Topology

SIZE = 512 << 20
BYTES = 16 << 20


def booted() -> Kernel:
    """A kernel that has used no files."""
    machine = Machine(Topology.parse("2x128M"))
    power_on(machine)
    return start_kernel(machine)


def timed(what: str, action: Callable[[], None]) -> None:
    """One line: milliseconds."""
    began = time.perf_counter()
    action()
    print(f"{what:44} {(time.perf_counter() - began) * 1e3:8.1f} ms")


def main() -> None:
    """All figures."""
    data = os.urandom(BYTES)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "disk.img")
        with open(path, "wb") as file:
            file.truncate(SIZE)
        kernel = booted()
        timed("attach, blank", lambda: kernel.attach_disk(path))
        timed("fsync of 16 MiB", kernel.create_file("f", data=data).fsync)
        timed("detach", kernel.detach_disk)
        again = booted()
        timed("attach, with 16 MiB", lambda: again.attach_disk(path))
    timed("fsync of 16 MiB, no file behind", booted().create_file("f", data=data).fsync)


if __name__ == "__main__":
    main()
