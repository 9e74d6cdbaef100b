# SPDX-License-Identifier: GPL-2.0-only
"""Which numbers a STATE may hold: frames, nodes, zones and CPUs that a 4.20 kernel could have.

`schema` says what a file looks like; this says whether its numbers can be true, before any of them
becomes an address or the length of a loop.
"""

from __future__ import annotations

from typing import Any

from machine.errors import ImageError

from ..layout import MEMBLOCK_MAX_REGIONS, PFN_SECTION_SHIFT
from ..mmzone import MAX_NR_ZONES, MAX_NUMNODES, NR_CPUS

MAX_PFN = 1 << (39 - 12)
"""Recorded machines may have 512 GiB: their memmap alone takes 8 GiB of the host."""


def check_numbers(state: dict[str, Any]) -> None:
    """Raises ImageError for node, zone, CPU or frame numbers that no 4.20 kernel could have."""
    tag = state["tag"]
    max_pfn = state["globals"]["max_pfn"]
    if not 0 < max_pfn <= MAX_PFN:
        raise ImageError(f"STATE {tag}: max_pfn {max_pfn}")
    if not 1 <= state["globals"]["nr_cpu_ids"] <= NR_CPUS:
        raise ImageError(f"STATE {tag}: nr_cpu_ids {state['globals']['nr_cpu_ids']}")
    if any(not 0 <= c["cpu"] < state["globals"]["nr_cpu_ids"] for c in state["cpus"]):
        raise ImageError(f"STATE {tag}: a CPU number beyond nr_cpu_ids")
    nids = [n["nid"] for n in state["nodes"]]
    if any(not 0 <= nid < MAX_NUMNODES for nid in nids) or len(set(nids)) != len(nids):
        raise ImageError(f"STATE {tag}: bad or repeated node numbers {nids}")
    for zone in state["zones"]:
        if zone["nid"] not in nids or not 0 <= zone["zid"] < MAX_NR_ZONES:
            raise ImageError(f"STATE {tag}: zone {zone['nid']}:{zone['zid']} has no node")
        if min(zone["start"], zone["spanned"]) < 0 or zone["start"] + zone["spanned"] > MAX_PFN:
            raise ImageError(f"STATE {tag}: zone {zone['nid']}:{zone['zid']} spans no memory")
    limit = ((max_pfn >> PFN_SECTION_SHIFT) + 1) << PFN_SECTION_SHIFT
    for nid, zid, start, length in state.get("page_zone", []):
        known = nid in nids or (nid, zid) == (0, 0)
        if start < 0 or length <= 0 or start + length > limit or not known or not 0 <= zid < 4:
            raise ImageError(f"STATE {tag}: page_zone run [{nid}, {zid}, {start}, {length}]")


def check_tables(state: dict[str, Any]) -> None:
    """Raises ImageError for memblock tables, CPUs or distances that no PC could have."""
    where = f"STATE {state['tag']}"
    memblock = state.get("memblock")
    if not memblock:
        raise ImageError(f"{where}: no memblock tables")
    for name in ("memory", "reserved"):
        if not len(memblock[name]) <= MEMBLOCK_MAX_REGIONS:
            raise ImageError(f"{where}: {len(memblock[name])} {name} regions")
        for base, size, nid, _ in (region[:4] for region in memblock[name]):
            end = base + size
            if base < 0 or size < 0 or end > MAX_PFN << 12 or not 0 <= nid <= MAX_NUMNODES:
                raise ImageError(f"{where}: {name} region [{base}, {size}] of node {nid}")
    if sum(region[1] for region in memblock["memory"]) < 32 << 20:
        raise ImageError(f"{where}: less than 32 MiB of memory")
    for cpu in state["cpus"]:
        if not 0 <= cpu["node"] < MAX_NUMNODES:
            raise ImageError(f"{where}: CPU {cpu['cpu']} on node {cpu['node']}")
    for i, row in state["dist"].items():
        for j, distance in row.items():
            numbers = i.isdigit() and j.isdigit() and int(i) < 64 and int(j) < 64
            if not numbers or not 0 < distance < 256:
                raise ImageError(f"{where}: distance {i} -> {j} is {distance}")
