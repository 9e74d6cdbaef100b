# SPDX-License-Identifier: GPL-2.0-only
"""firmware/srat.py: entries, their order, and reading them back."""

from __future__ import annotations

import struct

import pytest

from firmware import power_on, read_srat
from firmware.srat import CpuAffinity, MemoryAffinity, Srat, build_srat
from machine.errors import BringUpError
from machine.topology import Topology
from tests.firmware.boards import RECORDED, Board, powered, recorded_topology, reseal, table


def kernel_lines(srat: Srat | None) -> list[str]:
    """What Linux 4.20 logs about a SRAT when nodes are numbered as their domains are."""
    if srat is None:
        return []
    lines = [
        f"SRAT: PXM {c.proximity_domain} -> APIC {c.apic_id:#04x} -> Node {c.proximity_domain}"
        for c in srat.cpus
    ]
    return lines + [
        f"ACPI: SRAT: Node {m.proximity_domain} PXM {m.proximity_domain} "
        f"[mem {m.base:#010x}-{m.end - 1:#010x}]"
        for m in srat.memory
        if m.enabled
    ]


def enabled(*specs: str, machine_type: str = "pc") -> list[tuple[int, int, int]]:
    board = Board(Topology.parse(*specs, machine_type=machine_type))
    power_on(board, numa=True)
    srat = read_srat(board.memory)
    assert srat is not None
    return [(m.proximity_domain, m.base, m.end) for m in srat.memory if m.enabled]


@pytest.mark.parametrize("name", RECORDED)
def test_the_kernel_reads_what_it_read_under_qemu(name: str) -> None:
    board = Board(recorded_topology(name))
    power_on(board)
    assert kernel_lines(read_srat(board.memory)) == RECORDED[name]["srat"]


def test_two_nodes_give_qemus_bytes() -> None:
    zeros = "00" * 8
    body = (
        "01000000"
        + zeros
        + "0010000001000000"
        + zeros
        + "0010010101000000"
        + zeros
        # node 0 below and above the VGA hole, node 1, and one disabled entry
        + "0128000000000000"
        + zeros
        + "00000a0000000000"
        + "0000000001000000"
        + zeros
        + "0128000000000000"
        + "0000100000000000"
        + "0000f00700000000"
        + "0000000001000000"
        + zeros
        + "0128010000000000"
        + "0000000800000000"
        + "0000000800000000"
        + "0000000001000000"
        + zeros
        + "0128000000000000"
        + zeros * 4
    )
    assert build_srat(Topology.parse("2x128M"))[36:] == bytes.fromhex(body)


def test_a_memoryless_node_has_cpu_entries_only() -> None:
    board = powered("node,cpus=0,mem=128M", "node,cpus=1", "node,mem=128M", "node,cpus=2")
    srat = read_srat(board.memory)
    assert srat is not None
    assert [(c.proximity_domain, c.apic_id) for c in srat.cpus] == [(0, 0), (1, 1), (3, 2)]
    assert [m.proximity_domain for m in srat.memory if m.enabled] == [0, 0, 2]
    # QEMU pads the memory entries up to the number of nodes plus two.
    assert srat.memory[3:] == (MemoryAffinity(0, 0, 0, 0),) * 3


def test_low_memory_belongs_to_the_first_node_that_has_memory() -> None:
    assert enabled("node,cpus=0", "node,mem=128M", "node,cpus=1,mem=128M") == [
        (1, 0, 0xA0000),
        (1, 0x100000, 0x8000000),
        (2, 0x8000000, 0x10000000),
    ]


def test_a_node_is_cut_at_the_pci_hole() -> None:
    assert enabled("2x3G", machine_type="q35")[1:] == [
        (0, 0x100000, 0x80000000),
        (0, 0x100000000, 0x140000000),
        (1, 0x140000000, 0x200000000),
    ]


