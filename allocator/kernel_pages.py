# SPDX-License-Identifier: GPL-2.0-only
"""The Kernel's pages: asking for blocks, giving them back, references (include/linux/gfp.h, mm.h).

A part of `Kernel`. Requests come back as a `Page`, or as a direct map address where the kernel's
function returns one; a request that is merely not served returns None, as in C.
"""

from __future__ import annotations

from .errors import BadRequest
from .gfp import parse_gfp
from .kernel_base import KernelBase
from .layout import PAGE_OFFSET, unsigned
from .mm_types import PAGE_SHIFT, PAGE_SIZE
from .mmzone import MAX_ORDER
from .page_alloc import FREE_DONE, FREE_REFUSED
from .views import Page


class KernelPages(KernelBase):
    """Allocating and freeing."""

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
        nid = self._place(nid, cpu)
        mask = self._nodemask(nodemask)
        if order < 0:
            raise BadRequest(f"order {order} is negative")
        pfn = self._call("alloc_pages_nodemask", cpu, flags, order, nid, mask)
        if order >= MAX_ORDER:
            raise BadRequest(f"order {order} is not below MAX_ORDER {MAX_ORDER}")
        return self._page_or_none(pfn)

    def alloc_pages_nodemask(
        self, gfp: str | int, order: int, nid: int, nodemask: int | set[int] | None, cpu: int = 0
    ) -> Page | None:
        """__alloc_pages_nodemask() with all its arguments named; see alloc_pages()."""
        return self.alloc_pages(gfp, order, nid, nodemask, cpu)

    def alloc_pages_node(
        self, nid: int, gfp: str | int, order: int = 0, cpu: int = 0
    ) -> Page | None:
        """alloc_pages_node(): preferably on `nid`, NUMA_NO_NODE (-1) for the CPU's own."""
        return self.alloc_pages(gfp, order, nid, cpu=cpu)

    def alloc_pages_current(self, gfp: str | int, order: int = 0, cpu: int = 0) -> Page | None:
        """alloc_pages() of C: node and nodemask come from the current task's mempolicy."""
        flags = self._check_gfp(gfp)
        self._check_cpu(cpu)
        self._check_order(order)
        return self._page_or_none(self._call("alloc_pages_current", cpu, flags, order))

    def get_free_pages(self, gfp: str | int, order: int = 0, cpu: int = 0) -> int | None:
        """__get_free_pages(): direct map address (unsigned) of 2^order pages, or None."""
        flags = self._check_gfp(gfp)
        self._check_cpu(cpu)
        self._check_order(order)
        return unsigned(self._call("get_free_pages", cpu, flags, order)) or None

    def get_zeroed_page(self, gfp: str | int, cpu: int = 0) -> int | None:
        """Direct map address (unsigned) of one page of zeroes, or None."""
        flags = self._check_gfp(gfp)
        self._check_cpu(cpu)
        return unsigned(self._call("get_zeroed_page", cpu, flags)) or None

    def alloc_pages_exact(
        self, size: int, gfp: str | int, nid: int | None = None, cpu: int = 0
    ) -> Page | None:
        """`size` bytes of contiguous pages, the surplus of the power of two given back."""
        if nid is not None:
            return self.alloc_pages_exact_nid(nid, size, gfp, cpu)
        flags = self._check_gfp(gfp)
        self._check_cpu(cpu)
        self._check_size(size)
        return self._page_or_none(self._call("alloc_pages_exact", cpu, size, flags))

    def alloc_pages_exact_nid(
        self, nid: int, size: int, gfp: str | int, cpu: int = 0
    ) -> Page | None:
        """alloc_pages_exact() preferably on node `nid`, whatever the task's policy."""
        flags = self._check_gfp(gfp)
        self._check_cpu(cpu)
        self._check_nid(nid)
        self._check_size(size)
        return self._page_or_none(self._call("alloc_pages_exact_nid", cpu, nid, size, flags))

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
        return self._freed(self._call("free_pages", cpu, pfn, order), pfn, order)

    def free_address(self, address: int, order: int = 0, cpu: int = 0) -> bool:
        """free_pages() of C: of what get_free_pages() gave."""
        pfn = self._check_address(address) - PAGE_OFFSET >> PAGE_SHIFT
        return self.free_pages(pfn, order, cpu)

    def free_pages_exact(self, page: Page | int, size: int, cpu: int = 0) -> None:
        """Gives back what alloc_pages_exact() returned for `size` bytes. Raises BadPage."""
        pfn = self._check_pfn(page)
        self._check_cpu(cpu)
        self._check_size(size)
        self._check_pfn(pfn + (size - 1 >> PAGE_SHIFT))
        if self._call("free_pages_exact", cpu, pfn, size):
            self._raise_bad_page(pfn, 0)

    def split_page(self, page: Page | int, order: int) -> list[Page]:
        """Makes 2^order single pages of one non-compound block; all of them."""
        pfn = self._check_pfn(page)
        self._check_order(order)
        if self._call("split_page", pfn, order) < 0:
            raise BadRequest(f"frame {pfn:#x} is not an allocated non-compound block")
        return [Page(self.m, pfn + i) for i in range(1 << order)]

    def get_page(self, page: Page | int, cpu: int = 0) -> None:
        """One more reference to a page or its compound page.

        Raises:
            BadPage: nobody holds the page.
        """
        pfn = self._check_pfn(page)
        self._check_cpu(cpu)
        if self._call("get_page", cpu, pfn) < 0:
            self._raise_bad_page(pfn, 0)

    def put_page(self, page: Page | int, cpu: int = 0) -> bool:
        """Drops a reference of a page or its compound page; True if that freed it.

        Raises:
            BadPage: nobody holds the page, or it is bad.
        """
        pfn = self._check_pfn(page)
        self._check_cpu(cpu)
        return self._freed(self._call("put_page", cpu, pfn), pfn, 0)

    def drain_local_pages(self, cpu: int = 0) -> None:
        """Gives the pages on `cpu`'s lists back to the buddy lists."""
        self._check_cpu(cpu)
        self._call("drain_local_pages", cpu)

    def drain_all_pages(self) -> None:
        """Gives the pages on all CPUs' lists back to the buddy lists."""
        self._call("drain_all_pages", -1)

    def fold_vm_stats(self, cpu: int = 0) -> None:
        """Folds `cpu`'s counter deltas into the global counters (quiet_vmstat)."""
        self._check_cpu(cpu)
        self._call("cpu_vm_stats_fold", cpu)

    # --- plumbing -------------------------------------------------------------------------------

    def _freed(self, said: int, pfn: int, order: int) -> bool:
        if said == FREE_REFUSED:
            self._raise_bad_page(pfn, order)
        return said == FREE_DONE

    def _page_or_none(self, pfn: int) -> Page | None:
        return Page(self.m, pfn) if pfn >= 0 else None

    def _check_size(self, size: int) -> None:
        largest = PAGE_SIZE << (MAX_ORDER - 1)
        if not 0 < size <= largest:
            raise BadRequest(f"size {size} is not between 1 byte and {largest}")
