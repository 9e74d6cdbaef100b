# SPDX-License-Identifier: GPL-2.0-only
"""allocator/process_base.py: how calls and accesses of a process are run."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest

from allocator.errors import ProcessKilled, SystemCallError
from allocator.pgtable import mm_find_pte
from allocator.vma import find_vma
from machine import NumalabError

from .process_support import page_out
from .processes import PAGE, boot, process, sound


def test_what_a_process_does_counts_on_its_cpu_and_node() -> None:
    kernel = boot("2x64M")
    proc = kernel.create_process("far", cpu=1)
    start = proc.mmap(PAGE)
    proc.write(start, b"x")
    page = proc.page(start)
    assert page is not None
    assert (proc.cpu, page.nid) == (1, 1)
    assert repr(proc) == f"<Process {proc.pid}>"


@pytest.mark.parametrize("seed", range(10))
def test_damaged_structures_raise_our_errors_and_no_others(seed: int) -> None:
    rng = random.Random(seed)
    proc = process()
    m = proc.m
    start = proc.mmap(32 * PAGE)
    proc.touch(start, 32 * PAGE)
    child = proc.fork()
    page = proc.page(start)
    assert page is not None
    places = [
        (proc.mm, 40),
        (find_vma(m, proc.mm, start), 32),
        (mm_find_pte(m, proc.mm, start), 32),
        (page.word, 8),
    ]
    base, words = rng.choice(places)
    for _ in range(2):
        m[base + rng.randrange(words)] = rng.getrandbits(64) - (1 << 63)
    for _ in range(8):
        who = rng.choice([proc, child])
        at = start + rng.randrange(28) * PAGE
        calls: list[Callable[[], object]] = [
            lambda who=who: who.mmap(2 * PAGE),  # type: ignore[misc]
            lambda who=who, at=at: who.munmap(at, 2 * PAGE),  # type: ignore[misc]
            lambda who=who, at=at: who.write(at, b"x"),  # type: ignore[misc]
            lambda who=who, at=at: who.read(at, 9),  # type: ignore[misc]
            lambda who=who: who.fork(),  # type: ignore[misc]
            lambda who=who, at=at: who.mprotect(at, PAGE, "r"),  # type: ignore[misc]
            lambda who=who: who.maps,  # type: ignore[misc]
        ]
        with contextlib.suppress(NumalabError):
            rng.choice(calls)()


def test_a_page_that_a_daemon_takes_right_after_the_fault_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proc = process()
    kernel = proc.kernel
    kernel.swapon(64)
    start = proc.mmap(PAGE)
    proc.write(start, b"old")
    kernel.lru_add_drain_all()
    taken: list[bool] = []

    def turn(cpu: int) -> None:
        if not taken:
            page = proc.page(start)
            assert page is not None
            taken.append(page_out(kernel.m, page.word))
            kernel.daemons.turns += 1

    monkeypatch.setattr(kernel.daemons, "turn", turn)
    proc.write(start, b"new")
    assert taken == [True]
    assert proc.page(start) is not None
    assert proc.read(start, 3) == b"new"
    sound(kernel)


def test_a_killed_process_dies_when_it_would_run_next() -> None:
    victim = boot().create_process("victim")
    heap = victim.mmap(4096)
    victim.kill()
    assert victim.alive
    with pytest.raises(ProcessKilled, match="SIGKILL at 0x0: killed") as death:
        victim.write(heap, b"x")
    assert death.value.signal == 9
    assert not victim.alive
    with pytest.raises(SystemCallError):
        victim.kill()
