# SPDX-License-Identifier: GPL-2.0-only
"""Kinds of damage, second part: zones, pagesets, nodes, globals, pageblocks, page extensions."""

from __future__ import annotations

import random

import numpy as np

from allocator.check.free_lists import list_heads
from allocator.check.page_ext_rules import ext_address
from allocator.debug_guardpage import EXT_FLAGS
from allocator.kernel_globals import (
    G_GFP_ALLOWED,
    G_MAGIC,
    G_MAX_PFN,
    G_MEMBLOCK_MEMORY_CNT,
    G_MIN_FREE_KBYTES,
    G_NODES_MEMORY,
    G_NODES_ONLINE,
    G_NR_CPU_IDS,
    G_PGD,
    G_STATIC_KEYS,
    G_TOTALRAM,
    G_TOTALRESERVE,
    G_TRACE_BASE,
    G_TRACE_HEAD,
    G_TRACE_SIZE,
)
from allocator.layout import (
    CPU_BLOCKS,
    CPU_BULK_FREE,
    CPU_CURRENT,
    CPU_EVENTS,
    CPU_NUMA_NODE,
    CPU_WORDS,
    EMPTY_ZERO_PAGE,
    MEMBLOCK_MEMORY,
    MEMBLOCK_RESERVED,
    NODE_DATA,
    NODE_DISTANCE,
    POISON_PAGE,
    SECTION_MEM_MAP,
    SECTION_PAGES,
    SECTION_USEMAP,
    ZONE_NAME_STRINGS,
    va_of_word,
)
from allocator.mmzone import (
    FA_NR_FREE,
    FA_WORDS,
    ND_KSWAPD_ORDER,
    ND_NODE_ID,
    ND_NR_ZONES,
    ND_PER_CPU_NODESTATS,
    ND_PRESENT,
    ND_SPANNED,
    ND_START_PFN,
    ND_TOTALRESERVE,
    ND_ZONELISTS,
    PSET_BATCH,
    PSET_COUNT,
    PSET_HIGH,
    PSET_LISTS,
    PSET_NUMA_DIFF,
    PSET_STAT_DIFF,
    PSET_THRESHOLD,
    Z_CONTIGUOUS,
    Z_FREE_AREA,
    Z_FREE_PAGES,
    Z_INITIALIZED,
    Z_LOCK,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_NAME,
    Z_NODE,
    Z_NR_HIGHATOMIC,
    Z_NR_ISOLATE,
    Z_NUMA_STAT,
    Z_PAGESET,
    Z_PGDAT,
    Z_PRESENT,
    Z_SPANNED,
    Z_START_PFN,
    Z_WMARK,
    ZONE_WORDS,
    ZONEREF_WORDS,
)
from allocator.page_owner import EXT_OWNER

from .damage import Damage, Kind, Ward, kind

STRUCT_KINDS: dict[str, Kind] = {}
DEBUG_KINDS: dict[str, Kind] = {}
"""Kinds that need page_poison=1, page_owner=on and guard pages."""


def zone_field(offset: int, delta: int) -> Kind:
    """A zone's field off by `delta`."""
    return lambda ward, rng: ward.add(ward.zone(rng).word + offset, delta)


def pageset_field(offset: int, delta: int) -> Kind:
    """A pageset's field off by `delta`."""
    return lambda ward, rng: ward.add(ward.pageset(rng) + offset, delta)


def node_field(offset: int, delta: int) -> Kind:
    """A pglist_data's field off by `delta`."""
    return lambda ward, rng: ward.add(rng.choice(list(ward.check.nodes.values())) + offset, delta)


def cpu_field(offset: int, delta: int) -> Kind:
    """A CPU block's field off by `delta`."""
    return lambda ward, rng: ward.add(
        CPU_BLOCKS + rng.randrange(ward.check.cpus) * CPU_WORDS + offset, delta
    )


def global_field(word: int, delta: int) -> Kind:
    """A global off by `delta`."""
    return lambda ward, rng: ward.add(word, delta)


