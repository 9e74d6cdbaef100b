# SPDX-License-Identifier: GPL-2.0-only
"""allocator/team.py: CPUs in host threads lose no frame and give none twice."""

from __future__ import annotations

import random
import threading
from array import array
from collections.abc import Callable

import numpy as np
import pytest

from allocator.check import check_frames
from allocator.engine import Engine, compiled_available, load_engine
from allocator.gfp import parse_gfp
from allocator.kernel import Kernel
from allocator.kernel_globals import (
    G_NR_CPU_IDS,
    G_TRACE_BASE,
    G_TRACE_HEAD,
    G_TRACE_MASK,
    G_TRACE_SIZE,
)
from allocator.layout import RECORD_WORDS
from allocator.mmzone import NR_FREE_PAGES
from allocator.team import Team, side_by_side
from allocator.trace_events import EV_MM_PAGE_ALLOC, EV_MM_PAGE_FREE
from allocator.vmstat import zone_page_state_snapshot
from machine import UsageError
from tests.allocator.machines import boot

pytestmark = pytest.mark.skipif(not compiled_available(), reason="numba is not installed")
GFPS = [
    parse_gfp(text)
    for text in ("GFP_KERNEL", "GFP_HIGHUSER_MOVABLE", "GFP_KERNEL|__GFP_RECLAIMABLE")
]
NOWAIT = parse_gfp("__GFP_NOWARN|__GFP_HIGHMEM")
Blocks = list[tuple[int, int]]


@pytest.fixture
def compiled() -> Engine:
    return load_engine("compiled")


def free_pages_of(kernel: Kernel) -> int:
    """Free pages of all zones and all CPUs' lists."""
    kernel.engine.drain_all_pages(kernel.m, -1)
    return sum(zone_page_state_snapshot(kernel.m, z.word, NR_FREE_PAGES) for z in kernel.zones)


def random_work(kernel: Kernel, hot: Engine, cpu: int, seed: int, steps: int) -> Blocks:
    """Requests and frees of one CPU, single and in bulk; the blocks that it still has."""
    rng, m = random.Random(seed), kernel.m
    live: Blocks = []
    nodes = len(kernel.nodes)
    pfns = memoryview(array("q", bytes(8 * 512)))
    for _ in range(steps):
        what, order = rng.random(), rng.choice((0, 0, 0, 0, 1, 2, 3, 5, 9))
        gfp, nid = rng.choice(GFPS) | NOWAIT, rng.randrange(nodes)
        if what < 0.2:
            count = min(512, 1024 >> order)
            got = hot.alloc_pages_bulk(m, cpu, gfp, order, nid, 0, pfns, count)
            live += [(pfn, order) for pfn in pfns[:got]]
        elif what < 0.5 or not live:
            pfn = hot.alloc_pages_nodemask(m, cpu, gfp, order, nid, 0)
            if pfn >= 0:
                live.append((pfn, order))
        elif what < 0.99:
            rng.shuffle(live)
            for _ in range(min(len(live), rng.choice((1, 40, 800)))):
                pfn, order = live.pop()
                assert hot.free_pages(m, cpu, pfn, order) == 0
        else:
            hot.drain_all_pages(m, -1)
    return live


