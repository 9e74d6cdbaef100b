# SPDX-License-Identifier: GPL-2.0-only
"""The kinds of damage of the corruption drill: each changes one field of one structure.

A kind is a function that picks a victim on a machine, at random, and returns a `Damage`: which word
of RAM the guest shall overwrite, through which virtual address, with what, and which frame the
checker must name - the page frame itself where a struct page (or the page's contents) is damaged,
the frame that holds the structure otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allocator.check.context import Check, ZoneHandle
from allocator.layout import (
    PAGE_OFFSET,
    SECTION_USEMAP,
    VMEMMAP_START,
    page_va,
    signed,
    va_of_word,
)
from allocator.mm_types import P_COUNTS, P_FLAGS, P_NEXT, PG_HEAD, PG_RESERVED
from allocator.mmzone import PSET_WORDS

from .scribbler import Held, Scribbler


@dataclass(frozen=True)
class Damage:
    """One overwritten word. `frame` is the frame that a finding must name, `page` says whether it
    must be named as a page frame, or only as what holds the bytes."""

    word: int
    va: int
    value: int
    frame: int
    page: bool


class Ward:
    """A machine with a past, and where its victims are."""

    def __init__(self, guest: Scribbler, held: Held) -> None:
        self.guest = guest
        self.m = guest.m
        self.check = Check(guest.machine.memory)
        self.frames = self.check.frames
        self.held = held

    # --- victims ------------------------------------------------------------------------------
    def pick(self, rng: random.Random, mask: npt.NDArray[np.bool_]) -> int:
        """One of the frames with the mask set: its frame number."""
        found = np.flatnonzero(mask)
        assert found.size, "the machine has no victim for this kind"
        return self.frames.pfn(int(found[rng.randrange(found.size)]))

    def free_head(self, rng: random.Random, low: int = 0, high: int = 10) -> tuple[int, int]:
        """Frame and order of a block on a free list."""
        blocks = self.check.free_blocks
        chosen = np.flatnonzero((blocks.order >= low) & (blocks.order <= high))
        i = int(chosen[rng.randrange(chosen.size)])
        return self.frames.pfn(int(blocks.heads[i])), int(blocks.order[i])

    def free_inside(self, rng: random.Random) -> int:
        """A frame inside a free block, not its head."""
        mask = self.check.free_blocks.covered.copy()
        mask[self.check.free_blocks.heads] = False
        return self.pick(rng, mask)

    def pcp(self, rng: random.Random) -> int:
        """A frame on a per-cpu list."""
        pages = self.check.pcp_pages.pages
        return self.frames.pfn(int(pages[rng.randrange(pages.size)]))

    def allocated(self, rng: random.Random, order: int | None = None) -> int:
        """First frame of a plain allocated block of this order (any)."""
        chosen = [
            pfn
            for pfn, its in self.held
            if (order is None or its == order) and not self.flags(pfn) & PG_HEAD
        ]
        return rng.choice(chosen)

    def compound(self, rng: random.Random, least: int = 2) -> tuple[int, int]:
        """Head and order of a compound page."""
        chosen = [(p, o) for p, o in self.held if o >= least and self.flags(p) & PG_HEAD]
        return rng.choice(chosen)

    def reserved(self, rng: random.Random) -> int:
        """A frame that boot reserved."""
        return self.pick(rng, (self.frames.flags[:] & PG_RESERVED != 0) & self.frames.ram)

    def flags(self, pfn: int) -> int:
        """The flags word of a frame."""
        flags: int = self.m[self.frames.page_word(pfn) + P_FLAGS]
        return flags

    def zone(self, rng: random.Random) -> ZoneHandle:
        """A populated zone."""
        return rng.choice([zone for zone in self.check.zones if zone.present])

    def pageset(self, rng: random.Random) -> int:
        """Word index of a pageset that is not the boot one, of a zone with a real batch."""
        zones = [zone for zone in self.check.zones if zone.managed > 8192]
        return self.check.pagesets(rng.choice(zones)) + rng.randrange(self.check.cpus) * PSET_WORDS

    # --- damage -------------------------------------------------------------------------------
    def page(self, pfn: int, offset: int, value: int) -> Damage:
        """The struct page word `offset` of a frame becomes `value`; written through vmemmap."""
        word = self.frames.page_word(pfn) + offset
        return Damage(word, page_va(pfn) + offset * 8, signed(value), pfn, True)

    def flip(self, pfn: int, offset: int, bits: int) -> Damage:
        """Bits of a struct page word are inverted."""
        return self.page(pfn, offset, self.m[self.frames.page_word(pfn) + offset] ^ signed(bits))

    def word(self, word: int, value: int, frame: int | None = None) -> Damage:
        """A word anywhere becomes `value`; written through the direct map. With `frame`, that page
        frame must be named."""
        holder = word >> 9 if frame is None else frame
        return Damage(word, va_of_word(word), signed(value), holder, frame is not None)

    def add(self, word: int, delta: int) -> Damage:
        """A word anywhere is off by `delta`."""
        return self.word(word, self.m[word] + delta)

    def lru(self, pfn: int) -> int:
        """Address of a page's lru."""
        return page_va(pfn) + 8

    def block_type(self, pfn: int, mt: int) -> Damage:
        """The type of a frame's pageblock becomes `mt`."""
        usemap = (self.m[SECTION_USEMAP + (pfn >> 15 << 2)] - PAGE_OFFSET) >> 3
        word, shift = usemap + (pfn >> 13 & 3), 61 - (pfn >> 9 & 15) * 4
        value = self.m[word] & ~(7 << shift) | mt << shift
        return self.word(word, value, pfn & ~511)


