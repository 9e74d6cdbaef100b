# SPDX-License-Identifier: GPL-2.0-only
"""/proc/zoneinfo, /proc/vmstat and sysfs' per-node numastat, to the letter of the kernel.

Sources: zoneinfo_show_print() and vmstat_start() of mm/vmstat.c, node_read_numastat() of
drivers/base/node.c, domain_dirty_limits() of mm/page-writeback.c for the two thresholds in vmstat.
"""

from __future__ import annotations

from ..errors import BadRequest
from ..flusher import BACKGROUND, HARD, dirty_limit
from ..helpers.mmzone import for_each_online_pgdat
from ..helpers.nodemask import for_each_online_cpu
from ..helpers.prog import Prog, words
from ..helpers.vmstat import (
    all_vm_events,
    global_node_page_state,
    global_numa_state,
    global_zone_page_state,
    node_page_state,
    sum_zone_numa_state,
    zone_numa_state_snapshot,
    zone_page_state,
)
from ..layout import word_of_va
from ..mmzone import (
    ND_KSWAPD_FAILURES,
    NODE_STAT_NAMES,
    NR_FREE_PAGES,
    NUMA_STAT_NAMES,
    PSET_BATCH,
    PSET_COUNT,
    PSET_HIGH,
    PSET_THRESHOLD,
    PSET_WORDS,
    Z_PAGESET,
    ZONE_STAT_NAMES,
)
from ..page_writeback import global_dirtyable_memory
from ..views import Node, Zone
from ..vm_events import VM_EVENT_NAMES
from .fields import Json, Report, Table, cells
from .symbols import parse_number

MAX_RECLAIM_RETRIES = 16
_PAGESET_FIELDS = (("count", PSET_COUNT), ("high", PSET_HIGH), ("batch", PSET_BATCH))
_SYSFS_NUMA_NAMES = (
    "numa_hit",
    "numa_miss",
    "numa_foreign",
    "interleave_hit",
    "local_node",
    "other_node",
)


def first_populated(node: Node) -> int:
    """Index of the node's first zone with pages, -1 if it has none."""
    return next((zone.zid for zone in node.zones if zone.populated), -1)


def pagesets(zone: Zone) -> list[dict[str, int]]:
    """count, high, batch and stat threshold of every online CPU's pageset of the zone."""
    m = zone.m
    base = word_of_va(m[zone.word + Z_PAGESET])
    found = []
    for cpu in for_each_online_cpu(m):
        ps = base + cpu * PSET_WORDS
        entry = {"cpu": cpu} | {name: m[ps + word] for name, word in _PAGESET_FIELDS}
        found.append(entry | {"stat_threshold": m[ps + PSET_THRESHOLD]})
    return found


def _zone_data(node: Node, zone: Zone) -> dict[str, Json]:
    low, mid, high = zone.watermarks
    data: dict[str, Json] = {
        "node": node.nid,
        "zone": zone.name,
        "free": zone_page_state(zone, NR_FREE_PAGES),
        "min": low,
        "low": mid,
        "high": high,
        "spanned": zone.spanned_pages,
        "present": zone.present_pages,
        "managed": zone.managed_pages,
        "protection": list(zone.lowmem_reserve),
    }
    if zone.zid == first_populated(node):
        data["node_stat"] = {
            name: node_page_state(node, i) for i, name in enumerate(NODE_STAT_NAMES)
        }
    if zone.populated:
        data["stat"] = {name: zone_page_state(zone, i) for i, name in enumerate(ZONE_STAT_NAMES)}
        data["numa"] = {
            name: zone_numa_state_snapshot(zone, i) for i, name in enumerate(NUMA_STAT_NAMES)
        }
        data["pagesets"] = list(pagesets(zone))
        failures = node.m[node.word + ND_KSWAPD_FAILURES]
        data["node_unreclaimable"] = failures >= MAX_RECLAIM_RETRIES
        data["start_pfn"] = zone.start_pfn
    return data


def _stat_lines(stats: object) -> str:
    assert isinstance(stats, dict)
    return "".join(f"\n      {name:<12} {value}" for name, value in stats.items())


