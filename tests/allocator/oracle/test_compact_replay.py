# SPDX-License-Identifier: GPL-2.0-only
"""allocator/oracle/compact_replay.py: what a recording's STATE leaves open, made good."""

from __future__ import annotations

import pytest

from allocator.layout import SECTION_PAGES
from allocator.mm_inline import page_count, page_mapcount, page_mapped
from allocator.mm_types import P_PREV, PG_HEAD, PG_LRU
from allocator.oracle.compact_replay import (
    Cuts,
    compound_cuts,
    cut_compound_pages,
    lru_frames,
    make_cuts,
    migrated_to,
    more_scanned,
    prepare,
)
from allocator.oracle.guest import Guest
from allocator.oracle.jobs import prepare_compaction
from allocator.oracle.page_flags import make_compound
from allocator.oracle.records import Json, find_recordings
from allocator.oracle.replay import Replayer, Tally, run_operations
from allocator.oracle.state_load import load_state
from tests.allocator.oracle.machines import COPY


@pytest.fixture(scope="module")
def recorded() -> tuple[Json, Json, Json]:
    """A RUN that compacts, and the STATEs around it."""
    (recording,) = [r for r in find_recordings(COPY) if r.name == "M1/late-compact-frag-a"]
    run = recording.run(recording.runs[0])
    return run, recording.state(run["meta"]["before"]), recording.state(run["meta"]["after"])


def test_lru_pages_of_the_state_are_mapped_once_by_a_process(
    recorded: tuple[Json, Json, Json],
) -> None:
    run, before, after = recorded
    guest, _ = load_state(before, boot_pagesets=False)
    prepare(guest, run, before, after)
    frames = lru_frames(before)
    assert len(frames) > 10
    for pfn in frames:
        p = guest.page(pfn)
        assert guest.m[p] & PG_LRU
        assert page_mapped(guest.m, p)
        assert page_count(guest.m, p) == page_mapcount(guest.m, p) == 1


def test_cuts_make_the_scanners_look_at_as_many_pages_as_recorded(
    recorded: tuple[Json, Json, Json],
) -> None:
    run, before, after = recorded
    guest, cuts = prepare_compaction(run, before, after)
    assert any(more for found in cuts for more in found.values())
    tally = Tally()
    run_operations(Replayer(guest, run["meta"]), run["ops"], tally)
    assert tally.problem == ""
    assert not any(
        compound_cuts(Replayer(again(run, before, after, cuts), run["meta"]), run["ops"]).values()
    )


def again(run: Json, before: Json, after: Json, cuts: list[Cuts]) -> Guest:
    guest, _ = load_state(before, boot_pagesets=False)
    prepare(guest, run, before, after, cuts)
    return guest


@pytest.mark.parametrize(
    ("ours", "recorded_events", "cuts"),
    [
        ([["CM", 0, 512, 1024, 90, 3]], [["CM", 0, 512, 1024, 93, 3]], {(512, 1024): 3}),
        ([["CM", 0, 512, 1024, 90, 3]], [["CM", 0, 512, 1024, 90, 3]], {(512, 1024): 0}),
        ([["CM", 0, 512, 1024, 90, 3]], [["CM", 0, 512, 1024, 80, 3]], None),  # cannot be mended
        ([["CM", 0, 512, 1024, 90, 3]], [["CM", 0, 512, 1024, 93, 4]], None),  # differs otherwise
        ([["r", 0, 1]], [["r", 0, 2]], None),
        ([["r", 0, 1]], [], None),
    ],
)
def test_only_numbers_of_pages_looked_at_may_differ(
    ours: list[list[object]],
    recorded_events: list[list[object]],
    cuts: dict[tuple[int, int], int] | None,
) -> None:
    assert more_scanned(ours, recorded_events) == cuts


def orders(guest: Guest, start: int, end: int) -> list[int]:
    m = guest.m
    return [
        m[guest.page(pfn) + 8 + P_PREV] >> 8 & 0xFF
        for pfn in range(start, end)
        if m[guest.page(pfn)] & PG_HEAD
    ]


def test_cuts_halve_compound_pages_outside_the_shorter_scans(
    recorded: tuple[Json, Json, Json],
) -> None:
    guest, _ = load_state(recorded[1], boot_pagesets=False)
    start = 1 << 13
    assert guest.m[SECTION_PAGES]
    make_compound(guest, start, 3)
    make_compound(guest, start + 8, 3)
    make_cuts(guest, {(start, start + 8): 1, (start, start + 16): 3})
    assert orders(guest, start, start + 16) == [2, 2, 1, 1, 2]
    assert cut_compound_pages(guest, start, start + 16, 9, []) == 3
    assert orders(guest, start, start + 16) == [1] * 8


def test_targets_of_migrated_lru_pages_are_found() -> None:
    ops = [{"ev": [["M", 0, 5, 9, 0, 1], ["M", 0, 6, 10, 0, 0]]}, {}]
    assert migrated_to(ops) == {9}
