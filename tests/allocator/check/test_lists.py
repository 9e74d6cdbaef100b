# SPDX-License-Identifier: GPL-2.0-only
"""Verifying lists in bulk: attribution of broken links, rings, strangers, nonsense."""

from __future__ import annotations

import random

import numpy as np
import pytest

from allocator.check.context import Check
from allocator.check.lists import Lists, follow, verify_lists
from allocator.layout import page_va, va_of_word
from allocator.mm_types import P_NEXT

from .scribbler import scribbler

RULES = ("next", "prev", "doubled")
LISTS = [[0x2005, 0x2001, 0x2009], [], [0x2100 + i for i in range(40)], [0x2300]]


class Bench:
    """Lists made by hand of frames in the middle of a machine; heads in a page of their own."""

    def __init__(self) -> None:
        guest = scribbler("1x64M")
        self.m = guest.m
        self.check = Check(guest.machine.memory)
        self.first = guest.page >> 3
        for i, pfns in enumerate(LISTS):
            self.link(self.head(i), pfns)

    def head(self, i: int) -> int:
        return self.first + 2 * i

    def word(self, pfn: int) -> int:
        return self.check.frames.page_word(pfn) + P_NEXT

    def link(self, head: int, pfns: list[int]) -> None:
        words = [head, *map(self.word, pfns), head]
        vas = [va_of_word(head), *(page_va(pfn) + 8 for pfn in pfns), va_of_word(head)]
        for i in range(len(words) - 1):
            self.m[words[i]] = vas[i + 1]
            self.m[words[i + 1] + 1] = vas[i]

    def verify(self) -> Lists:
        pages = [self.check.frames.index(pfn) for pfns in LISTS for pfn in pfns]
        heads = np.array([self.head(i) for i in range(len(LISTS))], dtype=np.int64)
        found = np.array(sorted(pages), dtype=np.intp)
        return verify_lists(self.check, heads, found, lambda i: f"list {i}", RULES)

    def findings(self) -> list[tuple[str, str]]:
        return [(finding.rule, finding.where) for finding in self.check.findings]

    def members(self, lists: Lists) -> list[list[int]]:
        frames = self.check.frames
        return [sorted(frames.pfns(lists.of(i)).tolist()) for i in range(len(LISTS))]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_sound_lists_have_their_members_and_no_findings(bench: Bench) -> None:
    lists = bench.verify()
    assert bench.members(lists) == [sorted(pfns) for pfns in LISTS]
    assert bench.findings() == []


@pytest.mark.parametrize("value", [0, -1, 8, 1 << 62])
@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("place", [0, 17, 39])
def test_one_bad_pointer_is_one_finding_and_loses_no_member(
    bench: Bench, place: int, direction: int, value: int
) -> None:
    pfn = LISTS[2][place]
    bench.m[bench.word(pfn) + direction] = value
    lists = bench.verify()
    assert bench.findings() == [(RULES[direction], f"frame {pfn:#07x}")]
    assert bench.members(lists) == [sorted(pfns) for pfns in LISTS]


@pytest.mark.parametrize("direction", [0, 1])
def test_a_bad_pointer_in_a_head_is_put_down_to_the_head(bench: Bench, direction: int) -> None:
    bench.m[bench.head(0) + direction] = page_va(LISTS[2][5]) + 8
    bench.verify()
    (finding,) = bench.check.findings
    assert finding.where == "list 0"
    assert finding.address == (bench.head(0) + direction) << 3


def test_a_link_into_another_list_is_called_doubled(bench: Bench) -> None:
    bench.m[bench.word(0x2001)] = page_va(0x2110) + 8
    bench.verify()
    (finding,) = bench.check.findings
    assert (finding.rule, finding.frame) == ("doubled", 0x2001)
    assert "leads to frame 0x02110, which is on list 2" in finding.message
    assert "frame 0x02009 is its neighbour" in finding.message


def test_an_entry_that_is_skipped_is_put_down_to_the_one_before_it(bench: Bench) -> None:
    bench.m[bench.word(0x2110)] = page_va(0x2112) + 8
    lists = bench.verify()
    assert bench.findings() == [("next", "frame 0x02110")]
    assert 0x2111 in bench.members(lists)[2]


def test_a_page_that_only_a_list_leads_to_is_found(bench: Bench) -> None:
    bench.link(bench.head(3), [0x2300, 0x2400, 0x2500, 0x2600])
    lists = bench.verify()
    frames = bench.check.frames
    assert frames.pfns(lists.of(3)).tolist() == [0x2300, 0x2400, 0x2500, 0x2600]
    assert bench.findings() == []


def test_a_ring_without_a_head_is_on_no_list_and_ends(bench: Bench) -> None:
    pfns = LISTS[2]
    for i, pfn in enumerate(pfns):
        bench.m[bench.word(pfn)] = page_va(pfns[(i + 1) % 40]) + 8
        bench.m[bench.word(pfn) + 1] = page_va(pfns[i - 1]) + 8
    lists = bench.verify()
    assert bench.members(lists)[2] == []
    assert {where for _, where in bench.findings()} == {"list 2"}


def test_two_heads_in_one_ring_are_noticed(bench: Bench) -> None:
    words = [bench.head(0), *map(bench.word, LISTS[0]), bench.head(3), bench.word(0x2300)]
    vas = [va_of_word(bench.head(0)), *(page_va(pfn) + 8 for pfn in LISTS[0])]
    vas += [va_of_word(bench.head(3)), page_va(0x2300) + 8]
    for i, word in enumerate(words):
        bench.m[word] = vas[(i + 1) % len(vas)]
        bench.m[word + 1] = vas[i - 1]
    bench.verify()
    assert {rule for rule, _ in bench.findings()} == {"doubled"}


def test_random_links_never_raise(bench: Bench) -> None:
    rng = random.Random(5)
    vas = [page_va(pfn) + 8 for pfns in LISTS for pfn in pfns]
    vas += [va_of_word(bench.head(i)) for i in range(4)]
    for _ in range(100):
        for pfns in LISTS:
            for pfn in pfns:
                for direction in (0, 1):
                    noise = rng.getrandbits(64) - (1 << 63)
                    bench.m[bench.word(pfn) + direction] = rng.choice((*vas, *vas, noise))
        bench.verify()


def test_following_a_list_stops_in_a_ring_and_at_nonsense(bench: Bench) -> None:
    bench.m[bench.word(0x2120)] = page_va(0x2110) + 8
    bench.m[bench.word(0x2105) + 1] = 12345
    seen: set[int] = set()
    follow(bench.check, [bench.head(2)], seen)
    pfns = bench.check.frames.pfns(np.array(sorted(seen), dtype=np.intp)).tolist()
    assert set(pfns) == set(LISTS[2])
