# SPDX-License-Identifier: GPL-2.0-only
"""The corruption drill: whatever single field guest code damages, the check names the right frame.

Each kind of damage is done by a program running on a vCPU, at places drawn from a seed; then the
word is put back and the machine must be sound again. The other half of the promise: an undamaged
machine never raises an alarm.
"""

from __future__ import annotations

import random

import pytest

from allocator.check import Report, check_frames

from .damage import PAGE_KINDS, Damage, Kind, Ward
from .damage_structs import DEBUG_KINDS, STRUCT_KINDS
from .scribbler import Held, Scribbler, age, scribbler

PLACES = 4
"""Places at which each kind of damage is done."""
DEBUG = "page_poison=1 page_owner=on debug_pagealloc=on debug_guardpage_minorder=2"
MACHINES = (
    ("1x64M", ""),
    ("2x64M,cpus=2", ""),
    ("4x64M", "kernelcore=50%"),
    ("2x64M", "page_owner=on page_poison=1"),
    ("2x64M", "debug_pagealloc=on debug_guardpage_minorder=3"),
    ("2x96M", "cma=16M"),
)


def with_a_past(spec: str, append: str) -> tuple[Scribbler, Held]:
    guest = scribbler(spec, append)
    held = age(guest.kernel, random.Random(f"{spec} {append}"), 900)
    # some frames on every per-cpu list, and single pages side by side
    for cpu in range(len(guest.machine.cpus)):
        for gfp in ("GFP_KERNEL", "GFP_HIGHUSER_MOVABLE", "GFP_KERNEL|__GFP_RECLAIMABLE"):
            pages = [guest.kernel.alloc_pages(gfp, cpu=cpu) for _ in range(8)]
            for page in pages[:3]:
                assert page is not None
                guest.kernel.free_pages(page, cpu=cpu)
            held += [(page.pfn, 0) for page in pages[3:] if page is not None]
    return guest, held


@pytest.fixture(scope="module")
def plain() -> tuple[Scribbler, Held]:
    return with_a_past("2x64M,cpus=2", "")


@pytest.fixture(scope="module")
def debugged() -> tuple[Scribbler, Held]:
    return with_a_past("2x64M,cpus=2", DEBUG)


def drill(guest: Scribbler, held: Held, name: str, kind: Kind, most: int = 1 << 30) -> None:
    """Does the damage at several places; each time it is found where it is, no more than `most`
    frames are called unsound, and nothing is left when the word is put back."""
    memory = guest.machine.memory
    for place in range(PLACES):
        damage = kind(Ward(guest, held), random.Random(f"{name} {place}"))
        before = guest.m[damage.word]
        assert damage.value != before, "the drill wrote what was there already"
        guest.write((damage.va, damage.value))
        try:
            assert guest.m[damage.word] == damage.value
            report = check_frames(memory, strict=True)
            assert not report.sound, f"{name} at {damage} was not noticed"
            assert named(report, damage), f"{name} at {damage}:\n{report}"
            assert report.unsound <= most, f"{name} at {damage}:\n{report}"
        finally:
            guest.m[damage.word] = before
        assert check_frames(memory, strict=True).sound


def named(report: Report, damage: Damage) -> bool:
    if damage.page:
        return damage.frame in report.frame_numbers
    return damage.frame in {finding.address >> 12 for finding in report.findings}


def test_the_drill_has_at_least_forty_kinds_of_damage() -> None:
    assert len(PAGE_KINDS) >= 40
    assert len(PAGE_KINDS | STRUCT_KINDS | DEBUG_KINDS) == sum(
        map(len, (PAGE_KINDS, STRUCT_KINDS, DEBUG_KINDS))
    )


@pytest.mark.parametrize("name", PAGE_KINDS)
def test_a_damaged_struct_page_is_found_and_its_frame_named(
    plain: tuple[Scribbler, Held], name: str
) -> None:
    drill(*plain, name, PAGE_KINDS[name], most=2)


@pytest.mark.parametrize("name", STRUCT_KINDS)
def test_a_damaged_structure_is_found_and_its_frame_named(
    plain: tuple[Scribbler, Held], name: str
) -> None:
    drill(*plain, name, STRUCT_KINDS[name])


@pytest.mark.parametrize("name", DEBUG_KINDS)
def test_with_debugging_aids_on_their_damage_is_found_and_named(
    debugged: tuple[Scribbler, Held], name: str
) -> None:
    drill(*debugged, name, DEBUG_KINDS[name])


def sound_states(count: int, seed: int) -> None:
    rng = random.Random(seed)
    for spec, append in MACHINES:
        guest = scribbler(spec, append)
        held: Held = []
        for _ in range(-(-count // len(MACHINES))):
            age(guest.kernel, rng, rng.choice((1, 5, 25)), held)
            report = check_frames(guest.machine.memory, strict=True)
            assert report.sound, f"{spec} {append}:\n{report}"


def test_no_alarm_over_a_hundred_random_states() -> None:
    sound_states(100, seed=20)


@pytest.mark.slow
def test_no_alarm_over_a_thousand_random_states() -> None:
    sound_states(1000, seed=4)
