# SPDX-License-Identifier: GPL-2.0-only
"""`numalab explain`: requests from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from allocator.cli.explain import parse_nodemask
from machine import UsageError
from machine.snapshot import save_snapshot
from tests.allocator.machines import boot

from .conftest import Numalab


def test_an_allocation_is_told(numalab: Numalab) -> None:
    result = numalab(
        "explain", "alloc", "--gfp", "GFP_KERNEL", "--order", "3", "--nid", "1", "--numa", "2x64M"
    )
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("alloc_pages(gfp=GFP_KERNEL, order=3, nid=1)  ->  frame 0x")
    assert "  zonelist of node 1: 1:DMA32  0:DMA32  0:DMA\n" in result.out


def test_a_free_in_a_snapshot_is_told_and_the_file_stays_as_it_was(
    numalab: Numalab, tmp_path: Path
) -> None:
    kernel = boot("2x64M")
    page = kernel.alloc_pages("GFP_KERNEL", 2, nid=1)
    assert page is not None
    assert kernel.machine is not None
    save_snapshot(kernel.machine, tmp_path / "full.snap")
    before = (tmp_path / "full.snap").read_bytes()
    result = numalab("explain", "full.snap", "free", "--pfn", hex(page.pfn), "--order", "2")
    assert result.code == 0
    assert "  ->  freed\n" in result.out
    assert (tmp_path / "full.snap").read_bytes() == before


def test_json_carries_the_whole_story(numalab: Numalab) -> None:
    result = numalab("explain", "--json", "alloc", "--nodemask", "1", "--whatif", "--numa", "2x64M")
    story = json.loads(result.out)
    assert story["request"]["nodemask"] == 0b10
    assert story["passes"][0]["visits"][0]["node"] == 1
    assert story["pages"][0]["before"]["state"] == "free"
    assert story["records"][0]["event"] == "request"
    assert story["whatif"]


def test_nodes_are_listed_as_ranges_or_as_a_mask() -> None:
    assert parse_nodemask("0,2-3") == parse_nodemask("0xd") == 0b1101
    for bad in ("", "x", "3-1", "64", "-1"):
        with pytest.raises(UsageError, match="--nodemask"):
            parse_nodemask(bad)


def test_mistakes_cost_one_line_and_64(numalab: Numalab) -> None:
    for arguments in (
        ("explain",),
        ("explain", "realloc"),
        ("explain", "alloc", "free"),
        ("explain", "free"),
        ("explain", "alloc", "--gfp", "GFP_NOTHING"),
        ("explain", "alloc", "--order", "-1"),
        ("explain", "alloc", "--order", "11"),
        ("explain", "alloc", "--nid", "5"),
        ("explain", "alloc", "--cpu", "5"),
        ("explain", "alloc", "--nodemask", "x"),
        ("explain", "free", "--pfn", "0x99999999"),
    ):
        result = numalab(*arguments)
        assert (result.code, result.err.count("\n")) == (64, 1), arguments
