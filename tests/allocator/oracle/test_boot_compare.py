# SPDX-License-Identifier: GPL-2.0-only
"""Bring-up from a recording's map: equal where it should be, named where it is not."""

from __future__ import annotations

from typing import Any

import pytest

from allocator.oracle.boot_compare import bring_up, cma_areas
from allocator.oracle.records import Recording

from .machines import recording


def zone(start: int, types: str) -> dict[str, Any]:
    """A zone with pageblocks of these types."""
    return {"pageblocks": {"start": start, "types": types}}


def test_cma_areas_are_runs_of_cma_pageblocks_in_address_order() -> None:
    state = {"zones": [zone(8192, "1441."), zone(10240, "4"), {"pageblocks": None}]}
    assert cma_areas(state) == [(8704 << 12, 4 << 20), (10240 << 12, 2 << 20)]


def test_recorded_cma_areas_are_those_of_the_readme() -> None:
    areas = cma_areas(recording("M2/early-cma-a").state("early1"))
    assert areas == [(80 << 20, 16 << 20), (176 << 20, 16 << 20)]


@pytest.mark.parametrize("name", ["M3/early", "M5/early", "M3/early-cma-a"])
def test_each_stage_is_compared(name: str) -> None:
    stages = [(stage, differences) for _, _, stage, differences in bring_up(recording(name))]
    assert stages == [("early0", []), ("early1", [])]


def test_another_map_gives_other_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Recording.state

    def shortened(self: Recording, stem: str) -> dict[str, Any]:
        state = original(self, stem)
        if stem == "early0":
            state["memblock"]["memory"][-1][1] -= 4 << 20
        return state

    monkeypatch.setattr(Recording, "state", shortened)
    found = {stage: differences for _, _, stage, differences in bring_up(recording("M2/early"))}
    assert any("zone 1:1 spanned" in line for line in found["early0"])
    assert any("zone 1:1 free list" in line for line in found["early1"])
