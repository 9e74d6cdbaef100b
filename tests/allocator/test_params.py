# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from allocator.params import E820Op
from tests.allocator.bringup_support import parse

MIB = 1 << 20


def test_kernelcore_and_movablecore_take_sizes_and_percentages() -> None:
    params, _ = parse("kernelcore=64M movablecore=30%")
    assert (params.kernelcore_pages, params.kernelcore_percent) == (16384, 0)
    assert (params.movablecore_pages, params.movablecore_percent) == (0, 30)


def test_a_size_replaces_an_earlier_percentage() -> None:
    params, _ = parse("kernelcore=50% kernelcore=1M")
    assert (params.kernelcore_pages, params.kernelcore_percent) == (256, 0)


def test_more_than_all_memory_warns_and_mirror_is_known() -> None:
    params, log = parse("movablecore=150% kernelcore=mirror")
    assert params.mirrored_kernelcore
    assert any("movablecore=150% is more than all" in line for line in log)


@pytest.mark.parametrize("text", ["mem=abc", "mem", "kernelcore", "numa", "page_poison=maybe"])
def test_malformed_early_options_are_named(text: str) -> None:
    _, log = parse(text)
    assert f"Malformed early option '{text.split('=', maxsplit=1)[0]}'" in log


@pytest.mark.parametrize(
    ("text", "op"),
    [
        ("64M@16M", E820Op("add", 16 * MIB, 64 * MIB, new_type=1)),
        ("64M#16M", E820Op("add", 16 * MIB, 64 * MIB, new_type=3)),
        ("64M$16M", E820Op("add", 16 * MIB, 64 * MIB, new_type=2)),
        ("64M!16M", E820Op("add", 16 * MIB, 64 * MIB, new_type=12)),
        ("1M%2M-1+2", E820Op("update", 2 * MIB, MIB, 1, 2)),
        ("1M%2M+2", E820Op("add", 2 * MIB, MIB, new_type=2)),
        ("1M%2M-1", E820Op("remove", 2 * MIB, MIB, old_type=1)),
        ("exactmap", E820Op("exactmap")),
        ("8M", E820Op("remove", 8 * MIB, (1 << 64) - 1 - 8 * MIB, old_type=1)),
    ],
)
def test_memmap_forms(text: str, op: E820Op) -> None:
    params, _ = parse(f"memmap={text}")
    assert params.e820_ops == [op]
    assert params.user_defined_map


def test_map_options_keep_their_order() -> None:
    params, _ = parse("memmap=exactmap,640K@0 mem=32M memmap=4M@1M")
    assert [op.kind for op in params.e820_ops] == ["exactmap", "add", "remove", "add"]


def test_cma_forms() -> None:
    assert (parse("cma=16M")[0].cma_size, parse("cma=16M")[0].cma_limit) == (16 * MIB, 0)
    fixed, _ = parse("cma=16M@80M")
    assert (fixed.cma_base, fixed.cma_limit) == (80 * MIB, 96 * MIB)
    ranged, _ = parse("cma=16M@80M-1G")
    assert (ranged.cma_base, ranged.cma_limit) == (80 * MIB, 1 << 30)
    assert "cma: Config string not provided" in parse("cma")[1]


def test_unknown_parameters_are_reported_and_kept_known_ones_not() -> None:
    params, log = parse("foo bar=1 console=ttyS0 mod.x=2 cma=1M -- runlevel")
    assert params.unknown == ["foo", "bar=1"]
    assert params.init_args == ["runlevel"]
    assert any('parameters "foo bar=1", will be passed' in line for line in log)


def test_values_with_complaints_of_their_own() -> None:
    _, log = parse(
        "transparent_hugepage=sometimes numa_zonelist_order=zone debug_guardpage_minorder=9"
    )
    assert "transparent_hugepage= cannot parse, ignored" in log
    assert "Ignoring unsupported numa_zonelist_order value:  zone" in log
    assert "Bad debug_guardpage_minorder value" in log


def test_dashes_and_underscores_are_the_same() -> None:
    assert parse("page-poison=1")[0].page_poison
