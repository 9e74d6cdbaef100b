# SPDX-License-Identifier: GPL-2.0-only
"""The Kernel's bulk calls: many operations for the price of one call.

A part of `Kernel`. PFNs go in and out as NumPy arrays of 64-bit integers. Everything is checked
before the first operation, array-wise; then one hot loop of `bulk` does them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .bulk import OP_ALLOC, OP_FREE
from .errors import BadRequest
from .kernel_base import KernelBase
from .layout import NR_MEM_SECTIONS, PFN_SECTION_SHIFT, SECTION_PAGES
from .mmzone import MAX_ORDER

Words = npt.NDArray[np.int64]
Column = Sequence[int] | Words


def _column(values: Column | int, count: int, name: str) -> Words:
    """`values` as an array of `count` words of its own; one number stands for all."""
    try:
        array = np.array(values, dtype=np.int64)
        if array.ndim == 0:
            array = np.full(count, array, dtype=np.int64)
    except (OverflowError, ValueError, TypeError) as error:
        raise BadRequest(f"{name}: not integers of 64 bits ({error})") from None
    if array.shape != (count,):
        raise BadRequest(f"{name}: {count} numbers are needed, not {array.shape}")
    return array


class KernelBulk(KernelBase):
    """Arrays of operations."""

    def alloc_pages_bulk(
        self,
        gfp: str | int,
        order: int,
        count: int,
        nid: int | None = None,
        nodemask: int | set[int] | None = None,
        cpu: int = 0,
    ) -> Words:
        """Allocates up to `count` blocks of 2^order pages; PFNs of those that there were.

        It stops at the first request that fails. Raises BadRequest as alloc_pages() does.
        """
        flags = self._check_gfp(gfp)
        nid = self._place(nid, cpu)
        mask = self._nodemask(nodemask)
        self._check_order(order)
        if count < 0:
            raise BadRequest(f"{count} blocks")
        pfns = np.empty(count, dtype=np.int64)
        got = self._call("alloc_pages_bulk", cpu, flags, order, nid, mask, pfns.data, count)
        return pfns[:got]

    def free_pages_bulk(self, pfns: Column, order: int = 0, cpu: int = 0) -> int:
        """Drops a reference of each block, in order; how many are free now.

        A block that is refused as bad, or still referenced, is not counted; reports are in the log.

        Raises:
            BadRequest: an order or CPU that does not exist, a PFN without a struct page; nothing
                has been freed then.
        """
        self._check_order(order)
        self._check_cpu(cpu)
        frames = _column(pfns, len(pfns), "pfns")
        self._check_frames(frames)
        freed: int = self._call("free_pages_bulk", cpu, order, frames.data, len(frames))
        return freed

    def replay(
        self,
        ops: Column,
        gfps: Column | int,
        orders: Column | int,
        nids: Column,
        cpus: Column | int = 0,
        nodemasks: Column | int = 0,
    ) -> Words:
        """Plays operations: an array with what each of them got.

        `ops[i]` is OP_ALLOC (0): allocate 2^orders[i] pages with gfps[i] preferably on nids[i],
        within nodemasks[i] (bits of nodes, 0 for all), on cpus[i]; the result is a PFN, or -1. Or
        it is OP_FREE (1): free the block that operation number nids[i] got, as orders[i], on
        cpus[i]; the result is 0, 1 while references are left, or -1 if it was refused or that
        operation had got nothing. One number in place of a column stands for all operations.

        Raises:
            BadRequest: columns of different length, or an operation that cannot be; nothing has
                been done then.
        """
        count = len(ops)
        op, gfp, order, nid, cpu, mask = (
            _column(values, count, name)
            for values, name in (
                (ops, "ops"),
                (gfps, "gfps"),
                (orders, "orders"),
                (nids, "nids"),
                (cpus, "cpus"),
                (nodemasks, "nodemasks"),
            )
        )
        frees = op == OP_FREE
        if not (frees | (op == OP_ALLOC)).all():
            raise BadRequest("ops: OP_ALLOC (0) or OP_FREE (1)")
        if ((order < 0) | (order >= MAX_ORDER)).any():
            raise BadRequest(f"orders: between 0 and {MAX_ORDER - 1}")
        for number in np.unique(cpu):
            self._check_cpu(int(number))
        for number in np.unique(gfp[~frees]):
            self._check_gfp(int(number))
        for number in np.unique(nid[~frees]):
            self._check_nid(int(number))
        earlier = nid[frees]
        if (earlier < 0).any() or (earlier >= np.flatnonzero(frees)).any() or frees[earlier].any():
            raise BadRequest("nids: an OP_FREE names an earlier OP_ALLOC by its number")
        pfns = np.empty(count, dtype=np.int64)
        columns = (a.data for a in (op, cpu, gfp, order, nid, mask, pfns))
        self._call("replay_pages", *columns, count)
        return pfns

    def _check_frames(self, frames: Words) -> None:
        """Raises BadRequest unless all frames have a struct page."""
        sections = frames >> PFN_SECTION_SHIFT
        inside = (sections >= 0) & (sections < NR_MEM_SECTIONS)
        bases = self.memory.q[SECTION_PAGES : SECTION_PAGES + 4 * NR_MEM_SECTIONS : 4]
        known = inside & (bases[np.where(inside, sections, 0)] != 0)
        if not known.all():
            raise BadRequest(f"frame {int(frames[~known][0]):#x} has no struct page")
