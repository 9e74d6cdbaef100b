# SPDX-License-Identifier: GPL-2.0-only
"""What a demand fault costs beside the allocation in it. Reported, never asserted.

    python tests/benchmarks/bench_faults.py

Aimed at: at most 25 us for a fault of an anonymous page in plain CPython. One line each for the
allocation alone (a cleared GFP_HIGHUSER_MOVABLE page), the kernel's part of the fault (the call
that the MMU's fault leads to), copy on write after a fork, freeing by munmap, and the same faults
taken by guest code, with the machine's part in them: leaving the engine and entering it again.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from allocator import start_kernel
from allocator.boot_image import boot_image
from allocator.fault import PF_USER, PF_WRITE, do_page_fault
from allocator.gfp import GFP_HIGHUSER_MOVABLE, GFP_ZERO_BIT
from allocator.kernel import Kernel
from allocator.layout import CPU_BLOCKS, CPU_CURRENT, va_of_word
from allocator.munmap import do_munmap
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from firmware import load_script, power_on
from machine import Machine, Topology

PAGES = 2000
ROUNDS = 9
SPEC = "2x256M"
GUEST_PAGES = 4000


def per_page(action: Callable[[], None], pages: int = PAGES) -> float:
    """Microseconds of CPU time a page of one round (others may be busy on the host)."""
    began = time.process_time()
    action()
    return (time.process_time() - began) / pages * 1e6


def line(what: str, figures: list[float]) -> None:
    """One figure: median, least and most."""
    middle = statistics.median(figures)
    print(f"{what:44} {middle:7.2f} us  ({min(figures):.2f} to {max(figures):.2f})")


def kernel_part() -> None:
    """Faults without a CPU."""
    machine = Machine(Topology.parse(SPEC))
    power_on(machine)
    kernel: Kernel = start_kernel(machine)
    m = kernel.m
    process = kernel.create_process("bench")
    m[CPU_BLOCKS + CPU_CURRENT] = va_of_word(process.task)
    gfp = GFP_HIGHUSER_MOVABLE | GFP_ZERO_BIT
    rows: dict[str, list[float]] = {"alloc": [], "fault": [], "copy": [], "unmap": []}
    rows |= {"shared": [], "again": [], "move": []}
    for _ in range(ROUNDS):
        got: list[int] = []

        def allocate(got: list[int] = got) -> None:
            for _ in range(PAGES):
                got.append(alloc_pages_nodemask(m, 0, gfp, 0, 0, 0))

        rows["alloc"].append(per_page(allocate))
        for pfn in got:
            free_pages(m, 0, pfn, 0)
        start = process.mmap(PAGES * 4096)
        task = process.task

        def touch(start: int = start, task: int = task) -> None:
            for n in range(PAGES):
                do_page_fault(m, 0, task, start + (n << 12), PF_USER | PF_WRITE, 0)

        rows["fault"].append(per_page(touch))
        child = process.fork()
        other = child.task

        def copy(start: int = start, task: int = other) -> None:
            for n in range(PAGES):
                do_page_fault(m, 0, task, start + (n << 12), PF_USER | PF_WRITE | 1, 0)

        rows["copy"].append(per_page(copy))
        child.exit()
        process.wait()
        mm = process.mm

        def unmap(start: int = start, mm: int = mm) -> None:
            do_munmap(m, 0, mm, start, PAGES * 4096)

        rows["unmap"].append(per_page(unmap))
        area = process.mmap(PAGES * 4096, shared=True)
        rows["shared"].append(per_page(lambda area=area: touch(area)))  # type: ignore[misc]
        child = process.fork()
        rows["again"].append(
            per_page(lambda area=area, task=child.task: touch(area, task))  # type: ignore[misc]
        )
        child.exit()
        process.wait()
        target = process.mmap(PAGES * 4096)

        def move(area: int = area, target: int = target) -> None:
            process.mremap(area, PAGES * 4096, PAGES * 4096, new_address=target)

        rows["move"].append(per_page(move))
        process.munmap(target, PAGES * 4096)
    line("allocation of a cleared page", rows["alloc"])
    line("demand fault, anonymous (do_page_fault)", rows["fault"])
    line("copy on write (do_page_fault)", rows["copy"])
    line("munmap", rows["unmap"])
    line("demand fault, shared anonymous, new page", rows["shared"])
    line("the same page, another process", rows["again"])
    line("mremap", rows["move"])


def guest_part() -> None:
    """Faults of guest code."""
    script = f"""
    .include "numalab.inc"
    .globl _start
_start:
    numalab_init
    hypercall HC_MMAP, 0, {GUEST_PAGES} * 4096, 3, 0x22, -1, 0
    mov rbx, rax
    mov ecx, {GUEST_PAGES}
1:  mov byte ptr [rbx], 1
    add rbx, 4096
    dec ecx
    jnz 1b
    exit 0
"""
    figures = []
    for _ in range(3):
        machine = boot_image(Machine(Topology.parse(SPEC)), load_script(script)).machine

        def run(machine: Machine = machine) -> None:
            machine.run()

        figures.append(per_page(run, GUEST_PAGES))
    line("demand fault of guest code, all in all", figures)


if __name__ == "__main__":
    kernel_part()
    guest_part()
