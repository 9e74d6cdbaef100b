# SPDX-License-Identifier: GPL-2.0-only
"""allocator/gfp.py: names, zones and combinations of gfp masks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.gfp import (
    GFP_BITS_MASK,
    format_gfp,
    gfp_zone,
    gfp_zone_is_bad,
    parse_gfp,
)
from machine import UsageError


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (0x6000C0, "GFP_KERNEL"),
        (0x6200CA, "GFP_HIGHUSER_MOVABLE"),
        (0x480020, "GFP_ATOMIC"),
        (0x6040C0, "GFP_KERNEL|__GFP_COMP"),
        (0x6080C0, "GFP_KERNEL|__GFP_ZERO"),
        (0x600000, "GFP_NOIO"),
        (0x400000, "GFP_NOWAIT"),
        (0x200000, "__GFP_DIRECT_RECLAIM"),
        (0x1, "GFP_DMA"),
        (0, "none"),
        (0x7000C0, "GFP_KERNEL_ACCOUNT"),
    ],
)
def test_masks_print_as_the_kernel_prints_them(mask: int, text: str) -> None:
    assert format_gfp(mask) == text


@given(st.integers(0, GFP_BITS_MASK))
def test_a_printed_mask_parses_back(mask: int) -> None:
    text = format_gfp(mask)
    assert parse_gfp("0" if text == "none" else text) == mask


@pytest.mark.parametrize("text", ["GFP_NOPE", "GFP_KERNEL|", "0x800000", "-1"])
def test_unknown_flags_are_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="gfp mask"):
        parse_gfp(text)


@pytest.mark.parametrize(
    ("names", "zone"),
    [
        ("GFP_KERNEL", 2),
        ("GFP_DMA", 0),
        ("GFP_DMA32", 1),
        ("__GFP_HIGHMEM", 2),
        ("__GFP_MOVABLE", 2),
        ("__GFP_MOVABLE|__GFP_HIGHMEM", 3),
        ("__GFP_MOVABLE|GFP_DMA32", 1),
        ("__GFP_MOVABLE|GFP_DMA", 0),
    ],
)
def test_zone_bits_choose_the_highest_zone(names: str, zone: int) -> None:
    assert gfp_zone(parse_gfp(names)) == zone
    assert not gfp_zone_is_bad(parse_gfp(names))


@pytest.mark.parametrize("bits", [3, 5, 6, 7, 11, 13, 14, 15])
def test_contradictory_zone_bits_are_known_as_bad(bits: int) -> None:
    assert gfp_zone_is_bad(bits)
