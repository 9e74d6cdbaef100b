# SPDX-License-Identifier: GPL-2.0-only
"""check_frames(): what is sound, what is not, and that nothing in RAM can hurt it."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from allocator.check import check_frames, rules
from allocator.kernel import Kernel
from allocator.kernel_globals import KDATA, KERNEL_BASE
from allocator.layout import (
    CPU_BLOCKS,
    KERNEL_IMAGE_SIZE,
    MEM_SECTIONS,
    MEMBLOCK_MEMORY,
    NODE_DATA,
    SECTION_PAGES,
    word_of_va,
)
from allocator.mmzone import PGLIST_DATA_WORDS
from machine import Bank, PhysicalMemory

from .scribbler import age, scribbler

FAR = -(1 << 63)
EVIL = (0, -1, 1, 255, 1 << 40, 1 << 62, FAR, (1 << 63) - 1, -7, 1 << 32)


def test_a_booted_machine_is_sound_and_says_so_in_one_line(kernel: Kernel) -> None:
    report = check_frames(kernel.memory, strict=True)
    assert report.sound
    assert report.frames == sum(zone.present_pages for zone in kernel.zones)
    assert str(report).startswith(f"{report.frames:,} frames: {report.frames:,} sound (")
    assert str(report).count("\n") == 0


@pytest.mark.numa("2x32M")
@pytest.mark.numa("node,nodeid=0,cpus=0,mem=64M", "node,nodeid=1,mem=64M", "node,nodeid=2,cpus=1")
@pytest.mark.numa("2x64M", append="kernelcore=30% cma=8M")
@pytest.mark.numa("1x64M", append="mem=48M page_poison=1 page_owner=on")
@pytest.mark.numa("2x64M,cpus=3", append="debug_pagealloc=on debug_guardpage_minorder=4")
@pytest.mark.numa("2x2G")
@pytest.mark.numa("2x2G", machine_type="q35")
def test_every_shape_of_machine_boots_sound(kernel: Kernel) -> None:
    report = check_frames(kernel.memory, strict=True)
    assert report.sound, str(report)


def test_there_are_at_least_41_rules_and_each_is_stated() -> None:
    assert len(rules()) >= 41
    assert all(text and "\n" not in text for text in rules().values())


def test_checking_changes_nothing(kernel: Kernel) -> None:
    before = bytes(kernel.memory.bytes)
    check_frames(kernel.memory)
    assert bytes(kernel.memory.bytes) == before


def test_ram_without_a_kernel_is_a_finding_and_no_error() -> None:
    memory = PhysicalMemory([Bank(0, 32 << 20, "ram")])
    report = check_frames(memory, strict=True)
    assert "magic" in {finding.rule for finding in report.findings}
    assert not check_frames(PhysicalMemory([Bank(0, 1 << 20, "ram")]), strict=True).sound


@pytest.mark.parametrize("value", EVIL)
def test_static_data_overwritten_with_one_value_is_survived(value: int) -> None:
    guest = scribbler("1x64M")
    guest.machine.memory.q[KERNEL_BASE >> 3 : KERNEL_BASE + KERNEL_IMAGE_SIZE >> 3] = value
    report = check_frames(guest.machine.memory, strict=True)
    assert "magic" in {finding.rule for finding in report.findings}


@pytest.mark.parametrize("value", EVIL)
def test_a_memory_map_overwritten_with_one_value_is_survived(value: int) -> None:
    guest = scribbler("1x64M")
    first = guest.m[SECTION_PAGES]
    guest.machine.memory.q[first : first + 8 * 16384] = value
    report = check_frames(guest.machine.memory, strict=True)
    assert not report.sound
    assert len(report.findings) < 5000
    assert str(report).splitlines()[-1].startswith(f"{report.unsound:,} of ")


def test_random_damage_of_any_size_never_raises_and_never_takes_long() -> None:
    rng = random.Random(11)
    guest = scribbler("2x64M")
    age(guest.kernel, rng, 200)
    memory, m = guest.machine.memory, guest.m
    pristine = np.array(memory.q)
    places = [(KDATA, 512), (NODE_DATA, 64), (MEM_SECTIONS, 8), (CPU_BLOCKS, 256)]
    places += [(MEMBLOCK_MEMORY, 40), (m[SECTION_PAGES], 8 * 32768)]
    places += [(word_of_va(m[NODE_DATA + nid]), PGLIST_DATA_WORDS) for nid in (0, 1)] * 3
    for _ in range(150):
        written = []
        for _ in range(rng.choice((1, 2, 5, 50, 500))):
            first, words = rng.choice(places)
            word = first + rng.randrange(words)
            noise = rng.getrandbits(64) - (1 << 63)
            m[word] = rng.choice((rng.choice(EVIL), m[word] ^ 1 << rng.randrange(63), noise))
            written.append(word)
        began = time.perf_counter()
        report = check_frames(memory, strict=True)
        assert time.perf_counter() - began < 5
        assert str(report)
        for word in written:
            m[word] = int(pristine[word])
    assert check_frames(memory, strict=True).sound


def test_a_checker_that_stumbles_makes_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from allocator.check import registry

    def stumble(check: object) -> None:
        raise IndexError("off the edge")

    guest = scribbler("1x64M")
    checker = registry.CHECKERS["nodes"]
    replaced = registry.Checker("nodes", checker.rules, stumble, checker.rank)
    monkeypatch.setitem(registry.CHECKERS, "nodes", replaced)
    (finding,) = check_frames(guest.machine.memory).findings
    assert (finding.rule, finding.message) == ("checkable", "untestable: off the edge")
    with pytest.raises(IndexError):
        check_frames(guest.machine.memory, strict=True)
