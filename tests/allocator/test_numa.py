# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from allocator.boot_context import BootContext
from allocator.layout import NODE_DISTANCE
from allocator.numa import NumaInit, node_distance, reset_distance
from firmware import CpuAffinity, MemoryAffinity, Srat
from tests.allocator.bringup_support import MIB, context

END = 256 * MIB


def numa(cmdline: str = "") -> tuple[NumaInit, BootContext]:
    ctx = context(END, cmdline)
    ctx.mb.add(4096, END - 4096)
    return NumaInit(ctx.m, ctx.mb, ctx.params, ctx.printk, END >> 12), ctx


def srat(cpus: list[tuple[int, int]], memory: list[tuple[int, int, int]]) -> Srat:
    return Srat(
        tuple(CpuAffinity(pxm, apic, 1) for pxm, apic in cpus),
        tuple(MemoryAffinity(pxm, base, length, 1) for pxm, base, length in memory),
    )


def nodes(ctx: BootContext) -> list[tuple[int, int]]:
    return [(b // MIB, nid) for b, _, _, nid in ctx.mb.memory.regions()]


def test_node_ids_follow_first_appearance_cpus_first() -> None:
    init, ctx = numa()
    init.x86_numa_init(
        srat([(7, 0), (3, 1)], [(3, 0, 128 * MIB), (7, 128 * MIB, 64 * MIB), (9, 192 * MIB, END)])
    )
    assert nodes(ctx) == [(0, 1), (128, 0), (192, 2)]
    assert init.apicid_to_node == {0: 0, 1: 1}
    assert init.nodes_online == [0, 1, 2]


def test_blocks_are_trimmed_joined_and_the_reserved_list_split() -> None:
    init, ctx = numa()
    ctx.mb.reserve(100 * MIB, 60 * MIB)
    init.x86_numa_init(srat([], [(0, 0, 640 << 10), (0, MIB, 127 * MIB), (1, 128 * MIB, 1 << 40)]))
    assert [(blk.start, blk.end) for blk in init.blks] == [(0, 128 * MIB), (128 * MIB, END)]
    assert [r[3] for r in ctx.mb.reserved.regions()] == [0, 1]
    assert any(
        "NUMA: Node 0 [mem 0x00000000-0x0009ffff] + [mem 0x00100000-0x07ffffff] -> "
        "[mem 0x00000000-0x07ffffff]" in line
        for line in ctx.printk.lines
    )


def test_tables_that_contradict_themselves_or_miss_memory_are_not_used() -> None:
    for bad, message in (
        ([(0, 0, 130 * MIB), (1, 128 * MIB, END)], "overlaps with node 1"),
        ([(0, 0, 64 * MIB)], "nodes only cover 63MB of your 255MB"),
        ([(300, 0, END)], "Too many proximity domains"),
        ([], "No NUMA configuration found"),
    ):
        init, ctx = numa()
        init.x86_numa_init(srat([(0, 0)], bad))
        assert nodes(ctx) == [(0, 0)]
        assert any(message in line for line in ctx.printk.lines)
        assert init.apicid_to_node == {}


def test_disabled_and_hotpluggable_entries_do_not_count() -> None:
    init, ctx = numa()
    init.x86_numa_init(
        Srat(
            (CpuAffinity(1, 0, 0),),
            (
                MemoryAffinity(5, 0, END, 0),
                MemoryAffinity(6, END, END, 3),
                MemoryAffinity(2, 0, END, 1),
            ),
        )
    )
    assert nodes(ctx) == [(0, 0)]
    assert init.pxm_to_node == {2: 0}


def test_numa_off_and_noacpi_fake_one_node() -> None:
    for option, line in (("numa=off", "NUMA turned off"), ("numa=noacpi", "No NUMA config")):
        init, ctx = numa(option)
        init.x86_numa_init(srat([], [(0, 0, 128 * MIB), (1, 128 * MIB, 128 * MIB)]))
        assert init.nodes_online == [0]
        assert any(line in text for text in ctx.printk.lines)


def test_nodes_below_four_mib_stay_offline() -> None:
    init, _ = numa()
    init.x86_numa_init(srat([], [(0, 0, 253 * MIB), (1, 253 * MIB, 3 * MIB)]))
    assert init.nodes_online == [0]


def test_slit_is_used_by_domain_and_only_if_it_makes_sense() -> None:
    table = srat([(1, 0), (0, 1)], [(0, 0, 128 * MIB), (1, 128 * MIB, 128 * MIB)])
    init, ctx = numa()
    init.x86_numa_init(table, [[10, 21], [31, 10]])
    assert node_distance(ctx.m, 1, 0) == 21
    assert node_distance(ctx.m, 0, 1) == 31
    init, ctx = numa()
    init.x86_numa_init(table, [[10, 10], [31, 10]])
    assert node_distance(ctx.m, 0, 1) == 20
    assert any("SLIT table looks invalid" in line for line in ctx.printk.lines)


def test_distances_out_of_range_are_ignored_with_a_warning() -> None:
    init, ctx = numa()
    init.x86_numa_init(srat([], [(0, 0, 128 * MIB), (1, 128 * MIB, 128 * MIB)]))
    init.set_distance(0, 5, 20)
    init.set_distance(0, 1, 300)
    init.set_distance(1, 1, 11)
    assert sum("Warning" in line for line in ctx.printk.lines) == 3
    assert node_distance(ctx.m, 0, 1) == 20


def test_fresh_distances_are_local_and_remote() -> None:
    m = context().m
    reset_distance(m)
    assert m[NODE_DISTANCE : NODE_DISTANCE + 3].tolist() == [10, 20, 20]
    assert node_distance(m, 63, 63) == 10
