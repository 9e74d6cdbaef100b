# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's files, byte for byte: recorded numbers in guest RAM print as the recorded text."""

from __future__ import annotations

import re
from typing import Any

import pytest

from allocator.helpers.mmzone import for_each_online_pgdat
from allocator.inspect.buddyinfo import buddyinfo, pagetypeinfo
from allocator.inspect.iomem import Resource, format_iomem, resource_tree
from allocator.inspect.meminfo import meminfo, node_meminfo
from allocator.inspect.zoneinfo import numastat, vmstat, zoneinfo
from allocator.kernel_globals import G_TOTALRAM, G_VM_DIRTY_RATIO
from allocator.mmzone import (
    NODE_STAT_NAMES,
    NUMA_STAT_NAMES,
    Z_FREE_AREA,
    ZONE_NAMES,
    ZONE_STAT_NAMES,
)
from allocator.oracle.guest import Guest
from allocator.oracle.zone_load import NUMA_NAMES, STAT_NAMES
from tests.allocator.inspect.recorded import (
    MACHINES,
    Sample,
    block_counts,
    free_lists,
    guest_of,
    lines_of,
    named_values,
    place_blocks,
    place_pageblocks,
    sample,
    set_events,
    zones_of,
)

_ITEM = {name: i for i, name in enumerate(NODE_STAT_NAMES)}


@pytest.fixture(params=MACHINES)
def recorded(request: pytest.FixtureRequest) -> Sample:
    return sample(request.param)


def test_buddyinfo_is_the_recorded_text(recorded: Sample) -> None:
    guest = guest_of(zones_of(recorded.zoneinfo), recorded.machine)
    rows = re.findall(r"Node (\d+), zone +(\w+) +([\d ]+)\n", recorded.buddyinfo)
    assert rows
    for nid, name, counts in rows:
        z = guest.zone(int(nid), ZONE_NAMES.index(name))
        for order, count in enumerate(counts.split()):
            guest.m[z + Z_FREE_AREA + order * 13 + 12] = int(count)
    assert buddyinfo(guest).text == recorded.buddyinfo


def test_pagetypeinfo_is_the_recorded_text(recorded: Sample) -> None:
    zones = zones_of(recorded.zoneinfo)
    lists, blocks = free_lists(recorded.pagetypeinfo), block_counts(recorded.pagetypeinfo)
    for zone in zones:
        key = (zone["nid"], ZONE_NAMES[zone["zid"]])
        if key in lists:
            place_blocks(zone, lists[key], recorded.iomem)
            place_pageblocks(zone, blocks[key], recorded.iomem)
    guest = guest_of(zones, recorded.machine)
    assert pagetypeinfo(guest).text == recorded.pagetypeinfo


def test_zoneinfo_is_the_recorded_text(recorded: Sample) -> None:
    guest = guest_of(zones_of(recorded.zoneinfo), recorded.machine)
    assert zoneinfo(guest).text == recorded.zoneinfo


def test_vmstat_is_the_recorded_text_with_its_computed_dirty_limits(recorded: Sample) -> None:
    values = named_values(recorded.vmstat)
    zones = zones_of(recorded.zoneinfo)
    for zone in zones:
        first = zone["nid"] == 0 and zone["zid"] == 1
        for ours, name in zip(STAT_NAMES, ZONE_STAT_NAMES, strict=True):
            zone["stat"][ours] = values[name] if first else 0
        for ours, name in zip(NUMA_NAMES, NUMA_STAT_NAMES, strict=True):
            zone["numa"][ours] = values[name] if first else 0
        zone["node_stat"] = [values[name] if first else 0 for name in NODE_STAT_NAMES]
    guest = guest_of(zones, recorded.machine)
    guest.m[G_VM_DIRTY_RATIO] = 20
    set_events(guest, values)
    assert vmstat(guest).text == recorded.vmstat


def test_numastat_is_the_recorded_text(recorded: Sample) -> None:
    zones = zones_of(recorded.zoneinfo)
    names = ("numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node")
    pieces = recorded.numastat.split("/sys/devices/system/node/node")[1:]
    assert pieces
    for piece in pieces:
        values = named_values(piece)
        for zone in zones:
            if zone["nid"] == int(piece[0]):
                counts = zip(NUMA_NAMES, names, strict=True)
                zone["numa"] = {n: values[s] if zone["zid"] == 1 else 0 for n, s in counts}
    assert numastat(guest_of(zones, recorded.machine)).text == recorded.numastat


