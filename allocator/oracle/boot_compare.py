# SPDX-License-Identifier: GPL-2.0-only
"""Recordings that start from the memory map: our own bring-up, stage by stage.

The map of a recording is what its early0 STATE says of memblock, the CPUs and the distances. Our
bring-up makes nodes, zones, memmap and zonelists of it (compared with early0), frees the memory to
the buddy lists (compared with early1, every list in order), and from there the early RUNs go on
without any STATE being loaded.

Which reserved ranges are CMA areas is on the recorded command line only as far as it was `cma=`; a
test kernel declared its own. They are the pageblocks that early1 shows with type CMA.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..boot_stages import BootStages, BootTables, replay_memory
from ..kernel_globals import G_TOTALCMA
from ..mmzone import PAGEBLOCK_NR_PAGES
from .guest import RING_BYTES, SCRATCH_BYTES, Guest
from .limits import check_tables
from .records import Recording
from .state_compare import compare_state

CMA_DIGIT = "4"


def cma_areas(state: dict[str, Any]) -> list[tuple[int, int]]:
    """(base, size) in bytes of the runs of CMA pageblocks in a STATE, ascending."""
    blocks: list[int] = []
    for zone in state["zones"]:
        marked = zone.get("pageblocks") or {"start": 0, "types": ""}
        for i, digit in enumerate(marked["types"]):
            if digit == CMA_DIGIT:
                blocks.append(marked["start"] + i * PAGEBLOCK_NR_PAGES)
    areas: list[tuple[int, int]] = []
    for pfn in sorted(set(blocks)):
        if areas and sum(areas[-1]) == pfn << 12:
            areas[-1] = (areas[-1][0], areas[-1][1] + (PAGEBLOCK_NR_PAGES << 12))
        else:
            areas.append((pfn << 12, PAGEBLOCK_NR_PAGES << 12))
    return areas


def bring_up(recording: Recording) -> Iterator[tuple[Guest, BootStages, str, list[str]]]:
    """Boots from the recording's map: yields after early0 and after early1.

    Each time the machine, its stages, the stage's name and the differences from the recording.
    Raises ImageError for a malformed recording, BringUpError if no kernel comes up on it.
    """
    early0 = recording.state("early0")
    early1 = recording.state("early1")
    check_tables(early0)
    areas = cma_areas(early1)
    tables = BootTables.from_state(early0, cmdline=recording.cmdline, cma_areas=areas)
    memory, arena = replay_memory(tables, extra_bytes=RING_BYTES + SCRATCH_BYTES + 4096)
    ring = arena.alloc(RING_BYTES + SCRATCH_BYTES, 4096)
    stages = BootStages(memory, tables, arena)
    guest = Guest(memory, ring)
    stages.early0()
    # how the areas were declared decides whether they are in the total; only the record knows
    guest.m[G_TOTALCMA] = early0["globals"].get("totalcma", 0)
    yield guest, stages, "early0", compare_state(guest, early0)
    stages.early1()
    if areas:
        stages.cma_init_reserved_areas()
    yield guest, stages, "early1", compare_state(guest, early1)
