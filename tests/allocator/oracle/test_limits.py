# SPDX-License-Identifier: GPL-2.0-only
"""Numbers that no kernel could have had are refused before they become lengths and addresses."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from allocator.oracle.limits import check_numbers, check_tables
from machine.errors import ImageError

from .machines import recording


@pytest.fixture
def early0() -> dict[str, Any]:
    """A recorded early0 STATE of our own to break."""
    return copy.deepcopy(recording("M3/early").state("early0"))


def test_recorded_tables_pass(early0: dict[str, Any]) -> None:
    check_numbers(early0)
    check_tables(early0)


@pytest.mark.parametrize(
    ("table", "region"),
    [
        ("memory", [-4096, 8192, 0, 0]),
        ("memory", [0, 1 << 50, 0, 0]),
        ("reserved", [0, -1, 0, 0]),
        ("reserved", [0, 4096, 65, 0]),
    ],
)
def test_impossible_regions_are_refused(
    early0: dict[str, Any], table: str, region: list[int]
) -> None:
    early0["memblock"][table].append(region)
    with pytest.raises(ImageError, match=table):
        check_tables(early0)


def test_more_regions_than_memblock_holds_are_refused(early0: dict[str, Any]) -> None:
    early0["memblock"]["reserved"] = [[i << 12, 1, 0, 0] for i in range(2049)]
    with pytest.raises(ImageError, match="2049 reserved"):
        check_tables(early0)


@pytest.mark.parametrize("distance", [0, 256, -1])
def test_impossible_distances_are_refused(early0: dict[str, Any], distance: int) -> None:
    early0["dist"]["0"]["1"] = distance
    with pytest.raises(ImageError, match="distance 0 -> 1"):
        check_tables(early0)


def test_tables_must_be_there_and_hold_a_kernel(early0: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match="no memblock"):
        check_tables(early0 | {"memblock": None})
    early0["memblock"]["memory"] = [[0, 1 << 20, 0, 0]]
    with pytest.raises(ImageError, match="32 MiB"):
        check_tables(early0)