def _memory_counters(zones: list[dict[str, Any]], nid: int, kb: dict[str, int]) -> None:
    """Zone and node counters that a meminfo text shows, put into node `nid`'s zones."""
    names = {
        "nr_inactive_anon": "Inactive(anon)",
        "nr_active_anon": "Active(anon)",
        "nr_inactive_file": "Inactive(file)",
        "nr_active_file": "Active(file)",
        "nr_unevictable": "Unevictable",
        "nr_slab_reclaimable": "SReclaimable",
        "nr_slab_unreclaimable": "SUnreclaim",
        "nr_anon_pages": "AnonPages",
        "nr_mapped": "Mapped",
        "nr_file_pages": "FilePages" if "FilePages" in kb else "Cached",
        "nr_shmem": "Shmem",
    }
    for zone in zones:
        if zone["nid"] == nid:
            own = zone["zid"] == 1
            stat = zone["stat"]
            stat["nr_free_pages"] = kb["MemFree"] // 4 if own else 0
            stat["mlock"] = kb["Mlocked"] // 4 if own else 0
            stat["kernel_stack_kb"] = kb["KernelStack"] if own else 0
            stat["pagetable"] = kb["PageTables"] // 4 if own else 0
            zone["node_stat"] = [0] * len(NODE_STAT_NAMES)
            if own:
                for item, name in names.items():
                    zone["node_stat"][_ITEM[item]] = kb[name] // 4


def _only_node_0(zones: list[dict[str, Any]]) -> None:
    for zone in zones:
        if zone["nid"] != 0:
            zone["stat"] = {}
            zone["node_stat"] = [0] * len(NODE_STAT_NAMES)


def test_meminfo_is_the_recorded_text_with_its_computed_available_memory(recorded: Sample) -> None:
    kb = named_values(recorded.meminfo)
    zones = zones_of(recorded.zoneinfo)
    _only_node_0(zones)
    _memory_counters(zones, 0, kb)
    guest: Guest = guest_of(zones, recorded.machine)
    guest.m[G_TOTALRAM] = kb["MemTotal"] // 4
    # what is no part of the page allocator: committed address space, per-cpu chunks, page tables
    elsewhere = ("Committed_AS", "Percpu", "DirectMap")
    text = meminfo(guest, guest.memory).text
    assert lines_of(text, *elsewhere) == lines_of(recorded.meminfo, *elsewhere)
    assert [line[:16] for line in lines_of(text)][:50] == [
        line[:16] for line in lines_of(recorded.meminfo)
    ][:50]


def test_node_meminfo_is_the_recorded_text(recorded: Sample) -> None:
    zones = zones_of(recorded.zoneinfo)
    texts = {}
    for nid, file in recorded.node_files.items():
        texts[nid] = "".join(re.findall(r"^Node \d+ .*\n", file, re.M))
        kb = named_values(texts[nid])
        _memory_counters(zones, nid, kb)
        for zone in zones:
            if zone["nid"] == nid:
                zone["managed"] = kb["MemTotal"] // 4 if zone["zid"] == 1 else 0
    guest = guest_of(zones, recorded.machine)
    assert [node.nid for node in for_each_online_pgdat(guest)] == list(texts)
    for nid, text in texts.items():
        assert node_meminfo(guest, nid).text == text


E820_NAMES = {"System RAM": 1, "Reserved": 2}


def test_iomem_is_the_recorded_text(recorded: Sample) -> None:
    found = re.findall(r"^( *)([0-9a-f]+)-([0-9a-f]+) : (.*)$", recorded.iomem, re.M)
    claims, e820 = [], []
    for indent, start, end, name in found:
        first, last = int(start, 16), int(end, 16)
        if name in E820_NAMES and not indent:
            e820.append((first, last - first + 1, E820_NAMES[name]))
        elif name != "RAM buffer":
            claims.append((first, last, name))
    assert e820
    assert claims
    assert format_iomem(resource_tree(e820, claims)) == recorded.iomem


def test_a_ragged_end_of_ram_is_claimed_up_to_the_next_boundary() -> None:
    mib = 1 << 20
    top = resource_tree([(0x100000, 199 * mib, 1), (220 * mib, mib, 2)], [])
    assert [(r.start // mib, r.name) for r in top] == [
        (1, "System RAM"),
        (200, "RAM buffer"),
        (220, "Reserved"),
        (221, "RAM buffer"),
    ]
    assert top[1] == Resource(200 * mib, 220 * mib - 1, "RAM buffer")
    assert top[3].end == 256 * mib - 1
