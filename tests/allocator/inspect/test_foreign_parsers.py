# SPDX-License-Identifier: GPL-2.0-only
"""Our text, read by parsers that were written for real kernels (PyPI: jc)."""

from __future__ import annotations

from typing import Any

import pytest

from allocator.inspect import inspect
from allocator.kernel import Kernel
from tests.allocator.machines import boot

jc = pytest.importorskip("jc")


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    kernel = boot("2x64M")
    for order in (0, 0, 1, 3, 5):
        kernel.alloc_pages("GFP_KERNEL", order, nid=1)
    return kernel


def parsed(kernel: Kernel, what: str) -> Any:
    return jc.parse(f"proc_{what}", inspect(kernel.memory, what).text)


def test_buddyinfo_is_understood(kernel: Kernel) -> None:
    rows = parsed(kernel, "buddyinfo")
    assert [(row["node"], row["zone"]) for row in rows] == [(0, "DMA"), (0, "DMA32"), (1, "DMA32")]
    assert [row["free_chunks"] for row in rows] == [zone.nr_free() for zone in kernel.zones]


def test_zoneinfo_is_understood(kernel: Kernel) -> None:
    nodes = parsed(kernel, "zoneinfo")
    assert [node["node"] for node in nodes] == [0, 1]
    dma32 = nodes[1]["DMA32"]
    zone = kernel.zone(1, "DMA32")
    assert dma32["pages"]["free"] == zone.free_pages
    assert dma32["pages"]["managed"] == zone.managed_pages
    assert dma32["pages"]["high"] == zone.watermarks[2]


def test_pagetypeinfo_is_understood(kernel: Kernel) -> None:
    found = parsed(kernel, "pagetypeinfo")
    assert found["page_block_order"] == 9
    # jc keeps the last of several nodes
    row = next(row for row in found["free_pages"] if row["type"] == "Movable")
    assert (row["node"], row["zone"]) == (1, "DMA32")
    zone = kernel.zone(1, "DMA32")
    assert row["free"] == [len(zone.free_list(order, 1)) for order in range(11)]
    assert found["num_blocks_type"][0]["movable"] == 30


def test_vmstat_and_meminfo_are_understood(kernel: Kernel) -> None:
    assert parsed(kernel, "vmstat")["nr_free_pages"] == kernel.nr_free_pages
    memory = parsed(kernel, "meminfo")
    assert memory["MemFree"] == kernel.nr_free_pages * 4
    assert memory["HugePages_Total"] == 0


def test_iomem_is_understood(kernel: Kernel) -> None:
    rows = parsed(kernel, "iomem")
    ram = [row for row in rows if row["device"] == "System RAM"]
    assert [(row["start"], row["end"]) for row in ram] == [
        ("00001000", "0009fbff"),
        ("00100000", "07fdffff"),
    ]
