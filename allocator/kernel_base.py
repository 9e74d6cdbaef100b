# SPDX-License-Identifier: GPL-2.0-only
"""What all parts of the Kernel facade stand on: the words, the engine, the checks of arguments.

`KernelBase` calls hot functions of its engine and turns what goes wrong into our errors; the parts
(`kernel_pages`, `kernel_ranges`, `kernel_bulk`, `kernel_policy`) add the interface, `kernel` puts
them together. A request that 4.20 does not allow raises BadRequest, because a Python caller wants
an exception where the kernel would hit a VM_BUG_ON.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

from machine import PhysicalMemory

from .engine import Engine, current_engine, load_engine
from .errors import BadPage, BadRequest, KernelOops
from .gfp import GFP_MOVABLE_MASK, gfp_zone_is_bad, parse_gfp
from .kernel_globals import G_LOG_HEAD, G_NR_CPU_IDS
from .layout import (
    CPU_BLOCKS,
    CPU_CURRENT,
    CPU_NUMA_NODE,
    CPU_WORDS,
    NODE_DATA,
    PAGE_OFFSET,
    signed,
    unsigned,
    word_of_va,
)
from .mm_types import PAGE_SHIFT
from .mmzone import MAX_NUMNODES, MAX_ORDER
from .page_report import log_lines
from .views import Page, pfn_valid

NUMA_NO_NODE = -1
DAMAGE = (IndexError, ValueError, OverflowError, ZeroDivisionError)
"""What hot functions raise when somebody has written over the allocator's structures."""


class KernelBase:
    """A booted allocator's words in RAM and an engine to work on them.

    Attributes: `memory` the physical memory, `m` its word array, `engine` the engine that serves
    the calls, `log` the kernel's log lines.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        engine: Engine | str | None = None,
        log: list[str] | None = None,
    ) -> None:
        """`engine`: one, or a name for load_engine(); None for the process's."""
        self.memory = memory
        self.m = memory.words
        self.use_engine(current_engine() if engine is None else engine)
        self.log: list[str] = [] if log is None else log
        self._log_seen = self.m[G_LOG_HEAD]
        self._rewinds = memory.rewinds

    def use_engine(self, engine: Engine | str) -> None:
        """Has `engine` serve the calls from now on. Raises what load_engine() raises."""
        self.engine = load_engine(engine) if isinstance(engine, str) else engine

    def page(self, pfn: int) -> Page:
        """The struct page of frame `pfn`. Raises BadRequest where no section is present."""
        return Page(self.m, self._check_pfn(pfn))

    def reports(self) -> Iterator[str]:
        """Lines of the reports that have come since the log was last read."""
        yield from log_lines(self.m, self._log_seen)

    def read_reports(self) -> None:
        """Takes what the kernel has reported since into `log`."""
        if self.m[G_LOG_HEAD] != self._log_seen:
            self.log.extend(self.reports())
            self._log_seen = self.m[G_LOG_HEAD]

    def _call(self, name: str, *args: Any) -> Any:
        """Runs the hot function `name`; afterwards the log ring's new reports are in `log`."""
        if self.memory.rewinds != self._rewinds:
            # RAM went back to a checkpoint and the ring's head with it
            self._rewinds = self.memory.rewinds
            self._log_seen = self.m[G_LOG_HEAD]
        try:
            return self.engine.functions[name](self.m, *args)
        except DAMAGE as error:
            raise KernelOops(
                f"{name}{args}: the allocator followed a damaged pointer ({error})"
            ) from None
        finally:
            self.read_reports()

    def _raise_bad_page(self, pfn: int, order: int) -> None:
        reasons = [line for line in self.log[-12:] if "page dumped because" in line]
        why = reasons[-1].split("page dumped because: ", 1)[-1] if reasons else "see the log"
        raise BadPage(f"frame {pfn:#x} cannot be freed as order {order}: {why}", pfn)

    def _check_errno(self, rc: int, what: str) -> None:
        """Raises BadRequest for the negative errno `rc` that `what` was refused with."""
        if rc < 0:
            code = errno.errorcode.get(-rc, str(-rc))
            raise BadRequest(f"{what}: {code} ({os.strerror(-rc)})")

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

    def _check_address(self, address: int) -> int:
        """The signed direct map address (given signed or not) of a page that has a struct page."""
        address = signed(address)
        if not PAGE_OFFSET <= address < PAGE_OFFSET + (1 << 46):
            raise BadRequest(f"{unsigned(address):#x} is not in the direct map")
        self._check_pfn((address - PAGE_OFFSET) >> PAGE_SHIFT)
        return address

    def _cpu_node(self, cpu: int) -> int:
        return self.m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_NUMA_NODE]

    def _task(self, cpu: int) -> int:
        """Word index of the task that is current on `cpu`."""
        self._check_cpu(cpu)
        return word_of_va(self.m[CPU_BLOCKS + cpu * CPU_WORDS + CPU_CURRENT])

    def _place(self, nid: int | None, cpu: int) -> int:
        """The node that a request on `cpu` for `nid` means."""
        self._check_cpu(cpu)
        if nid is None or nid == NUMA_NO_NODE:
            nid = self._cpu_node(cpu)
        self._check_nid(nid)
        return nid

    def _nodemask(self, nodemask: int | set[int] | None) -> int:
        if nodemask is None:
            return 0
        mask = nodemask if isinstance(nodemask, int) else sum(1 << nid for nid in nodemask)
        if not 0 < mask < 1 << MAX_NUMNODES:
            raise BadRequest(f"nodemask {mask:#x} is not of nodes 0 to {MAX_NUMNODES - 1}")
        return signed(mask)
