# SPDX-License-Identifier: GPL-2.0-only
"""Reading a kernel's structures back out of guest RAM for the bring-up tests."""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from allocator import kernel_globals as kg
from allocator import layout as lay
from allocator.boot_context import BootContext, node_word
from allocator.boot_stages import BootStages, BootTables, replay_memory
from allocator.kernel_data import init_kernel_data
from allocator.mm_types import P_COUNTS, P_FLAGS, P_NEXT, P_PREV, P_PRIVATE, PG_RESERVED
from allocator.mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    MAX_ORDER,
    MIGRATE_TYPES,
    Z_FREE_AREA,
    ZONE_WORDS,
)
from allocator.params import KernelParams, parse_args, parse_early_param
from allocator.printk import Printk
from firmware import power_on
from machine import Bank, Machine, PhysicalMemory, Topology

CASES_FILE = Path(__file__).parents[1] / "oracle" / "bringup.json.gz"
MIB = 1 << 20


@lru_cache(maxsize=1)
def recorded_cases() -> list[dict[str, Any]]:
    """What real 4.20 kernels showed on the recorded machines, one entry per distinct boot."""
    cases: list[dict[str, Any]] = json.loads(gzip.decompress(CASES_FILE.read_bytes()))
    return cases


def staged(case: dict[str, Any]) -> BootStages:
    tables = BootTables.from_state(case["state"], case["cmdline"], case["cma_areas"])
    memory, arena = replay_memory(tables)
    return BootStages(memory, tables, arena)


def tables_boot(
    memory: list[tuple[int, int, int]],
    reserved: list[tuple[int, int]] | None = None,
    cpu_nodes: list[int] | None = None,
    **more: Any,
) -> BootStages:
    """A staged boot of memory (base, size, nid) with reserved (base, size) ranges."""
    tables = BootTables(
        memory=[(base, size, nid, 0) for base, size, nid in memory],
        reserved=[(base, size, 64, 0) for base, size in reserved or []],
        cpu_nodes=cpu_nodes or [0],
        **more,
    )
    ram, arena = replay_memory(tables)
    return BootStages(ram, tables, arena)


def context(size: int = 64 * MIB, cmdline: str = "") -> BootContext:
    """An empty machine with one bank of RAM, nothing in memblock yet."""
    memory = PhysicalMemory([Bank(0, size, "ram")])
    init_kernel_data(memory.words)
    printk = Printk(memory.words)
    params = parse_early_param(cmdline, printk)
    parse_args(params, printk)
    return BootContext(memory, params, printk)


def parse(cmdline: str) -> tuple[KernelParams, list[str]]:
    """Parameters and the text of the complaints."""
    ctx = context(cmdline=cmdline)
    return ctx.params, [line.split("] ", 1)[1] for line in ctx.printk.lines]


def booted_machine(*specs: str, append: str = "", machine_type: str = "pc") -> Machine:
    machine = Machine(Topology.parse(*specs, machine_type=machine_type))
    power_on(machine, append)
    return machine


def page_word(m: memoryview, pfn: int) -> int:
    return m[lay.SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)


def zone(m: memoryview, nid: int, zid: int) -> int:
    return node_word(m, nid) + zid * ZONE_WORDS


def read_list(m: memoryview, head: int) -> list[int]:
    """Pfns of a free list, following next and checking prev on the way."""
    end = lay.va_of_word(head)
    found, va, before = [], m[head], end
    while va != end:
        pfn = (va - lay.VMEMMAP_START) >> 6
        assert m[page_word(m, pfn) + P_PREV] == before
        found.append(pfn)
        before, va = va, m[page_word(m, pfn) + P_NEXT]
    assert m[head + 1] == before
    return found


def free_areas(m: memoryview, z: int) -> list[list[Any]]:
    """[nr_free, {migratetype: pfns}] for every order, as the recorded cases have it."""
    areas = []
    for order in range(MAX_ORDER):
        area = z + Z_FREE_AREA + order * FA_WORDS
        lists = {str(mt): read_list(m, area + 2 * mt) for mt in range(MIGRATE_TYPES)}
        for pfns in lists.values():
            for pfn in pfns:
                w = page_word(m, pfn)
                assert m[w + P_PRIVATE] == order
                assert m[w + P_COUNTS] == 0xFFFFFF7F
        areas.append([m[area + FA_NR_FREE], {mt: pfns for mt, pfns in lists.items() if pfns}])
    return areas


def zone_runs(k: BootStages) -> list[list[int]]:
    """[nid, zid, start, length] of what the struct pages' flags say, up to max_pfn."""
    m, runs = k.m, []
    top = m[kg.G_MAX_PFN]
    for pfn in range(top):
        if not m[lay.SECTION_MEM_MAP + (pfn >> 15 << 2)]:
            continue
        ident = m[page_word(m, pfn) + P_FLAGS] >> 56 & 0xFF
        if runs and runs[-1][:2] == [ident >> 2, ident & 3] and sum(runs[-1][2:]) == pfn:
            runs[-1][3] += 1
        else:
            runs.append([ident >> 2, ident & 3, pfn, 1])
    return runs


def reserved_runs(m: memoryview, nid: int, zid: int, start: int, spanned: int) -> list[list[int]]:
    """[start, length] of PageReserved frames of a zone."""
    runs: list[list[int]] = []
    for pfn in range(start, start + spanned):
        if not m[lay.SECTION_MEM_MAP + (pfn >> 15 << 2)]:
            continue
        flags = m[page_word(m, pfn) + P_FLAGS]
        if flags & PG_RESERVED and flags >> 56 & 0xFF == nid << 2 | zid:
            if runs and sum(runs[-1]) == pfn:
                runs[-1][1] += 1
            else:
                runs.append([pfn, 1])
    return runs
