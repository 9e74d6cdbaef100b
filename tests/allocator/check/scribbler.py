# SPDX-License-Identifier: GPL-2.0-only
"""Damage done by the guest itself: a program of nine instructions writes words where it is told.

`Scribbler.write` runs it on CPU 0 in long mode under the kernel's page tables: it takes (virtual
address, value) pairs from a page and stores them, through the direct map or vmemmap, as any guest
code could. `age` gives a machine a past: blocks of all kinds, compound pages, filled per-cpu lists.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

from allocator.init_main import start_kernel
from allocator.kernel import Kernel
from allocator.kernel_globals import G_PGD
from allocator.layout import PAGE_OFFSET, unsigned
from firmware import power_on
from machine import Machine, Topology

# next: lodsq; test rax,rax; jz done; xchg rax,rdi; lodsq; stosq; jmp next; done: hlt
PROGRAM = bytes.fromhex("48ad4885c0740848 9748ad48abebf1f4".replace(" ", ""))
TABLE = 0x100


@dataclass
class Scribbler:
    """A booted machine with the program in a page of its own."""

    machine: Machine
    kernel: Kernel
    page: int

    @property
    def m(self) -> memoryview:
        """The word array."""
        return self.machine.memory.words

    def write(self, *stores: tuple[int, int]) -> None:
        """Lets the guest store 64-bit values at virtual addresses."""
        raw = b"".join(struct.pack("<QQ", unsigned(va), unsigned(value)) for va, value in stores)
        self.machine.memory.write(self.page, PROGRAM)
        self.machine.memory.write(self.page + TABLE, raw + bytes(8))
        cpu = self.machine.cpus[0]
        top = unsigned(PAGE_OFFSET + self.page + 4096)
        cpu.start(rip=self.page, rsp=top, cr3=self.m[G_PGD], rsi=self.page + TABLE)
        stop = self.machine.run(max_instructions=1000)
        assert stop.kind == "halt", stop


def scribbler(spec: str = "2x64M,cpus=2", append: str = "") -> Scribbler:
    """A machine for the drill, freshly booted."""
    machine = Machine(Topology.parse(spec))
    power_on(machine, append)
    start_kernel(machine)
    kernel = Kernel(machine.memory, machine)
    page = kernel.alloc_pages("GFP_DMA")
    assert page is not None
    return Scribbler(machine, kernel, page.phys)


GFPS = (
    "GFP_KERNEL",
    "GFP_HIGHUSER_MOVABLE",
    "GFP_KERNEL|__GFP_COMP",
    "GFP_KERNEL|__GFP_RECLAIMABLE",
    "GFP_ATOMIC",
    "GFP_DMA",
    "GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO",
)
Held = list[tuple[int, int]]


def age(kernel: Kernel, rng: random.Random, steps: int, held: Held | None = None) -> Held:
    """`steps` random operations; the blocks (frame, order) that are allocated afterwards."""
    held = [] if held is None else held
    cpus = len(kernel.machine.cpus) if kernel.machine else 1
    nodes = [node.nid for node in kernel.nodes]
    for _ in range(steps):
        cpu, choice = rng.randrange(cpus), rng.random()
        if choice < 0.5 or not held:
            order = rng.choice((0, 0, 0, 0, 1, 2, 3, 4, 6, 9))
            gfp = rng.choice(GFPS) + "|__GFP_NOWARN"
            page = kernel.alloc_pages(gfp, order, rng.choice(nodes), cpu=cpu)
            if page is not None:
                held.append((page.pfn, order))
        elif choice < 0.9:
            pfn, order = held.pop(rng.randrange(len(held)))
            kernel.free_pages(pfn, order, cpu=cpu)
        elif choice < 0.94:
            plain = [
                i for i, (pfn, order) in enumerate(held)
                if order and "head" not in kernel.page(pfn).flag_names
            ]  # fmt: skip
            if plain:
                pfn, order = held.pop(rng.choice(plain))
                held += [(page.pfn, 0) for page in kernel.split_page(pfn, order)]
        elif choice < 0.97:
            size = rng.randrange(1, 100_000)
            page = kernel.alloc_pages_exact(
                size, "GFP_KERNEL|__GFP_NOWARN", rng.choice(nodes), cpu=cpu
            )
            if page is not None:
                held += [(page.pfn + i, 0) for i in range(-(-size // 4096))]
        elif choice < 0.99:
            kernel.drain_local_pages(cpu)
        else:
            kernel.fold_vm_stats(cpu)
    return held
