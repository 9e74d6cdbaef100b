# SPDX-License-Identifier: GPL-2.0-only
"""Verifying many doubly linked page lists at once, whatever their pointers hold.

All lists of one kind are one graph: its nodes are list heads and struct pages, its edges `next` and
`prev`. An edge is *mutual* if the node it leads to points back; a sound graph has only mutual edges
and so falls into rings. Edges that are not mutual are cut, and each such place is put down to the
pointer that is wrong: when x.next leads astray, the true successor still names x as its
predecessor, and the other way round. What is left are chains that run towards a head in at least
one direction, so one bad pointer does not lose the rest of a list.

Which head a page belongs to is found by pointer jumping: every node repeatedly replaces its
successor by its successor's successor, for all pages at once; after log2(n) rounds each is at the
end of its chain. A ring without a head never ends and is thereby found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..layout import NR_MEM_SECTIONS, PAGE_OFFSET, PFN_SECTION_SHIFT, VMEMMAP_START, unsigned
from ..mm_types import P_NEXT, P_PREV

if TYPE_CHECKING:
    from .context import Check

Ids = npt.NDArray[np.int64]
FEW_PAGES = 1024
"""Pages that are searched for among others; for more a table is made."""
MAX_STRANGERS = 64
"""Rounds in which pages that nothing but a list leads to are looked for."""
MAX_EXPLAINED = 256
"""Broken links whose cause is worked out one by one."""
_LAST_OFFSET = NR_MEM_SECTIONS << PFN_SECTION_SHIFT + 6


@dataclass(frozen=True)
class Lists:
    """The verified lists: `pages` (array indices, ascending) and for each the number of the head
    whose list it is on, -1 for none."""

    pages: npt.NDArray[np.intp]
    head: Ids

    @property
    def listed(self) -> npt.NDArray[np.intp]:
        """The pages that are on a list."""
        return np.asarray(self.pages[self.head >= 0], dtype=np.intp)

    def of(self, head: int) -> npt.NDArray[np.intp]:
        """Pages on one list, in address order."""
        return np.asarray(self.pages[self.head == head], dtype=np.intp)


class _Graph:
    """Nodes 0 .. k-1 are pages, k .. k+h-1 heads, k+h is nowhere."""

    def __init__(self, check: Check, heads: Ids, pages: npt.NDArray[np.intp]) -> None:
        self.check = check
        self.frames = check.frames
        self.heads = heads
        self.order = np.argsort(heads, kind="stable")
        self.sorted_heads = heads[self.order]
        self.lookup: npt.NDArray[np.int32] | None = None
        self.pages = pages
        self._number()
        for _ in range(MAX_STRANGERS):
            strangers = self._strangers()
            if not strangers.size:
                break
            self.pages = np.union1d(self.pages, strangers).astype(np.intp)
            self._number()
        self.next, self.prev = map(self.resolve, self.links, self.found)

    def _number(self) -> None:
        self.lookup = None
        if self.pages.size > FEW_PAGES:
            # a table of number + 1 by array index beats searching once there are many
            self.lookup = np.zeros(self.frames.size + 1, dtype=np.int32)
            self.lookup[self.pages] = np.arange(1, self.pages.size + 1, dtype=np.int32)
        self.nowhere = self.pages.size + self.heads.size
        words = self.frames.words(self.pages) + P_NEXT
        self.words = np.concatenate((words, self.heads))
        self.links = (self.values(P_NEXT), self.values(P_PREV))
        self.indices = tuple(map(self.page_indices, self.links))
        self.found = tuple(map(self.numbers, self.indices))

    def numbers(self, indices: Ids) -> Ids:
        """Node numbers of the pages at array indices, -1 for those that are no nodes."""
        if self.lookup is not None:
            return self.lookup[indices].astype(np.int64) - 1
        at = np.searchsorted(self.pages, indices)
        at = np.minimum(at, max(self.pages.size - 1, 0))
        known = self.pages[at] == indices if self.pages.size else np.zeros(at.shape, dtype=np.bool_)
        return np.asarray(np.where(known, at, -1), dtype=np.int64)

    def values(self, offset: int) -> Ids:
        """next (P_NEXT) or prev (P_PREV) of every node, as addresses."""
        return np.asarray(self.check.q[self.words + (offset - P_NEXT)], dtype=np.int64)

    def page_indices(self, vas: Ids) -> Ids:
        """Array index of the page whose lru is at each address; `frames.size` if it is none."""
        off = vas - VMEMMAP_START
        good = (off.view(np.uint64) < _LAST_OFFSET) & (off & 63 == 8)
        pfn = np.where(good, off, 8) >> 6
        slot = self.frames.slot[pfn >> PFN_SECTION_SHIFT]
        good &= slot >= 0
        index = slot << PFN_SECTION_SHIFT | pfn & ((1 << PFN_SECTION_SHIFT) - 1)
        return np.asarray(np.where(good, index, self.frames.size), dtype=np.int64)

    def resolve(self, vas: Ids, numbers: Ids) -> Ids:
        """The node at each address; `numbers` are those of the pages, -1 where there is none."""
        others = np.flatnonzero(numbers < 0)
        nodes = numbers.copy()
        nodes[others] = self.nowhere
        if self.heads.size and others.size:
            off = vas[others] - PAGE_OFFSET
            at = np.searchsorted(self.sorted_heads, off >> 3)
            at = np.minimum(at, self.heads.size - 1)
            match = (self.sorted_heads[at] == off >> 3) & (off & 7 == 0)
            nodes[others[match]] = self.pages.size + self.order[at[match]]
        return nodes

    def _strangers(self) -> Ids:
        """Pages that a node leads to by both its links' word, yet are not among the nodes."""
        found = [i[n < 0] for i, n in zip(self.indices, self.found, strict=True)]
        index = np.concatenate(found)
        return np.unique(index[index < self.frames.size])

    def ends(self, links: Ids, mutual: npt.NDArray[np.bool_]) -> Ids:
        """Where each page's chain of mutual `links` ends: a node number."""
        k, h = self.pages.size, self.heads.size
        jump = np.arange(k + h + 1, dtype=np.int64)
        jump[:k] = np.where(mutual[:k], links[:k], self.nowhere)
        for _ in range(int(k).bit_length() + 1):
            jump = jump.take(jump)
            if (jump[:k] >= k).all():
                break
        return jump[:k]

    def whole(self, ends: Ids) -> bool:
        """Whether every list is a ring of its own, given that all links are mutual and where the
        chains of `next` end: what follows each head then leads back to that head."""
        k, h = self.pages.size, self.heads.size
        first = self.next[k : k + h]
        own = np.arange(k, k + h)
        return bool((np.concatenate((ends, own, [-1]))[first] == own).all())


