# SPDX-License-Identifier: GPL-2.0-only
"""A small independent model of the 4.20 page allocator, for comparison with the real one.

Lists are Python lists, pages are numbers, nothing is shared with the hot path: the model is read
from a kernel once, then both get the same requests and must agree on every PFN, list and counter.
It covers what the state machine drives: zonelists, watermarks, per-cpu lists, stealing, highatomic
blocks, the non-sleeping slow path, freeing and draining.
"""

from __future__ import annotations

from allocator.kernel import Kernel
from allocator.layout import CPU_BLOCKS, CPU_NUMA_NODE, CPU_WORDS, NODE_DATA, word_of_va
from allocator.mmzone import (
    ND_NOFALLBACK,
    ND_ZONELISTS,
    NR_VM_NUMA_STAT_ITEMS,
    PSET_BATCH,
    PSET_COUNT,
    PSET_HIGH,
    PSET_NUMA_DIFF,
    PSET_STAT_DIFF,
    PSET_THRESHOLD,
    PSET_WORDS,
    Z_NODE,
    Z_PAGESET,
)
from allocator.pageblock import get_pageblock_migratetype
from allocator.views import Zone, for_each_zone

FALLBACK = {0: (2, 1), 1: (2, 0), 2: (0, 1)}
ZONE_BITS = {0: 2, 1: 0, 2: 2, 4: 1, 8: 2, 9: 0, 10: 3, 12: 1}


class ZoneModel:
    """Lists and counters of one zone."""

    def __init__(self, kernel: Kernel, zone: Zone) -> None:
        m = kernel.m
        self.key = (zone.nid, zone.zid)
        self.start, self.end = zone.start_pfn, zone.end_pfn
        self.managed = zone.managed_pages
        self.marks = zone.watermarks
        self.reserve = zone.lowmem_reserve
        self.highatomic = zone.nr_reserved_highatomic
        self.free = zone.free_pages
        self.lists = {
            (order, mt): zone.free_list(order, mt) for order in range(11) for mt in range(6)
        }
        base = word_of_va(m[zone.word + Z_PAGESET])
        cpus = range(kernel.nr_cpus)
        self.sets = [base + cpu * PSET_WORDS for cpu in cpus]
        self.high = [m[ps + PSET_HIGH] for ps in self.sets]
        self.batch = [m[ps + PSET_BATCH] for ps in self.sets]
        self.threshold = [m[ps + PSET_THRESHOLD] for ps in self.sets]
        self.diff = [m[ps + PSET_STAT_DIFF] for ps in self.sets]
        self.pcp = [[zone.pcp_list(cpu, mt) for mt in range(3)] for cpu in cpus]
        self.numa = [
            [m[ps + PSET_NUMA_DIFF + i] for i in range(NR_VM_NUMA_STAT_ITEMS)] for ps in self.sets
        ]

    def count(self, cpu: int, delta: int) -> None:
        """NR_FREE_PAGES through the per-cpu delta."""
        self.diff[cpu] += delta
        if abs(self.diff[cpu]) > self.threshold[cpu]:
            self.free += self.diff[cpu]
            self.diff[cpu] = 0