STRUCT_KINDS |= {
    "zone_nr_free_off_by_one": lambda ward, rng: ward.add(
        ward.zone(rng).word + Z_FREE_AREA + rng.randrange(11) * FA_WORDS + FA_NR_FREE,
        rng.choice((-1, 1)),
    ),
    "zone_free_pages_off_by_one": zone_field(Z_FREE_PAGES, 1),
    "zone_negative_counter": zone_field(Z_FREE_PAGES + 3, -5),
    "zone_numa_hit_off_by_one": zone_field(Z_NUMA_STAT, 1),
    "zone_numa_foreign_off_by_one": lambda ward, rng: ward.add(
        ward.check.zones[0].word + Z_NUMA_STAT + 2, 1
    ),
    "zone_managed_off_by_one": zone_field(Z_MANAGED, -1),
    "zone_present_off_by_one": zone_field(Z_PRESENT, 1),
    "zone_spanned_off_by_one": zone_field(Z_SPANNED, 1),
    "zone_start_off_by_one": zone_field(Z_START_PFN, 1),
    "zone_start_negative": zone_field(Z_START_PFN, -(1 << 50)),
    "zone_min_watermark": zone_field(Z_WMARK, 1),
    "zone_low_watermark": zone_field(Z_WMARK + 1, -1),
    "zone_high_watermark": zone_field(Z_WMARK + 2, 7),
    "zone_lowmem_reserve_of_its_own_class": lambda ward, rng: ward.add(
        (zone := ward.zone(rng)).word + Z_LOWMEM_RESERVE + zone.zid, 1
    ),
    "zone_lowmem_reserve_too_high": zone_field(Z_LOWMEM_RESERVE + 3, 1 << 20),
    "zone_highatomic_off_by_one": zone_field(Z_NR_HIGHATOMIC, 1),
    "zone_isolated_blocks_off_by_one": zone_field(Z_NR_ISOLATE, 1),
    "zone_locked": zone_field(Z_LOCK, 1),
    "zone_of_another_node": zone_field(Z_NODE, 1),
    "zone_pgdat_pointer": zone_field(Z_PGDAT, 8),
    "zone_name_pointer": zone_field(Z_NAME, 16),
    "zone_pageset_pointer": zone_field(Z_PAGESET, 1 << 45),
    "zone_not_initialized": zone_field(Z_INITIALIZED, -1),
    "zone_contiguous_of_two": zone_field(Z_CONTIGUOUS, 2),
    "pageset_count_off_by_one": pageset_field(PSET_COUNT, 1),
    "pageset_high": pageset_field(PSET_HIGH, 1),
    "pageset_batch": pageset_field(PSET_BATCH, -1),
    "pageset_threshold": pageset_field(PSET_THRESHOLD, -200),
    "pageset_numa_count_negative": pageset_field(PSET_NUMA_DIFF + 3, -(1 << 40)),
    "pageset_delta_beyond_s8": pageset_field(PSET_STAT_DIFF + 5, 300),
    "node_id": node_field(ND_NODE_ID, 1),
    "node_zones": node_field(ND_NR_ZONES, 1),
    "node_start": node_field(ND_START_PFN, -1),
    "node_present_off_by_one": node_field(ND_PRESENT, 1),
    "node_spanned_off_by_one": node_field(ND_SPANNED, -1),
    "node_kswapd_order": node_field(ND_KSWAPD_ORDER, 50),
    "node_totalreserve": node_field(ND_TOTALRESERVE, 1),
    "node_counters_pointer": node_field(ND_PER_CPU_NODESTATS, 1 << 44),
    "cpu_current_pointer": cpu_field(CPU_CURRENT, 8),
    "cpu_on_no_node": cpu_field(CPU_NUMA_NODE, 60),
    "cpu_collecting_list": cpu_field(CPU_BULK_FREE, 64),
    "cpu_negative_event": cpu_field(CPU_EVENTS, -(1 << 50)),
    "magic_number": global_field(G_MAGIC, 1),
    "totalram_off_by_one": global_field(G_TOTALRAM, 1),
    "totalreserve_off_by_one": global_field(G_TOTALRESERVE, 1),
    "min_free_kbytes": global_field(G_MIN_FREE_KBYTES, 400),
    "max_pfn_off_by_one": global_field(G_MAX_PFN, 1),
    "gfp_allowed_mask": global_field(G_GFP_ALLOWED, -8),
    "nr_cpu_ids_off_by_one": global_field(G_NR_CPU_IDS, -1),
    "nr_cpu_ids_absurd": global_field(G_NR_CPU_IDS, 1 << 40),
    "unknown_static_key": global_field(G_STATIC_KEYS, 1 << 30),
    "page_table_root": global_field(G_PGD, 9),
    "online_mask": global_field(G_NODES_ONLINE, 4),
    "memory_mask": global_field(G_NODES_MEMORY, -1),
    "trace_ring_size": global_field(G_TRACE_SIZE, 3),
    "trace_ring_base": global_field(G_TRACE_BASE, 1 << 50),
    "trace_ring_head": global_field(G_TRACE_HEAD, -(1 << 60)),
    "memblock_count": global_field(G_MEMBLOCK_MEMORY_CNT, 1 << 20),
    "memblock_region_out_of_order": global_field(MEMBLOCK_MEMORY + 4, -(1 << 30)),
    "memblock_empty_region": lambda ward, rng: ward.word(MEMBLOCK_RESERVED + 1, 0),
    "node_data_pointer": lambda ward, rng: ward.add(
        NODE_DATA + rng.choice(list(ward.check.nodes)), rng.choice((4, 1 << 44))
    ),
    "node_data_of_no_node": lambda ward, rng: ward.word(NODE_DATA + 40, va_of_word(NODE_DATA)),
    "distance_to_itself": lambda ward, rng: ward.add(NODE_DISTANCE, 1),
    "distance_below_local": lambda ward, rng: ward.word(NODE_DISTANCE + 1, 3),
    "zero_page": lambda ward, rng: ward.word(EMPTY_ZERO_PAGE + rng.randrange(512), 1),
    "poison_page": lambda ward, rng: ward.add(POISON_PAGE + rng.randrange(512), 1),
    "zone_name_string": lambda ward, rng: ward.add(ZONE_NAME_STRINGS, 1),
    "section_mem_map": lambda ward, rng: ward.add(SECTION_MEM_MAP, 64),
    "section_struct_pages": lambda ward, rng: ward.add(SECTION_PAGES, 1 << 44),
    "section_usemap": lambda ward, rng: ward.add(SECTION_USEMAP, 1 << 44),
}