def verify_lists(
    check: Check,
    heads: Ids,
    pages: npt.NDArray[np.intp],
    name: Callable[[int], str],
    rules: tuple[str, str, str],
) -> Lists:
    """Verifies the lists with heads at word indices `heads`.

    `pages` are the array indices of the pages that are believed to be on them (others are found
    by following the links), `name` words the head of a number, `rules` are the ids for a wrong
    next, a wrong prev and a link into another list. Adds findings to `check`.
    """
    graph = _Graph(check, heads, pages)
    k = graph.pages.size
    n = np.arange(graph.nowhere, dtype=np.int64)
    beyond = np.concatenate((graph.next, [graph.nowhere]))
    before = np.concatenate((graph.prev, [graph.nowhere]))
    forward = before[graph.next] == n
    backward = beyond[graph.prev] == n
    to_head = graph.ends(graph.next, forward)
    if forward.all() and backward.all() and graph.whole(to_head):
        return Lists(graph.pages, np.where(to_head >= k, to_head - k, -1))
    from_head = graph.ends(graph.prev, backward)
    owner = np.where((to_head >= k) & (to_head < graph.nowhere), to_head, from_head)
    owner = np.where((owner >= k) & (owner < graph.nowhere), owner - k, -1)
    on_list = np.concatenate((owner, np.arange(heads.size), [-1]))
    blame = _Blame(check, graph, name, rules, on_list)
    # a stray page's own links are nobody's business; pages on a list and heads are held to theirs
    lost_next = np.flatnonzero(~forward & (on_list[:-1] >= 0))
    lost_prev = np.flatnonzero(~backward & (on_list[:-1] >= 0))
    blame.explain(lost_next.tolist(), lost_prev.tolist())
    split = np.flatnonzero(
        (to_head >= k)
        & (from_head >= k)
        & (to_head != from_head)
        & (to_head < graph.nowhere)
        & (from_head < graph.nowhere)
    )
    for node in split[:MAX_EXPLAINED].tolist():
        blame.add(
            node,
            P_NEXT,
            rules[2],
            f"lies between {name(int(from_head[node]) - k)} and {name(int(to_head[node]) - k)}",
        )
    return Lists(graph.pages, np.asarray(owner, dtype=np.int64))


