# SPDX-License-Identifier: GPL-2.0-only
"""allocator/deferred_init.py: when struct pages are deferred, and what boot leaves out then."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from allocator.check import check_frames
from allocator.deferred_init import AUTO_BYTES
from allocator.deferred_pages import page_uninitialised
from allocator.kernel_globals import G_DEFERRED_PAGES, G_MEMINIT_DONE, G_STATIC_KEYS
from allocator.mm_types import PG_RESERVED
from allocator.mmzone import ND_FIRST_DEFERRED_PFN, Z_CONTIGUOUS
from tests.allocator.machines import boot

MIB = 1 << 20
BIG = """
from allocator import start_kernel
from firmware import power_on
from machine import Machine, Topology
import resource, time
began = time.perf_counter()
machine = Machine(Topology.parse("8x128G"))
power_on(machine)
kernel = start_kernel(machine)
pfns = [kernel.alloc_pages("GFP_KERNEL", 3, nid=nid).pfn for nid in range(8)]
from allocator.check import check_frames
assert check_frames(kernel.memory).sound
assert [machine.topology.ram_size >> 30, len(set(pfns))] == [1024, 8]
assert [kernel.page(pfn).nid for pfn in pfns] == list(range(8))
"""


def test_small_machines_initialise_everything_and_keep_no_trace_of_deferral() -> None:
    kernel = boot("2x256M")
    m = kernel.m
    assert m[G_DEFERRED_PAGES] == m[G_MEMINIT_DONE] == m[G_STATIC_KEYS] == 0
    assert [m[node.word + ND_FIRST_DEFERRED_PFN] for node in kernel.nodes] == [0, 0]


def test_more_than_32_gib_defer_by_themselves_and_off_says_otherwise() -> None:
    assert AUTO_BYTES == 32 << 30
    assert boot("1x33G").m[G_DEFERRED_PAGES] == 1
    assert boot("1x600M", append="deferred_meminit=off").m[G_DEFERRED_PAGES] == 0
    assert boot("1x600M", append="deferred_meminit=on").m[G_DEFERRED_PAGES] == 1


def test_a_malformed_value_is_reported_and_changes_nothing() -> None:
    kernel = boot("1x600M", append="deferred_meminit=maybe")
    assert kernel.m[G_DEFERRED_PAGES] == 0
    assert any("Malformed early option 'deferred_meminit'" in line for line in kernel.log)


@pytest.mark.parametrize("debugging", ["page_poison=on", "page_owner=on"])
def test_what_marks_every_frame_turns_deferral_off(debugging: str) -> None:
    kernel = boot("1x600M", append=f"deferred_meminit=on {debugging}")
    assert kernel.m[G_DEFERRED_PAGES] == 0
    assert any("deferred_meminit: off" in line for line in kernel.log)


def test_a_node_of_one_section_has_nothing_to_defer() -> None:
    kernel = boot("2x128M", append="deferred_meminit=on")
    assert kernel.m[G_DEFERRED_PAGES] == 0
    assert [kernel.m[node.word + ND_FIRST_DEFERRED_PFN] for node in kernel.nodes] == [-1, -1]
    assert check_frames(kernel.memory).sound


def test_reserved_frames_of_deferred_sections_have_their_struct_pages() -> None:
    kernel = boot("2x600M", append="deferred_meminit=on")
    first = kernel.m[kernel.nodes[1].word + ND_FIRST_DEFERRED_PFN]
    last = kernel.zones[-1].end_pfn
    reserved = [pfn for pfn in range(first, last) if kernel.page(pfn).flags & PG_RESERVED]
    assert reserved
    assert all(kernel.page(pfn).refcount == 1 for pfn in reserved)
    assert page_uninitialised(kernel.m, first)


def test_zones_with_deferred_pages_are_not_called_contiguous() -> None:
    kernel = boot("2x600M", append="deferred_meminit=on")
    flags = [kernel.m[zone.word + Z_CONTIGUOUS] for zone in kernel.zones]
    # node 0's DMA zone has a hole, its DMA32 zone and node 1's wait for their struct pages
    assert flags[1:] == [0, 0]


@pytest.mark.parametrize("append", ["cma=160M", "cma=300M", "kernelcore=50%", "numa=fake=4"])
def test_areas_movable_zones_and_fake_nodes_go_with_deferral(append: str) -> None:
    kernel = boot("2x600M", append=f"deferred_meminit=on {append}")
    assert kernel.m[G_DEFERRED_PAGES] > 0
    assert check_frames(kernel.memory, strict=True).sound
    for node in kernel.nodes:
        kernel.exhaust(node.nid, "GFP_HIGHUSER_MOVABLE", 4)
    assert kernel.m[G_DEFERRED_PAGES] == 0
    assert check_frames(kernel.memory, strict=True).sound


def test_a_terabyte_boots_serves_every_node_and_can_be_checked_in_300_mib() -> None:
    root = Path(__file__).parents[2]
    program = BIG + "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root
    )
    # a child's peak starts at its parent's
    assert int(done.stdout) < max(300 << 10, before + (1 << 10))