def test_a_node_that_starts_at_the_pci_hole_lies_wholly_above_it() -> None:
    specs = ("node,mem=1G,cpus=0", "node,mem=1G,cpus=1", "node,mem=4G")
    assert enabled(*specs, machine_type="q35")[1:] == [
        (0, 0x100000, 0x40000000),
        (1, 0x40000000, 0x80000000),
        (2, 0x100000000, 0x200000000),
    ]


def test_memory_above_the_hypertransport_range_is_entered_there() -> None:
    assert enabled("node,mem=700G,cpus=0", "node,mem=500G,cpus=1")[2:] == [
        (0, 0x10000000000, 0x1AE40000000),
        (1, 0x1AE40000000, 0x22B40000000),
    ]


def test_a_node_that_ends_in_the_vga_hole_moves_the_next_one_to_one_mib() -> None:
    assert enabled("node,mem=800K,cpus=0", "node,mem=64736K,cpus=1") == [
        (0, 0, 0xA0000),
        (1, 0x100000, 0x4000000),
        # RAM ends at 64 MiB, but what moving the node up pushed over that goes behind the hole.
        (1, 0x100000000, 0x100038000),
    ]


def test_apic_ids_from_255_on_have_x2apic_entries() -> None:
    board = powered("2x128M,cpus=128")
    data = table(board.memory, "SRAT").data
    assert data[48 + 254 * 16] == 0
    assert data[48 + 255 * 16 :][:12] == struct.pack("<BBHII", 2, 24, 0, 1, 255)
    srat = read_srat(board.memory)
    assert srat is not None
    assert [c.apic_id for c in srat.cpus] == list(range(256))
    assert srat.cpus[255] == CpuAffinity(1, 255, 1)


def test_a_pc_with_one_node_has_no_srat_unless_asked() -> None:
    board = powered("1x64M")
    assert read_srat(board.memory) is None
    power_on(board, numa=True)
    srat = read_srat(board.memory)
    assert srat is not None
    assert srat.cpus == (CpuAffinity(0, 0, 1),)


def test_revision_1_tables_keep_8_bits_of_the_domain_as_linux_does() -> None:
    board = powered("2x128M")
    found = table(board.memory, "SRAT")
    board.memory.write_u8(found.address + 48 + 9, 7)
    board.memory.write_u8(found.address + 48 + 32 + 4, 7)
    for revision, domains in ((1, (0, 0)), (2, (0x700, 0x700_00))):
        board.memory.write_u8(found.address + 8, revision)
        reseal(board.memory, found.address, len(found.data))
        srat = read_srat(board.memory)
        assert srat is not None
        assert (srat.cpus[0].proximity_domain, srat.memory[0].proximity_domain) == domains


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (48 + 1, 0, "entry at byte 0x30 has length 0"),
        (48 + 1, 15, "type 0 is 15 bytes long instead of 16"),
        (80 + 1, 255, "entry at byte 0x50 has length 255"),
        (80 + 15, 0xFF, None),
        (80 + 23, 0xFF, None),
    ],
)
def test_a_malformed_entry_is_named(offset: int, value: int, message: str | None) -> None:
    board = powered("2x128M")
    found = table(board.memory, "SRAT")
    board.memory.write_u8(found.address + offset, value)
    reseal(board.memory, found.address, len(found.data))
    if message is None:
        assert read_srat(board.memory) is not None
    else:
        with pytest.raises(BringUpError, match=message):
            read_srat(board.memory)


def test_memory_beyond_the_address_space_is_refused() -> None:
    board = powered("2x128M")
    found = table(board.memory, "SRAT")
    board.memory.write_u64(found.address + 80 + 8, (1 << 64) - 0x1000)
    reseal(board.memory, found.address, len(found.data))
    with pytest.raises(BringUpError, match="past the end of the address space"):
        read_srat(board.memory)


def test_structures_of_unknown_type_are_passed_over() -> None:
    board = powered("2x128M")
    found = table(board.memory, "SRAT")
    board.memory.write_u8(found.address + 48, 0x80)
    reseal(board.memory, found.address, len(found.data))
    srat = read_srat(board.memory)
    assert srat is not None
    assert [c.apic_id for c in srat.cpus] == [1]