class _Blame:
    """Says which of two pointers that disagree is the wrong one."""

    def __init__(
        self,
        check: Check,
        graph: _Graph,
        name: Callable[[int], str],
        rules: tuple[str, str, str],
        on_list: Ids,
    ) -> None:
        self.check = check
        self.graph = graph
        self.name = name
        self.rules = rules
        self.on_list = on_list

    def label(self, node: int) -> str:
        """A node in words."""
        k = self.graph.pages.size
        if node < k:
            return f"frame {self.check.frames.pfn(int(self.graph.pages[node])):#07x}"
        return self.name(node - k)

    def add(self, node: int, offset: int, rule: str, message: str) -> None:
        """A finding at one of a node's pointers."""
        k = self.graph.pages.size
        if node < k:
            pfn = self.check.frames.pfn(int(self.graph.pages[node]))
            head = int(self.on_list[node])
            place = f"on {self.name(head)}: " if head >= 0 else ""
            self.check.add_frame(rule, pfn, place + message, offset)
        else:
            word = int(self.graph.words[node]) + offset - P_NEXT
            self.check.add(rule, self.label(node), message, word)

    def explain(self, lost_next: list[int], lost_prev: list[int]) -> None:
        """Puts every link that is not mutual down to one pointer."""
        nxt, prev = self.graph.next, self.graph.prev
        nexts, prevs = lost_next[:MAX_EXPLAINED], lost_prev[:MAX_EXPLAINED]
        claimed = {int(prev[b]): b for b in prevs}
        reached = {int(nxt[f]): f for f in nexts}
        for node in nexts:
            if node in claimed and claimed[node] != int(nxt[node]):
                self._wrong(node, P_NEXT, claimed[node])
            elif int(nxt[node]) not in prevs:
                self._wrong(node, P_NEXT, -1)
        for node in prevs:
            if node in reached and reached[node] != int(prev[node]):
                self._wrong(node, P_PREV, reached[node])
            elif int(prev[node]) not in nexts:
                self._wrong(node, P_PREV, -1)

    def _wrong(self, node: int, offset: int, neighbour: int) -> None:
        """One wrong pointer; `neighbour` is the node that it should lead to, if known."""
        forward = offset == P_NEXT
        target = int((self.graph.next if forward else self.graph.prev)[node])
        word = int(self.graph.words[node]) + offset - P_NEXT
        va = unsigned(self.check.m[word])
        text = f"{'next' if forward else 'prev'} {va:#x} is no list entry"
        rule = self.rules[0 if forward else 1]
        if target < self.graph.nowhere:
            back = "prev" if forward else "next"
            text = f"{'next' if forward else 'prev'} leads to {self.label(target)}"
            other = int(self.on_list[target])
            if other >= 0 and other != int(self.on_list[node]) and int(self.on_list[node]) >= 0:
                rule = self.rules[2]
                text += f", which is on {self.name(other)}"
            else:
                text += f", whose {back} does not lead back"
        if neighbour >= 0:
            text += f"; {self.label(neighbour)} is its neighbour"
        self.add(node, offset, rule, text)


def follow(check: Check, heads: Iterable[int], seen: set[int]) -> None:
    """Adds to `seen` the array indices of the pages that can be reached from list heads, following
    next and following prev. Never more steps than there are pages."""
    frames, m = check.frames, check.m
    places = {
        section: (base, (slot - section) << PFN_SECTION_SHIFT)
        for slot, (section, base) in enumerate(
            zip(frames.sections, frames.base_of.tolist(), strict=True)
        )
    }
    broken = []
    for head in heads:
        ring = _ring(m, head, places)
        if ring is None:
            broken.append(head)
        else:
            seen.update(ring)
    for direction in (0, 1):
        visited: set[int] = set()
        for head in broken:
            end = PAGE_OFFSET + (head << 3)
            va = m[head + direction]
            while va != end:
                off = va - VMEMMAP_START
                if off < 0 or off >= _LAST_OFFSET or off & 63 != 8:
                    break
                index = frames.index(off >> 6)
                if index < 0 or index in visited:
                    break
                visited.add(index)
                va = m[frames.page_word(off >> 6) + P_NEXT + direction]
        seen |= visited


def _ring(m: memoryview, head: int, places: dict[int, tuple[int, int]]) -> list[int] | None:
    """Array indices of the pages on the list at `head`, None if a pointer of it is wrong.

    Each prev must lead to where the page was come from, so no page is met twice. `places` has, by
    section, where its struct pages would begin if frame 0 were the first, and what makes a frame
    number an index.
    """
    end = before = PAGE_OFFSET + (head << 3)
    va = m[head]
    ring = []
    while va != end:
        off = va - VMEMMAP_START
        place = places.get(off >> 6 + PFN_SECTION_SHIFT)
        if place is None or off & 63 != 8:
            return None
        pfn = off >> 6
        word = place[0] + (pfn << 3)
        if m[word + P_PREV] != before:
            return None
        ring.append(pfn + place[1])
        before, va = va, m[word + P_NEXT]
    return ring if m[head + 1] == before else None
