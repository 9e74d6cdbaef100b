# SPDX-License-Identifier: GPL-2.0-only
"""firmware/slit.py: the matrix there and back."""

from __future__ import annotations

import pytest

from firmware import read_slit
from firmware.slit import build_slit
from machine.errors import BringUpError
from machine.topology import Topology
from tests.firmware.boards import powered, reseal, table


def test_distances_come_back_row_by_row() -> None:
    matrix = [[10, 15, 20], [16, 10, 21], [22, 28, 10]]
    board = powered(
        "3x64M",
        *(f"dist,src={a},dst={b},val={matrix[a][b]}" for a in range(3) for b in range(3) if a != b),
    )
    assert read_slit(board.memory) == tuple(map(tuple, matrix))


def test_two_nodes_give_qemus_bytes() -> None:
    topology = Topology.parse("2x64M", "dist,src=0,dst=1,val=31")
    assert build_slit(topology)[36:] == bytes.fromhex("0200000000000000" + "0a1f1f0a")


def test_memoryless_nodes_are_localities_too() -> None:
    board = powered("node,cpus=0,mem=64M", "node,cpus=1", "node,mem=64M")
    assert read_slit(board.memory) == ((10, 20, 20), (20, 10, 20), (20, 20, 10))


def test_sixty_four_nodes_fit() -> None:
    slit = read_slit(powered("64x4M").memory)
    assert slit is not None
    assert len(slit) == 64


def test_a_pc_with_one_node_has_none() -> None:
    assert read_slit(powered("1x64M").memory) is None


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (36, 0, "claims 0 localities"),
        (36, 65, "claims 65 localities"),
        (43, 0x80, "claims 9223372036854775810 localities"),
        (36, 3, "48 bytes long, 3 localities need 53"),
        (44, 11, "distance 0 to 0 is 11"),
        (45, 10, "distance 0 to 1 is 10"),
        (46, 0, "distance 1 to 0 is 0"),
    ],
)
def test_what_linux_would_not_use_is_refused(offset: int, value: int, message: str) -> None:
    board = powered("2x64M")
    found = table(board.memory, "SLIT")
    board.memory.write_u8(found.address + offset, value)
    reseal(board.memory, found.address, len(found.data))
    with pytest.raises(BringUpError, match=message):
        read_slit(board.memory)
