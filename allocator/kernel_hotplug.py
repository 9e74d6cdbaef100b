# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's Python face for memory that goes away: offline, online, hardware errors."""

from __future__ import annotations

from .kernel_base import KernelBase
from .memory_failure import MF_ACTION_REQUIRED, memory_failure
from .memory_hotplug import offline_pages, online_pages
from .mm_init import mm_init
from .soft_offline import soft_offline_page


class KernelHotplug(KernelBase):
    """Frames taken away from a running machine, and given back."""

    def offline_pages(self, pfn: int, nr_pages: int, cpu: int = 0) -> None:
        """Takes frames [pfn, pfn + nr_pages) offline, 4 MiB blocks of one zone; what is used
        there moves elsewhere. Raises BadRequest (EINVAL; EBUSY: something cannot be moved)."""
        self._check_cpu(cpu)
        self._check_errno(mm_init(self.m, cpu), "offline_pages")
        what = f"offline_pages of {nr_pages} frames from {pfn:#x}"
        self._check_errno(offline_pages(self.m, cpu, pfn, nr_pages), what)

    def online_pages(self, pfn: int, nr_pages: int, cpu: int = 0) -> None:
        """Brings frames that were taken offline back. Raises BadRequest (EINVAL)."""
        self._check_cpu(cpu)
        what = f"online_pages of {nr_pages} frames from {pfn:#x}"
        self._check_errno(online_pages(self.m, cpu, pfn, nr_pages), what)

    def memory_failure(self, pfn: int, kill: bool = False, cpu: int = 0) -> None:
        """Frame `pfn` is bad: it is never used again. Processes that map it die when they touch it,
        with `kill` at once. Raises BadRequest (ENXIO: no such frame; EBUSY: it is still in use)."""
        self._check_cpu(cpu)
        self._check_errno(mm_init(self.m, cpu), "memory_failure")
        rc = memory_failure(self.m, cpu, pfn, MF_ACTION_REQUIRED if kill else 0)
        self.read_reports()
        self._check_errno(rc, f"memory_failure of frame {pfn:#x}")

    def soft_offline_page(self, pfn: int, cpu: int = 0) -> None:
        """Takes frame `pfn` out of use before it goes bad: what is in it moves elsewhere, nobody
        loses a byte. Raises BadRequest (ENXIO: no such frame; EBUSY: bad already; EIO: it can
        neither be freed nor moved; ENOMEM: there is no frame to move it to)."""
        self._check_cpu(cpu)
        self._check_errno(mm_init(self.m, cpu), "soft_offline_page")
        rc = soft_offline_page(self.m, cpu, pfn)
        self.read_reports()
        self._check_errno(rc, f"soft_offline_page of frame {pfn:#x}")
