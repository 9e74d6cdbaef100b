# SPDX-License-Identifier: GPL-2.0-only
"""The recorded kernel's /proc and sysfs text, cut into its files, and guests that hold its numbers.

Each sample was made by one `cat` after the other, so every file is taken for itself: its numbers
are read out of the text, put where the kernel keeps them - counters, watermarks, free lists,
pageblock bits in guest RAM - and what our printer makes of that RAM must be the text again, byte
for byte.
"""

from __future__ import annotations

import lzma
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from allocator.layout import CPU_BLOCKS, CPU_EVENTS, CPU_WORDS
from allocator.mmzone import (
    MAX_ORDER,
    MIGRATETYPE_NAMES,
    ND_VM_STAT,
    NODE_STAT_NAMES,
    NUMA_STAT_NAMES,
    ZONE_NAMES,
    ZONE_STAT_NAMES,
)
from allocator.oracle.guest import Guest
from allocator.oracle.state_load import load_state
from allocator.oracle.zone_load import NUMA_NAMES, STAT_NAMES
from allocator.vm_events import VM_EVENT_NAMES

TEXT = Path(__file__).parents[2] / "oracle" / "text"
MACHINES = ("M1", "M2", "M3", "M4", "M5", "M7")
TOTALRESERVE = {"M1": 354, "M2": 827, "M3": 1081, "M4": 9421, "M5": 722, "M7": 6998}
"""totalreserve_pages of each machine, from the STATE recorded at the same point."""


@dataclass(frozen=True)
class Sample:
    """The files of one machine: the first reading, and of the second what the first lacks."""

    machine: str
    buddyinfo: str
    pagetypeinfo: str
    zoneinfo: str
    iomem: str
    meminfo: str
    node_files: dict[int, str]
    vmstat: str
    numastat: str


@cache
def sample(machine: str) -> Sample:
    """The sample of `machine`, cut at the lines that begin the next file."""
    text = lzma.decompress((TEXT / f"{machine}-proc.txt.xz").read_bytes()).decode()
    # a message of the kernel's on the same console, in the middle of a line
    text = re.sub(r"\[ *\d+\.\d+\] random: .*\n", "", text)
    lines = text.splitlines(keepends=True)
    starts = [
        ("buddyinfo", r"Node \d+, zone +\w+ +\d"),
        ("pagetypeinfo", r"Page block order"),
        ("zoneinfo", r"Node \d+, zone +\w+$"),
        ("iomem", r"[0-9a-f]{8,}-[0-9a-f]{8,} : "),
        ("meminfo", r"MemTotal:"),
        ("nodes", r"/sys/devices/system/node/"),
        ("buddyinfo2", r"Node \d+, zone +\w+ +\d"),
        ("pagetypeinfo2", r"Page block order"),
        ("vmstat", r"nr_free_pages \d"),
        ("numastat", r"/sys/devices/system/node/"),
    ]
    parts: dict[str, str] = {}
    at = 0
    for i, (name, _) in enumerate(starts):
        after = re.compile(starts[i + 1][1]) if i + 1 < len(starts) else None
        end = at + 1
        while end < len(lines) and not (after and after.match(lines[end])):
            end += 1
        parts[name] = "".join(lines[at:end])
        at = end
    assert at == len(lines)
    nodes = {}
    for piece in parts["nodes"].split("/sys/devices/system/node/node")[1:]:
        number, _, rest = piece.partition("\n")
        nodes[int(number)] = rest
    return Sample(
        machine,
        parts["buddyinfo"],
        parts["pagetypeinfo"],
        parts["zoneinfo"],
        parts["iomem"],
        parts["meminfo"],
        nodes,
        parts["vmstat"],
        parts["numastat"].rstrip("\n") + "\n",
    )


