# SPDX-License-Identifier: GPL-2.0-only
"""What a real 4.20 kernel recorded, and what bring-up makes of odd maps, is sound."""

from __future__ import annotations

from functools import lru_cache

import pytest

from allocator.boot_stages import BootStages, BootTables, replay_memory
from allocator.check import check_frames
from allocator.oracle.records import Recording, find_recordings
from allocator.oracle.state_load import load_state

from ..oracle import machines

TABLES = {name: value for name, value in vars(machines).items() if isinstance(value, BootTables)}
BOOT_TAGS = ("early1", "early2", "early3")


@lru_cache(maxsize=1)
def recordings() -> list[Recording]:
    return find_recordings(machines.COPY)


def states(recording: Recording, most: int) -> list[str]:
    tags = [tag for tag in recording.states if not tag.startswith("early0")]
    return tags[:: max(1, len(tags) // most)]


@pytest.mark.parametrize("name", [recording.name for recording in recordings()])
def test_every_recorded_state_is_sound(name: str) -> None:
    recording = next(r for r in recordings() if r.name == name)
    for tag in states(recording, most=4):
        boot = tag.startswith(BOOT_TAGS) or (
            recording.starts_at_map and not tag.startswith("early4")
        )
        guest, _ = load_state(recording.state(tag), boot_pagesets=boot)
        report = check_frames(guest.memory, strict=True)
        assert report.sound, f"{name} {tag}:\n{report}"


@pytest.mark.parametrize("name", TABLES)
def test_machines_with_oddities_are_sound_at_every_stage(name: str) -> None:
    tables = TABLES[name]
    memory, arena = replay_memory(tables)
    stages = BootStages(memory, tables, arena)
    stages.early0()
    for step in (stages.early1, stages.setup_per_cpu_pageset, stages.run_late):
        step()
        report = check_frames(memory, strict=True)
        assert report.sound, f"{name} after {step.__name__}:\n{report}"