@kind(STRUCT_KINDS)
def free_list_head_next(ward: Ward, rng: random.Random) -> Damage:
    heads = list_heads(ward.check)
    return ward.word(int(heads[rng.randrange(heads.size)]), rng.getrandbits(64))


@kind(STRUCT_KINDS)
def free_list_head_prev(ward: Ward, rng: random.Random) -> Damage:
    heads = list_heads(ward.check)
    return ward.add(int(heads[rng.randrange(heads.size)]) + 1, 64)


@kind(STRUCT_KINDS)
def free_list_head_skips_its_first_block(ward: Ward, rng: random.Random) -> Damage:
    m, check = ward.m, ward.check
    heads = [int(h) for h in list_heads(check) if m[int(h)] != va_of_word(int(h))]
    head = rng.choice(heads)
    first = ward.frames.page_word((m[head] - 8 + (0x160000000000)) >> 6 & (1 << 30) - 1)
    return ward.word(head, m[first + 1])


@kind(STRUCT_KINDS)
def pcp_list_head_next(ward: Ward, rng: random.Random) -> Damage:
    return ward.add(ward.pageset(rng) + PSET_LISTS + 2 * rng.randrange(3), 128)


@kind(STRUCT_KINDS)
def pcp_list_head_doubles_a_free_block(ward: Ward, rng: random.Random) -> Damage:
    head = ward.pageset(rng) + PSET_LISTS + 2 * rng.randrange(3)
    return ward.word(head, ward.lru(ward.free_head(rng)[0]))


@kind(STRUCT_KINDS)
def pageset_free_delta_off_by_one(ward: Ward, rng: random.Random) -> Damage:
    zone = rng.choice([zone for zone in ward.check.zones if zone.managed > 8192])
    damage = ward.add(ward.check.pagesets(zone) + PSET_STAT_DIFF, 1)
    # the sum is wrong, whoever's share of it: the zone's counter is what can be named
    return Damage(damage.word, damage.va, damage.value, zone.word + Z_FREE_PAGES >> 9, False)


@kind(STRUCT_KINDS)
def zonelist_zone_pointer(ward: Ward, rng: random.Random) -> Damage:
    nd = rng.choice(list(ward.check.nodes.values()))
    return ward.add(nd + ND_ZONELISTS + ZONEREF_WORDS * rng.randrange(2), ZONE_WORDS * 8 * 3 + 8)


@kind(STRUCT_KINDS)
def zonelist_index(ward: Ward, rng: random.Random) -> Damage:
    nd = rng.choice(list(ward.check.nodes.values()))
    return ward.add(nd + ND_ZONELISTS + ZONEREF_WORDS * rng.randrange(2) + 1, 1)


