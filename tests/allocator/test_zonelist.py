# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from allocator.boot_context import node_word
from allocator.boot_stages import BootStages
from allocator.kernel_globals import G_MOBILITY_DISABLED
from allocator.mmzone import ND_NOFALLBACK, ND_ZONELISTS, Z_NODE
from allocator.zonelist import nr_free_zone_pages, policy_zone, zonerefs
from tests.allocator.bringup_support import MIB, tables_boot


def machine(count: int, distances: list[list[int]], **more: object) -> BootStages:
    memory = [(MIB, 63 * MIB, 0)] + [(64 * MIB * n, 64 * MIB, n) for n in range(1, count)]
    k = tables_boot(memory, [(16 * MIB, 8 * MIB)], distances=distances, **more)
    k.early0()
    return k


def order(k: BootStages, nid: int) -> list[int]:
    nodes = [k.m[z + Z_NODE] for z, _ in zonerefs(k.m, node_word(k.m, nid) + ND_ZONELISTS)]
    return list(dict.fromkeys(nodes))


def test_equal_distances_go_round_from_the_next_node() -> None:
    flat = [[10 if i == j else 20 for j in range(4)] for i in range(4)]
    k = machine(4, flat)
    assert [order(k, n) for n in range(4)] == [
        [0, 1, 2, 3],
        [1, 2, 3, 0],
        [2, 3, 0, 1],
        [3, 0, 1, 2],
    ]


def test_nearer_nodes_come_first_also_when_asymmetric() -> None:
    rows = [[10, 40, 30, 20], [20, 10, 30, 40], [40, 20, 10, 30], [30, 40, 20, 10]]
    k = machine(4, rows)
    assert [order(k, n) for n in range(4)] == [
        [0, 3, 2, 1],
        [1, 0, 2, 3],
        [2, 1, 3, 0],
        [3, 2, 0, 1],
    ]


def test_zones_run_from_the_highest_and_thisnode_stays_at_home() -> None:
    k = machine(2, [[10, 20], [20, 10]], cmdline="kernelcore=64M")
    nd = node_word(k.m, 0)
    assert [zid for _, zid in zonerefs(k.m, nd + ND_ZONELISTS)] == [3, 1, 0, 3, 1]
    assert [zid for _, zid in zonerefs(k.m, nd + ND_NOFALLBACK)] == [3, 1, 0]
    assert policy_zone(k.m) == 1


def test_free_zone_pages_counts_zones_up_to_an_index() -> None:
    k = machine(2, [[10, 20], [20, 10]], cmdline="kernelcore=64M")
    assert nr_free_zone_pages(k.m, 0) < nr_free_zone_pages(k.m, 1) < nr_free_zone_pages(k.m, 3)


def test_tiny_machines_do_not_group_by_mobility() -> None:
    assert machine(1, [[10]]).m[G_MOBILITY_DISABLED] == 0
    tiny = tables_boot([(MIB, 10 * MIB, 0)], [])
    tiny.early0()
    assert tiny.m[G_MOBILITY_DISABLED] == 1
    assert any("mobility grouping off" in line for line in tiny.log)
