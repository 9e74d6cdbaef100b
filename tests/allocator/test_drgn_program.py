# SPDX-License-Identifier: GPL-2.0-only
"""allocator/drgn_program.py: drgn itself, with its own helpers, on a guest."""

from __future__ import annotations

from typing import Any

import pytest

from allocator.drgn_program import to_drgn, vmcoreinfo
from allocator.kernel import Kernel
from allocator.kernel_globals import G_PGD
from allocator.mmzone import NR_FREE_PAGES, NUMA_HIT, Z_NUMA_STAT
from allocator.vm_events import PGALLOC
from tests.allocator.machines import boot

drgn = pytest.importorskip("drgn", minversion="0.3")
mm = pytest.importorskip("drgn.helpers.linux.mm")
mmzone = pytest.importorskip("drgn.helpers.linux.mmzone")
vmstat = pytest.importorskip("drgn.helpers.linux.vmstat")
listhelpers = pytest.importorskip("drgn.helpers.linux.list")
cpumask = pytest.importorskip("drgn.helpers.linux.cpumask")
nodemask = pytest.importorskip("drgn.helpers.linux.nodemask")
percpu = pytest.importorskip("drgn.helpers.linux.percpu")


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    kernel = boot("2x64M")
    for order in (0, 1, 2):
        kernel.alloc_pages("GFP_KERNEL|__GFP_COMP", order, nid=1, cpu=1)
    return kernel


@pytest.fixture(scope="module")
def prog(kernel: Kernel) -> Any:
    return to_drgn(kernel)


def test_nodes_and_zones_are_reached_by_name(kernel: Kernel, prog: Any) -> None:
    assert [node.node_id.value_() for node in mmzone.for_each_online_pgdat(prog)] == [0, 1]
    zone = prog["node_data"][1].node_zones[prog["ZONE_DMA32"]]
    ours = kernel.zone(1, "DMA32")
    assert zone.name.string_() == b"DMA32"
    assert zone.managed_pages.value_() == ours.managed_pages
    marks = (mmzone.min_wmark_pages(zone), mmzone.low_wmark_pages(zone))
    assert marks == ours.watermarks[:2]
    assert mmzone.high_wmark_pages(zone) == ours.watermarks[2]
    assert vmstat.zone_page_state(zone, prog["NR_FREE_PAGES"]) == ours.stat()["nr_free_pages"]


def test_counters_of_the_whole_machine_are_summed(kernel: Kernel, prog: Any) -> None:
    assert vmstat.nr_free_pages(prog) == kernel.nr_free_pages
    assert mm.totalram_pages(prog) == sum(zone.managed_pages for zone in kernel.zones)
    assert vmstat.global_zone_page_state(prog, NR_FREE_PAGES) == kernel.nr_free_pages
    kernel.fold_vm_stats(1)
    hits = sum(kernel.m[zone.word + Z_NUMA_STAT + NUMA_HIT] for zone in kernel.zones)
    assert vmstat.global_numa_event_state(prog, prog["NUMA_HIT"]) == hits > 0


def test_free_lists_are_walked_with_drgns_list_helpers(kernel: Kernel, prog: Any) -> None:
    zone = prog["node_data"][1].node_zones[1]
    for order in (0, 5, 10):
        head = zone.free_area[order].free_list[1].address_of_()
        pages = listhelpers.list_for_each_entry("struct page", head, "lru")
        found = [mm.page_to_pfn(page).value_() for page in pages]
        assert found == kernel.zone(1, "DMA32").free_list(order, 1)


def test_pages_convert_and_tell_their_flags(kernel: Kernel, prog: Any) -> None:
    ours = kernel.alloc_pages("GFP_KERNEL|__GFP_COMP", 3)
    assert ours is not None
    page = mm.pfn_to_page(prog, ours.pfn)
    assert page.value_() == ours.address
    assert mm.page_to_virt(page).value_() == ours.virt
    assert mm.page_to_phys(page).value_() == ours.phys
    assert mm.virt_to_page(prog, ours.virt) == page
    assert mm.decode_page_flags(page) == "PG_head"
    assert (mm.compound_order(page).value_(), mm.compound_nr(page).value_()) == (3, 8)
    assert mm.PageTail(page + 5)
    assert mm.compound_head(page + 5) == page
    assert page._refcount.counter.value_() == 1


