# SPDX-License-Identifier: GPL-2.0-only
"""`Kernel`: the allocator's public face for Python.

`start_kernel(machine)` boots and returns one; `Kernel.attach(memory)` takes up a RAM image that
holds a booted allocator. It has no state of its own beyond the host-side log text: every call
goes to the hot functions on the words of guest RAM, interpreted or compiled (`engine`). Names are
those of 4.20's interface. The parts:

    kernel_base     plumbing and checks
    kernel_pages    alloc_pages and friends, free_pages, references, draining
    kernel_bulk     arrays of operations
    kernel_ranges   isolation, contiguous ranges, CMA, page fragments
    kernel_policy   NUMA policies, cpusets, memory cgroups, scopes, sysctls, fault injection
    kernel_process  processes, transparent huge pages
    kernel_files    files, the disk, the flusher
    kernel_net      network buffers

Here are looking at nodes, zones and the trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from machine import BringUpError, Machine, PhysicalMemory

from .engine import Engine
from .errors import BadRequest
from .kernel_bulk import KernelBulk
from .kernel_globals import (
    G_LAYOUT_VERSION,
    G_MAGIC,
    G_NR_CPU_IDS,
    G_TRACE_HEAD,
    G_TRACE_MASK,
    G_TRACE_MASK2,
    KERNEL_BASE,
    KERNEL_MAGIC,
    LAYOUT_VERSION,
)
from .kernel_hotplug import KernelHotplug
from .kernel_net import KernelNet
from .kernel_pages import KernelPages
from .kernel_policy import KernelPolicy
from .kernel_ranges import KernelRanges
from .trace_events import ALL_EVENTS, EVENTS, KMEM_EVENTS
from .tracepoints import TraceRecord, trace_records, trace_text
from .views import Node, Zone, for_each_node, for_each_zone

if TYPE_CHECKING:
    from .init_main import Booted

EVENT_NUMBERS = {name: number for number, (name, _) in EVENTS.items()}


class Kernel(KernelPages, KernelBulk, KernelRanges, KernelPolicy, KernelNet, KernelHotplug):
    """A booted allocator over guest RAM.

    Attributes: `memory` the physical memory, `m` its word array, `machine` the machine around it
    (None when attached to a bare image), `booted` what start_kernel() left (None when attached),
    `engine` what runs the hot functions, `log` the kernel's log lines.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        machine: Machine | None = None,
        booted: Booted | None = None,
        engine: Engine | str | None = None,
    ) -> None:
        """`engine`: "python", "compiled" or "auto"; None for the process's (python unless
        install_engine() was called). Raises what load_engine() raises."""
        super().__init__(memory, engine, booted.printk.lines if booted else None)
        self.machine = machine
        self.booted = booted

    @classmethod
    def attach(
        cls,
        memory: PhysicalMemory,
        machine: Machine | None = None,
        engine: Engine | str | None = None,
    ) -> Kernel:
        """The kernel that lives in `memory` already.

        Raises:
            BringUpError: no booted allocator is there, or one of another layout version.
        """
        if not memory.is_ram(KERNEL_BASE, 4096) or memory.words[G_MAGIC] != KERNEL_MAGIC:
            raise BringUpError(f"no booted kernel at physical {KERNEL_BASE:#x}")
        version = memory.words[G_LAYOUT_VERSION]
        if version != LAYOUT_VERSION:
            raise BringUpError(f"kernel layout version {version}, not {LAYOUT_VERSION}")
        kernel = cls(memory, machine)
        if engine is not None:
            kernel.use_engine(engine)
        return kernel

    # --- looking ------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[Node]:
        """All online nodes, in id order."""
        return list(for_each_node(self.m))

    @property
    def zones(self) -> list[Zone]:
        """All populated zones, nodes in id order."""
        return list(for_each_zone(self.m))

    def zone(self, nid: int, name: str) -> Zone:
        """One zone by node id and name ("DMA32"). Raises BadRequest if there is none."""
        self._check_nid(nid)
        for zone in Node(self.m, nid).zones:
            if zone.name == name:
                return zone
        raise BadRequest(f"no zone {name!r}: DMA, DMA32, Normal or Movable")

    @property
    def nr_cpus(self) -> int:
        """CPUs that can exist (nr_cpu_ids)."""
        return self.m[G_NR_CPU_IDS]

    @property
    def nr_free_pages(self) -> int:
        """Free pages of all zones (global counters)."""
        return sum(zone.free_pages for zone in self.zones)

    # --- tracing ------------------------------------------------------------------------------

    def trace_on(self, *events: str) -> None:
        """Records these events from now on, by name ("mm_page_alloc"); the kmem group if none is
        named. Raises BadRequest for a name that is none."""
        unknown = [name for name in events if name not in EVENT_NUMBERS]
        if unknown:
            raise BadRequest(f"no event {unknown[0]!r}: {', '.join(EVENT_NUMBERS)}")
        wanted = sum(1 << EVENT_NUMBERS[name] for name in set(events)) or KMEM_EVENTS
        self.m[G_TRACE_MASK] |= wanted & ALL_EVENTS
        self.m[G_TRACE_MASK2] |= wanted >> 64

    def trace_off(self) -> None:
        """Records nothing any more; what was recorded stays."""
        self.m[G_TRACE_MASK] = self.m[G_TRACE_MASK2] = 0

    @property
    def trace_position(self) -> int:
        """Number of the next record: what to give to trace_text() or trace_records() later."""
        return self.m[G_TRACE_HEAD]

    def trace_records(self, first: int = 0) -> list[TraceRecord]:
        """The records still in the ring from number `first` on, oldest first."""
        return list(trace_records(self.m, first))

    def trace_text(self, irq_info: bool = True, first: int = 0) -> str:
        """What /sys/kernel/debug/tracing/trace would show; without the flags column (noirq-info)
        if not `irq_info`."""
        return trace_text(self.m, irq_info, first)