class Model:
    """The whole allocator. `alloc` and `release` mirror __alloc_pages_nodemask and __free_pages."""

    def __init__(self, kernel: Kernel) -> None:
        m = kernel.m
        self.zones = {(z.nid, z.zid): ZoneModel(kernel, z) for z in for_each_zone(m)}
        self.order_of: dict[int, int] = {}
        self.zone_of = {}
        self.type = {}
        self.index: dict[int, int] = {}
        for zone in self.zones.values():
            for (order, _), pfns in zone.lists.items():
                for pfn in pfns:
                    self.order_of[pfn] = order
            for pfn in range(zone.start, zone.end):
                page = kernel.page(pfn)
                self.zone_of[pfn] = (page.nid, page.zid)
            for pfn in range(zone.start & ~511, zone.end, 512):
                self.type[pfn >> 9] = get_pageblock_migratetype(m, pfn)
            for lists in zone.pcp:
                for pfns in lists:
                    for pfn in pfns:
                        self.index[pfn] = kernel.page(pfn).index
        self.zonelists = {}
        for node in kernel.nodes:
            nd = word_of_va(m[NODE_DATA + node.nid])
            for thisnode, at in ((False, nd + ND_ZONELISTS), (True, nd + ND_NOFALLBACK)):
                entries = []
                while m[at]:
                    entries.append((m[word_of_va(m[at]) + Z_NODE], m[at + 1]))
                    at += 2
                self.zonelists[node.nid, thisnode] = entries
        self.cpu_node = [
            m[CPU_BLOCKS + c * CPU_WORDS + CPU_NUMA_NODE] for c in range(kernel.nr_cpus)
        ]

    # --- buddy lists --------------------------------------------------------------------------

    def take(self, zone: ZoneModel, order: int, mt: int) -> int | None:
        """__rmqueue_smallest."""
        for high in range(order, 11):
            pfns = zone.lists[high, mt]
            if pfns:
                pfn = pfns.pop(0)
                del self.order_of[pfn]
                for low in range(high - 1, order - 1, -1):
                    zone.lists[low, mt].insert(0, pfn + (1 << low))
                    self.order_of[pfn + (1 << low)] = low
                self.index[pfn] = mt
                return pfn
        return None

    def give(self, zone: ZoneModel, cpu: int, pfn: int, order: int, mt: int) -> None:
        """__free_one_page."""
        zone.count(cpu, 1 << order)
        while order < 10:
            buddy = pfn ^ (1 << order)
            if self.order_of.get(buddy) != order or self.zone_of.get(buddy) != zone.key:
                break
            for pfns in (zone.lists[order, t] for t in range(6)):
                if buddy in pfns:
                    pfns.remove(buddy)
            del self.order_of[buddy]
            pfn &= buddy
            order += 1
        self.order_of[pfn] = order
        tail = False
        if order < 9:
            low = pfn & ~(1 << order)
            above = low ^ (2 << order)
            same = self.zone_of.get(low, (0, 0)) == self.zone_of.get(above, (0, 0))
            tail = self.order_of.get(above) == order + 1 and same
        pfns = zone.lists[order, mt]
        pfns.insert(len(pfns) if tail else 0, pfn)

    def move_block(self, zone: ZoneModel, pfn: int, mt: int) -> int:
        """move_freepages_block; pages moved."""
        start, end = pfn & ~511, (pfn & ~511) + 511
        if not zone.start <= start < zone.end:
            start = pfn
        if not zone.start <= end < zone.end:
            return 0
        moved = 0
        while start <= end:
            order = self.order_of.get(start)
            if order is None:
                start += 1
                continue
            for t in range(6):
                if start in zone.lists[order, t]:
                    zone.lists[order, t].remove(start)
            zone.lists[order, mt].insert(0, start)
            moved += 1 << order
            start += 1 << order
        return moved

    def steal(self, zone: ZoneModel, order: int, mt: int) -> bool:
        """__rmqueue_fallback."""

        def fallback(at: int) -> int | None:
            return next((t for t in FALLBACK[mt] if zone.lists[at, t]), None)

        found = next((o for o in range(10, order - 1, -1) if fallback(o) is not None), None)
        if found is None:
            return False
        can = found >= 4 or mt != 1
        if not can and found > order:
            found = next(o for o in range(order, 11) if fallback(o) is not None)
            can = found >= 4
        source = fallback(found)
        pfn = zone.lists[found, source][0]
        old = self.type[pfn >> 9]
        if old != 3 and found >= 9:
            for i in range(1 << (found - 9)):
                self.type[(pfn >> 9) + i] = mt
        elif old != 3 and can:
            moved = self.move_block(zone, pfn, mt)
            if moved:
                alike = 512 - moved if mt != 1 and old == 1 else 0
                if moved + alike >= 256:
                    self.type[pfn >> 9] = mt
                return True
        zone.lists[found, source].remove(pfn)
        zone.lists[found, mt].insert(0, pfn)
        return True

    def rmqueue_one(self, zone: ZoneModel, order: int, mt: int) -> int | None:
        """__rmqueue."""
        while True:
            pfn = self.take(zone, order, mt)
            if pfn is not None or not self.steal(zone, order, mt):
                return pfn

    # --- per-cpu lists ------------------------------------------------------------------------

    def bulk_free(self, zone: ZoneModel, cpu: int, count: int) -> None:
        """free_pcppages_bulk."""
        lists, collected, at, run = zone.pcp[cpu], [], 0, 0
        while count:
            while True:
                run += 1
                at = (at + 1) % 3
                if lists[at]:
                    break
            if run == 3:
                run = count
            while count and run and lists[at]:
                collected.append(lists[at].pop())
                count -= 1
                run -= 1
        for pfn in collected:
            self.give(zone, cpu, pfn, 0, self.index[pfn])

    def drain(self, cpu: int) -> None:
        """drain_local_pages."""
        for zone in self.zones.values():
            self.bulk_free(zone, cpu, sum(map(len, zone.pcp[cpu])))

    # --- requests -----------------------------------------------------------------------------

    def watermark_ok(self, zone: ZoneModel, order: int, mark: int, cls: int, flags: int) -> bool:
        """zone_watermark_fast, CMA-free."""
        if not order and zone.free > mark + zone.reserve[cls]:
            return True
        free = zone.free - (1 << order) + 1
        if flags & 0x20:
            mark -= mark // 2
        if flags & 0x10:
            mark -= mark // 4
        else:
            free -= zone.highatomic
        if free <= mark + zone.reserve[cls]:
            return False
        types = (0, 1, 2, 3) if flags & 0x10 else (0, 1, 2)
        return not order or any(zone.lists[o, t] for o in range(order, 11) for t in types)

    def from_list(
        self, cpu: int, entries: list[tuple[int, int]], order: int, flags: int, mt: int
    ) -> int | None:
        """get_page_from_freelist over the zones that fit already."""
        if not entries:
            return None
        preferred = self.zones[entries[0]]
        for key in entries:
            zone = self.zones[key]
            ok = self.watermark_ok(zone, order, zone.marks[flags & 3], entries[0][1], flags)
            if not ok and not flags & 4:
                continue
            pfn = self.from_zone(zone, cpu, order, flags, mt)
            if pfn is None:
                continue
            hit = key[0] == preferred.key[0]
            zone.numa[cpu][0 if hit else 1] += 1
            if not hit:
                preferred.numa[cpu][2] += 1
            zone.numa[cpu][4 if key[0] == self.cpu_node[cpu] else 5] += 1
            if order and flags & 0x10 and zone.highatomic < zone.managed // 100 + 512:
                if self.type[pfn >> 9] != 3:
                    zone.highatomic += 512
                    self.type[pfn >> 9] = 3
                    self.move_block(zone, pfn, 3)
            return pfn
        return None

    def from_zone(self, zone: ZoneModel, cpu: int, order: int, flags: int, mt: int) -> int | None:
        """rmqueue."""
        if order:
            pfn = self.take(zone, order, 3) if flags & 0x10 else None
            if pfn is None:
                pfn = self.rmqueue_one(zone, order, mt)
            if pfn is not None:
                zone.count(cpu, -(1 << order))
            return pfn
        pages = zone.pcp[cpu][mt]
        if not pages:
            for _ in range(zone.batch[cpu]):
                pfn = self.rmqueue_one(zone, 0, mt)
                if pfn is None:
                    break
                pages.append(pfn)
            zone.count(cpu, -len(pages))
        return pages.pop(0) if pages else None

    def alloc(self, cpu: int, gfp: int, order: int, nid: int, mask: int = 0) -> int | None:
        """__alloc_pages_nodemask without what sleeps."""
        mt = gfp >> 3 & 3
        high = ZONE_BITS[gfp & 15]
        zonelist = self.zonelists[nid, bool(gfp & 0x40000)]

        def entries(nodes: int) -> list[tuple[int, int]]:
            return [e for e in zonelist if e[1] <= high and (not nodes or nodes >> e[0] & 1)]

        cma = 0x80 if mt == 1 else 0
        pfn = self.from_list(cpu, entries(mask), order, 1 | cma, mt)
        if pfn is not None:
            return pfn
        flags = 0x40 | cma | (gfp & 0x20)
        if gfp & 0x80000:
            flags = flags & ~0x40 | (0 if gfp & 0x10000 else 0x10)
        pfn = self.from_list(cpu, entries(mask), order, flags, mt)
        if pfn is not None or not entries(mask):
            return pfn
        if gfp & 0x2000 and not gfp & 0x10000:
            flags, mask = 4, 0
        elif not flags & 0x40:
            mask = 0
        return self.from_list(cpu, entries(mask), order, flags, mt)

    def release(self, cpu: int, pfn: int, order: int) -> None:
        """__free_pages of a block with one reference."""
        zone = self.zones[self.zone_of[pfn]]
        mt = self.type[pfn >> 9]
        if order:
            self.give(zone, cpu, pfn, order, mt)
            return
        self.index[pfn] = mt
        zone.pcp[cpu][mt if mt < 3 else 1].insert(0, pfn)
        if sum(map(len, zone.pcp[cpu])) >= zone.high[cpu]:
            self.bulk_free(zone, cpu, zone.batch[cpu])


