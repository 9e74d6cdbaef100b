# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import InputError, Node, Topology, TopologyError
from machine.topology import GIB, MIB, TIB, parse_size

RECORDED = json.loads((Path(__file__).parents[1] / "oracle" / "machines.json").read_text())


def recorded_topology(name: str) -> Topology:
    """The topology of a machine on which a real kernel was recorded."""
    machine = RECORDED[name]
    return Topology.parse(*machine["specs"], machine_type=machine["machine_type"])


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_ram_lies_where_qemu_puts_it(name: str) -> None:
    topology = recorded_topology(name)
    usable = [(a, a + size) for a, size, kind in RECORDED[name]["bios_e820"] if kind == "usable"]
    ends = [end for _, end in usable[1:]]
    ours = [topology.below_4g - 0x20000]
    if topology.above_4g:
        ours.append(topology.above_4g_start + topology.above_4g)
    assert ours == ends


@pytest.mark.parametrize("name", [n for n in sorted(RECORDED) if RECORDED[n]["srat"]])
def test_every_range_belongs_to_the_node_the_srat_gives_it(name: str) -> None:
    topology = recorded_topology(name)
    srat = re.findall(
        r"Node (\d+) PXM \d+ \[mem 0x(\w+)-0x(\w+)\]", "\n".join(RECORDED[name]["srat"])
    )
    for nid, first, last in srat:
        assert any(
            r.nid == int(nid) and r.start <= int(first, 16) and int(last, 16) < r.end
            for r in topology.ram_ranges
        ), (nid, first, last)
    covered = sum(int(last, 16) + 1 - int(first, 16) for _, first, last in srat)
    assert covered == topology.ram_size - 0x60000  # the VGA and BIOS window has no entry


def test_the_short_form_gives_every_node_one_cpu_and_the_default_distances() -> None:
    topology = Topology.parse("2x128M")
    assert topology.nodes == (Node(0, 128 * MIB, (0,)), Node(1, 128 * MIB, (1,)))
    assert topology.distances == ((10, 20), (20, 10))
    assert topology.cpu_node == (0, 1)
    assert Topology.parse("2x128M,cpus=2").cpu_node == (0, 0, 1, 1)


def test_a_node_that_straddles_the_hole_has_two_ranges() -> None:
    ranges = Topology.parse("node,cpus=0,mem=2G", "node,mem=2G").ram_ranges
    assert [(r.start, r.end, r.nid) for r in ranges] == [
        (0, 2 * GIB, 0),
        (2 * GIB, 3 * GIB, 1),
        (4 * GIB, 5 * GIB, 1),
    ]


@pytest.mark.parametrize(
    ("kind", "size", "below"),
    [
        ("pc", "3583M", 3583 * MIB),
        ("pc", "3584M", 0xC000_0000),
        ("q35", "2815M", 2815 * MIB),
        ("q35", "2816M", 0x8000_0000),
    ],
)
def test_low_ram_ends_where_the_board_says(kind: str, size: str, below: int) -> None:
    assert Topology.parse(f"1x{size}", machine_type=kind).below_4g == below


def test_ram_moves_above_1_tib_when_it_would_reach_hypertransport() -> None:
    # 64-bit PCI window (2 GiB on pc, 32 GiB on q35) behind RAM, both below 0xfd00000000.
    assert Topology.parse("1x1009G").above_4g_start == 4 * GIB
    assert Topology.parse("1x1010G").above_4g_start == TIB
    assert Topology.parse("1x978G", machine_type="q35").above_4g_start == 4 * GIB
    assert Topology.parse("1x979G", machine_type="q35").above_4g_start == TIB


def test_memoryless_and_cpuless_nodes_are_legal() -> None:
    topology = Topology.parse("node,cpus=0-1,mem=64M", "node,mem=64M", "node,cpus=2")
    assert [node.mem for node in topology.nodes] == [64 * MIB, 64 * MIB, 0]
    assert topology.cpu_node == (0, 0, 2)
    assert {r.nid for r in topology.ram_ranges} == {0, 1}


def test_a_distance_given_one_way_holds_both_ways() -> None:
    topology = Topology.parse("2x64M", "dist,src=0,dst=1,val=33")
    assert topology.distances == ((10, 33), (33, 10))


NODES = ("node,nodeid=0,cpus=0,mem=64M", "node,nodeid=1,cpus=1,mem=64M")