Kind = Callable[[Ward, random.Random], Damage]
PAGE_KINDS: dict[str, Kind] = {}


def kind(table: dict[str, Kind]) -> Callable[[Kind], Kind]:
    """Enters a function as a kind of damage under its own name."""

    def enter(function: Kind) -> Kind:
        table[getattr(function, "__name__", "")] = function
        return function

    return enter


# --- free blocks --------------------------------------------------------------------------------
@kind(PAGE_KINDS)
def free_next_leads_nowhere(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.free_head(rng)[0], P_NEXT, rng.getrandbits(64))


@kind(PAGE_KINDS)
def free_next_bit_flipped(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.free_head(rng)[0], P_NEXT, 1 << rng.randrange(6, 30))


@kind(PAGE_KINDS)
def free_next_leads_into_another_list(ward: Ward, rng: random.Random) -> Damage:
    here, order = ward.free_head(rng, 0, 4)
    there, _ = ward.free_head(rng, order + 1)
    return ward.page(here, P_NEXT, ward.lru(there))


@kind(PAGE_KINDS)
def free_next_leads_to_an_allocated_page(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.free_head(rng)[0], P_NEXT, ward.lru(ward.allocated(rng)))


@kind(PAGE_KINDS)
def free_next_leads_to_itself(ward: Ward, rng: random.Random) -> Damage:
    pfn, _ = ward.free_head(rng)
    return ward.page(pfn, P_NEXT, ward.lru(pfn))


@kind(PAGE_KINDS)
def free_next_is_null(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.free_head(rng)[0], P_NEXT, 0)


@kind(PAGE_KINDS)
def free_prev_leads_nowhere(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.free_head(rng)[0], P_NEXT + 1, rng.getrandbits(64))


@kind(PAGE_KINDS)
def free_prev_leads_into_another_list(ward: Ward, rng: random.Random) -> Damage:
    here, order = ward.free_head(rng, 0, 4)
    return ward.page(here, P_NEXT + 1, ward.lru(ward.free_head(rng, order + 1)[0]))


@kind(PAGE_KINDS)
def free_prev_leads_to_a_free_frame_inside_a_block(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.free_head(rng)[0], P_NEXT + 1, ward.lru(ward.free_inside(rng)))


@kind(PAGE_KINDS)
def free_order_one_too_high(ward: Ward, rng: random.Random) -> Damage:
    pfn, order = ward.free_head(rng)
    return ward.page(pfn, 5, order + 1)


