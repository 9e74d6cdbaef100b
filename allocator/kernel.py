# SPDX-License-Identifier: GPL-2.0-only
"""`Kernel`: the allocator's public face for Python.

`start_kernel(machine)` boots and returns one; `Kernel.attach(memory)` takes up a RAM image that
holds a booted allocator. It has no state of its own beyond the host-side log text: every call
goes to the hot functions on the words of guest RAM. Names are those of 4.20's interface
(include/linux/gfp.h). Requests are checked here, because a Python caller wants an exception where
the kernel would hit a VM_BUG_ON; a request that is merely not served returns None, as in C.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from machine import BringUpError, Machine, PhysicalMemory

from . import exact, mempolicy, page_alloc, pcp, vmstat
from .errors import BadPage, BadRequest, KernelOops
from .gfp import GFP_MOVABLE_MASK, gfp_zone_is_bad, parse_gfp
from .layout import (
    CPU_BLOCKS,
    CPU_NUMA_NODE,
    CPU_WORDS,
    G_LAYOUT_VERSION,
    G_LOG_HEAD,
    G_MAGIC,
    G_NR_CPU_IDS,
    KERNEL_BASE,
    KERNEL_MAGIC,
    LAYOUT_VERSION,
    MAX_NUMNODES,
    NODE_DATA,
)
from .mmzone import MAX_ORDER
from .page_report import log_lines
from .views import Node, Page, Zone, for_each_node, for_each_zone, pfn_valid

if TYPE_CHECKING:
    from .init_main import Booted

NUMA_NO_NODE = -1


class Kernel:
    """A booted allocator over guest RAM.

    Attributes: `memory` the physical memory, `m` its word array, `machine` the machine around it
    (None when attached to a bare image), `booted` what start_kernel() left (None when attached),
    `log` the kernel's log lines.
    """

    def __init__(
        self, memory: PhysicalMemory, machine: Machine | None = None, booted: Booted | None = None
    ) -> None:
        self.memory = memory
        self.m = memory.words
        self.machine = machine
        self.booted = booted
        self.log: list[str] = booted.printk.lines if booted else []
        self._log_seen = self.m[G_LOG_HEAD]

    @classmethod
    def attach(cls, memory: PhysicalMemory, machine: Machine | None = None) -> Kernel:
        """The kernel that lives in `memory` already.

        Raises:
            BringUpError: no booted allocator is there, or one of another layout version.
        """
        if not memory.is_ram(KERNEL_BASE, 4096) or memory.words[G_MAGIC] != KERNEL_MAGIC:
            raise BringUpError(f"no booted kernel at physical {KERNEL_BASE:#x}")
        version = memory.words[G_LAYOUT_VERSION]
        if version != LAYOUT_VERSION:
            raise BringUpError(f"kernel layout version {version}, not {LAYOUT_VERSION}")
        return cls(memory, machine)

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

    def page(self, pfn: int) -> Page:
        """The struct page of frame `pfn`. Raises BadRequest where no section is present."""
        if not pfn_valid(self.m, pfn):
            raise BadRequest(f"frame {pfn:#x} has no struct page")
        return Page(self.m, pfn)

    @property
    def nr_cpus(self) -> int:
        """CPUs that can exist (nr_cpu_ids)."""
        return self.m[G_NR_CPU_IDS]

    @property
    def nr_free_pages(self) -> int:
        """Free pages of all zones (global counters)."""
        return sum(zone.free_pages for zone in self.zones)

    # --- asking ---------------------------------------------------------------------------------

    def alloc_pages(
        self,
        gfp: str | int,
        order: int = 0,
        nid: int | None = None,
        nodemask: int | set[int] | None = None,
        cpu: int = 0,
    ) -> Page | None:
        """Allocates 2^order pages; the first of them, or None when no zone can serve it.

        `gfp`: names joined by "|", or a number. `nid`: preferred node, None for the node of
        `cpu` (NUMA_NO_NODE). `nodemask`: allowed nodes as bits or a set, None for all.

        Raises:
            BadRequest: an order, gfp combination, node, mask or CPU that 4.20 does not allow.
            KernelOops: the allocator's own structures are damaged.
        """
        flags = self._check_gfp(gfp)
        self._check_cpu(cpu)
        if nid is None or nid == NUMA_NO_NODE:
            nid = self._cpu_node(cpu)
        self._check_nid(nid)
        mask = self._nodemask(nodemask)
        if order < 0:
            raise BadRequest(f"order {order} is negative")
        pfn = self._call(page_alloc.alloc_pages_nodemask, cpu, flags, order, nid, mask)
        if order >= MAX_ORDER:
            raise BadRequest(f"order {order} is not below MAX_ORDER {MAX_ORDER}")
        return Page(self.m, pfn) if pfn >= 0 else None

    def alloc_pages_current(self, gfp: str | int, order: int = 0, cpu: int = 0) -> Page | None:
        """alloc_pages() of C: node and nodemask come from the current task's mempolicy."""
        flags = self._check_gfp(gfp)
        self._check_cpu(cpu)
        self._check_order(order)
        pfn = self._call(mempolicy.alloc_pages_current, cpu, flags, order)
        return Page(self.m, pfn) if pfn >= 0 else None

    def get_zeroed_page(self, gfp: str | int, cpu: int = 0) -> Page | None:
        """One page of zeroes."""
        return self.alloc_pages(self._check_gfp(gfp) | parse_gfp("__GFP_ZERO"), cpu=cpu)

    def alloc_pages_exact(
        self, size: int, gfp: str | int, nid: int | None = None, cpu: int = 0
    ) -> Page | None:
        """`size` bytes of contiguous pages, the surplus of the power of two given back."""
        flags = self._check_gfp(gfp)
        self._check_cpu(cpu)
        if not 0 < size <= 4096 << (MAX_ORDER - 1):
            raise BadRequest(f"size {size} is not between 1 byte and {4096 << (MAX_ORDER - 1)}")
        if nid is None:
            pfn = self._call(exact.alloc_pages_exact, cpu, size, flags)
        else:
            self._check_nid(nid)
            pfn = self._call(exact.alloc_pages_exact_nid, cpu, nid, size, flags)
        return Page(self.m, pfn) if pfn >= 0 else None

    def exhaust(
        self, nid: int, gfp: str | int = "GFP_KERNEL", order: int = 0, cpu: int = 0
    ) -> list[Page]:
        """Allocates on node `nid` alone until it refuses; all pages it gave, in order."""
        flags = self._check_gfp(gfp) | parse_gfp("__GFP_THISNODE|__GFP_NOWARN")
        pages = []
        while (page := self.alloc_pages(flags, order, nid, cpu=cpu)) is not None:
            pages.append(page)
        return pages

    # --- giving back ----------------------------------------------------------------------------

    def free_pages(self, page: Page | int, order: int = 0, cpu: int = 0) -> bool:
        """Drops a reference of a block; True if it was the last and the block is free now.

        Raises:
            BadPage: the frame is free already, a tail, unaligned or its struct page is bad; the
                report is in the log, the frame is set aside, the lists are untouched.
            BadRequest: no such frame, order or CPU.
        """
        pfn = self._check_pfn(page)
        self._check_order(order)
        self._check_cpu(cpu)
        done = self._call(page_alloc.free_pages, cpu, pfn, order)
        if done == page_alloc.FREE_REFUSED:
            self._raise_bad_page(pfn, order)
        return bool(done == page_alloc.FREE_DONE)

    def free_pages_exact(self, page: Page | int, size: int, cpu: int = 0) -> None:
        """Gives back what alloc_pages_exact() returned for `size` bytes."""
        pfn = self._check_pfn(page)
        self._check_cpu(cpu)
        refused = self._call(exact.free_pages_exact, cpu, pfn, size)
        if refused:
            self._raise_bad_page(pfn, 0)

    def split_page(self, page: Page | int, order: int) -> list[Page]:
        """Makes 2^order single pages of one non-compound block; all of them."""
        pfn = self._check_pfn(page)
        self._check_order(order)
        head = Page(self.m, pfn)
        if head.refcount == 0 or "head" in head.flag_names:
            raise BadRequest(f"frame {pfn:#x} is not an allocated non-compound block")
        self._call(lambda m, _cpu: exact.split_page(m, pfn, order), 0)
        return [Page(self.m, pfn + i) for i in range(1 << order)]

    def drain_local_pages(self, cpu: int = 0) -> None:
        """Gives the pages on `cpu`'s lists back to the buddy lists."""
        self._check_cpu(cpu)
        self._call(pcp.drain_local_pages, cpu)

    def drain_all_pages(self) -> None:
        """Gives the pages on all CPUs' lists back to the buddy lists."""
        self._call(lambda m, _cpu: pcp.drain_all_pages(m, -1), 0)

    def fold_vm_stats(self, cpu: int = 0) -> None:
        """Folds `cpu`'s counter deltas into the global counters (quiet_vmstat)."""
        self._check_cpu(cpu)
        self._call(vmstat.cpu_vm_stats_fold, cpu)

    # --- checks and plumbing --------------------------------------------------------------------

    def _call(self, function, cpu: int, *args: int):  # type: ignore[no-untyped-def]
        """Runs a hot function; afterwards the log ring's new reports are in `log`."""
        try:
            return function(self.m, cpu, *args)
        except (IndexError, ValueError, OverflowError) as error:
            raise KernelOops(
                f"{function.__name__}{args}: the allocator followed a damaged pointer ({error})"
            ) from None
        finally:
            if self.m[G_LOG_HEAD] != self._log_seen:
                self._drain_log()

    def _drain_log(self) -> None:
        for line in self.reports():
            self.log.append(line)
        self._log_seen = self.m[G_LOG_HEAD]

    def reports(self) -> Iterator[str]:
        """Lines of the reports that have come since the log was last read."""
        yield from log_lines(self.m, self._log_seen)

    def _raise_bad_page(self, pfn: int, order: int) -> None:
        reasons = [line for line in self.log[-12:] if "page dumped because" in line]
        why = reasons[-1].split("page dumped because: ", 1)[-1] if reasons else "see the log"
        raise BadPage(f"frame {pfn:#x} cannot be freed as order {order}: {why}", pfn)

    def _check_gfp(self, gfp: str | int) -> int:
        flags = parse_gfp(gfp)
        if gfp_zone_is_bad(flags):
            raise BadRequest(f"gfp mask {flags:#x} names zones that exclude each other")
        if flags & GFP_MOVABLE_MASK == GFP_MOVABLE_MASK:
            raise BadRequest(f"gfp mask {flags:#x} is both movable and reclaimable")
        return flags

    def _check_order(self, order: int) -> None:
        if not 0 <= order < MAX_ORDER:
            raise BadRequest(f"order {order} is not between 0 and {MAX_ORDER - 1}")

    def _check_cpu(self, cpu: int) -> None:
        if not 0 <= cpu < self.m[G_NR_CPU_IDS]:
            raise BadRequest(f"there is no cpu {cpu} (there are {self.m[G_NR_CPU_IDS]})")

    def _check_nid(self, nid: int) -> None:
        if not 0 <= nid < MAX_NUMNODES or not self.m[NODE_DATA + nid]:
            raise BadRequest(f"node {nid} is not online")

    def _check_pfn(self, page: Page | int) -> int:
        pfn = page.pfn if isinstance(page, Page) else page
        if not pfn_valid(self.m, pfn):
            raise BadRequest(f"frame {pfn:#x} has no struct page")
        return pfn

    def _cpu_node(self, cpu: int) -> int:
        return self.m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]

    def _nodemask(self, nodemask: int | set[int] | None) -> int:
        if nodemask is None:
            return 0
        mask = nodemask if isinstance(nodemask, int) else sum(1 << nid for nid in nodemask)
        if not 0 < mask < 1 << MAX_NUMNODES:
            raise BadRequest(f"nodemask {mask:#x} is not of nodes 0 to {MAX_NUMNODES - 1}")
        return mask - (1 << 64) if mask >> 63 else mask
