# SPDX-License-Identifier: GPL-2.0-only
"""Loading a STATE gives a machine that is in that STATE and goes on as the original would."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from allocator.boot_stages import BootTables
from allocator.kernel_globals import G_NR_CPU_IDS
from allocator.oracle.guest import Guest
from allocator.oracle.records import find_recordings
from allocator.oracle.state_compare import compare_state
from allocator.oracle.state_load import load_state
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from machine.errors import ImageError

from .dump import dump_state
from .machines import COPY, ODD_MACHINES, TWO_NODES, bring_up, recording

GFPS = (0x6000C0, 0x6280CA, 0x480020, 0x600040, 0x1, 0x4, 0x6000D0)


def work(guest: Guest, seed: int, steps: int) -> list[int]:
    """Random requests and frees; the frames that the requests got."""
    draw = random.Random(seed)
    held: list[tuple[int, int]] = []
    got: list[int] = []
    nodes = [nid for nid in range(64) if guest.node(nid) >= 0]
    for _ in range(steps):
        cpu = draw.randrange(guest.m[G_NR_CPU_IDS])
        if held and draw.random() < 0.45:
            pfn, order = held.pop(draw.randrange(len(held)))
            assert free_pages(guest.m, cpu, pfn, order) == 0
            continue
        order = draw.choice((0, 0, 0, 0, 1, 2, 3, 5, 9))
        pfn = alloc_pages_nodemask(
            guest.m, cpu, draw.choice(GFPS) & ~0x200000 | 0x200, order, draw.choice(nodes), 0
        )
        got.append(pfn)
        if pfn >= 0:
            held.append((pfn, order))
    return got


@pytest.mark.parametrize(
    ("name", "tag"),
    [(r.name, tag) for r in find_recordings(COPY) for tag in r.states if "early0" not in tag],
)
def test_a_loaded_state_is_that_state(name: str, tag: str) -> None:
    source = recording(name)
    state = source.state(tag)
    boot = tag.startswith("early1") or (source.starts_at_map and tag.startswith("run"))
    guest, zonelists = load_state(state, boot_pagesets=boot)
    assert zonelists == []
    assert compare_state(guest, state) == []


@pytest.mark.parametrize("tables", ODD_MACHINES.values(), ids=ODD_MACHINES)
def test_a_machine_never_recorded_goes_on_alike_from_its_dump(tables: BootTables) -> None:
    original = bring_up(tables)
    work(original, 1, 400)
    state = dump_state(original)
    loaded, zonelists = load_state(state)
    assert zonelists == []
    assert compare_state(loaded, state) == []
    assert work(loaded, 2, 600) == work(original, 2, 600)
    assert compare_state(loaded, dump_state(original)) == []


@pytest.mark.parametrize("tables", ODD_MACHINES.values(), ids=ODD_MACHINES)
def test_boot_pagesets_are_shared_by_all_zones_of_a_cpu(tables: BootTables) -> None:
    original = bring_up(tables, late=False)
    work(original, 3, 50)
    state = dump_state(original)
    loaded, _ = load_state(state, boot_pagesets=True)
    assert compare_state(loaded, state) == []
    assert work(loaded, 4, 200) == work(original, 4, 200)
    assert compare_state(loaded, dump_state(original)) == []


def test_zonelists_that_do_not_follow_from_the_distances_are_reported() -> None:
    state = dump_state(bring_up(TWO_NODES))
    state["nodes"][1]["zonelists"][0].reverse()
    _, zonelists = load_state(state)
    assert [line.split(":")[0] for line in zonelists] == ["node 1 zonelist"]


def break_max_pfn(state: dict[str, Any]) -> None:
    state["globals"]["max_pfn"] = 1 << 50


def break_cpus(state: dict[str, Any]) -> None:
    state["globals"]["nr_cpu_ids"] = 0


def break_node(state: dict[str, Any]) -> None:
    state["nodes"][1]["nid"] = 64


def break_zone(state: dict[str, Any]) -> None:
    state["zones"][0]["spanned"] = -1


def break_runs(state: dict[str, Any]) -> None:
    state["page_zone"].append([0, 1, 0, 1 << 40])


def list_twice(state: dict[str, Any]) -> None:
    area = next(a for a in state["zones"][1]["free_area"] if a["lists"])
    next(iter(area["lists"].values())).append(next(iter(area["lists"].values()))[0])


def list_unaligned(state: dict[str, Any]) -> None:
    area = next(a for a in state["zones"][1]["free_area"][3:] if a["lists"])
    next(iter(area["lists"].values()))[0] += 1


def list_outside(state: dict[str, Any]) -> None:
    state["zones"][1]["free_area"][0]["lists"]["1"] = [1 << 30]


def break_block_type(state: dict[str, Any]) -> None:
    state["zones"][1]["pageblocks"]["types"] = "9" * 10


def break_reserved(state: dict[str, Any]) -> None:
    state["zones"][1]["reserved"].append([1 << 28, 4])


@pytest.mark.parametrize(
    "damage",
    [
        break_max_pfn,
        break_cpus,
        break_node,
        break_zone,
        break_runs,
        list_twice,
        list_unaligned,
        list_outside,
        break_block_type,
        break_reserved,
    ],
)
def test_a_state_that_contradicts_itself_is_refused(damage: Any) -> None:
    state = copy.deepcopy(dump_state(bring_up(TWO_NODES)))
    damage(state)
    with pytest.raises(ImageError):
        load_state(state)