@kind(PAGE_KINDS)
def free_order_absurd(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.free_head(rng)[0], 5, rng.choice((-1, 11, 1 << 40)))


@kind(PAGE_KINDS)
def free_head_lost_pagebuddy(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.free_head(rng)[0], P_COUNTS, 0xFFFFFFFF)


@kind(PAGE_KINDS)
def free_head_of_unknown_type(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.free_head(rng)[0], P_COUNTS, 0xFFFFFEFF)


@kind(PAGE_KINDS)
def free_head_with_a_reference(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.free_head(rng)[0], P_COUNTS, 1 << 32)


@kind(PAGE_KINDS)
def free_inside_stale_pagebuddy(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.free_inside(rng), P_COUNTS, 0xFFFFFF7F)


@kind(PAGE_KINDS)
def free_inside_with_a_reference(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.free_inside(rng), P_COUNTS, 0x1FFFFFFFF)


@kind(PAGE_KINDS)
def free_inside_mapped(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.free_inside(rng), P_COUNTS, 0)


@kind(PAGE_KINDS)
def free_flag_set(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.free_inside(rng), P_FLAGS, 1 << rng.randrange(23))


@kind(PAGE_KINDS)
def free_head_reserved(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.free_head(rng)[0], P_FLAGS, PG_RESERVED)


@kind(PAGE_KINDS)
def free_mapping(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.free_inside(rng), 3, VMEMMAP_START + 64)


@kind(PAGE_KINDS)
def free_mem_cgroup(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.free_inside(rng), 7, PAGE_OFFSET + 0x1000000)


@kind(PAGE_KINDS)
def free_tail_without_head(ward: Ward, rng: random.Random) -> Damage:
    pfn = ward.free_inside(rng)
    return ward.page(pfn, P_NEXT, page_va(pfn - 1) + 1)


@kind(PAGE_KINDS)
def free_wrong_zone_bit(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.free_inside(rng), P_FLAGS, 1 << rng.choice((56, 57)))


@kind(PAGE_KINDS)
def free_wrong_node_bit(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.free_head(rng)[0], P_FLAGS, 1 << rng.randrange(58, 64))


# --- per-cpu lists ------------------------------------------------------------------------------
@kind(PAGE_KINDS)
def pcp_next_leads_nowhere(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.pcp(rng), P_NEXT, rng.getrandbits(64))


@kind(PAGE_KINDS)
def pcp_next_leads_into_a_free_list(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.pcp(rng), P_NEXT, ward.lru(ward.free_head(rng)[0]))


@kind(PAGE_KINDS)
def pcp_prev_leads_nowhere(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.pcp(rng), P_NEXT + 1, 1 << rng.randrange(3, 40))


@kind(PAGE_KINDS)
def pcp_index_of_no_type(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.pcp(rng), 4, rng.choice((5, 6, 77, -1)))


@kind(PAGE_KINDS)
def pcp_with_a_reference(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.pcp(rng), P_COUNTS, 1 << 32)


@kind(PAGE_KINDS)
def pcp_stale_pagebuddy(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.pcp(rng), P_COUNTS, 0xFFFFFF7F)


@kind(PAGE_KINDS)
def pcp_wrong_zone(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.pcp(rng), P_FLAGS, 1 << 56)


@kind(PAGE_KINDS)
def pcp_flag_set(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.pcp(rng), P_FLAGS, 1 << rng.randrange(23))


# --- allocated pages ----------------------------------------------------------------------------
@kind(PAGE_KINDS)
def allocated_stale_pagebuddy(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.allocated(rng), P_COUNTS, 0x1FFFFFF7F)


@kind(PAGE_KINDS)
def allocated_negative_refcount(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.allocated(rng), P_COUNTS, (-1 << 32) | 0xFFFFFFFF)


