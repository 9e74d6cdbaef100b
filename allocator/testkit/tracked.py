# SPDX-License-Identifier: GPL-2.0-only
"""A Kernel that remembers which line of a test asked for which pages.

The memory is the truth about what is allocated; this only adds a name to it: the gfp mask, the
order and the test's file and line, shown when frames leak. `keep` acknowledges pages that a test
means to leave allocated. A test that calls `exhaust` is about a machine that is full: what it gets
then and afterwards is not held against it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from machine import Machine, PhysicalMemory

from ..gfp import format_gfp, parse_gfp
from ..kernel import Kernel
from ..views import Page

if TYPE_CHECKING:
    from ..init_main import Booted

_PACKAGE = str(Path(__file__).resolve().parents[1])


@dataclass(frozen=True)
class Request:
    """One successful request: first frame, pages, what was asked for, and the line that asked."""

    pfn: int
    pages: int
    asked: str
    site: str


def calling_site() -> str:
    """File and line of the nearest caller outside this package, e.g. "test_x.py:12"."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        if frame.f_back is None:
            break
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


class TrackedKernel(Kernel):
    """A Kernel for one test. `requests` maps the first frame of a block to its last request,
    `kept` holds the frames that may stay allocated."""

    def __init__(
        self, memory: PhysicalMemory, machine: Machine | None = None, booted: Booted | None = None
    ) -> None:
        super().__init__(memory, machine, booted)
        self.requests: dict[int, Request] = {}
        self.kept: set[int] = set()
        self.full = False

    def keep(self, pages: Page | int | Iterable[Page | int], order: int = 0) -> None:
        """Acknowledges that blocks of 2^order pages stay allocated when the test ends."""
        if isinstance(pages, (Page, int)):
            pages = [pages]
        for page in pages:
            pfn = page.pfn if isinstance(page, Page) else page
            self.kept.update(range(pfn, pfn + (1 << order)))

    def alloc_pages(
        self,
        gfp: str | int,
        order: int = 0,
        nid: int | None = None,
        nodemask: int | set[int] | None = None,
        cpu: int = 0,
    ) -> Page | None:
        """`Kernel.alloc_pages`, noted."""
        page = super().alloc_pages(gfp, order, nid, nodemask, cpu)
        if page is not None:
            self._note(page, 1 << order, f"{format_gfp(parse_gfp(gfp))} order {order}")
        return page

    def alloc_pages_current(self, gfp: str | int, order: int = 0, cpu: int = 0) -> Page | None:
        """`Kernel.alloc_pages_current`, noted."""
        page = super().alloc_pages_current(gfp, order, cpu)
        if page is not None:
            self._note(page, 1 << order, f"{format_gfp(parse_gfp(gfp))} order {order}")
        return page

    def alloc_pages_exact(
        self, size: int, gfp: str | int, nid: int | None = None, cpu: int = 0
    ) -> Page | None:
        """`Kernel.alloc_pages_exact`, noted."""
        page = super().alloc_pages_exact(size, gfp, nid, cpu)
        if page is not None:
            pages = -(-size // 4096)
            self._note(page, pages, f"{format_gfp(parse_gfp(gfp))} {size:,} bytes")
        return page

    def exhaust(
        self, nid: int, gfp: str | int = "GFP_KERNEL", order: int = 0, cpu: int = 0
    ) -> list[Page]:
        """`Kernel.exhaust`; from now on nothing counts as leaked."""
        self.full = True
        return super().exhaust(nid, gfp, order, cpu)

    def _note(self, page: Page, pages: int, asked: str) -> None:
        if self.full:
            return
        self.requests[page.pfn] = Request(page.pfn, pages, asked, calling_site())
