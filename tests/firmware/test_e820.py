# SPDX-License-Identifier: GPL-2.0-only
"""firmware/e820.py against maps that QEMU 7.2 gave."""

from __future__ import annotations

from itertools import pairwise

import pytest

from firmware.e820 import E820Entry, e820_map, smbios_size, table_area, type_name
from machine.topology import GIB, Topology
from tests.firmware.boards import RECORDED, recorded_topology

HT = (0xFD00000000, 0x10000000000)


def usable(topology: Topology) -> list[tuple[int, int]]:
    return [(e.addr, e.end) for e in e820_map(topology) if e.type == 1]


@pytest.mark.parametrize("name", RECORDED)
def test_the_map_is_the_one_qemu_gave_the_real_kernel(name: str) -> None:
    entries = e820_map(recorded_topology(name))
    assert [[e.addr, e.size, type_name(e.type)] for e in entries] == RECORDED[name]["bios_e820"]


@pytest.mark.parametrize(
    ("specs", "machine_type", "size"),
    [
        (["1x256M,cpus=4"], "pc", 0x20000),
        (["1x256M,cpus=5"], "pc", 0x21000),
        (["1x256M,cpus=8"], "pc", 0x21000),
        (["1x256M,cpus=120"], "pc", 0x23000),
        (["1x256M,cpus=255"], "pc", 0x25000),
        (["1x64G"], "pc", 0x20000),
        (["1x1000G"], "pc", 0x21000),
        (["node,cpus=0,mem=700G", "node,cpus=1,mem=500G"], "pc", 0x22000),
        (["2x3G"], "q35", 0x20000),
    ],
)
def test_more_cpus_and_memory_take_more_of_the_top_of_low_ram(
    specs: list[str], machine_type: str, size: int
) -> None:
    topology = Topology.parse(*specs, machine_type=machine_type)
    start, end = table_area(topology)
    assert end == topology.below_4g
    assert end - start == size


@pytest.mark.parametrize(
    ("spec", "machine_type", "size"),
    [
        ("1x256M", "pc", 388),
        ("1x256M,cpus=6", "pc", 728),
        ("1x256M,cpus=12", "pc", 1136),
        ("1x48G", "pc", 527),
        ("1x300M", "q35", 376),
        ("2x489G", "q35", 3759),
    ],
)
def test_smbios_takes_the_bytes_measured_in_qemu(spec: str, machine_type: str, size: int) -> None:
    assert smbios_size(Topology.parse(spec, machine_type=machine_type)) == size


@pytest.mark.parametrize(
    ("spec", "machine_type", "above"),
    [
        ("1x1008G", "pc", (0x100000000, 0xFC40000000)),
        ("1x1010G", "pc", (0x10000000000, 0x1FBC0000000)),
        ("1x977G", "q35", (0x100000000, 0xF4C0000000)),
        ("1x1000G", "q35", (0x10000000000, 0x10000000000 + 998 * GIB)),
    ],
)
def test_ram_that_would_reach_hypertransport_starts_at_one_tib(
    spec: str, machine_type: str, above: tuple[int, int]
) -> None:
    topology = Topology.parse(spec, machine_type=machine_type)
    assert usable(topology)[-1] == above
    assert E820Entry(HT[0], HT[1] - HT[0], 2) in e820_map(topology)


def test_q35_reserves_configuration_space_and_root_complex() -> None:
    q35 = e820_map(Topology.parse("1x300M", machine_type="q35"))
    assert E820Entry(0xB0000000, 0x10000000, 2) in q35
    assert E820Entry(0xFED1C000, 0x4000, 2) in q35
    pc = e820_map(Topology.parse("1x300M"))
    assert len(q35) == len(pc) + 2


@pytest.mark.parametrize("spec", ["1x32M", "2x128M", "3x1G", "2x3G", "1x3583M", "4x600G"])
@pytest.mark.parametrize("machine_type", ["pc", "q35"])
def test_entries_ascend_without_overlap_and_usable_ones_are_ram(
    spec: str, machine_type: str
) -> None:
    topology = Topology.parse(spec, machine_type=machine_type)
    entries = e820_map(topology)
    for before, after in pairwise(entries):
        assert before.end <= after.addr
    for start, end in usable(topology):
        covered = sum(
            max(0, min(end, piece.end) - max(start, piece.start)) for piece in topology.ram_ranges
        )
        assert covered == end - start


def test_an_entry_prints_as_the_kernel_logs_it() -> None:
    assert str(E820Entry(0, 0x9FC00, 1)) == "[mem 0x0000000000000000-0x000000000009fbff] usable"
    assert type_name(12) == "persistent (type 12)"
    assert [type_name(kind) for kind in (2, 3, 4, 5, 99)] == [
        "reserved",
        "ACPI data",
        "ACPI NVS",
        "unusable",
        "type 99",
    ]