def _value(text: str, name: str) -> int:
    found = re.search(rf"^ +{name} +(\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def zones_of(zoneinfo: str) -> list[dict[str, Any]]:
    """The zones of a zoneinfo file in the STATE's form, with `node_stat` where it is printed."""
    zones = []
    for part in re.split(r"(?=^Node \d+, zone)", zoneinfo, flags=re.MULTILINE)[1:]:
        head = re.match(r"Node (\d+), zone +(\w+)", part)
        assert head is not None
        stats, _, pagesets = part.partition("\n  pagesets")
        protection = re.search(r"protection: \(([^)]*)\)", part)
        assert protection is not None
        zone: dict[str, Any] = {
            "nid": int(head[1]),
            "zid": ZONE_NAMES.index(head[2]),
            "start": int((re.search(r"start_pfn: +(\d+)", part) or [0, 0])[1]),
            "lowmem": [int(n) for n in protection[1].split(", ")],
            "node_stat": [_value(stats, name) for name in NODE_STAT_NAMES],
            "stat": {
                ours: _value(stats, name)
                for ours, name in zip(STAT_NAMES, ZONE_STAT_NAMES, strict=True)
            },
            "numa": {
                ours: _value(stats, name)
                for ours, name in zip(NUMA_NAMES, NUMA_STAT_NAMES, strict=True)
            },
            "pcp": _pagesets(pagesets),
            "free_area": [],
        }
        for name in ("min", "low", "high", "spanned", "present", "managed"):
            zone[name] = _value(stats, name)
        zones.append(zone)
    return zones


def _pagesets(text: str) -> list[dict[str, Any]]:
    pattern = r"cpu: (\d+)\s+count: (\d+)\s+high: +(\d+)\s+batch: (\d+)\s+vm stats threshold: (\d+)"
    return [
        {
            "cpu": int(cpu),
            "count": int(count),
            "high": int(high),
            "batch": int(batch),
            "thr": int(threshold),
            "expire": 0,
            "diff": [0] * 12,
            "numa": [0] * 6,
            "lists": {},
        }
        for cpu, count, high, batch, threshold in re.findall(pattern, text)
    ]


def free_lists(pagetypeinfo: str) -> dict[tuple[int, str], dict[str, list[int]]]:
    """Blocks by (node, zone), migratetype and order."""
    found: dict[tuple[int, str], dict[str, list[int]]] = {}
    pattern = r"Node +(\d+), zone +(\w+), type +(\w+) +([\d ]+)$"
    for nid, zone, mt, counts in re.findall(pattern, pagetypeinfo, re.MULTILINE):
        found.setdefault((int(nid), zone), {})[mt] = [int(n) for n in counts.split()]
    return found


def block_counts(pagetypeinfo: str) -> dict[tuple[int, str], list[int]]:
    """Pageblocks by (node, zone), one number a migratetype."""
    pattern = r"^Node (\d+), zone +(\w+) +((?:\d+ +){6})$"
    return {
        (int(nid), zone): [int(n) for n in counts.split()]
        for nid, zone, counts in re.findall(pattern, pagetypeinfo, re.MULTILINE)
    }


def place_blocks(zone: dict[str, Any], lists: dict[str, list[int]], iomem: str) -> None:
    """Gives the zone free lists with so many blocks each: from its top down, always the largest
    block that is still wanted and fits."""
    areas: dict[int, dict[str, list[int]]] = {order: {} for order in range(MAX_ORDER)}
    waiting = {
        order: [m for m, name in enumerate(MIGRATETYPE_NAMES) for _ in range(lists[name][order])]
        for order in range(MAX_ORDER)
    }
    there = {start >> 15 for _, _, start, _ in present_runs(zone, iomem)}
    at = zone["start"] + zone["spanned"]
    while any(waiting.values()):
        if (at - 1) >> 15 not in there:
            at = (at - 1) & ~0x7FFF
            continue
        fits = [order for order in waiting if waiting[order] and not at & ((1 << order) - 1)]
        at -= 1 << max(fits) if fits else 1
        assert at >= zone["start"]
        if fits:
            mt = waiting[max(fits)].pop()
            areas[max(fits)].setdefault(str(mt), []).append(at)
    zone["free_area"] = [
        {"order": order, "nr_free": sum(len(p) for p in listed.values()), "lists": listed}
        for order, listed in areas.items()
    ]


def place_pageblocks(zone: dict[str, Any], counts: list[int], iomem: str) -> None:
    """Gives the zone so many pageblocks of each type."""
    types = [str(mt) for mt, count in enumerate(counts) for _ in range(count)]
    first, end = zone["start"] & ~511, zone["start"] + zone["spanned"]
    there = {
        pfn & ~511
        for _, _, start, length in present_runs(zone, iomem)
        for pfn in range(start, start + length, 512)
    }
    digits = [types.pop() if pfn in there else "." for pfn in range(first, end, 512)]
    assert not types
    zone["pageblocks"] = {"start": first, "types": "".join(digits)}


def present_runs(zone: dict[str, Any], iomem: str) -> list[list[int]]:
    """The parts of a zone's span whose 128 MiB section holds memory."""
    ram = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM$", iomem, re.M)
    sections = {n for a, b in ram for n in range(int(a, 16) >> 27, (int(b, 16) >> 27) + 1)}
    end = zone["start"] + zone["spanned"]
    runs = []
    for n in sorted(sections):
        first, last = max(n << 15, zone["start"]), min((n + 1) << 15, end)
        if first < last:
            runs.append([zone["nid"], zone["zid"], first, last - first])
    return runs


def state_of(zones: list[dict[str, Any]], machine: str) -> dict[str, Any]:
    """A STATE that `load_state` takes: these zones, and what can be derived from them."""
    nids = sorted({zone["nid"] for zone in zones})
    used = [zone for zone in zones if zone["spanned"]]
    cpus = max((len(zone["pcp"]) for zone in zones), default=1) or 1
    nodes = []
    for nid in nids:
        own = [zone for zone in used if zone["nid"] == nid]
        start = min(zone["start"] for zone in own)
        end = max(zone["start"] + zone["spanned"] for zone in own)
        nodes.append(
            {
                "nid": nid,
                "start": start,
                "spanned": end - start,
                "present": sum(zone["present"] for zone in own),
                "nr_zones": 1 + max(zone["zid"] for zone in own),
                "has_cpu": 1,
                "zonelists": [[], []],
            }
        )
    max_pfn = max(zone["start"] + zone["spanned"] for zone in used)
    return {
        "tag": machine,
        "globals": {
            "nr_cpu_ids": cpus,
            "online": cpus,
            "max_pfn": max_pfn,
            "highest_memmap_pfn": max_pfn - 1,
            "totalreserve": TOTALRESERVE[machine],
            "gfp_allowed_mask": 0x7FFFFF,
        },
        "cpus": [{"cpu": c, "node": 0, "numa_node": 0, "online": 1} for c in range(cpus)],
        "dist": {},
        "nodes": nodes,
        "page_zone": [run for z in used for run in present_runs(z, sample(machine).iomem)],
        "zones": zones,
    }


def guest_of(zones: list[dict[str, Any]], machine: str) -> Guest:
    """A guest with these zones, node counters included."""
    guest, _ = load_state(state_of(zones, machine))
    for zone in zones:
        if any(zone["node_stat"]):
            nd = guest.node(zone["nid"])
            for i, value in enumerate(zone["node_stat"]):
                guest.m[nd + ND_VM_STAT + i] = value
    return guest


def set_events(guest: Guest, values: dict[str, int]) -> None:
    """VM event counters, all on CPU 0; pgpgin and pgpgout are kept in sectors."""
    for i, name in enumerate(VM_EVENT_NAMES):
        double = 2 if name in ("pgpgin", "pgpgout") else 1
        guest.m[CPU_BLOCKS + 0 * CPU_WORDS + CPU_EVENTS + i] = values.get(name, 0) * double


def named_values(text: str) -> dict[str, int]:
    """`name 12` and `Name: 12 kB` lines by name."""
    return {n: int(v) for n, v in re.findall(r"^(?:Node \d+ )?([\w()]+):? +(\d+)", text, re.M)}


def lines_of(text: str, *leave_out: str) -> list[str]:
    """The lines that do not start with one of these words."""
    return [line for line in text.splitlines() if not line.startswith(leave_out)]