@pytest.mark.parametrize(
    ("specs", "culprit"),
    [
        ((), "no NUMA node"),
        (("",), "expected node"),
        (("2y64M",), "2y64M"),
        (("0x64M",), "1 to 64 nodes"),
        (("65x64M",), "1 to 64 nodes"),
        (("2x64M,cpus=200",), "256 CPUs"),
        (("1x16M",), "32 MiB"),
        (("5x1T",), "4 TiB"),
        (("99999x9T",), "1 to 64 nodes"),
        (("1x64M", "node,mem=64M"), "the whole machine"),
        (("node,mem=64M", "1x64M"), "the whole machine"),
        (("node,mem=64M",), "no node has a CPU"),
        (("node,cpus=0,mem=64Q",), "64Q"),
        (("node,cpus=0,mem=65537B",), "whole number of pages"),
        (("node,cpus=0,mem=-64M",), "-64M"),
        (("node,cpus=0,mem=64M,mem=64M",), "mem is given twice"),
        (("node,cpus=0,mem",), "'mem'"),
        (("node,cpus=1,mem=64M",), "CPU 0 is missing"),
        (("node,cpus=0-300,mem=64M",), "0-300"),
        (("node,cpus=3-1,mem=64M",), "3-1"),
        (("node,cpus=0,mem=64M,colour=red",), "colour=red"),
        (("node,cpus=0,mem=64M", "node,cpus=0,mem=64M"), "CPU 0 is in node 0 and in node 1"),
        (("node,nodeid=1,cpus=0,mem=64M",), "node 0 is missing"),
        (("node,nodeid=0,cpus=0,mem=64M", "node,nodeid=0,cpus=1,mem=64M"), "described twice"),
        ((*NODES, "dist,src=0,dst=1"), "all needed"),
        ((*NODES, "dist,src=0,dst=1,val=10"), "11 to 254"),
        ((*NODES, "dist,src=0,dst=1,val=255"), "11 to 254"),
        ((*NODES, "dist,src=0,dst=0,val=11", "dist,src=0,dst=1,val=20"), "must be 10"),
        ((*NODES, "dist,src=0,dst=2,val=20"), "there are 2 nodes"),
        ((*NODES, "dist,src=0,dst=1,val=20", "dist,src=0,dst=1,val=21"), "given twice"),
        (("3x64M", "dist,src=0,dst=1,val=20"), "not given in either direction"),
        (
            (
                "3x64M",
                "dist,src=0,dst=1,val=20",
                "dist,src=1,dst=0,val=21",
                "dist,src=0,dst=2,val=20",
                "dist,src=1,dst=2,val=20",
            ),
            "not symmetric",
        ),
    ],
)
def test_an_impossible_machine_is_refused_by_naming_the_culprit(
    specs: tuple[str, ...], culprit: str
) -> None:
    with pytest.raises(TopologyError, match=re.escape(culprit)) as caught:
        Topology.parse(*specs)
    assert "\n" not in str(caught.value)


def test_an_unknown_board_is_refused() -> None:
    with pytest.raises(TopologyError, match="microvm"):
        Topology.parse("1x64M", machine_type="microvm")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("128M", 128 * MIB),
        ("128", 128 * MIB),
        ("1.5G", 1536 * MIB),
        ("4096B", 4096),
        ("2t", 2 * TIB),
    ],
)
def test_sizes_are_read_as_qemu_reads_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@given(st.text(max_size=40))
def test_any_text_is_a_topology_or_a_topology_error(text: str) -> None:
    try:
        topology = Topology.parse(text)
    except TopologyError:
        return
    assert topology.cpus >= 1


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
    st.sampled_from(["pc", "q35"]),
)
def test_ranges_cover_all_memory_once_and_specs_give_the_topology_back(
    gigabytes: list[int], random: object, kind: str
) -> None:
    nodes = tuple(
        Node(n, g * 256 * MIB + 32 * MIB, (n,) if n % 2 == 0 else ())
        for n, g in enumerate(gigabytes)
    )
    cpus = iter(range(len(nodes)))
    nodes = tuple(Node(n.nid, n.mem, tuple(next(cpus) for _ in n.cpus)) for n in nodes)
    topology = Topology(nodes, machine_type=kind)
    ranges = topology.ram_ranges
    assert all(a.end <= b.start for a, b in pairwise(ranges))
    for node in nodes:
        assert sum(r.end - r.start for r in ranges if r.nid == node.nid) == node.mem
    assert not any(
        topology.below_4g < r.end and r.start < 4 * GIB and r.end > topology.below_4g
        for r in ranges
        if r.start < topology.below_4g
    )
    assert Topology.parse(*topology.specs, machine_type=kind) == topology


def test_toml_says_the_same_as_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "machine.toml"
    path.write_text(
        'machine = "q35"\ndistances = [[10, 21], [21, 10]]\n'
        '[[node]]\nmem = "64M"\ncpus = "0-1"\n[[node]]\nnodeid = 1\nmem = 64\ncpus = [2, 3]\n'
    )
    assert Topology.from_toml(path) == Topology.parse(
        "2x64M,cpus=2", "dist,src=0,dst=1,val=21", machine_type="q35"
    )
    path.write_text('numa = "2x64M"')
    assert Topology.from_toml(path) == Topology.parse("2x64M")


@pytest.mark.parametrize(
    "text",
    [
        "numa = 3",
        "= 3",
        "colour = 1",
        "machine = 1",
        "node = 1",
        "distances = [[10, true], [20, 10]]",
        '[[node]]\nmem = "64M,cpus=0"',
        "[[node]]\ncpus = [0.5]",
        'numa = "2x64M"\ndistances = [[10]]',
        "\xff\xfe",
    ],
)
def test_a_bad_toml_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(TopologyError, match=r"bad\.toml"):
        Topology.from_toml(path)


def test_a_missing_toml_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml"):
        Topology.from_toml(tmp_path / "none.toml")
