# SPDX-License-Identifier: GPL-2.0-only
"""allocator/interp.py: built code leaves the bytes that the source leaves, and how it is kept."""

from __future__ import annotations

import marshal
import random
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from allocator import interp
from allocator.engine import ENTRY_POINTS, hot_functions, reachable
from allocator.gfp import parse_gfp
from allocator.interp import (
    built_code,
    built_functions,
    key_of,
    plain_code,
    slow_down,
    speed_up,
)
from allocator.interp_build import SourceChanged, build_code
from allocator.kernel import Kernel
from allocator.kernel_base import DAMAGE
from allocator.kernel_globals import (
    G_LOG_HEAD,
    G_STATIC_KEYS,
    G_TRACE_MASK,
    KEY_DRAIN_ONE_ZONE,
    KEY_PAGE_OWNER,
)
from allocator.layout import SECTION_PAGES, VMEMMAP_START
from allocator.mm_types import P_COUNTS, P_FLAGS, P_INDEX, P_MAPPING, P_MEMCG, P_NEXT, PG_HWPOISON
from allocator.mmzone import MIGRATE_ISOLATE
from allocator.page_alloc import alloc_pages_nodemask, free_pages
from allocator.pageblock import set_pageblock_migratetype
from allocator.pcp import drain_local_pages
from allocator.trace_events import ALL_EVENTS
from tests.allocator.machines import boot

GFPS = [
    parse_gfp(text)
    for text in (
        "GFP_HIGHUSER_MOVABLE|__GFP_NOWARN",
        "GFP_ATOMIC|__GFP_NOWARN",
        "GFP_NOWAIT|__GFP_RECLAIMABLE|__GFP_NOWARN",
        "GFP_NOWAIT|__GFP_ZERO|__GFP_COMP|__GFP_NOWARN",
        "GFP_DMA|__GFP_NOWARN",
        "GFP_ATOMIC|__GFP_THISNODE|__GFP_WRITE|__GFP_NOWARN",
    )
]
Operations = Callable[[Kernel, int], list[object]]


@pytest.fixture(autouse=True)
def interpreted(process_engine: str) -> None:
    """These are about what the interpreter runs."""
    if process_engine != "python":
        pytest.skip("the process is on compiled code")


@pytest.fixture(autouse=True)
def code_stays_as_it_was() -> Iterator[None]:
    hot = hot_functions()
    built = bool(interp._plain)
    yield
    slow_down(hot)
    if built:
        speed_up(hot)


def request(kernel: Kernel, rng: random.Random, live: list[tuple[int, int]]) -> object:
    """One allocation, free or drain; what it said, or what kind of damage it met."""
    m, cpu, what = kernel.m, rng.randrange(2), rng.random()
    try:
        if what < 0.52 or not live:
            order = rng.choice((0, 0, 0, 0, 0, 1, 2, 3, 5, 9, 10))
            gfp, nid, mask = rng.choice(GFPS), rng.randrange(2), rng.choice((0, 0, 0, 1, 2, 3))
            pfn = alloc_pages_nodemask(m, cpu, gfp, order, nid, mask)
            if pfn >= 0:
                live.append((pfn, order))
            return pfn
        if what < 0.98:
            pfn, order = live.pop(rng.randrange(len(live)))
            return free_pages(m, cpu, pfn, order if what < 0.97 else 0)
        drain_local_pages(m, cpu)
    except DAMAGE:
        return "damage"
    return None


def requests(kernel: Kernel, seed: int) -> list[object]:
    rng = random.Random(seed)
    live: list[tuple[int, int]] = []
    return [request(kernel, rng, live) for _ in range(2500)]


def damaged_requests(kernel: Kernel, seed: int) -> list[object]:
    """Requests among which somebody writes into struct pages and pageblock types."""
    rng, m = random.Random(seed), kernel.m
    live: list[tuple[int, int]] = []
    said = [request(kernel, rng, live) for _ in range(300)]
    for _ in range(500):
        pfn = rng.randrange(0x100, 0x5000)
        p = m[SECTION_PAGES + (pfn >> 15 << 2)] + (pfn << 3)
        if rng.random() < 0.1:
            set_pageblock_migratetype(m, pfn, rng.choice((0, 1, 2, 3, MIGRATE_ISOLATE)))
        else:
            field = rng.choice((P_FLAGS, P_NEXT, P_MAPPING, P_INDEX, P_COUNTS, P_MEMCG))
            other = VMEMMAP_START + (rng.randrange(0x5000) << 6) + 8
            m[p + field] = rng.choice((m[p + field] ^ 1 << rng.randrange(40), other, PG_HWPOISON))
        said.append(request(kernel, rng, live))
    assert m[G_LOG_HEAD]
    return said