def test_every_page_is_walked(kernel: Kernel, prog: Any) -> None:
    ranges = [(start, end) for start, end, _ in mm.for_each_valid_page_range(prog)]
    assert ranges == [(0, 32768)]
    pfn, page = next(iter(mm.for_each_valid_pfn_and_page(prog)))
    assert (pfn, page.value_()) == (0, 0xFFFFEA0000000000)
    sections = [nr for nr, _ in mmzone.for_each_present_section(prog)]
    assert sections == [0]
    assert mmzone.decode_section_flags(mmzone.nr_to_section(prog, 0)) == (
        "SECTION_MARKED_PRESENT|SECTION_HAS_MEM_MAP|SECTION_IS_ONLINE"
    )


def test_per_cpu_pagesets_and_masks_work(kernel: Kernel, prog: Any) -> None:
    assert list(cpumask.for_each_online_cpu(prog)) == [0, 1]
    assert list(nodemask.for_each_node_state(prog, prog["N_MEMORY"])) == [0, 1]
    zone = prog["node_data"][1].node_zones[1]
    for cpu in (0, 1):
        pageset = percpu.per_cpu_ptr(zone.pageset, cpu)
        assert pageset.count.value_() == kernel.zone(1, "DMA32").pcp_count(cpu)
        empty = listhelpers.list_empty(pageset.lists[0].address_of_())
        assert empty == (not kernel.zone(1, "DMA32").pcp_list(cpu, 0))


def test_drgn_walks_the_guests_own_page_tables(kernel: Kernel, prog: Any) -> None:
    init_mm = prog["init_mm"].address_of_()
    zone = kernel.zone(1, "DMA32")
    virt = 0xFFFF888000000000 + (zone.word << 3)
    assert mm.follow_phys(init_mm, virt).value_() == zone.word << 3
    assert mm.follow_phys(init_mm, kernel.page(0x100).address).value_() == (
        kernel.page(0x100).word << 3
    )
    # the identity map is in no registered segment: only the tables lead there
    assert prog.read(0x1000000, 8) == kernel.memory.read(0x1000000, 8)


def test_memory_is_live_and_holes_fault(kernel: Kernel, prog: Any) -> None:
    kernel.memory.write(0x3456000, b"first")
    assert prog.read(0x3456000, 5, True) == b"first"
    kernel.memory.write(0x3456000, b"later")
    assert prog.read(0xFFFF888003456000, 5) == b"later"
    for address, physical in ((0x10000000, True), (0xFFFFEA0000400000, False)):
        with pytest.raises(drgn.FaultError):
            prog.read(address, 8, physical)


def test_globals_memblock_and_release_are_there(kernel: Kernel, prog: Any) -> None:
    assert prog["max_pfn"].value_() == 32736
    assert prog["nr_cpu_ids"].value_() == 2
    memory = prog["memblock"].memory
    regions = [(r.base.value_(), r.nid.value_()) for r in memory.regions[: memory.cnt]]
    assert regions[0] == (0x1000, 0)
    assert regions[-1][1] == 1
    assert prog["UTS_RELEASE"].string_() == b"4.20.0-numalab"
    assert b"OSRELEASE=4.20.0" in vmcoreinfo(kernel.m)
    with pytest.raises(KeyError):
        prog["no_such_variable"]


def test_event_counters_are_offered_where_there_is_one_cpu() -> None:
    kernel = boot("1x64M")
    kernel.alloc_pages("GFP_KERNEL", 3)
    prog = to_drgn(kernel)
    assert vmstat.global_vm_event_state(prog, prog["PGALLOC_DMA32"]) == 8
    assert prog["PGALLOC_DMA"].value_() == PGALLOC
    with pytest.raises(KeyError):
        to_drgn(boot("2x64M"))["vm_event_states"]


def test_a_replayed_guest_without_page_tables_can_be_looked_at(kernel: Kernel) -> None:
    other = boot("1x64M")
    other.m[G_PGD] = 0
    prog = to_drgn(other.memory)
    assert vmstat.nr_free_pages(prog) == other.nr_free_pages