@kind(PAGE_KINDS)
def allocated_refcount_gone(ward: Ward, rng: random.Random) -> Damage:
    pfns = {pfn for pfn, order in ward.held if order == 0}
    # with a single page in front of it at an odd place, no block can have swallowed it
    lost = [p for p in sorted(pfns) if not p & 1 and p - 1 in pfns and p + 1 in pfns]
    return ward.page(rng.choice(lost), P_COUNTS, 0xFFFFFFFF)


@kind(PAGE_KINDS)
def allocated_mapcount_garbage(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.allocated(rng), P_COUNTS, 1 << rng.randrange(12, 31))


@kind(PAGE_KINDS)
def allocated_mem_cgroup_garbage(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.allocated(rng), 7, rng.getrandbits(63) | 1)


@kind(PAGE_KINDS)
def allocated_wrong_zone_bit(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.allocated(rng), P_FLAGS, 1 << rng.choice((56, 57)))


@kind(PAGE_KINDS)
def allocated_flag_bit_between(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.allocated(rng), P_FLAGS, 1 << rng.randrange(24, 56))


@kind(PAGE_KINDS)
def allocated_reserved(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.allocated(rng), P_FLAGS, PG_RESERVED)


@kind(PAGE_KINDS)
def allocated_head_without_tails(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.allocated(rng, 0), P_FLAGS, PG_HEAD)


@kind(PAGE_KINDS)
def allocated_tail_without_head(ward: Ward, rng: random.Random) -> Damage:
    pfn = ward.allocated(rng, 0)
    return ward.page(pfn, P_NEXT, page_va(pfn ^ 64) + 1)


# --- compound pages -----------------------------------------------------------------------------
@kind(PAGE_KINDS)
def compound_head_flag_gone(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.compound(rng)[0], P_FLAGS, PG_HEAD)


@kind(PAGE_KINDS)
def compound_head_unreferenced(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.compound(rng)[0], P_COUNTS, 0xFFFFFFFF)


@kind(PAGE_KINDS)
def compound_order_wrong(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.compound(rng)[0] + 1, 2, 1 | rng.choice((0, 11, 200)) << 8)


@kind(PAGE_KINDS)
def compound_destructor_wrong(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.compound(rng)[0] + 1, 2, 0x80)


@kind(PAGE_KINDS)
def tail_points_to_another_head(ward: Ward, rng: random.Random) -> Damage:
    pfn, order = ward.compound(rng)
    return ward.page(pfn + rng.randrange(1, 1 << order), P_NEXT, page_va(pfn ^ 1024) + 1)


@kind(PAGE_KINDS)
def tail_lost_its_head(ward: Ward, rng: random.Random) -> Damage:
    pfn, order = ward.compound(rng)
    return ward.flip(pfn + rng.randrange(1, 1 << order), P_NEXT, 1)


@kind(PAGE_KINDS)
def tail_mapping_overwritten(ward: Ward, rng: random.Random) -> Damage:
    pfn, order = ward.compound(rng)
    return ward.page(pfn + rng.randrange(1, 1 << order), 3, 0)


@kind(PAGE_KINDS)
def tail_with_a_reference(ward: Ward, rng: random.Random) -> Damage:
    pfn, order = ward.compound(rng)
    return ward.page(pfn + rng.randrange(1, 1 << order), P_COUNTS, 0x1FFFFFFFF)


@kind(PAGE_KINDS)
def tail_locked(ward: Ward, rng: random.Random) -> Damage:
    pfn, order = ward.compound(rng)
    return ward.flip(pfn + rng.randrange(1, 1 << order), P_FLAGS, 1)


# --- reserved frames ----------------------------------------------------------------------------
@kind(PAGE_KINDS)
def reserved_unreferenced(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.reserved(rng), P_COUNTS, 0xFFFFFFFF)


@kind(PAGE_KINDS)
def reserved_flag_gone(ward: Ward, rng: random.Random) -> Damage:
    return ward.flip(ward.reserved(rng), P_FLAGS, PG_RESERVED)


@kind(PAGE_KINDS)
def reserved_stale_pagebuddy(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(ward.reserved(rng), P_COUNTS, 0xFFFFFF7F)
