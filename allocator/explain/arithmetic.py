# SPDX-License-Identifier: GPL-2.0-only
"""A watermark test told with its numbers: "low 276 + reserve 0: free 280 - 7 = 273 <= 276".

The record of the test holds what the test read: mark, lowmem reserve, free pages, free CMA pages
and the highatomic reserve, the alloc flags and the verdict. Spelled out are the reductions that the
flags stand for; the verdict is the record's, never computed here. Where arithmetic and verdict
differ the reason is one that the arithmetic does not see, and it is named: no block of the order on
the lists, reserves that ignore watermarks, or a node that was reclaimed.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..watermark import (
    ALLOC_CMA,
    ALLOC_FLAG_NAMES,
    ALLOC_HARDER,
    ALLOC_HIGH,
    ALLOC_NO_WATERMARKS,
    ALLOC_OOM,
    ALLOC_WMARK_MASK,
)
from .records import Record

MARK_NAMES = ("min", "low", "high", "none")


@dataclass(frozen=True)
class Test:
    """A watermark test: the limit that the mark and the reserve make, the pages that count, both as
    sums in words, the verdict and what it is for."""

    limit: int
    left: int
    limit_text: str
    left_text: str
    ok: bool
    reason: str

    @property
    def text(self) -> str:
        """One line: limit, pages, comparison."""
        sign = ">" if self.left > self.limit else "<="
        return f"{self.limit_text}: {self.left_text} {sign} {self.limit:,}"


def alloc_flag_names(flags: int) -> str:
    """ALLOC_ flags as people write them, the watermark first."""
    mark = f"ALLOC_WMARK_{MARK_NAMES[flags & ALLOC_WMARK_MASK].upper()}"
    names = [name for name, bit in ALLOC_FLAG_NAMES if flags & bit]
    if flags & ALLOC_NO_WATERMARKS:
        return "|".join(names)
    return "|".join([mark, *names])


def _minus(parts: list[tuple[int, str]]) -> str:
    return "".join(f" - {value:,}{f' ({why})' if why else ''}" for value, why in parts if value)


def _limit(record: Record) -> tuple[int, str]:
    """The mark as the flags lower it, plus the reserve (__zone_watermark_ok)."""
    flags, mark = record["alloc_flags"], record["mark"]
    low = mark
    parts = []
    if flags & ALLOC_HIGH:
        parts.append((low // 2, "HIGH"))
        low -= low // 2
    if flags & ALLOC_OOM:
        parts.append((low // 2, "OOM"))
        low -= low // 2
    elif flags & ALLOC_HARDER:
        parts.append((low // 4, "HARDER"))
        low -= low // 4
    reserve = record["lowmem_reserve"]
    name = MARK_NAMES[flags & ALLOC_WMARK_MASK]
    return low + reserve, f"{name} {mark:,}{_minus(parts)} + reserve {reserve:,}"


def _left(record: Record) -> tuple[int, str]:
    """The pages that count for the full test."""
    flags = record["alloc_flags"]
    parts = [((1 << record["order"]) - 1, "")]
    if not flags & (ALLOC_HARDER | ALLOC_OOM):
        parts.append((record["nr_highatomic"], "highatomic"))
    if not flags & ALLOC_CMA:
        parts.append((record["free_cma"], "CMA"))
    left = record["free_pages"] - sum(value for value, _ in parts)
    text = f"free {record['free_pages']:,}{_minus(parts)}"
    return left, text if text.count(" ") == 1 else f"{text} = {left:,}"


def explain_watermark(record: Record) -> Test:
    """The test that an EV_WATERMARK record stands for."""
    flags, ok = record["alloc_flags"], bool(record["ok"])
    cma = 0 if flags & ALLOC_CMA else record["free_cma"]
    fast = record["free_pages"] - cma
    limit, reserve = record["mark"] + record["lowmem_reserve"], record["lowmem_reserve"]
    if record["order"] == 0 and fast > limit:
        name = MARK_NAMES[flags & ALLOC_WMARK_MASK]
        free = f"free {record['free_pages']:,}{_minus([(cma, 'CMA')])}"
        mark = f"{name} {record['mark']:,} + reserve {reserve:,}"
        return Test(limit, fast, mark, free if not cma else f"{free} = {fast:,}", ok, "")
    limit, limit_text = _limit(record)
    left, left_text = _left(record)
    reason = ""
    if flags & ALLOC_NO_WATERMARKS:
        reason = "ALLOC_NO_WATERMARKS: the reserves may be used up"
    elif left > limit and not ok:
        reason = f"no free block of order {record['order']} or more that it may use"
    elif left <= limit and ok:
        reason = "node reclaim made room"
    return Test(limit, left, limit_text, left_text, ok, reason)