def differences(kernel: Kernel, model: Model) -> list[str]:
    """Where the kernel's lists, struct pages and counters and the model's are not the same."""
    m, found = kernel.m, []
    for (nid, zid), zone in model.zones.items():
        view = Zone(m, nid, zid)
        for (order, mt), pfns in zone.lists.items():
            real = view.free_list(order, mt)
            if real != pfns:
                found.append(f"{nid}:{view.name} order {order} type {mt}: {real} != {pfns}")
            for pfn in real:
                page = kernel.page(pfn)
                if not page.buddy or page.order != order or page.refcount:
                    found.append(f"struct page of {page}")
        if view.nr_free() != [sum(len(zone.lists[o, t]) for t in range(6)) for o in range(11)]:
            found.append(f"{nid}:{view.name} nr_free {view.nr_free()}")
        if view.free_pages != zone.free:
            found.append(f"{nid}:{view.name} NR_FREE_PAGES {view.free_pages} != {zone.free}")
        if view.nr_reserved_highatomic != zone.highatomic:
            found.append(f"{nid}:{view.name} highatomic {view.nr_reserved_highatomic}")
        for cpu, ps in enumerate(zone.sets):
            lists = [view.pcp_list(cpu, mt) for mt in range(3)]
            if lists != zone.pcp[cpu] or m[ps + PSET_COUNT] != sum(map(len, lists)):
                found.append(f"{nid}:{view.name} cpu {cpu} lists {lists} != {zone.pcp[cpu]}")
            if m[ps + PSET_STAT_DIFF] != zone.diff[cpu]:
                found.append(f"{nid}:{view.name} cpu {cpu} delta {m[ps + PSET_STAT_DIFF]}")
            numa = [m[ps + PSET_NUMA_DIFF + i] for i in range(NR_VM_NUMA_STAT_ITEMS)]
            if numa != zone.numa[cpu]:
                found.append(f"{nid}:{view.name} cpu {cpu} numa {numa} != {zone.numa[cpu]}")
    for block, mt in model.type.items():
        real_type = get_pageblock_migratetype(m, block << 9)
        if real_type != mt:
            found.append(f"pageblock {block}: type {real_type} != {mt}")
    return found