def _zone_text(data: dict[str, Json]) -> str:
    text = f"Node {data['node']}, zone {data['zone']:>8}"
    if "node_stat" in data:
        text += "\n  per-node stats" + _stat_lines(data["node_stat"])
    text += f"\n  pages free     {data['free']}"
    for name in ("min", "low", "high", "spanned", "present", "managed"):
        text += f"\n        {name:<8} {data[name]}"
    protection = data["protection"]
    assert isinstance(protection, list)
    text += f"\n        protection: ({', '.join(str(n) for n in protection)})"
    if "stat" not in data:
        return text + "\n"
    text += _stat_lines(data["stat"]) + _stat_lines(data["numa"]) + "\n  pagesets"
    sets = data["pagesets"]
    assert isinstance(sets, list)
    for ps in sets:
        text += f"\n    cpu: {ps['cpu']}"
        for name, _ in _PAGESET_FIELDS:
            text += f"\n              {name + ':':<6} {ps[name]}"
        text += f"\n  vm stats threshold: {ps['stat_threshold']}"
    unreclaimable = int(bool(data["node_unreclaimable"]))
    text += f"\n  node_unreclaimable:  {unreclaimable}"
    return text + f"\n  start_pfn:           {data['start_pfn']}\n"


def zoneinfo(prog: Prog) -> Report:
    """Every zone's figures, empty zones too (/proc/zoneinfo)."""
    zones = [_zone_data(node, zone) for node in for_each_online_pgdat(prog) for zone in node.zones]
    shown = ("free", "min", "low", "high", "spanned", "present", "managed")
    rows = tuple(
        cells(
            data["node"],
            data["zone"],
            *(data[name] for name in shown),
            " ".join(str(n) for n in data["protection"]),  # type: ignore[union-attr]
        )
        for data in zones
        if data["present"]
    )
    table = Table("zones (pages)", ("node", "zone", *shown, "protection"), rows)
    return Report("".join(_zone_text(data) for data in zones), list(zones), (table,))


def dirty_limits(prog: Prog) -> tuple[int, int]:
    """Pages of dirty cache at which writers write themselves, and at which flushers start.

    The limits of an ordinary task (global_dirty_limits).
    """
    m = words(prog)
    memory = global_dirtyable_memory(m)
    return dirty_limit(m, memory, HARD), dirty_limit(m, memory, BACKGROUND)


def vmstat(prog: Prog) -> Report:
    """All counters of the machine by name (/proc/vmstat)."""
    data: dict[str, Json] = {}
    for i, name in enumerate(ZONE_STAT_NAMES):
        data[name] = global_zone_page_state(prog, i)
    for i, name in enumerate(NUMA_STAT_NAMES):
        data[name] = global_numa_state(prog, i)
    for i, name in enumerate(NODE_STAT_NAMES):
        data[name] = global_node_page_state(prog, i)
    data["nr_dirty_threshold"], data["nr_dirty_background_threshold"] = dirty_limits(prog)
    events = all_vm_events(prog)
    events[0] //= 2  # pgpgin and pgpgout are counted in sectors and shown in KiB
    events[1] //= 2
    data.update(zip(VM_EVENT_NAMES, events, strict=True))
    text = "".join(f"{name} {value}\n" for name, value in data.items())
    rows = tuple(cells(name, value) for name, value in data.items() if value)
    return Report(text, data, (Table("counters that are not 0", ("counter", "value"), rows),))


def numastat(prog: Prog, nid: int | None = None) -> Report:
    """NUMA event counters: node `nid`'s sysfs file, or all nodes' under their directories' names.

    Raises BadRequest for a node that is not online.
    """
    nodes = [node for node in for_each_online_pgdat(prog) if nid is None or node.nid == nid]
    if not nodes:
        raise BadRequest(f"node {nid} is not online")
    text = ""
    data: list[Json] = []
    rows = []
    for node in nodes:
        counts = [sum_zone_numa_state(node, item) for item in range(len(NUMA_STAT_NAMES))]
        named = dict(zip(_SYSFS_NUMA_NAMES, counts, strict=True))
        if nid is None:
            text += f"/sys/devices/system/node/node{node.nid}\n"
        text += "".join(f"{name} {value}\n" for name, value in named.items())
        data.append({"node": node.nid, **named})
        rows.append(cells(node.nid, *counts))
    table = Table("NUMA events", ("node", *_SYSFS_NUMA_NAMES), tuple(rows))
    return Report(text, data, (table,))


def numastat_command(prog: Prog, args: list[str]) -> Report:
    """`numastat [NODE]` or `numastat -p PID`. Raises BadRequest."""
    if len(args) == 2 and args[0] == "-p":
        from .numa_process import numastat_process

        return numastat_process(prog, parse_number(args[1]))
    if len(args) > 1:
        raise BadRequest("numastat: one node at most, or -p and one process")
    return numastat(prog, parse_number(args[0]) if args else None)