def both(run: Operations, seed: int, prepare: Callable[[Kernel], None]) -> None:
    """Runs the same on plain and on built code and compares answers and all of RAM."""
    hot, found = hot_functions(), []
    for change in (slow_down, speed_up):
        change(hot)
        kernel = boot("2x48M")
        change(hot)  # a boot asks for an engine
        prepare(kernel)
        found.append((run(kernel, seed), kernel.memory.q))
    assert free_pages.__code__ is not plain_code(hot["free_pages"])
    (plain, before), (built, after) = found
    assert plain == built
    assert np.array_equal(before, after)


@pytest.mark.parametrize("events", [0, ALL_EVENTS])
def test_random_requests_leave_the_same_ram_on_plain_and_built_code(events: int) -> None:
    def prepare(kernel: Kernel) -> None:
        kernel.m[G_TRACE_MASK] = events

    both(requests, 11, prepare)


def test_random_requests_with_features_on_leave_the_same_ram() -> None:
    def prepare(kernel: Kernel) -> None:
        kernel.m[G_STATIC_KEYS] |= KEY_DRAIN_ONE_ZONE | KEY_PAGE_OWNER

    both(requests, 12, prepare)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_struct_pages_are_met_alike(seed: int) -> None:
    both(damaged_requests, seed, lambda kernel: None)


def test_numa_counters_fold_alike_at_their_threshold() -> None:
    def many(kernel: Kernel, seed: int) -> list[object]:
        done = hot_functions()["repeat_pages"](kernel.m, 1, GFPS[0], 0, seed, 66_000)
        return [done]

    both(many, 1, lambda kernel: None)


def test_traceback_of_built_code_names_the_real_file_and_function() -> None:
    hot = hot_functions()
    kernel = boot("2x48M")
    speed_up(hot)
    pfn = alloc_pages_nodemask(kernel.m, 0, GFPS[0], 0, 0, 0)
    kernel.m[SECTION_PAGES] = 1 << 50
    with pytest.raises(IndexError) as raised:
        free_pages(kernel.m, 0, pfn, 0)
    frame = traceback.extract_tb(raised.value.__traceback__)[-1]
    assert Path(frame.filename).name == "page_free.py"
    assert frame.name == "free_pages"
    assert "m[p]" in (frame.line or "")


def test_compiled_engine_still_finds_the_callees_that_built_code_has_swallowed() -> None:
    hot = hot_functions()
    slow_down(hot)
    before = reachable(hot, ENTRY_POINTS)
    speed_up(hot)
    assert "take_first_page" not in hot["repeat_pages"].__code__.co_names
    assert reachable(hot, ENTRY_POINTS) == before


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    slow_down(hot_functions())
    return tmp_path / "numalab" / "objects"


def test_built_code_is_kept_and_found_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hot = hot_functions()
    codes = built_code(hot)
    (file,) = cache.iterdir()
    assert file.name == key_of(built_functions(hot))
    monkeypatch.setattr("allocator.interp_build.build_code", lambda functions: pytest.fail("built"))
    assert built_code(hot) == codes


def test_damaged_file_is_built_again(cache: Path) -> None:
    codes = built_code(hot_functions())
    (file,) = cache.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert built_code(hot_functions()) == codes
    assert bytes(content) != file.read_bytes()


def test_another_constant_or_function_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    hot = built_functions(hot_functions())
    keys = [key_of(hot)]
    monkeypatch.setitem(hot["commit_page"].__globals__, "MIGRATE_MOVABLE", 2)
    keys.append(key_of(hot))
    hot["page_place"] = hot["request_kind"]
    keys.append(key_of(hot))
    assert len(set(keys)) == 3


def test_key_is_the_same_whether_built_code_is_installed_or_not() -> None:
    hot = hot_functions()
    slow_down(hot)
    key = key_of(built_functions(hot))
    speed_up(hot)
    assert key_of(built_functions(hot)) == key


@pytest.mark.usefixtures("cache")
def test_source_that_has_changed_since_its_import_is_not_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = Path.read_text

    def edited(path: Path, **options: str) -> str:
        return read(path, **options).replace("m[head] = nxt", "m[head] = nxt + 0")

    monkeypatch.setattr(Path, "read_text", edited)
    with pytest.raises(SourceChanged, match=r"take_first_page|rmqueue_smallest"):
        build_code(built_functions(hot_functions()))
    assert built_code(hot_functions()) == {}


def test_cache_that_others_may_write_is_not_believed(cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert built_code(hot_functions()) == {}
    speed_up(hot_functions())
    assert free_pages.__code__ is plain_code(hot_functions()["free_pages"])


def test_built_code_survives_marshal() -> None:
    codes = built_code(hot_functions())
    assert marshal.loads(marshal.dumps(codes)) == codes
    assert {"alloc_pages_nodemask", "free_pages", "repeat_pages", "free_one_page"} <= set(codes)