@kind(STRUCT_KINDS)
def zonelist_entry_twice(ward: Ward, rng: random.Random) -> Damage:
    nd = ward.check.nodes[1]
    first = nd + ND_ZONELISTS
    return ward.word(first + ZONEREF_WORDS, ward.m[first])


@kind(STRUCT_KINDS)
def pageblock_of_no_type(ward: Ward, rng: random.Random) -> Damage:
    return ward.block_type(ward.allocated(rng), rng.choice((6, 7)))


@kind(STRUCT_KINDS)
def pageblock_cma_without_an_area(ward: Ward, rng: random.Random) -> Damage:
    return ward.block_type(ward.allocated(rng), 4)


@kind(STRUCT_KINDS)
def pageblock_highatomic_unreserved(ward: Ward, rng: random.Random) -> Damage:
    return ward.block_type(ward.allocated(rng), 3)


# --- debugging aids -----------------------------------------------------------------------------
@kind(DEBUG_KINDS)
def poison_byte_written(ward: Ward, rng: random.Random) -> Damage:
    pfn = ward.pick(rng, ward.check.free & ward.frames.ram)
    word = (pfn << 9) + rng.randrange(512)
    return ward.word(word, ward.m[word] ^ 0xFF << 8 * rng.randrange(7), pfn)


@kind(DEBUG_KINDS)
def poison_bit_flipped(ward: Ward, rng: random.Random) -> Damage:
    pfn = ward.free_head(rng)[0]
    word = (pfn << 9) + rng.randrange(512)
    return ward.word(word, ward.m[word] ^ 1 << rng.randrange(63), pfn)


def guard(ward: Ward, rng: random.Random) -> int:
    """Frame of a guard block's head."""
    heads = ward.check.guards.heads
    return ward.frames.pfn(int(heads[rng.randrange(heads.size)]))


@kind(DEBUG_KINDS)
def guard_order_absurd(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(guard(ward, rng), 5, 9)


@kind(DEBUG_KINDS)
def guard_linked(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(guard(ward, rng), 1, ward.lru(ward.free_head(rng)[0]))


@kind(DEBUG_KINDS)
def guard_with_a_reference(ward: Ward, rng: random.Random) -> Damage:
    return ward.page(guard(ward, rng), 6, 0x1FFFFFFFF)


@kind(DEBUG_KINDS)
def guard_mark_gone(ward: Ward, rng: random.Random) -> Damage:
    pfn = guard(ward, rng)
    return ward.word(ext_address(ward.check, ward.frames.index(pfn), EXT_FLAGS) >> 3, 0, pfn)


@kind(DEBUG_KINDS)
def guard_mark_on_a_free_block(ward: Ward, rng: random.Random) -> Damage:
    pfn, _ = ward.free_head(rng, 2)
    return ward.word(ext_address(ward.check, ward.frames.index(pfn), EXT_FLAGS) >> 3, 1, pfn)


@kind(DEBUG_KINDS)
def unknown_page_ext_flag(ward: Ward, rng: random.Random) -> Damage:
    pfn = ward.allocated(rng)
    word = ext_address(ward.check, ward.frames.index(pfn), EXT_FLAGS) >> 3
    return ward.word(word, ward.m[word] | 1 << rng.randrange(2, 63), pfn)


@kind(DEBUG_KINDS)
def owner_of_a_free_page(ward: Ward, rng: random.Random) -> Damage:
    pfn = ward.free_inside(rng)
    return ward.word(ext_address(ward.check, ward.frames.index(pfn), EXT_FLAGS) >> 3, 2, pfn)


@kind(DEBUG_KINDS)
def owner_order_absurd(ward: Ward, rng: random.Random) -> Damage:
    pfn = ward.allocated(rng)
    word = ext_address(ward.check, ward.frames.index(pfn), EXT_OWNER) >> 3
    return ward.word(word, ward.m[word] | 0x1F, pfn)


@kind(DEBUG_KINDS)
def owner_gfp_beyond_the_mask(ward: Ward, rng: random.Random) -> Damage:
    pfn = ward.allocated(rng)
    word = ext_address(ward.check, ward.frames.index(pfn), EXT_OWNER) >> 3
    return ward.word(word, ward.m[word] | np.int64(1).item() << 60, pfn)
