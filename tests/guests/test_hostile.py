# SPDX-License-Identifier: GPL-2.0-only
"""Ten thousand boot sectors and ten thousand snippets that nobody would write: a slice of them each
time, all of them when asked for (`-m slow`). Each slice is a process of its own, so that an engine
that brings its process down is found, and named by its seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .hostile import KINDS, run_batch, run_one

ROOT = Path(__file__).parents[2]
SLICE = {"boot": 150, "long": 150, "bios": 25}
ALL, STEP = 10_000, 500


def in_a_child(kind: str, first: int, count: int) -> None:
    command = [sys.executable, "-m", "tests.guests.hostile", kind, str(first), str(count)]
    child = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    last = [line for line in child.stderr.splitlines() if line.isdigit()][-1:]
    assert child.returncode == 0, f"{kind} seed {last}: {child.returncode}\n{child.stderr[-2000:]}"


@pytest.mark.parametrize("kind", KINDS)
def test_no_random_guest_brings_the_host_down_or_escapes_its_budget(kind: str) -> None:
    in_a_child(kind, 0, SLICE[kind])


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, ALL, STEP))
@pytest.mark.parametrize("kind", ["boot", "long"])
def test_none_of_ten_thousand_does(kind: str, first: int) -> None:
    in_a_child(kind, first, STEP)


@pytest.mark.parametrize("kind", KINDS)
def test_random_guests_end_in_more_than_one_way(kind: str) -> None:
    assert len(run_batch(kind, 20_000, max(SLICE[kind] // 2, 60))) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_random_guest_makes_the_same_run_twice(kind: str) -> None:
    for seed in range(30_000, 30_000 + SLICE[kind] // 8):
        assert run_one(kind, seed) == run_one(kind, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_random_guest_makes_the_same_run_in_pieces(kind: str) -> None:
    for seed in range(30_000, 30_000 + SLICE[kind] // 4):
        whole, cut = KINDS[kind](seed), KINDS[kind](seed)
        end = whole.run(max_instructions=400)
        spent = 0
        while spent < end.instructions or spent == 0:
            stop = cut.run(max_instructions=min(37, max(400 - spent, 1)))
            spent += stop.instructions
            if stop.kind != "budget":
                break
        assert (spent, stop.kind, stop.rip) == (end.instructions, end.kind, end.rip), seed
        assert cut.memory.read(0, 1 << 20) == whole.memory.read(0, 1 << 20), seed
