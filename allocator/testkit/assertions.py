# SPDX-License-Identifier: GPL-2.0-only
"""Readable explanations of assertions that failed: pages, zones, free lists, lists of frames.

`explain(op, left, right)` returns the lines that pytest shows instead of two long reprs, or None
for values that are none of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..mmzone import MAX_ORDER, MIGRATE_TYPES, MIGRATETYPE_NAMES
from ..views import Page, Zone

MAX_SHOWN = 8
PAGE_FIELDS = (
    "pfn",
    "nid",
    "zone",
    "migratetype",
    "flag_names",
    "order",
    "refcount",
    "mapcount",
    "mapping",
    "index",
    "private",
    "mem_cgroup",
)
ZONE_FIELDS = (
    "nid",
    "name",
    "start_pfn",
    "spanned_pages",
    "present_pages",
    "managed_pages",
    "free_pages",
    "watermarks",
    "lowmem_reserve",
    "nr_reserved_highatomic",
)


def explain(op: str, left: object, right: object) -> list[str] | None:
    """Why `left op right` is false, as lines; None if the values are not ours to explain."""
    if op == "in" and isinstance(left, (Page, int)) and is_frames(right):
        return explain_missing(left, right)
    if op != "==":
        return None
    if isinstance(left, Page) and isinstance(right, Page):
        return explain_fields(left, right, PAGE_FIELDS, "page", "page")
    if isinstance(left, Zone) and isinstance(right, Zone):
        lines = explain_fields(left, right, ZONE_FIELDS, "zone", "zone")
        return lines + explain_lists(left.free_lists(), right.free_lists())
    if isinstance(left, Page) and isinstance(right, int):
        return [f"frame {left.pfn:#x} == frame {right:#x}", "compare page.pfn with a number"]
    if is_free_lists(left) and is_free_lists(right):
        return ["free lists differ", *explain_lists(left, right)]
    if is_frames(left) and is_frames(right):
        return explain_frames(left, right)
    return None


def is_free_lists(value: object) -> bool:
    """True for what Zone.free_lists() returns: (order, migratetype) -> frame numbers."""
    return isinstance(value, dict) and all(
        isinstance(key, tuple)
        and len(key) == 2
        and isinstance(key[0], int)
        and 0 <= key[0] < MAX_ORDER
        and isinstance(key[1], int)
        and 0 <= key[1] < MIGRATE_TYPES
        and isinstance(pfns, list)
        for key, pfns in value.items()
    )


def is_frames(value: object) -> bool:
    """True for a list of frame numbers or pages."""
    return isinstance(value, list) and all(type(item) in (int, Page) for item in value)


def explain_fields(
    left: object, right: object, fields: Sequence[str], left_name: str, right_name: str
) -> list[str]:
    """The fields in which two views differ, side by side."""
    lines = [f"{left!r} == {right!r}"]
    for field in fields:
        ours, theirs = getattr(left, field), getattr(right, field)
        if ours != theirs:
            lines.append(f"  {field:<22} {ours!r:<24} {theirs!r}")
    if len(lines) == 1:
        lines.append(f"  the same fields, but in different machines ({left_name}, {right_name})")
    return lines


def list_name(key: tuple[int, int]) -> str:
    """A free list in words."""
    return f"free_area[{key[0]}] {MIGRATETYPE_NAMES[key[1]]}"


def explain_lists(left: Any, right: Any) -> list[str]:
    """Free lists that differ, one paragraph a list."""
    lines: list[str] = []
    ours: Mapping[tuple[int, int], list[int]] = left
    theirs: Mapping[tuple[int, int], list[int]] = right
    for key in sorted(set(ours) | set(theirs)):
        a, b = ours.get(key, []), theirs.get(key, [])
        if a != b:
            lines += [
                f"  {list_name(key)}: {len(a):,} and {len(b):,} blocks",
                *difference(a, b, "    "),
            ]
    return lines


def explain_frames(left: Any, right: Any) -> list[str]:
    """Two lists of frames: first difference, and what only one of them has."""
    a = [pfn_of(item) for item in left]
    b = [pfn_of(item) for item in right]
    return [f"{len(a):,} frames == {len(b):,} frames", *difference(a, b, "  ")]


def explain_missing(left: Page | int, right: Any) -> list[str]:
    """A frame that is not in a list: its nearest neighbours there."""
    pfn = pfn_of(left)
    frames = sorted(pfn_of(item) for item in right)
    near = sorted(frames, key=lambda other: abs(other - pfn))[:MAX_SHOWN]
    return [f"frame {pfn:#x} in {len(frames):,} frames", f"  nearest: {show(sorted(near))}"]


def difference(a: list[int], b: list[int], indent: str) -> list[str]:
    """How two lists of frame numbers differ."""
    lines = []
    at = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    here = f"{a[at]:#x}" if at < len(a) else "the end"
    there = f"{b[at]:#x}" if at < len(b) else "the end"
    lines.append(f"{indent}first difference at place {at}: {here} and {there}")
    for name, only in (("left", set(a) - set(b)), ("right", set(b) - set(a))):
        if only:
            lines.append(f"{indent}only on the {name}: {show(sorted(only))}")
    if set(a) == set(b):
        lines.append(f"{indent}the same frames in another order")
    return lines


def pfn_of(item: Page | int) -> int:
    """Frame number of a page or of itself."""
    return item.pfn if isinstance(item, Page) else item


def show(pfns: list[int]) -> str:
    """A few frame numbers, runs as first..last."""
    runs: list[list[int]] = []
    for pfn in pfns:
        if runs and runs[-1][1] + 1 == pfn:
            runs[-1][1] = pfn
        else:
            runs.append([pfn, pfn])
    text = [f"{a:#x}" if a == b else f"{a:#x}..{b:#x}" for a, b in runs[:MAX_SHOWN]]
    more = f" and {len(runs) - MAX_SHOWN:,} more" if len(runs) > MAX_SHOWN else ""
    return " ".join(text) + more