def owners_of(kernel: Kernel, blocks: list[Blocks]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """How many of the CPUs' blocks each frame is in."""
    top = max(zone.spanned_pages + zone.start_pfn for zone in kernel.zones)
    owners = np.zeros(top, dtype=np.int64)
    for mine in blocks:
        for pfn, order in mine:
            owners[pfn : pfn + (1 << order)] += 1
    return owners


@pytest.mark.parametrize("numa", ["1x64M,cpus=2", "2x48M", "2x48M,cpus=2"])
def test_threads_lose_no_frame_and_share_none(compiled: Engine, numa: str) -> None:
    kernel = boot(numa)
    kernel.use_engine(compiled)
    cpus = kernel.m[G_NR_CPU_IDS]
    free = free_pages_of(kernel)
    jobs: list[Callable[[], Blocks]] = [
        lambda cpu=cpu: random_work(kernel, compiled, cpu, cpu, 400)  # type: ignore[misc]
        for cpu in range(cpus)
    ]
    blocks = side_by_side(kernel.m, compiled, jobs)
    owners = owners_of(kernel, blocks)
    assert owners.max() == 1
    report = check_frames(kernel.memory)
    assert report.sound, str(report)
    assert free_pages_of(kernel) == free - int(owners.sum())
    for mine in blocks:
        for pfn, order in mine:
            assert compiled.free_pages(kernel.m, 0, pfn, order) == 0
    assert free_pages_of(kernel) == free
    assert check_frames(kernel.memory).sound


def test_blocks_freed_by_another_cpu_come_back_whole(compiled: Engine) -> None:
    kernel = boot("1x64M,cpus=2")
    kernel.use_engine(compiled)
    free, m = free_pages_of(kernel), kernel.m
    share = free // 5
    first = np.zeros(share, dtype=np.int64)
    got = compiled.alloc_pages_bulk(m, 0, GFPS[1] | NOWAIT, 0, 0, 0, first.data, share)
    assert got == share

    def release() -> int:
        done: int = compiled.free_pages_bulk(m, 1, 0, first.data, share)
        return done

    def take() -> int:
        more = np.zeros(share, dtype=np.int64)
        done: int = compiled.alloc_pages_bulk(m, 0, GFPS[0] | NOWAIT, 0, 0, 0, more.data, share)
        assert not np.isin(more, -1).any()
        return int(compiled.free_pages_bulk(m, 0, 0, more.data, done))

    for _ in range(10):
        freed, back = side_by_side(m, compiled, [release, take])
        assert freed == back == share
        got = compiled.alloc_pages_bulk(m, 0, GFPS[1] | NOWAIT, 0, 0, 0, first.data, share)
        assert got == share
    assert compiled.free_pages_bulk(m, 0, 0, first.data, share) == share
    assert free_pages_of(kernel) == free
    assert check_frames(kernel.memory).sound


def test_while_tracing_every_request_of_every_thread_is_recorded(compiled: Engine) -> None:
    kernel = boot("1x64M,cpus=2")
    kernel.use_engine(compiled)
    kernel.m[G_TRACE_MASK] = 1 << EV_MM_PAGE_ALLOC | 1 << EV_MM_PAGE_FREE
    count = 900
    before = [event for event, *_ in kernel_events(kernel)]

    def pairs(cpu: int) -> int:
        done: int = compiled.repeat_pages(kernel.m, cpu, GFPS[0], 0, 0, count)
        return done

    assert side_by_side(kernel.m, compiled, [lambda: pairs(0), lambda: pairs(1)]) == [count, count]
    events = kernel_events(kernel)[len(before) :]
    for cpu in range(2):
        for event in (EV_MM_PAGE_ALLOC, EV_MM_PAGE_FREE):
            assert sum(1 for one in events if one == (event, cpu)) == count


def kernel_events(kernel: Kernel) -> list[tuple[int, int]]:
    """(event, CPU) of every record in the trace ring, oldest first."""
    m = kernel.m
    head, size = m[G_TRACE_HEAD], m[G_TRACE_SIZE]
    assert head <= size
    places = [m[G_TRACE_BASE] + i * RECORD_WORDS for i in range(head)]
    return [(m[r + 1], m[r + 2]) for r in places]


def test_without_rivals_a_team_changes_nothing(compiled: Engine) -> None:
    found = []
    for team in (False, True):
        kernel = boot("2x48M")
        kernel.use_engine(compiled)

        def work(kernel: Kernel = kernel) -> Blocks:
            return random_work(kernel, compiled, 0, 5, 300)

        blocks = side_by_side(kernel.m, compiled, [work]) if team else [work()]
        found.append((blocks, kernel.memory.q.tobytes()))
    assert found[0] == found[1]


def test_what_one_thread_raises_ends_the_others(compiled: Engine) -> None:
    kernel = boot("1x64M,cpus=2")
    started = threading.Event()

    def endless() -> None:
        started.set()
        compiled.repeat_pages(kernel.m, 0, GFPS[0], 0, 0, 1 << 50)

    def fail() -> None:
        started.wait()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        side_by_side(kernel.m, compiled, [endless, fail])
    assert compiled.alloc_pages_nodemask(kernel.m, 0, GFPS[0], 0, 0, 0) >= 0


def test_teams_need_compiled_code_and_come_one_at_a_time(compiled: Engine) -> None:
    m = boot("1x64M").m
    with pytest.raises(UsageError, match="threads need the compiled engine"):
        Team(m, load_engine("python"))
    with Team(m, compiled), pytest.raises(UsageError, match="another machine's"):
        Team(m, compiled).__enter__()
